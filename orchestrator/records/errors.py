"""What can be wrong with the journal, in words a user can act on."""

from __future__ import annotations

from pathlib import Path


class JournalError(Exception):
    """The journal cannot be used. ``advice`` says what to do; nothing was lost by this refusal."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class StaleRecord(Exception):
    """The record was no longer in the state that this change starts from; nothing was written."""


class DiskFull(JournalError):
    """No room to write the journal. What was committed before is safe; go on when there is room."""


def explain(path: Path, text: str) -> JournalError:
    """The error for what SQLite said about the journal at ``path``."""
    low = text.lower()
    if "full" in low:
        return DiskFull(
            f"There is no room left to write the journal {path} ({text}).",
            "Free some disk space, then run `gpujob resume`. Everything recorded so far is safe.",
        )
    if "not a database" in low or "malformed" in low or "disk image" in low:
        return JournalError(
            f"The journal {path} is damaged ({text}).",
            f"Nothing was changed. Move it aside (mv {path} {path}.damaged), put back the newest copy "
            f"{path.name}.before-* if there is one, and run `gpujob reap` to see what is still running or rented.",
        )
    if "readonly" in low or "read-only" in low or "unable to open" in low:
        return JournalError(
            f"The journal {path} cannot be written ({text}).",
            "Make the folder writable for you, or point GPUJOB_HOME to one that is.",
        )
    if "locked" in low or "busy" in low:
        return JournalError(
            f"Another program has kept the journal {path} locked for half a minute ({text}).",
            "See who holds it (fuser, lsof); gpujob itself never holds it for longer than milliseconds.",
        )
    return JournalError(f"The journal {path} cannot be used ({text}).")
