"""Offers are gathered from all backends; one that cannot list is left out with a note, unless there is no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.base import AuthError, BackendError, Need, Offer, Rejected, Transient
from orchestrator.config import Config
from orchestrator.home import Home
from orchestrator.lifecycle import registry
from orchestrator.lifecycle.planning import gather_offers
from orchestrator.lifecycle.registry import Backends
from orchestrator.spec.model import JobSpec

SPEC = JobSpec.from_json({"name": "job", "run": "true"})


class Cloud:
    """Lists one offer, or fails."""

    def __init__(self, name: str, error: BackendError | None = None) -> None:
        self.name, self.error = name, error

    def offers(self, need: Need) -> list[Offer]:
        if self.error:
            raise self.error
        return [Offer(self.name, "m", 1, 1, 1, 1)]


class Entry:
    """An installed entry point."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def load(self):
        return lambda root, settings: self.cloud


@pytest.fixture
def backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def installed(*clouds: Cloud) -> Backends:
        monkeypatch.setattr(registry, "_installed", lambda: {cloud.name: Entry(cloud) for cloud in clouds})
        home = Home(tmp_path / "home").ensure()
        return Backends(home, Config(home.config), sleep=lambda _seconds: None)

    return installed


def test_all_backends_are_asked_or_those_named(backends):
    found = backends(Cloud("local"), Cloud("a"), Cloud("b"))
    assert [offer.backend for offer in gather_offers(found, [], SPEC).offers] == ["local", "a", "b"]
    assert [offer.backend for offer in gather_offers(found, ["b"], SPEC).offers] == ["b"]


@pytest.mark.parametrize("error", [Transient("the prices cannot be read", advice="Try again."), AuthError("no key")])
def test_one_that_cannot_list_is_left_out_with_a_note(backends, error):
    listing = gather_offers(backends(Cloud("local"), Cloud("a", error)), [], SPEC)
    assert [offer.backend for offer in listing.offers] == ["local"]
    assert listing.left_out == (f"a is left out: {error}. {error.advice}".strip(),)


def test_where_none_can_list_the_error_is_told(backends):
    found = backends(Cloud("local"), Cloud("a", AuthError("no key")))
    with pytest.raises(AuthError):
        gather_offers(found, ["a"], SPEC)
    with pytest.raises(Rejected, match="there is no backend 'z'"):
        gather_offers(found, ["local", "z"], SPEC)
