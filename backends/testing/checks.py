"""The checks, each a function over a :class:`~backends.testing.provider.Provider` that raises AssertionError.

How they call a backend is in ``calls``.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backends.base import (
    Gone,
    Lease,
    Machine,
    NoCapacity,
    NotYetReady,
    Rejected,
    RunPhase,
    Transient,
)
from backends.testing.calls import KEY, create, deleted, eventually, obtained, raised, reached, wish
from backends.testing.provider import Provider


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold. ``machines`` says that it needs machines that really run."""

    name: str
    says: str
    run: Callable[[Provider], None]
    machines: bool = False

    def __call__(self, provider: Provider) -> None:
        """Raises AssertionError where it does not hold."""
        self.run(provider)


CHECKS: list[Check] = []


def check(says: str, *, machines: bool = False) -> Callable[[Callable[[Provider], None]], Callable[[Provider], None]]:
    """Add a function to :data:`CHECKS`; ``says`` is its line in a table."""

    def add(function: Callable[[Provider], None]) -> Callable[[Provider], None]:
        CHECKS.append(Check(function.__name__, says, function, machines))
        return function

    return add


# --- offers and set-up ---


@check("offers have a source, a date, a price and names that last")
def offers(provider: Provider) -> None:
    """A plan is explained by them, and an attempt names its offer across crashes."""
    listed = list(provider.backend().offers(provider.need))
    assert listed, "nothing is offered"
    for offer in listed:
        assert offer.backend == provider.name, f"{offer.name} says that it is of {offer.backend!r}"
        assert offer.source, f"{offer.name} does not say where it is known from"
        assert offer.as_of, f"{offer.name} does not say as of when it is known"
        assert offer.micros_per_hour > 0 or offer.billing.free_seconds, f"{offer.name} costs nothing, without a quota"
    names = [offer.name for offer in listed]
    assert len(set(names)) == len(names), f"two offers have one name: {sorted(names)}"
    again = [offer.name for offer in provider.backend().offers(provider.need)]
    assert sorted(again) == sorted(names), "another listing has other names"


@check("without a key it says what is missing and how to mend it")
def setup(provider: Provider) -> None:
    """`gpujob backends` asks all backends at any time; `gpujob plan` lists what cannot be rented yet."""
    assert provider.backend().setup_state().ready, "it is set up and does not say so"
    unready = provider.unready()
    state = unready.setup_state()
    assert not state.ready, "it is not set up and says that it is"
    assert state.missing, "it does not say what is missing"
    assert state.how, "it does not say how to mend it"
    tried = [offer.name for offer in unready.offers(provider.need) if not offer.missing]
    assert not tried, f"offered though it cannot be rented: {tried}"
    assert list(unready.owned()) == [], "a home that has never rented anything owns something"


# --- one machine for each key ---


@check("asked twice it gives one machine")
def create_twice(provider: Provider) -> None:
    """A worker that died after the call makes it again."""
    first = create(provider, provider.backend())
    second = create(provider, provider.backend())
    assert first.id == second.id, "two machines for one key"
    assert_only(provider, first)


@check("a lost reply leaves no second machine")
def lost_reply(provider: Provider) -> None:
    """The machine is there, and nobody was told."""
    backend = provider.backend()
    request = wish(provider, backend)
    provider.lose_reply()
    lease = obtained(backend, request)
    assert_only(provider, lease)


@check("a lost reply and a list that lags leave no second machine")
def lost_reply_and_stale_list(provider: Provider) -> None:
    """The machine is there, nobody was told, and the list does not show it yet."""
    backend = provider.backend()
    request = wish(provider, backend)
    provider.lag()
    provider.lose_reply()
    obtained(backend, request)
    lease = obtained(provider.backend(), request)
    assert_only(provider, lease)


@check("a machine is found again by its key alone")
def find(provider: Provider) -> None:
    """By a process that knows nothing else."""
    lease = create(provider, provider.backend())
    found = provider.backend().find(KEY)
    assert found == lease, f"found {found}, created {lease}"


