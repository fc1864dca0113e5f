"""A language model that passes its middle layer through a sparse autoencoder.

A decoder of GPT-2's kind: learnt positions, norm before each part, input and output embedding are one. Between its two
halves the residual stream is written down in few of many latents (TopK: Makhzani & Frey 2013, Gao et al. 2024) and read
back, so that the second half knows only what the latents say. Tensors are [batch, tokens, width].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 8
"""Latents per channel of the residual stream."""
SHARE_ACTIVE = 64
"""One of so many latents is active for a token."""


@dataclass(frozen=True)
class Size:
    """The shape of a model."""

    layers: int
    width: int
    heads: int


SIZES = {
    "nano": Size(2, 64, 2),
    "tiny": Size(6, 512, 8),
    "small": Size(11, 768, 12),
    "medium": Size(22, 1024, 16),
}
"""With GPT-2's vocabulary and 512 tokens tiny has 49 M parameters, small 126 M, medium 346 M. nano is to rehearse."""


class SparseAutoencoder(nn.Module):
    """Writes vectors in their ``active`` largest latents, and reads them back."""

    def __init__(self, width: int, latents: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.encoder = nn.Linear(width, latents)
        self.decoder = nn.Linear(latents, width)
        with torch.no_grad():
            self.encoder.bias.zero_()
            self.decoder.bias.zero_()
            self.decoder.weight.copy_(functional.normalize(self.encoder.weight, dim=1).T)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """What is read back, shaped as ``vectors``, and the latents: at most ``active`` above 0, none below."""
        before = functional.relu(self.encoder(vectors - self.decoder.bias))
        largest = before.topk(self.active, dim=-1)
        latents = torch.zeros_like(before).scatter(-1, largest.indices, largest.values)
        return self.decoder(latents), latents


class Block(nn.Module):
    """Attention and feed-forward, each added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.before_ffn = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after this block."""
        stream = stream + self.attend(self.before_attention(stream))
        return stream + self.ffn(self.before_ffn(stream))

    def attend(self, vectors: Tensor) -> Tensor:
        """Every token looks at itself and at those before it."""
        parts = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in self.qkv(vectors).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class Pass:
    """What came of one batch: mean cross entropy in nats, the stream in the middle, as read back, and its latents."""

    cross_entropy: Tensor
    stream: Tensor
    read_back: Tensor
    latents: Tensor


class SparseLanguageModel(nn.Module):
    """The whole model, for at most ``tokens`` tokens."""

    def __init__(self, size: Size, vocabulary: int, tokens: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size.width)
        self.positions = nn.Embedding(tokens, size.width)
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.layers))
        latents = EXPANSION * size.width
        self.autoencoder = SparseAutoencoder(size.width, latents, max(latents // SHARE_ACTIVE, 1))
        self.norm = nn.LayerNorm(size.width)
        for each in (self.embedding, self.positions):
            nn.init.normal_(each.weight, std=0.02)

    def forward(self, ids: Tensor) -> Pass:
        """Predict each token of ``ids``, [batch, tokens], from those before it."""
        stream = self.embedding(ids) + self.positions.weight[: ids.shape[1]]
        middle = len(self.blocks) // 2
        for block in self.blocks[:middle]:
            stream = block(stream)
        written = stream
        read_back, latents = self.autoencoder(written)
        stream = read_back
        for block in self.blocks[middle:]:
            stream = block(stream)
        logits = functional.linear(self.norm(stream[:, :-1]), self.embedding.weight)
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        return Pass(loss, written, read_back, latents)


def unexplained(stream: Tensor, read_back: Tensor) -> Tensor:
    """Fraction of the variance of ``stream`` over all tokens that ``read_back`` does not have: 0 is perfect."""
    vectors, found = stream.float().flatten(0, -2), read_back.float().flatten(0, -2)
    return ((vectors - found) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum().clamp(min=1e-12)


@dataclass
class Sparsity:
    """Counts over many batches: how many latents are active for a token, and which ever are."""

    tokens: int = 0
    active: int = 0
    ever: Tensor | None = None

    def see(self, latents: Tensor) -> None:
        """Count one batch, [..., latents]."""
        on = latents.flatten(0, -2) != 0
        self.tokens += len(on)
        self.active += int(on.sum())
        fired = on.any(0).cpu()
        self.ever = fired if self.ever is None else self.ever | fired

    def measures(self) -> dict[str, float]:
        """``l0``, active latents per token; ``active_share`` of all; ``dead_share`` of latents that never were."""
        assert self.ever is not None, "nothing was seen"
        l0 = self.active / self.tokens
        dead = 1 - self.ever.double().mean().item()
        return {"l0": l0, "active_share": l0 / len(self.ever), "dead_share": dead}
