"""Teach a kernel machine to read handwritten digits, and measure how well it reads new ones.

    python evaluate.py --features exact --out results/
    python evaluate.py --features compact --out results/

The images are real: 1797 digits written by 13 people, as scikit-learn ships them. 60 % of them, each also
shifted by half a pixel every way, are learned from; the others are only tested on.

What the machine knows of an image is how similar it is to images it has learned from (its features):

- ``exact``: to all of them. The 9702 x 9702 similarities are factored at once, and take 753 MB while they are.
- ``compact``: to 700 of them (Nystroem's approximation), summed up block by block in 4 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import resource
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from picture import draw_report
from scipy import ndimage
from scipy.linalg import cho_factor, cho_solve, solve
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.metrics.pairwise import chi2_kernel
from sklearn.model_selection import train_test_split

SEED = 0
LABELS = range(10)
LANDMARKS = 700
BLOCK = 512  # images compared at a time
GAMMA = 0.1  # how quickly similarity fades with distance
RIDGE = 0.01  # how much the weights are held back

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Split(NamedTuple):
    """Images to learn from and others to be tested on, 8x8 with ink from 0 to 1, and what they show."""

    train: Floats
    train_labels: Labels
    test: Floats
    test_labels: Labels


class Reader(NamedTuple):
    """A kernel machine: the images it compares a new one with, and the weight of each for each label."""

    centres: Floats
    weights: Floats

    def read(self, images: Floats) -> Labels:
        """The most likely label of each image."""
        scores: Floats = similarity(images, self.centres) @ self.weights
        return scores.argmax(axis=1)


def load_split(limit: int) -> Split:
    """The first ``limit`` digits, split 60 to 40 at random, with as many of each label on both sides."""
    digits = load_digits()
    images, labels = digits.images[:limit] / 16, digits.target[:limit]
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.4, stratify=labels, random_state=SEED
    )
    return Split(train, train_labels, test, test_labels)


def augmented(images: Floats, labels: Labels) -> tuple[Floats, Labels]:
    """Every image where it is and shifted by half a pixel in eight directions, with its label."""
    steps = (-0.5, 0, 0.5)
    shifted = [ndimage.shift(images, (0, down, right), order=1) for down in steps for right in steps]
    return np.concatenate(shifted), np.tile(labels, len(shifted))


def similarity(some: Floats, others: Floats) -> Floats:
    """Each of ``some`` against each of ``others``, from 0 to 1: the chi-squared kernel, made for counts.

    A pixel is one: it says how much of a 4x4 field the writer's pen has touched.
    """
    kernel: Floats = chi2_kernel(some.reshape(len(some), -1), others.reshape(len(others), -1), gamma=GAMMA)
    return kernel


def blocks(count: int) -> Iterator[slice]:
    """``count`` rows, a block at a time."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def fit_exact(images: Floats, targets: Floats) -> Reader:
    """Kernel ridge regression: similarities of all images to all images, solved at once."""
    count = len(images)
    kernel = np.empty((count, count))
    for rows in blocks(count):
        kernel[rows] = similarity(images[rows], images)
        report(f"{rows.stop} of {count} rows of similarities: {kernel[: rows.stop].nbytes / 1e6:.0f} MB held")
    kernel[np.diag_indices(count)] += RIDGE
    report("solving")
    factor = cho_factor(kernel.T, overwrite_a=True)  # in place: no second copy
    return Reader(images, cho_solve(factor, targets))


def fit_compact(images: Floats, targets: Floats) -> Reader:
    """The same regression on similarities to a few landmarks: its normal equations are a sum over blocks."""
    chosen = np.random.default_rng(SEED).permutation(len(images))[:LANDMARKS]
    landmarks = images[chosen]
    normal = RIDGE * similarity(landmarks, landmarks)
    moment = np.zeros((len(landmarks), targets.shape[1]))
    for rows in blocks(len(images)):
        features = similarity(images[rows], landmarks)
        normal += features.T @ features
        moment += features.T @ targets[rows]
        report(f"{rows.stop} of {len(images)} images summed up: {normal.nbytes / 1e6:.0f} MB held")
    return Reader(landmarks, solve(normal, moment, assume_a="pos"))


FITS = {"exact": fit_exact, "compact": fit_compact}


def measure(truth: Labels, predicted: Labels) -> dict[str, Any]:
    """Accuracy, the confusion matrix (a row per true label) and the scores of each label."""
    scores = precision_recall_fscore_support(truth, predicted, labels=LABELS, zero_division=0)
    names = ("precision", "recall", "f1", "support")
    return {
        "accuracy": float(np.mean(truth == predicted)),
        "per_class": [
            {"label": label, **{name: column[label].item() for name, column in zip(names, scores, strict=True)}}
            for label in LABELS
        ],
        "confusion_matrix": confusion_matrix(truth, predicted, labels=LABELS).tolist(),
    }


def peak_rss_bytes() -> int:
    """The most memory that this process had resident.

    Linux says it of this program alone; ``getrusage`` also counts the program that started it.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def evaluate(features: str, limit: int, out: Path) -> dict[str, Any]:
    """Learn, test, and leave ``metrics.json`` and ``confusion.png`` in ``out``; the metrics are returned."""
    start = time.perf_counter()
    split = load_split(limit)
    images, labels = augmented(split.train, split.train_labels)
    report(f"{features}: learning from {len(images)} images, testing on {len(split.test)} others")
    reader = FITS[features](images, np.where(labels[:, None] == LABELS, 1.0, -1.0))
    predicted = reader.read(split.test)
    metrics = {
        "features": features,
        "n_train": len(split.train),
        "n_augmented": len(images),
        "n_test": len(split.test),
        "seed": SEED,
        **measure(split.test_labels, predicted),
        "seconds": round(time.perf_counter() - start, 3),
        "peak_rss_bytes": peak_rss_bytes(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("numpy", "scipy", "scikit-learn", "pillow")},
    }
    out.mkdir(parents=True, exist_ok=True)
    draw_report(metrics, split.test, split.test_labels, predicted).save(out / "confusion.png", optimize=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def report(line: str) -> None:
    """Print ``line`` at once, so that it can be followed from afar."""
    print(line, flush=True)


def image_count(text: str) -> int:
    """A number of images that still leaves some of each label on both sides."""
    if (count := int(text)) < 100:
        raise argparse.ArgumentTypeError("at least 100 images are needed, to learn and to test every digit")
    return count


def main() -> None:
    """Parse the command line, evaluate, and say the result in one line."""
    parser = argparse.ArgumentParser(description="Read handwritten digits, and measure how well.")
    parser.add_argument("--features", choices=FITS, default="exact", help="how images are compared (default: exact)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the results (default: results)")
    parser.add_argument("--limit", type=image_count, default=1797, help="how many images to use (default: 1797)")
    args = parser.parse_args()
    metrics = evaluate(args.features, args.limit, args.out)
    report(
        f"read {metrics['accuracy']:.1%} of {metrics['n_test']} unseen digits in {metrics['seconds']:.1f} s"
        f" with at most {metrics['peak_rss_bytes'] / 1e6:.0f} MB of memory; see {args.out}"
    )


if __name__ == "__main__":
    main()