@check("a key that nobody has asked for is not found")
def find_unknown(provider: Provider) -> None:
    """Neither before anything was rented nor beside something."""
    assert provider.backend().find(KEY) is None
    create(provider, provider.backend())
    assert provider.backend().find("conformance-fghij-a1") is None


# --- giving back ---


@check("deleted twice is deleted once, and nothing is left")
def delete_twice(provider: Provider) -> None:
    """A worker that died after the call makes it again."""
    lease = create(provider, provider.backend())
    deleted(provider.backend(), lease)
    deleted(provider.backend(), lease)
    assert provider.backend().find(KEY) is None, "it is deleted and still found"
    assert_nothing_left(provider)


@check("a machine that is gone by itself can be deleted")
def delete_gone(provider: Provider) -> None:
    """A reservation that ran out, a provider that took it back."""
    lease = create(provider, provider.backend())
    provider.vanish(lease.id)
    deleted(provider.backend(), lease)
    assert_nothing_left(provider)


@check("it lists all that is ours and nothing else")
def owned(provider: Provider) -> None:
    """The reaper deletes what this lists: another home's machine, or a stranger's, must never be in it."""
    strange = provider.stranger(KEY)
    ours = create(provider, provider.backend())
    others = create(provider, provider.backend("another-home"), "conformance-fghij-a1")
    for home, lease in (("home", ours), ("another-home", others)):
        listed = [each.id for each in provider.backend(home).owned()]
        assert listed == [lease.id], f"{home} owns {lease.id} and lists {listed}"
    assert provider.backend().find(others.key) is None, "another home's machine is found"
    deleted(provider.backend(), ours)
    deleted(provider.backend("another-home"), others)
    assert list(provider.machines()) == [strange], "a stranger's machine was touched, or one of ours is left"


# --- what goes wrong ---


@check("none to be had is said so, and nothing is left")
def no_capacity(provider: Provider) -> None:
    """The next offer is tried then."""
    backend = provider.backend()
    request = wish(provider, backend)
    provider.no_capacity()
    before = list(provider.machines())
    try:
        lease = backend.create(request)
    except NoCapacity:
        assert backend.find(KEY) is None
    else:  # where refusals come late, reaching the machine has to tell
        assert raised(lambda: reached(backend, lease), (NoCapacity, Gone)), "a machine that cannot be had was given"
        deleted(backend, lease)
    assert list(provider.machines()) == before, "something was made all the same"
    assert not provider.leftovers(), provider.leftovers()


@check("a machine that never answers is waited for, and can be given back")
def never_reachable(provider: Provider) -> None:
    """The start deadline is the lifecycle's: a backend says "not yet" for as long as it is asked."""
    provider.never_reachable()
    backend = provider.backend()
    lease = create(provider, backend)
    for _ in range(3):
        assert raised(lambda: backend.connect(lease), (NotYetReady, Transient)), "it was reached"
        time.sleep(0.3)
    deleted(backend, lease)
    assert_nothing_left(provider)


@check("a dearer machine than offered is refused, or told and given back")
def dearer(provider: Provider) -> None:
    """What was reserved is what may be spent."""
    backend = provider.backend()
    request = wish(provider, backend)
    provider.raise_price()
    try:
        lease = backend.create(request)
    except NoCapacity:
        lease = None
    if lease:
        told = lease.details.get("micros_per_hour", 0)
        assert told > request.offer.micros_per_hour, f"it costs more than offered, and the lease says {told}"
        deleted(backend, lease)
    assert_nothing_left(provider)


# --- what it is for ---


@check("a job is pushed, run, watched and brought home", machines=True)
def runs_a_job(provider: Provider) -> None:
    """By the real runner on a machine that really runs."""
    backend = provider.backend()
    lease = create(provider, backend)
    machine = reached(backend, lease)
    with tempfile.TemporaryDirectory() as folder:
        _run_a_job(machine, Path(folder))
    deleted(backend, lease)
    assert_nothing_left(provider)


