"""What Google's command line `colab` says, read with care. Pure.

Written against google-colab-cli 0.7.5 and 0.6.0, which speak to people: no JSON, exit code 1 for every refusal, and 0
where `stop` finds nothing. Lines that tell of newer versions may stand between those that matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from backends.base import AuthError, BackendError, NoCapacity, Rejected, Transient

SIGN_IN = "run `colab sessions` once in a terminal and sign in"
UPDATE = "pip install --upgrade google-colab-cli"
LONGEST_WORDS = 300

_LISTED = re.compile(r"^\[[^\]]+\] (?P<endpoint>\S+) \| Hardware: (?P<hardware>\S+) \|.*Variant: ", re.MULTILINE)
_BALANCE = re.compile(r"^Current balance: (-?[0-9.]+) compute units", re.MULTILINE)
_RATE = re.compile(r"^Usage rate: ([0-9.]+)/hr", re.MULTILINE)
_COUNT = re.compile(r"^Active assignments: ([0-9]+)", re.MULTILINE)
_VERSION = re.compile(r"^Version: (\S+)", re.MULTILINE)
_NONE_LISTED = "No active sessions found on server"


class SessionUnknown(Transient):
    """The command knows no session of that name, or has dropped it: whether the runtime is there, the list says."""


@dataclass(frozen=True, slots=True)
class Said:
    """How the command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.out}\n{self.err}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A runtime of the account: what Google calls it, and its kind, ``CPU`` or as ``--gpu`` names it."""

    endpoint: str
    hardware: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The account: compute units left, what all of its runtimes take an hour, and how many there are."""

    balance: float
    units_per_hour: float
    runtimes: int


def read_sessions(said: Said) -> dict[str, Listed]:
    """The runtimes by endpoint. Raises Transient where that is no list: an empty one would mean that all are gone."""
    found = {match["endpoint"]: Listed(match["endpoint"], match["hardware"]) for match in _LISTED.finditer(said.out)}
    if not found and _NONE_LISTED not in said.out:
        raise Transient(f"`colab sessions` lists nothing that can be read: {last_words(said)}")
    return found


def read_usage(said: Said) -> Usage:
    """The account's balance. Raises Transient where it is not told."""
    balance, rate, count = (pattern.search(said.out) for pattern in (_BALANCE, _RATE, _COUNT))
    if not (balance and rate and count):
        raise Transient(f"`colab usage` does not tell the balance: {last_words(said)}")
    return Usage(float(balance[1]), float(rate[1]), int(count[1]))


def read_version(said: Said) -> str:
    """Such as 0.7.5; empty where it is not told."""
    found = _VERSION.search(said.out)
    return found[1] if found else ""


def is_unknown_to_it(said: Said) -> bool:
    """Whether the installed version lacks the command or the option."""
    return said.code == 2 and ("No such command" in said.text or "No such option" in said.text)


def trouble(doing: str, said: Said) -> BackendError:
    """The error for a command that failed, in our words; NoCapacity for what Google refuses now or to this account."""
    text = said.text
    if "Backend rejected accelerator" in text:
        return NoCapacity(
            f"Google gives this account no runtime of that kind (error 400): it needs Colab Pro or more ({doing})"
        )
    if "Allocation refused" in text or "TooManyAssignmentsError" in text:
        return NoCapacity(
            "Google gives out no further runtime now (error 412): too many are up, or that kind is scarce",
            advice="`colab sessions` lists them; `gpujob reap` ends what gpujob has left",
            busy_for_now=True,
        )
    if is_unknown_to_it(said):
        return Rejected(f"cannot {doing}: the installed `colab` does not know that command", advice=UPDATE)
    if any(
        word in text for word in ("authorization code", "No valid default credentials", "Unauthorized", "Forbidden")
    ):
        return AuthError(f"cannot {doing}: Google's command `colab` is not signed in", advice=SIGN_IN)
    if "not found" in text and "ession '" in text:
        return SessionUnknown(f"cannot {doing}: `colab` does not know the runtime (any more)")
    if "appears to be lost" in text:
        return SessionUnknown(f"cannot {doing}: `colab` has lost the runtime")
    if "TimeoutError" in text or "Timeout waiting" in text:
        return Transient(f"cannot {doing}: the runtime was silent for too long")
    return Transient(f"cannot {doing}: `colab` ended with {said.code}: {last_words(said)}")


def last_words(said: Said) -> str:
    """The last line that it printed, without its frames and control characters."""
    lines = [line.strip("│╭╰─╮╯ ") for line in (said.err or said.out).splitlines()]
    words = [line for line in lines if line]
    return "".join(sign for sign in words[-1][:LONGEST_WORDS] if sign.isprintable()) if words else "it said nothing"
