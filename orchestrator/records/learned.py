"""What attempts have taught, read without an ORM: plans are made from it while somebody waits."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.records.reading import Reader


@dataclass(frozen=True, slots=True)
class Recorded:
    """An observation as it lies in the journal; ``records/tables.py`` says what its columns mean."""

    id: int
    attempt_id: int | None
    content_id: str
    name: str
    variant: str
    spec_digest: str
    family: str
    backend: str
    offer: str
    gpu: str | None
    outcome: str
    peak_ram_bytes: int | None
    load_ram_bytes: int | None
    peak_vram_bytes: int | None
    device_vram_bytes: int | None
    ram_above_bytes: int | None
    vram_above_bytes: int | None
    ram_capacity_bytes: int | None
    vram_capacity_bytes: int | None
    vram_usable_bytes: int | None
    predicted_ram_bytes: int | None
    predicted_vram_bytes: int | None
    setup_seconds: float | None
    run_seconds: float | None
    step_seconds: float | None
    versions: str
    at: str


def observations_of(reader: Reader, name: str, digest: str) -> list[Recorded]:
    """What attempts of jobs with this name and this very spec and files have taught, oldest first."""
    rows = reader.rows(
        "SELECT * FROM observation WHERE name = ? AND spec_digest = ? ORDER BY at DESC LIMIT 200", (name, digest)
    )
    return [Recorded(**row) for row in reversed(rows)]


def newest_observations(reader: Reader, limit: int) -> list[Recorded]:
    """What the newest attempts of all jobs have taught, oldest first."""
    rows = reader.rows("SELECT * FROM observation ORDER BY at DESC, id DESC LIMIT ?", (limit,))
    return [Recorded(**row) for row in reversed(rows)]


def newest_ends(reader: Reader, limit: int) -> list[tuple[str, str]]:
    """Backend and outcome of the newest attempts that ended."""
    rows = reader.rows(
        "SELECT backend, outcome FROM attempt WHERE outcome IS NOT NULL ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [(row["backend"], row["outcome"]) for row in rows if row["outcome"]]
