"""Losses, metrics and optimizers of jobs/phi15 against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from modules_kit import job_modules
from torch.nn import functional

geometry, calibration, optimizers = job_modules("phi15", "geometry", "calibration", "optimizers")

CENTERS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
POINTS = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
LABELS = torch.tensor([0, 1])


def logits_of(*rows: list[float]) -> torch.Tensor:
    """Logits whose softmax is ``rows``."""
    return torch.tensor(rows, dtype=torch.float64).log()


def test_brier_loss_is_the_squared_distance_from_the_truth():
    """(0.7-1)² + 0.2² + 0.1² = 0.14, and 0.5² + (0.5-1)² = 0.5."""
    logits = logits_of([0.7, 0.2, 0.1], [0.5, 0.5, 1e-30])
    assert geometry.brier_loss(logits, LABELS).item() == pytest.approx((0.14 + 0.5) / 2, abs=1e-6)


def test_stability_loss_is_the_squared_distance_of_probabilities():
    """0.2² + 0.2² and nothing."""
    one, other = logits_of([0.7, 0.3], [0.4, 0.6]), logits_of([0.5, 0.5], [0.4, 0.6])
    assert geometry.stability_loss(one, other).item() == pytest.approx(0.08 / 2, abs=1e-6)
    assert geometry.stability_loss(one, one + 7).item() == pytest.approx(0, abs=1e-12)


def test_center_loss_is_half_the_squared_distance_from_the_own_centre():
    """(0.6-1)² + 0.8² = 0.8; the other one lies on its centre."""
    assert geometry.center_loss(POINTS, LABELS, CENTERS).item() == pytest.approx(0.5 * 0.8 / 2)


def test_separation_loss_counts_other_centres_within_the_margin():
    """The first is sqrt(0.4) = 0.63 from centre 1 and sqrt(3.2) = 1.79 from centre 2, the second sqrt(2) from both."""
    expected = (1 - math.sqrt(0.4)) ** 2 / 4
    assert geometry.separation_loss(POINTS, LABELS, CENTERS).item() == pytest.approx(expected, rel=1e-5)
    wide = (2 - math.sqrt(0.4)) ** 2 + (2 - math.sqrt(3.2)) ** 2 + 2 * (2 - math.sqrt(2)) ** 2
    assert geometry.separation_loss(POINTS, LABELS, CENTERS, margin=2.0).item() == pytest.approx(wide / 4, rel=1e-5)


def test_one_class_has_no_other_to_be_separated_from():
    assert geometry.separation_loss(POINTS, torch.zeros(2, dtype=torch.long), CENTERS[:1]).item() == 0


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: geometry.brier_loss(x, torch.tensor([0, 1, 2])),
        lambda x: geometry.stability_loss(x, torch.arange(9, dtype=x.dtype).view(3, 3) / 9),
        lambda x: geometry.center_loss(x, torch.tensor([0, 1, 2]), torch.eye(3, dtype=x.dtype)),
        lambda x: geometry.separation_loss(x, torch.tensor([0, 1, 2]), torch.eye(3, dtype=x.dtype), 2.0),
    ],
    ids=["brier", "stability", "center", "separation"],
)
def test_gradients_are_those_of_finite_differences(loss):
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(loss, torch.randn(3, 3, dtype=torch.float64, requires_grad=True))


def test_centre_loss_pulls_to_the_own_centre_and_separation_pushes_from_others():
    point = torch.tensor([[0.6, 0.8]], requires_grad=True)
    geometry.center_loss(point, torch.tensor([0]), CENTERS).backward()
    assert torch.allclose(point.grad, torch.tensor([[0.6 - 1.0, 0.8]]))
    point.grad = None
    geometry.separation_loss(point, torch.tensor([0]), CENTERS).backward()
    away = point.detach()[0] - CENTERS[1]
    assert functional.cosine_similarity(-point.grad[0], away, dim=0).item() == pytest.approx(1, abs=1e-5)


def test_centres_follow_their_points():
    """One point at distance 1 moves its centre by 0.5 * 1 / (1 + 1); a class without points stays."""
    loss = geometry.GeometricLoss(2, 2, geometry.Weights())
    loss.follow(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert loss.centers.tolist() == [[0, 0], [0.25, 0]]
    loss.follow(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([1, 1]))
    assert loss.centers[1].tolist() == [0.25 + 0.5 * 2 * 0.75 / 3, 0]


def test_the_total_is_the_weighted_sum_of_its_parts():
    torch.manual_seed(0)
    loss = geometry.GeometricLoss(3, 4, geometry.Weights(stability=2, center=3, separation=5, brier=7))
    total, parts = loss(torch.nn.Linear(4, 3), torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    weighted = parts["cross_entropy"] + 2 * parts["stability"] + 3 * parts["center"]
    weighted += 5 * parts["separation"] + 7 * parts["brier"]
    assert total.item() == pytest.approx(weighted, rel=1e-5)
    assert parts["loss"] == total.item()
    assert parts["stability"] > 0
    assert not list(loss.parameters())


PROBABILITIES = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]], dtype=torch.float64)
TRUTH = torch.tensor([0, 1, 1, 1])


def test_accuracy_and_brier_score():
    assert calibration.accuracy(PROBABILITIES, TRUTH) == 0.75
    by_hand = 2 * (0.1**2 + 0.8**2 + 0.3**2 + 0.45**2) / 4
    assert calibration.brier_score(PROBABILITIES, TRUTH) == pytest.approx(by_hand)


def test_calibration_error_is_the_gap_in_each_bin():
    """Two bins hold all four: mean confidence 0.7375, three of four right. Ten bins: 0.1, 0.8, 0.3 and 0.45 apart."""
    assert calibration.expected_calibration_error(PROBABILITIES, TRUTH, 2) == pytest.approx(0.75 - 0.7375)
    assert calibration.expected_calibration_error(PROBABILITIES, TRUTH, 10) == pytest.approx(
        (0.1 + 0.8 + 0.3 + 0.45) / 4
    )


def test_a_sure_and_right_classifier_is_calibrated():
    sure = torch.eye(2)[TRUTH]
    assert calibration.expected_calibration_error(sure, TRUTH) == 0
    assert calibration.brier_score(sure, TRUTH) == 0


def test_distances_between_and_within_classes():
    """Means (0, 0), (3, 4) and (0, 10); each point of the first class is 1 from its mean, the others are on theirs."""
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [3.0, 4.0], [0.0, 10.0]])
    found = calibration.center_distances(points, torch.tensor([0, 0, 1, 4]))
    assert found["least_between"] == pytest.approx(5)
    assert found["mean_between"] == pytest.approx((5 + 10 + math.sqrt(45)) / 3)
    assert found["spread"] == pytest.approx(0.5)
    assert found["separation"] == pytest.approx(10)
    assert calibration.center_distances(points, torch.zeros(4, dtype=torch.long)) == {}


def quadratic(name: str, dtype: torch.dtype, steps: int, accumulate: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(64, 128).to(dtype))
    target = torch.randn(64, 128)
    optimizer = optimizers.make_optimizer(name, [weight], lr=0.05)
    for _ in range(steps):
        for _ in range(accumulate):
            (((weight.float() - target) ** 2).sum() / accumulate).backward()
        optimizer.step()
        optimizer.zero_grad()
    return weight.detach()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_offloading_changes_where_and_not_what(accumulate):
    plain, offloaded = (quadratic(name, torch.float32, 5, accumulate) for name in ("adamw", "adamw-offload"))
    assert torch.allclose(plain, offloaded, atol=1e-6)


def test_offloaded_weights_are_finer_than_those_of_the_model():
    """A step below the precision of bf16 is not lost: a thousand of them add up."""
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = optimizers.make_optimizer("adamw-offload", [weight], lr=1e-4)
    for _ in range(1000):
        weight.sum().backward()
        assert weight.grad is None  # it left as soon as it was made
        optimizer.step()
        optimizer.zero_grad()
    assert weight.float().mean().item() == pytest.approx(0.9, abs=0.01)
    assert optimizer.pairs[0][1].dtype is torch.float32


def test_8_bit_moments_go_the_same_way():
    plain, small = (quadratic(name, torch.float32, 30) for name in ("adamw", "adamw-8bit"))
    assert (plain - small).abs().mean() < 0.05 * plain.abs().mean()
