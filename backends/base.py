"""The ground floor: what a backend is, in one file.

A backend is a *lease life cycle* (how a machine is obtained and given back) times a *channel* (how files
and commands reach it). It has no run logic: the runner does the running, everywhere the same.

Rules for whoever writes one:

- Every verb may be called again after a crash or a lost reply, and then changes nothing more.
- A backend never sleeps and never retries. It raises the error that says what its caller does next.
- It never invents a price, and never touches what does not carry our mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class GpuNeed:
    """The GPUs that a job asks for. ``vram_bytes`` is per GPU, usable; None means not declared."""

    count: int = 1
    vram_bytes: int | None = None
    compute_capability: float | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """What a machine must have for one variant of a job. Sizes in bytes; None means not declared.

    ``upload_bytes`` is the size of the user's files that are brought there before the run.
    """

    gpu: GpuNeed | None = None
    ram_bytes: int | None = None
    disk_bytes: int | None = None
    upload_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Billing:
    """How an offer is charged beside its hourly rate (``backends/billing.py`` counts). Micro-dollars and seconds.

    Time is rounded up to ``increment_seconds``, and at least ``minimum_seconds`` are charged. Disk is charged while the
    machine is held, for ``least_disk_bytes`` at least, and at a price of its own while it is stopped but not given
    back. ``upload_micros`` are due once, for bringing the job's files there. ``free_seconds`` of a quota come first,
    disk included; ``quota_ends`` says that nothing can be bought beyond it. ``subscription_micros`` is paid once,
    unless ``subscribed``, and shared by ``uses`` jobs. A ``spot`` machine is taken back by its provider
    ``interruptions_per_hour`` times on average. ``wait_seconds`` pass before it starts, unpaid: a queue, or a person
    who has to press a button.
    """

    increment_seconds: int = 1
    minimum_seconds: int = 0
    disk_micros_per_gb_month: int = 0
    stopped_disk_micros_per_gb_month: int = 0
    least_disk_bytes: int = 0
    egress_micros_per_gb: int = 0
    upload_micros: int = 0
    free_seconds: int = 0
    quota_ends: bool = False
    subscription_micros: int = 0
    subscribed: bool = False
    uses: int = 1
    spot: bool = False
    interruptions_per_hour: float = 0.0
    wait_seconds: float = 0.0


BY_THE_SECOND = Billing()
"""Charged for every second begun, and for nothing else."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that could be rented now, at a price, with a capacity.

    ``name`` is unique within its backend and the same in every listing. ``shared`` says that a lease takes a
    slice as large as the job asks for (this machine's RAM) instead of the whole machine. ``missing`` is what has to be
    set up before it can be rented at all, with the command that does it; such an offer is listed, never tried.
    ``caveat`` is told with every plan that goes there.
    """

    backend: str
    name: str
    ram_bytes: int
    disk_bytes: int
    cpus: int
    micros_per_hour: int
    gpu: str | None = None
    gpu_count: int = 0
    vram_bytes: int = 0
    compute_capability: float | None = None
    shared: bool = False
    source: str = ""
    as_of: str = ""
    billing: Billing = BY_THE_SECOND
    missing: str = ""
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """A wish for one machine. ``key`` becomes its name or tag, so asking twice gives one machine.

    ``ram_bytes`` is the slice of a shared offer; ``max_seconds`` is what the reservation pays for, and ``ends_at`` the
    moment when it is used up: a rented machine is told both at its birth and ends itself then, whoever is asleep.
    ``image`` is the container that the spec names, ``disk_bytes`` what it needs of disk; ``avoid`` names places (data
    centres, zones) where a machine was lately paid for and never became reachable.
    """

    key: str
    offer: Offer
    ram_bytes: int | None = None
    max_seconds: float = 0.0
    ends_at: datetime | None = None
    image: str | None = None
    disk_bytes: int | None = None
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lease:
    """A machine that is ours until it is deleted. ``details`` holds plain JSON values, no secrets.

    Details that others read, all of them optional: ``own_machine`` (this very machine, costs only while it works),
    ``jobs``, ``environments`` and ``input_cache`` (folders there), ``python`` (its interpreter), ``gpus`` (indexes),
    ``lease_began`` (its monotonic clock when it began), ``place`` (data centre or zone), ``stop`` (shell commands that
    end the machine from inside, tried in order by the runner), ``stop_pid1`` (``NAME=value``: ending the process 1
    whose environment holds it ends the machine as well), ``micros_per_hour`` (what is really taken, where it is known),
    ``too_dear`` (why that is too much for the machine to be used: it has to be given back).
    """

    key: str
    backend: str
    id: str
    created_at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)


class RunPhase(StrEnum):
    """Where a run stands on its machine, as the runner's files and lock tell it."""

    ABSENT = "absent"
    """Never started there."""
    STARTING = "starting"
    SETUP = "setup"
    RUNNING = "running"
    ENDED = "ended"
    """Over, and the runner left its exit record."""
    LOST = "lost"
    """Started, and its runner is gone without an exit record."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One reading of a run: the phase, the newest sample, and the runner's record (see ``docs/runner.md``)."""

    phase: RunPhase
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen there."""
        return self.phase in (RunPhase.ENDED, RunPhase.LOST)


Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all); the second is 0 while unknown."""


class BackendError(Exception):
    """Something went wrong at a backend."""

    advice: str = ""

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice or self.advice


class Transient(BackendError):
    """Passing trouble: the same call may succeed later. ``retry_after`` are the seconds the provider asks to wait."""

    def __init__(self, message: str, *, advice: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, advice=advice)
        self.retry_after = retry_after


class NoCapacity(BackendError):
    """Nothing of that kind is free: take the next offer. ``busy_for_now`` says that waiting helps, free of charge."""

    def __init__(self, message: str, *, advice: str = "", busy_for_now: bool = False) -> None:
        super().__init__(message, advice=advice)
        self.busy_for_now = busy_for_now


class Rejected(BackendError):
    """The request itself is refused and always will be: tell the user."""


class AuthError(BackendError):
    """Credentials are missing or refused: tell the user."""


class NotYetReady(BackendError):
    """The machine is not reachable yet: call again until the start deadline."""


class NotYetGone(BackendError):
    """Deletion is under way: call again."""


class Lost(BackendError):
    """Nobody knows whether the call took effect: look with ``find``."""


class Fate(StrEnum):
    """What became of a leased machine, as its provider tells it."""

    ALIVE = "alive"
    """Rented and not over; whether it can be reached is another question."""
    ENDED = "ended"
    """It ended by itself or was ended from inside; its files may be gone. It still has to be deleted."""
    PREEMPTED = "preempted"
    """The provider took a spot machine back. It still has to be deleted."""
    GONE = "gone"
    """The provider does not have it any more."""


class Gone(BackendError):
    """The machine is over and nothing will reach it again; ``fate`` says how that came. It still has to be deleted."""

    def __init__(self, message: str, fate: Fate, *, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.fate = fate


class Machine(Protocol):
    """A leased machine that can be reached. All paths are relative to its place for jobs, with ``/``."""

    def push(self, tree: Path, dest: str, progress: Progress) -> None:
        """Make ``dest`` hold every file of the local folder ``tree``; files already there alike are not sent again."""

    def start(self, job_dir: str, secrets: Mapping[str, str]) -> None:
        """Start the runner on ``job_dir``, detached; secrets go over its standard input. Starting twice is harmless."""

    def status(self, job_dir: str) -> RunStatus:
        """Read where the run stands."""

    def read(self, path: str, offset: int, limit: int = 1 << 20) -> bytes:
        """Read up to ``limit`` bytes of a file from ``offset``; empty if there is nothing (yet)."""

    def pull(self, path: str, dest: Path, progress: Progress) -> bool:
        """Fetch a file or folder into ``dest``: regular files and folders only. False where ``path`` is absent."""

    def signal(self, job_dir: str, reason: str) -> None:
        """Ask the runner to end the run; ``reason`` is kept in its record. Asking twice is harmless."""


@dataclass(frozen=True, slots=True)
class SeenGpu:
    """A GPU as its driver on the machine shows it: the model's name, and its VRAM in bytes."""

    name: str
    vram_bytes: int


@runtime_checkable
class Inspected(Protocol):
    """Optional power of a machine: it can be looked at before anything is carried there."""

    def gpus(self) -> list[SeenGpu]:
        """Every GPU that the driver shows, in its order; none where there is no driver, or not yet."""


@runtime_checkable
class Counted(Protocol):
    """Optional power of a machine: what comes from it is counted, for providers that charge for traffic."""

    @property
    def received_bytes(self) -> int:
        """Bytes that this process has received from the machine, by whichever object; never less than before."""


class Backend(Protocol):
    """A place that machines come from."""

    name: str

    def offers(self, need: Need) -> Iterable[Offer]:
        """What could be rented now. Offers that do not meet ``need`` are listed too: the planner says why not."""

    def create(self, request: LeaseRequest) -> Lease:
        """Obtain the machine for ``request.key`` and return at once; the same key gives the same machine. Lost means
        that one may be there: `find` tells.
        """

    def find(self, key: str) -> Lease | None:
        """The machine that carries ``key``, if there is one: the way back after a lost reply or a crash. Lost means
        that it cannot be told yet: call again.
        """

    def owned(self) -> Iterable[Lease]:
        """Everything that carries our mark, for the reaper."""

    def delete(self, lease: Lease) -> None:
        """Give the machine back. Absent is success; NotYetGone means call again."""

    def connect(self, lease: Lease) -> Machine:
        """Reach the machine; NotYetReady means call again until the start deadline, Gone that it is over."""

    def setup_state(self) -> SetupState:
        """Whether this backend can be used from here, what is missing and how to mend it."""


@dataclass(frozen=True, slots=True)
class SetupState:
    """How far a backend is set up: ``missing`` says what is lacking, ``how`` says the commands to mend it."""

    ready: bool
    summary: str
    missing: str = ""
    how: str = ""


def asked_state(provider: str, refused: str, ask: Callable[[], str]) -> SetupState:
    """Of a backend that has all it needs: ``ask``, a free call, gives the summary where it succeeds; ``refused`` is the
    summary where its key is, or what is asked.
    """
    try:
        return SetupState(True, ask())
    except (AuthError, Rejected) as error:
        return SetupState(False, refused, str(error), error.advice)
    except BackendError as error:
        return SetupState(False, f"{provider} cannot be asked now", str(error), error.advice or "try again later")


@runtime_checkable
class Metered(Protocol):
    """Optional power: the backend measures by its own clock how long a lease has been held."""

    def held_seconds(self, lease: Lease) -> float | None:
        """Seconds the lease was or has been held, by the machine's or provider's clock; None if it cannot tell."""

    def settled(self, lease: Lease) -> None:
        """The lease is over and its seconds are recorded: nothing about it need be remembered here."""


@runtime_checkable
class Billed(Protocol):
    """Optional power: the provider says afterwards what it charged."""

    def billed_micros(self, lease: Lease) -> int | None:
        """What the provider's own account shows for the lease, in micro-dollars; None while it shows nothing yet."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key that a backend needs: its name (also that of an environment variable), what it is, where it is made, and
    the least that it must be allowed to do.
    """

    name: str
    title: str
    made_at: str
    rights: str


@runtime_checkable
class Keyed(Protocol):
    """Optional power: the backend is set up by one key, which `gpujob backends setup` asks for."""

    credential: Credential

    def try_key(self, key: str) -> list[str]:
        """What the provider says of the account behind ``key``, in lines, by free calls. Raises AuthError."""


@runtime_checkable
class SignedIn(Protocol):
    """Optional power: the key is got by signing in, in a browser."""

    def sign_in(self, client: Path, *, browser: bool = True) -> str:
        """The key's value, by the OAuth client in the file ``client``. Raises AuthError where the user refuses."""


@runtime_checkable
class Outlived(Protocol):
    """Optional power: something of what a run made can still be had when its machine is gone."""

    def remains(self, lease: Lease) -> Machine | None:
        """It, as a machine that knows ``status``, ``read`` and ``pull`` only; None where there is nothing."""


@runtime_checkable
class Fated(Protocol):
    """Optional power: the provider says what became of a machine that no longer answers."""

    def fate(self, lease: Lease) -> Fate:
        """What the provider says of the lease now. Raises Transient where it cannot be asked."""
