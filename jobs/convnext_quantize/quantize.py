"""Quantise a large ConvNeXt checkpoint to INT8, show what is lost, and serve a prediction from it in little memory.

    python quantize.py --out results/                                  a seeded ConvNeXt-Base, 1051 MB
    python quantize.py --checkpoint model.pth --images val/            your own; val/<class>/*.jpg
    python quantize.py --checkpoint https://host/model.pth --sha256 ...

Exit code 2: the checkpoint was refused, for its size or its content; 1: what came out is not good enough.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import make_checkpoint
from checkpoint import State, bytes_of, load_weights, model_of
from fetching import fetch
from images import from_folder, generated
from quantizing import MODES, compare, logits_of, quantized, save_quantized
from serve import REFUSED, peak_rss_bytes
from sizes import BrokenFileError, TooLargeError, checked_size, in_megabytes, parse_size
from torch import Tensor

HERE = Path(__file__).parent
EVALUATION_SEED = 10_000


class NotGoodError(Exception):
    """The quantised model is too large, too different, or cannot be served."""


def report(line: str) -> None:
    """Print ``line`` at once, so that it can be followed from afar."""
    print(line, flush=True)


def obtain(args: argparse.Namespace) -> Path:
    """The checkpoint as a file: made, downloaded, or where it lies."""
    if not args.checkpoint:
        report(f"making a checkpoint of ConvNeXt-{args.size} from seed {args.seed}")
        path = Path("work", f"convnext_{args.size}.pth")
        return make_checkpoint.write(path, args.size, args.seed, args.side, args.examples)
    if "://" in args.checkpoint:
        return fetch(args.checkpoint, Path("work"), args.max_input, args.sha256, report)
    return Path(args.checkpoint)


def evaluation_set(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Images and labels that nobody learned from."""
    if args.images:
        return from_folder(Path(args.images), args.side, args.count)
    return generated(args.count, args.side, args.seed + EVALUATION_SEED)


def timed(work: Callable[[], Tensor], images: Tensor) -> tuple[Tensor, float]:
    """What ``work`` returns, and its seconds per image."""
    start = time.perf_counter()
    done = work()
    return done, (time.perf_counter() - start) / len(images)


def try_modes(state: State, modes: list[str], images: Tensor, labels: Tensor, out: Path) -> dict[str, Any]:
    """Measure the float model, then quantise in each mode, save and measure that."""
    float_model = model_of(state)
    exact, seconds = timed(lambda: logits_of(float_model, images), images)
    found: dict[str, Any] = {
        "float": {"accuracy": compare(exact, exact, labels).accuracy, "seconds_per_image": round(seconds, 4)}
    }
    report(f"float: {found['float']['accuracy']:.1%} of {len(images)} images right, {in_megabytes(bytes_of(state))}")
    for mode in modes:
        model = quantized(state, mode)
        size = save_quantized(model, mode, out / f"model_int8_{mode}.pt")
        logits, seconds = timed(lambda net=model: logits_of(net, images), images)  # type: ignore[misc]
        agreed = compare(logits, exact, labels)
        found[mode] = {
            "file_bytes": size,
            "smaller": round(bytes_of(state) / size, 3),
            "seconds_per_image": round(seconds, 4),
            "accuracy_lost": round(found["float"]["accuracy"] - agreed.accuracy, 6),
            **{name: round(value, 6) for name, value in agreed._asdict().items()},
        }
        report(
            f"{mode}: {agreed.accuracy:.1%} right, {agreed.same_class:.1%} as the float model says, "
            f"{in_megabytes(size)}, {bytes_of(state) / size:.2f} times smaller"
        )
    return found


def best_of(found: dict[str, Any], modes: list[str]) -> str:
    """The mode that agrees most with the float model; of equals the one with the smaller error."""
    return max(modes, key=lambda mode: (found[mode]["same_class"], -found[mode]["logit_error"]))


def serve(path: Path, args: argparse.Namespace) -> subprocess.CompletedProcess[str]:
    """Serve one prediction from ``path`` in a process of its own, under the cap."""
    limits = ["--memory", str(args.serve_memory), "--max-size", str(args.max_size), "--side", str(args.side)]
    return subprocess.run(
        [sys.executable, str(HERE / "serve.py"), str(path), *limits], capture_output=True, text=True, check=False
    )


