"""What blocks and heads of each family of transformers hold and use, as traced by tools/trace_families.py."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.catalog.architecture import ALIASES, Architecture

BUNDLED_FAMILIES = Path(__file__).with_name("families.csv")

FEATURES = ("th", "tf", "tq", "tkv", "ta", "t", "bass", "w", "tv", "vh")

Mode = tuple[str, str, str]
"""Precision (fp32, amp, bf16), attention (sdpa, eager), lora (none, qv, all)."""
Coefficients = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sizes:
    """One batch through one network, as the features that coefficients belong to."""

    batch: int
    seq: int
    arch: Architecture

    def of(self, feature: str) -> float:
        """The number that stands for ``feature``."""
        tokens, arch = self.batch * self.seq, self.arch
        match feature:
            case "th":
                return tokens * arch.hidden
            case "tf":
                return tokens * arch.active_ffn
            case "tq":
                return tokens * arch.q
            case "tkv":
                return tokens * arch.kv
            case "ta":
                return tokens * arch.heads
            case "t":
                return tokens
            case "bass":
                return self.batch * arch.heads * self.seq**2
            case "w":
                return arch.block_params
            case "tv":
                return tokens * arch.vocab if arch.vocab > 1 else 0
        return arch.embedding_params if arch.vocab > 1 else 0


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
        coefficients = self.quantities.get(quantity, {})
        return round(sum(coefficients.get(name, 0.0) * sizes.of(name) for name in only))


class FamilyTable:
    """Rows by family and mode."""

    def __init__(self, rows: Mapping[tuple[str, Mode], Row]) -> None:
        self._rows = rows

    def families(self) -> list[str]:
        """Every family that was traced."""
        return sorted({family for family, _ in self._rows})

    def knows(self, family: str) -> bool:
        """Whether ``family`` was traced, or is built as one that was."""
        return ALIASES.get(family, family) in self.families()

    def find(self, family: str, mode: Mode) -> Row | None:
        """The row; where the family has no such attention or was not traced with it, the one it has."""
        known = ALIASES.get(family, family)
        precision, attention, lora = mode
        for each in (attention, "eager", "sdpa"):
            if row := self._rows.get((known, (precision, each, lora))):
                full = self._rows.get((known, (precision, "eager", "none")))
                return row.with_heads_of(full) if attention == "eager" != each and full else row
        return None

    def largest(self, mode: Mode, sizes: Sizes) -> Row:
        """The upper envelope: the row whose blocks hold most, for a family that nobody traced."""
        rows = [row for (_, other), row in self._rows.items() if other == mode]
        if not rows:
            return self.largest((mode[0], "sdpa", "none"), sizes)
        return max(rows, key=lambda row: row.bytes_of("saved", sizes))


@cache
def bundled_families() -> FamilyTable:
    """The table that comes with the program."""
    found: dict[tuple[str, Mode], dict[str, Coefficients]] = {}
    with BUNDLED_FAMILIES.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(line for line in file if not line.startswith("#")):
            mode = (cells["precision"], cells["attention"], cells["lora"])
            coefficients = {name: value for name in FEATURES if (value := float(cells[name]))}
            found.setdefault((cells["model_type"], mode), {})[cells["quantity"]] = coefficients
    return FamilyTable({key: Row(quantities) for key, quantities in found.items()})
