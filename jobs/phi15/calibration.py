"""How good, how honest and how well ordered a classifier is: pure functions of probabilities, labels and points."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BINS = 15
"""Equal bins of confidence, as in Guo et al. 2017."""


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Share of examples whose likeliest class is right."""
    return (probabilities.argmax(1) == labels).double().mean().item()


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over bins (low, high] of confidence, by their share of the examples."""
    confidence, guess = probabilities.double().max(1)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = confidence - (guess == labels).double()
    sums = torch.zeros(bins, dtype=torch.double).index_add_(0, place, gap)
    return (sums.abs().sum() / len(labels)).item()


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Mean squared distance of the probabilities from the truth, summed over classes: 0 to 2."""
    truth = functional.one_hot(labels, probabilities.shape[1])
    return ((probabilities.double() - truth) ** 2).sum(1).mean().item()


def center_distances(points: Tensor, labels: Tensor) -> dict[str, float]:
    """Distances between the mean points of the classes, and of points from their own class's mean.

    ``separation`` is the least distance between means over the mean spread: above 2, classes hardly touch.
    Classes without an example are left out; with fewer than two of them nothing is between, and no key has a value.
    """
    present = labels.unique()
    centers = torch.stack([points[labels == label].double().mean(0) for label in present])
    if len(present) < 2:
        return {}
    between = torch.pdist(centers)
    own = centers[torch.searchsorted(present, labels)]
    spread = (points.double() - own).norm(dim=1).mean().item()
    found = {"least_between": between.min().item(), "mean_between": between.mean().item(), "spread": spread}
    return found | ({"separation": found["least_between"] / spread} if spread else {})


def all_metrics(probabilities: Tensor, labels: Tensor, points: Tensor) -> dict[str, float]:
    """Everything above, by name."""
    return {
        "accuracy": accuracy(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier_score(probabilities, labels),
        **center_distances(points, labels),
    }
