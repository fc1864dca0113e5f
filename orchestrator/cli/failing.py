"""Errors as part of the interface: what happened, why, what to do; exit code 2 for bad input, 1 otherwise."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

BAD_INPUT = 2
FAILED = 1
CANCELLED = 130

_BAD_INPUT_ERRORS = frozenset(
    {
        "SpecError",
        "ConfigError",
        "CatalogError",
        "HistoryError",
        "UnknownJob",
        "UnknownModelError",
        "ModelFileError",
        "MissingSecret",
        "NothingToProbe",
        "Rejected",
        "AuthError",
    }
)
_KNOWN_ERRORS = frozenset(
    {
        "ProbeFailed",
        "HomeError",
        "JournalError",
        "DiskFull",
        "Transient",
        "NoCapacity",
        "NotYetReady",
        "NotYetGone",
        "Lost",
        "Gone",
    }
)


def guarded(app: Callable[[], object]) -> int:
    """Run the command line; its exit code. Known errors by name, so that no command loads another's modules."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED if end.code else 0
    except KeyboardInterrupt:
        return CANCELLED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # the last line of defence: a fault of ours is told as one, not thrown at the user
        return _tell(error)
    return 0


def _tell(error: Exception) -> int:
    if os.environ.get("GPUJOB_DEBUG"):
        traceback.print_exc()
    names = {cls.__name__ for cls in type(error).__mro__}
    advice = getattr(error, "advice", "")
    if names & (_BAD_INPUT_ERRORS | _KNOWN_ERRORS):
        print(f"gpujob: {error}" + (f"\n{advice}" if advice else ""), file=sys.stderr)
        return BAD_INPUT if names & _BAD_INPUT_ERRORS else FAILED
    if isinstance(error, OSError):
        print(f"gpujob: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return FAILED
    print(
        f"gpujob: internal error: {type(error).__name__}: {error}\n"
        "This is a fault of gpujob. Nothing recorded is lost; `gpujob --debug ...` shows where it happened.",
        file=sys.stderr,
    )
    return FAILED
