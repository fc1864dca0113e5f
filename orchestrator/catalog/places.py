"""Places with a known limit of RAM that are no backend, and networks of convolutions by their traced slopes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.catalog.rows import Row, read_rows

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """A place: bytes of RAM it has, and how many are taken when a program starts."""

    name: str
    ram_bytes: int
    used_bytes: int
    source: str
    date: str
    note: str

    @property
    def usable_bytes(self) -> int:
        """What is left for a job."""
        return self.ram_bytes - self.used_bytes


@dataclass(frozen=True, slots=True)
class Cnn:
    """A network of convolutions: fp32 bytes that one image of 224 x 224 pixels adds."""

    name: str
    params: int
    train_bytes: int
    infer_bytes: int


@cache
def bundled_targets() -> dict[str, Target]:
    """Every named place."""
    columns = ("name", "ram_mb", "used_at_start_mb", "source", "date", "note")
    found = read_rows(Path(__file__).with_name("targets.csv"), columns, _target)
    return {target.name: target for target in found}


@cache
def bundled_cnns() -> dict[str, Cnn]:
    """Every traced network of convolutions, by name without owner."""
    columns = ("name", "params", "train_bytes_per_image", "infer_bytes_per_image", "source", "date")
    found = read_rows(Path(__file__).with_name("cnns.csv"), columns, _cnn)
    return {cnn.name: cnn for cnn in found}


def _target(row: Row) -> Target:
    taken = float(row.needed("used_at_start_mb"))
    return Target(
        row.needed("name"),
        round(row.needed_number("ram_mb") * MB),
        round(taken * MB),
        row.needed("source"),
        row.needed("date"),
        row.text("note"),
    )


def _cnn(row: Row) -> Cnn:
    return Cnn(
        row.needed("name"),
        round(row.needed_number("params")),
        round(row.needed_number("train_bytes_per_image")),
        round(row.needed_number("infer_bytes_per_image")),
    )
