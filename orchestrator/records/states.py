"""States and which changes between them are allowed; the tables' fenced updates hold them."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """A job's life. Only the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more happens unless the user asks for it."""
        return self in FINAL_JOB_STATES


FINAL_JOB_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.FAILED, JobState.CANCELLED}),  # from: by `resume`
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.RUNNING}),
    JobState.SUCCEEDED: frozenset({JobState.RUNNING}),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.RUNNING}),
    JobState.CANCELLED: frozenset({JobState.QUEUED, JobState.RUNNING}),
}
"""For each state, the states it may be entered from."""


class AttemptState(StrEnum):
    """An attempt is open from the moment it is reserved until its outcome and cost are written."""

    OPEN = "open"
    ENDED = "ended"


class StepState(StrEnum):
    """A step is running while a try is under way or was interrupted; done and failed are final."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class TryState(StrEnum):
    """One try of a step. ``interrupted`` means its worker died; the next try took the step up again."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class LeaseState(StrEnum):
    """``intended`` is written before the provider is called: from then on the machine cannot be forgotten."""

    INTENDED = "intended"
    LIVE = "live"
    GONE = "gone"
