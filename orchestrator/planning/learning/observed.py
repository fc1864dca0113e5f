"""What an ended attempt taught about memory, as the calibration takes it."""

from __future__ import annotations

from dataclasses import dataclass

SAME_PREDICTION = 0.005
"""Predictions that differ by less than this share are of the same configuration."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of memory in one run, in bytes.

    ``bytes_`` is the peak; ``censored``: the run was out of memory and needed more than that. ``predicted_bytes`` is
    what the formulas said before calibration; None where they had nothing to say.
    """

    bytes_: int
    predicted_bytes: int | None = None
    censored: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What runs, and where. ``family`` is what the prediction was made from, such as ``llama lora``.

    ``config`` identifies spec and files where there is no prediction to compare; ``gpu`` and ``stack`` (such as
    ``torch 2.8``) are empty where not known.
    """

    name: str
    variant: str
    config: str = ""
    family: str = ""
    gpu: str = ""
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """One ended attempt: what ran where, and what it took. None: that memory was not measured."""

    subject: Subject
    vram: Measured | None = None
    ram: Measured | None = None


def same_configuration(subject: Subject, predicted: int | None, row: Subject, measured: Measured) -> bool:
    """Whether ``row`` was a run of the very same thing: its measure then needs no scaling."""
    if (subject.name, subject.variant) != (row.name, row.variant):
        return False
    if predicted is None or measured.predicted_bytes is None:
        return subject.config == row.config
    return abs(measured.predicted_bytes / predicted - 1) <= SAME_PREDICTION
