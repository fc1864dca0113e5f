"""How an attempt ends without an exit record: what a step raises when nothing more can be done, and what that means."""

from __future__ import annotations

import errno
import os

from backends.base import Fate, Gone
from orchestrator.lifecycle.outcome import Outcome, Verdict


class Ended(Exception):
    """Raised by a step that finds its attempt over: the step ends, and is not tried again."""


class Cancelled(Ended):
    """The user does not want it any more."""


class NeverReachable(Ended):
    """The machine was paid for and could not be reached until the start deadline, or was over before."""


class Unfit(Ended):
    """The machine can be reached, but is not what is paid for."""


class TakenBack(Ended):
    """The provider took the machine back."""


class MachineGone(Ended):
    """The machine is over: ended by itself, from inside, or by somebody else."""


class TimeUp(Ended):
    """What the attempt has reserved is used up: nothing more may be done on its machine."""


class TooDear(Ended):
    """Bringing more home would cost more than the attempt has reserved."""


class StepFailed(Exception):
    """A step failed for good. ``kind`` is the error's class name; the message is redacted."""

    def __init__(self, step: str, kind: str, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.kind = kind
        self.advice = advice


_OUTCOMES = {
    "Cancelled": Outcome.CANCELLED,
    "NoCapacity": Outcome.NO_CAPACITY,
    "NeverReachable": Outcome.UNREACHABLE,
    "Unfit": Outcome.UNREACHABLE,
    "NotYetReady": Outcome.UNREACHABLE,
    "Transient": Outcome.UNREACHABLE,
    "TakenBack": Outcome.PREEMPTED,
    "MachineGone": Outcome.LOST,
    "Lost": Outcome.LOST,
    "TimeUp": Outcome.DEADLINE,
    "TooDear": Outcome.LOST,
}
"""By the class of the error; anything else is a plain failure."""


_SAY_ALL = frozenset(kind.__name__ for kind in (NeverReachable, Unfit, TakenBack, MachineGone))
"""What is told by these needs no word on the step."""


def over(gone: Gone) -> Ended:
    """What it means that the provider says so of a machine that was reachable."""
    return TakenBack(str(gone)) if gone.fate is Fate.PREEMPTED else MachineGone(str(gone))


def verdict_of_failure(failure: StepFailed) -> Verdict:
    """The outcome of an attempt whose step failed before the runner could leave an exit record."""
    outcome = _OUTCOMES.get(failure.kind, Outcome.FAILED)
    if outcome is Outcome.CANCELLED:
        return Verdict(outcome, str(failure), ())
    if failure.kind in _SAY_ALL:
        return Verdict(outcome, str(failure), (str(failure),))
    if os.strerror(errno.ENOSPC) in str(failure):
        outcome = Outcome.DISK_FULL
    evidence = (f"{failure.step}: {failure}", *([failure.advice] if failure.advice else []))
    return Verdict(outcome, f"{failure.step} failed: {failure}", evidence)
