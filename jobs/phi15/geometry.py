"""Four losses that shape where a classifier puts its examples, and how sure it is of them.

Points are the examples' representations, of unit length: [batch, width]. A class has a centre among them. Labels are
class numbers: [batch]; logits are [batch, classes]. Every loss is a mean over the batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CENTER_RATE = 0.5
"""How far a centre moves towards the batch; the alpha of Wen et al. 2016."""
NOISE = 0.05
"""Length of the nudge of the stability loss, relative to the representation."""


def brier_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of the probabilities from the truth, 0 to 2 (Brier 1950)."""
    truth = functional.one_hot(labels, logits.shape[1])
    return ((logits.softmax(1) - truth) ** 2).sum(1).mean()


def stability_loss(logits: Tensor, nudged: Tensor) -> Tensor:
    """Squared distance between the probabilities of an example and of the same one nudged a little, 0 to 2."""
    return ((logits.softmax(1) - nudged.softmax(1)) ** 2).sum(1).mean()


def center_loss(points: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Half the squared distance of each point from the centre of its own class (Wen et al., ECCV 2016)."""
    return 0.5 * ((points - centers[labels]) ** 2).sum(1).mean()


def separation_loss(points: Tensor, labels: Tensor, centers: Tensor, margin: float = 1.0) -> Tensor:
    """Squared amount by which points are nearer than ``margin`` to the centres of other classes, mean over those."""
    short = (margin - torch.cdist(points, centers)).clamp(min=0) ** 2
    other = 1 - functional.one_hot(labels, len(centers))
    return (short * other).sum() / other.sum().clamp(min=1)


@dataclass(frozen=True)
class Weights:
    """What each loss counts beside the cross entropy, which counts 1."""

    stability: float = 0.1
    center: float = 0.1
    separation: float = 0.1
    brier: float = 0.5


class GeometricLoss(nn.Module):
    """Cross entropy and the four; it keeps the centres, which follow the points and get no gradient.

    Centres begin at the origin. All points are equally far from it, so it draws them nowhere.
    """

    centers: Tensor

    def __init__(self, classes: int, width: int, weights: Weights) -> None:
        super().__init__()
        self.weights = weights
        self.register_buffer("centers", torch.zeros(classes, width))

    def forward(self, head: nn.Module, pooled: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch of representations of any length, and its parts."""
        points = functional.normalize(pooled, dim=1)
        self.follow(points.detach(), labels)
        logits = head(pooled).float()
        nudge = functional.normalize(torch.randn_like(pooled), dim=1) * pooled.detach().norm(dim=1, keepdim=True)
        parts = {
            "cross_entropy": functional.cross_entropy(logits, labels),
            "stability": stability_loss(logits, head(pooled + NOISE * nudge).float()),
            "center": center_loss(points, labels, self.centers),
            "separation": separation_loss(points, labels, self.centers),
            "brier": brier_loss(logits, labels),
        }
        weights = asdict(self.weights)
        total = torch.stack([weights.get(name, 1.0) * loss for name, loss in parts.items()]).sum()
        return total, {"loss": total.item(), **{name: loss.item() for name, loss in parts.items()}}

    @torch.no_grad()
    def follow(self, points: Tensor, labels: Tensor) -> None:
        """Move the centres of the classes in the batch towards their points, by equation 4 of Wen et al."""
        mine = functional.one_hot(labels, len(self.centers)).to(points.dtype)
        counts = mine.sum(0).unsqueeze(1)
        away = counts * self.centers - mine.T @ points
        self.centers -= CENTER_RATE * away / (1 + counts)
