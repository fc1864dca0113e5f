"""What blocks and heads of each family of transformers hold and use, as traced by tools/trace_families.py.

Those of encoder-decoders, from tools/trace_seq2seq.py, have rows of their own for the encoder.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.catalog.architecture import ALIASES, ENCODER, ENCODER_DECODERS, Architecture

BUNDLED_FAMILIES = tuple(Path(__file__).with_name(name) for name in ("families.csv", "encoder_decoders.csv"))

FEATURES = ("th", "tf", "tq", "tkv", "ta", "t", "bass", "w", "tv", "vh", "cross")

Mode = tuple[str, str, str]
"""Precision (fp32, amp, bf16), attention (sdpa, eager), lora (none, qv, all)."""
Coefficients = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sizes:
    """One batch through one network, as the features that coefficients belong to.

    ``source`` is the length of what the encoder of an encoder-decoder reads: the decoder makes keys and values of it.
    """

    batch: int
    seq: int
    arch: Architecture
    source: int = 0

    def of(self, feature: str) -> float:
        """The number that stands for ``feature``."""
        return self.features[feature]

    @property
    def features(self) -> dict[str, float]:
        """Every feature of the batch."""
        tokens, arch = self.batch * self.seq, self.arch
        speaks = arch.vocab > 1
        return {
            "th": tokens * arch.hidden,
            "tf": tokens * arch.active_ffn,
            "tq": tokens * arch.q,
            "tkv": (self.batch * self.source or tokens) * arch.kv,
            "ta": tokens * arch.heads,
            "t": tokens,
            "bass": self.batch * arch.heads * self.seq**2,
            "cross": self.batch * arch.heads * self.seq * self.source,
            "w": arch.block_params,
            "tv": tokens * arch.vocab if speaks else 0,
            "vh": arch.embedding_params if speaks else 0,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes of every quantity of one family in one mode, as sums over features."""

    quantities: Mapping[str, Coefficients]

    def with_heads_of(self, other: Row) -> Row:
        """The same, but with the matrices of every head that ``other`` keeps: adapters change nothing in them."""
        heads = {name: each["bass"] for name, each in other.quantities.items() if "bass" in each}
        merged = {
            name: {**each, **({"bass": heads[name]} if name in heads else {})} for name, each in self.quantities.items()
        }
        return Row(merged)

    def bytes_of(self, quantity: str, sizes: Sizes, only: Iterable[str] = FEATURES) -> int:
        """The quantity for these sizes, in bytes; only the part of the features ``only``."""
        coefficients, of = self.quantities.get(quantity, {}), sizes.features
        return round(sum(coefficients.get(name, 0.0) * of[name] for name in only))


def canonical(family: str) -> str:
    """The traced family that ``family`` is built as; itself if it is none of those."""
    own = family.removesuffix(ENCODER)
    return ALIASES.get(own, own) + family[len(own) :]


def _two_sided(family: str) -> bool:
    return family.removesuffix(ENCODER) in ENCODER_DECODERS


class FamilyTable:
    """Rows by family and mode."""

    def __init__(self, rows: Mapping[tuple[str, Mode], Row]) -> None:
        self._rows = rows

    def families(self) -> list[str]:
        """Every family that was traced."""
        return sorted({family for family, _ in self._rows})

    def knows(self, family: str) -> bool:
        """Whether ``family`` was traced, or is built as one that was."""
        return canonical(family) in self.families()

    def find(self, family: str, mode: Mode) -> Row | None:
        """The row; where the family has no such attention or was not traced with it, the one it has."""
        known = canonical(family)
        precision, attention, lora = mode
        for each in (attention, "eager", "sdpa"):
            if row := self._rows.get((known, (precision, each, lora))):
                full = self._rows.get((known, (precision, "eager", "none")))
                return row.with_heads_of(full) if attention == "eager" != each and full else row
        return None

    def largest(self, mode: Mode, sizes: Sizes) -> Row:
        """The upper envelope: the row whose blocks hold most, for a family that nobody traced."""
        rows = [row for (family, other), row in self._rows.items() if other == mode and not _two_sided(family)]
        if not rows:
            return self.largest((mode[0], "sdpa", "none"), sizes)
        return max(rows, key=lambda row: row.bytes_of("saved", sizes))


@cache
def bundled_families() -> FamilyTable:
    """The table that comes with the program."""
    found: dict[tuple[str, Mode], dict[str, Coefficients]] = {}
    for cells in (cells for path in BUNDLED_FAMILIES for cells in _cells(path)):
        mode = (cells["precision"], cells["attention"], cells["lora"])
        coefficients = {name: value for name in FEATURES if (value := float(cells.get(name, 0)))}
        found.setdefault((cells["model_type"], mode), {})[cells["quantity"]] = coefficients
    return FamilyTable({key: Row(quantities) for key, quantities in found.items()})


def _cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))
