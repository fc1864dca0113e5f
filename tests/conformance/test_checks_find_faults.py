"""Each check fails on a backend that breaks what it is about: a suite that passes everything says nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.base import BackendError, Lease, NotYetGone, Rejected, SetupState
from backends.testing import CHECKS, calls
from tests.conformance.providers.adapter import Adapter, Bench
from tests.conformance.providers.lambda_cloud import lambda_cloud
from tests.conformance.providers.local import local

Breaks = Callable[[Any, Adapter], dict[str, Callable[..., Any]]]
"""What a backend does instead: given the good one and its provider, methods by name."""


class Broken:
    """A good backend, but for some methods."""

    def __init__(self, good: Any, instead: dict[str, Callable[..., Any]]) -> None:
        self._good = good
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        return self._instead.get(name) or getattr(self._good, name)


def never_the_same(good: Any, provider: Adapter) -> dict[str, Callable[..., Any]]:
    """Every call rents, whatever is there already."""
    del provider
    numbers = iter(range(100))

    def create(request: Any) -> Lease:
        return replace(good.create(replace(request, key=f"{request.key}-{next(numbers)}-{id(good)}")), key=request.key)

    return {"create": create, "find": lambda _: None}


def raiser(error: BackendError) -> Callable[..., Any]:
    def fails(*_: Any) -> Any:
        raise error

    return fails


def hides_its_price(good: Any, provider: Adapter) -> dict[str, Callable[..., Any]]:
    del provider
    return {"create": lambda request: replace(good.create(request), details={})}


def tells_its_key(good: Any, provider: Adapter) -> dict[str, Callable[..., Any]]:
    secret = provider.secrets[0]
    return {"create": lambda request: replace(good.create(request), details={"stop": f"curl -u {secret}: x"})}


def owns_all(good: Any, provider: Adapter) -> dict[str, Callable[..., Any]]:
    (lease,) = [*good.owned()] or [None]
    return {"owned": lambda: [replace(lease, id=id_) for id_ in provider.machines()] if lease else []}


BREAKS: dict[str, Breaks] = {
    "offers": lambda good, _: {"offers": lambda need: [replace(each, source="") for each in good.offers(need)]},
    "setup": lambda good, _: {"setup_state": lambda: SetupState(True, "all is well")},
    "create_twice": never_the_same,
    "lost_reply": never_the_same,
    "lost_reply_and_stale_list": never_the_same,
    "find": lambda good, _: {"find": lambda key: replace(good.find(key), details={})},
    "find_unknown": lambda good, _: {"find": lambda _: next(iter(good.owned()), None)},
    "delete_twice": lambda good, _: {"delete": lambda lease: None},
    "delete_gone": lambda good, _: {"delete": raiser(NotYetGone("it is still there"))},
    "owned": owns_all,
    "no_capacity": lambda good, _: {"create": raiser(Rejected("no"))},
    "never_reachable": lambda good, _: {"connect": lambda lease: object()},
    "dearer": hides_its_price,
    "secrets": tells_its_key,
}


@pytest.mark.parametrize("name", [check.name for check in CHECKS if check.name not in ("runs_a_job", "ends_alone")])
def test_a_fault_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PATIENCE_SECONDS", 2.0)
    check = next(check for check in CHECKS if check.name == name)
    with lambda_cloud(Bench(tmp_path, monkeypatch, machines=False)) as provider:
        for opens in ("backend", "unready"):
            monkeypatch.setattr(provider, opens, breaking(getattr(provider, opens), BREAKS[name], provider))
        with pytest.raises((AssertionError, BackendError)):
            check(provider)


def breaking(opens: Callable[..., Any], breaks: Breaks, provider: Adapter) -> Callable[..., Any]:
    def opened(*home: str) -> Broken:
        good = opens(*home)
        return Broken(good, breaks(good, provider))

    return opened


def test_a_machine_that_brings_nothing_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local(Bench(tmp_path, monkeypatch, machines=True)) as provider:
        opens = provider.backend

        def opened(home: str = "home") -> Any:
            good = opens(home)
            return Broken(good, {"connect": lambda lease: Broken(good.connect(lease), {"pull": lambda *_: False})})

        monkeypatch.setattr(provider, "backend", opened)
        with pytest.raises(AssertionError, match="its result is not there"):
            next(check for check in CHECKS if check.name == "runs_a_job")(provider)


def test_a_machine_that_nothing_ends_is_found_where_nobody_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lambda_cloud(Bench(tmp_path, monkeypatch, machines=False)) as provider:
        monkeypatch.setattr(provider, "by_default", provider.backend)
        with pytest.raises(AssertionError, match="without being asked for"):
            next(check for check in CHECKS if check.name == "ends_alone")(provider)