def _run_a_job(machine: Machine, folder: Path) -> None:
    """Its secret comes over standard input; starting it twice runs it once."""
    tree, home = folder / "tree", folder / "home"
    (tree / "work").mkdir(parents=True)
    (tree / "work" / "in").write_text("hello", encoding="utf-8")
    (tree / "job.json").write_text(json.dumps(_JOB), encoding="utf-8")
    assert machine.status(KEY).phase is RunPhase.ABSENT
    machine.push(tree, KEY, _no_progress)
    machine.start(KEY, {"WORD": "hush"})
    machine.start(KEY, {"WORD": "hush"})
    eventually(lambda: machine.status(KEY).over, "the end of the run")
    status = machine.status(KEY)
    assert status.phase is RunPhase.ENDED, f"the run is {status.phase}: {dict(status.record)}"
    assert machine.pull(f"{KEY}/work/out", home, _no_progress), "its result is not there"
    assert home.read_text(encoding="utf-8") == "hello 4\n", "its result is another"
    eventually(lambda: machine.read(f"{KEY}/stdout.log", 0) == b"done\n", "its output")
    assert not machine.pull(f"{KEY}/work/none", folder / "none", _no_progress), "what is not there was fetched"


_JOB = {
    "version": 1, "key": KEY, "run": 'echo $(cat in) $(printf %s "$WORD" | wc -c) >> out; echo done', "env": {},
    "base_env": None, "secret_names": ["WORD"], "setup": None,
    "limits": {"runtime": 60, "lease": None, "idle": None}, "memory": {"cap_bytes": None, "means": []}, "gpus": [],
    "grace": 5, "sample_every": 0.1,
}  # fmt: skip


@check("a machine that nobody watches ends, or is not rented unless the user accepts that", machines=True)
def ends_alone(provider: Provider) -> None:
    """The user's computer may die at any moment after the call."""
    if not provider.ends_alone:
        _refused_by_default(provider)
        return
    lease = create(provider, provider.backend(), seconds=provider.least_seconds)
    eventually(lambda: lease.id not in provider.machines(), f"{provider.ends_alone} ends it")
    deleted(provider.backend(), lease)
    assert_nothing_left(provider)


def _refused_by_default(provider: Provider) -> None:
    """Not even where somebody asks for it all the same; and every plan says it once the user has accepted it."""
    backend, request = provider.by_default(), wish(provider, provider.backend())
    listed = list(backend.offers(provider.need))
    assert listed, "nothing is listed"
    assert all(offer.missing for offer in listed), "nothing ends it, and it is offered without being asked for"
    assert raised(lambda: backend.create(request), (Rejected,)), "nothing ends it, and it was rented"
    assert_nothing_left(provider)
    assert all(offer.caveat for offer in provider.backend().offers(provider.need)), "no plan says it"


@check("no secret is in a lease or in what makes a machine")
def secrets(provider: Provider) -> None:
    """Leases are recorded and shown; what makes a machine can be read on it, and it is not trusted."""
    lease = create(provider, provider.backend())
    visible = json.dumps({"id": lease.id, **lease.details}) + provider.seen()
    for secret in provider.secrets:
        assert secret not in visible, "a secret can be read"


# --- what they have in common ---


def assert_only(provider: Provider, lease: Lease) -> None:
    """The lease's machine is the only one, and after it is given back there is none."""
    eventually(lambda: list(provider.machines()) == [lease.id], f"{lease.id} is the only machine")
    deleted(provider.backend(), lease)
    assert_nothing_left(provider)


def assert_nothing_left(provider: Provider) -> None:
    """No machine, and nothing beside."""
    assert not provider.machines(), f"left at the provider: {provider.machines()}"
    assert not provider.leftovers(), f"left at the provider: {provider.leftovers()}"


def _no_progress(done: int, total: int) -> None:
    del done, total