def serve_both(original: Path, quantised: Path, args: argparse.Namespace) -> dict[str, Any]:
    """A prediction of the quantised model under the cap, and whether the original would have been refused there."""
    served = serve(quantised, args)
    if served.returncode != 0:
        raise NotGoodError(f"the quantised model cannot be served: {served.stderr.strip()}")
    refused = original.stat().st_size > args.max_size and serve(original, args).returncode == REFUSED
    answer = json.loads(served.stdout)
    report(
        f"served: class {answer['class']} in {answer['seconds']} s, {in_megabytes(answer['held_bytes'])} held of "
        f"{in_megabytes(args.serve_memory)}; the original is {'refused' if refused else 'small enough'} there"
    )
    return {**answer, "original_refused": refused}


def judge(metrics: dict[str, Any], args: argparse.Namespace) -> None:
    """Raise NotGoodError if the quantised model is not what was wanted."""
    best = metrics[metrics["kept"]]
    if best["file_bytes"] > args.max_size:
        raise NotGoodError(
            f"INT8 has {in_megabytes(best['file_bytes'])}, above {in_megabytes(args.max_size)}: "
            "take a smaller architecture, or raise --max-size"
        )
    if best["same_class"] < args.min_agreement:
        raise NotGoodError(
            f"INT8 says what the float model says for {best['same_class']:.1%} of the images, and "
            f"{args.min_agreement:.1%} are wanted: it is not a stand-in for it"
        )
    if best["accuracy_lost"] > args.max_accuracy_lost:
        raise NotGoodError(
            f"INT8 is right for {best['accuracy']:.1%} of the images, the float model for "
            f"{metrics['float']['accuracy']:.1%}: at most {args.max_accuracy_lost:.1%} may be lost"
        )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do the job and leave ``metrics.json``, also of what is not good, and the model in ``args.out``."""
    start = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    original = obtain(args)
    size = checked_size(original, args.max_input)
    state = load_weights(original)
    report(f"{original}: {in_megabytes(size)}, of which {in_megabytes(bytes_of(state))} are weights")
    images, labels = evaluation_set(args)
    modes = list(MODES) if args.mode == "both" else [args.mode]
    metrics: dict[str, Any] = {
        "input_bytes": size,
        "weight_bytes": bytes_of(state),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "images": len(images),
        **try_modes(state, modes, images, labels, args.out),
    }
    metrics["kept"] = best_of(metrics, modes)
    kept = (args.out / f"model_int8_{metrics['kept']}.pt").replace(args.out / "model_int8.pt")
    try:
        judge(metrics, args)
        metrics["served"] = serve_both(original, kept, args)
    finally:
        for mode in modes:
            (args.out / f"model_int8_{mode}.pt").unlink(missing_ok=True)
        metrics |= closing_facts(start)
        (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def closing_facts(start: float) -> dict[str, Any]:
    """What is known only at the end."""
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak_rss_bytes": peak_rss_bytes(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("torch", "torchao", "transformers")},
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Quantise a ConvNeXt checkpoint to INT8 and show what is lost.")
    parser.add_argument("--checkpoint", default="", help="file or https:// address; made from --seed if not given")
    parser.add_argument("--sha256", default="", help="of what is downloaded")
    parser.add_argument("--max-input", type=parse_size, default=parse_size("2 GB"), help="refuse larger checkpoints")
    parser.add_argument("--mode", choices=["both", *MODES], default="both")
    parser.add_argument("--images", default="", help="folder of <class>/<image>; patterns are drawn if not given")
    parser.add_argument("--count", type=int, default=200, help="images to evaluate on (default: 200)")
    parser.add_argument("--side", type=int, default=128, help="pixels of the network's input (default: 128)")
    parser.add_argument("--min-agreement", type=float, default=0.95, help="share of images (default: 0.95)")
    parser.add_argument("--max-accuracy-lost", type=float, default=0.01, help="share of images (default: 0.01)")
    parser.add_argument("--max-size", type=parse_size, default=parse_size("350 MB"), help="limit where it is served")
    parser.add_argument("--serve-memory", type=parse_size, default=parse_size("512 MB"), help="cap where it is served")
    parser.add_argument("--size", choices=make_checkpoint.SIZES, default="base", help="of the checkpoint made")
    parser.add_argument("--examples", type=int, default=200, help="patterns its last layer is fitted to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser.parse_args()


def main() -> int:
    """Run, and say what went wrong in a sentence."""
    try:
        run(parse())
    except (TooLargeError, BrokenFileError, OSError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    except NotGoodError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
