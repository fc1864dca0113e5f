"""Lambda Cloud as a plugin: what the conformance suite does not ask of every backend."""

from __future__ import annotations

import ast
import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.base import (
    AuthError,
    Fate,
    Gone,
    LeaseRequest,
    Lost,
    Need,
    NoCapacity,
    NotYetReady,
    Offer,
    Rejected,
    Transient,
)
from backends.billing import price_of
from backends.rented.contacts import Contacts
from backends.testing.calls import deleted, obtained
from orchestrator.config import Config, ConfigError
from tests.emulators.guest.container import SSHD_PORT
from tests.emulators.lambda_cloud import LambdaEmulator
from tests.plugins import LAMBDA, installed_lambda, opener

REPOSITORY = Path(__file__).parents[2]
KEY = "job-abcde-a1"
HIDDEN = 3600.0
"""Seconds: until the test says otherwise."""
PUBLIC = ("base", "billing", "rented", "channels", "units", "addresses", "recent", "failpoints", "settings")
"""The rooms of ``backends`` that are for whoever writes a backend."""


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    with installed_lambda():
        yield


@pytest.fixture
def cloud() -> Iterator[LambdaEmulator]:
    with LambdaEmulator(machines=False) as emulator:
        yield emulator


@pytest.fixture
def opened(tmp_path: Path, cloud: LambdaEmulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("LAMBDA_API_BASE_URL", cloud.url)

    def open_one(**settings: Any) -> Any:
        given = {"credential": lambda _: cloud.key, "accept_no_end": True, "pace": 0.0, "ssh_port": SSHD_PORT}
        return opener("lambda")(tmp_path / "home", given | settings)

    return open_one


def request(backend: Any, name: str = "gpu_1x_a10", **wish: Any) -> LeaseRequest:
    offer: Offer = next(offer for offer in backend.offers(Need()) if offer.name == name)
    return LeaseRequest(KEY, offer, **{"max_seconds": 3600.0, **wish})


def test_nothing_is_rented_until_the_user_has_accepted_that_nothing_ends_it(cloud, opened):
    cautious = opened(accept_no_end=False)
    offer = request(cautious).offer
    assert "gpujob config set lambda.accept_no_end yes" in offer.missing
    assert "until somebody terminates it" in offer.caveat
    with pytest.raises(Rejected, match="nothing ends this machine"):
        cautious.create(request(cautious))
    assert cautious.setup_state().how == "gpujob config set lambda.accept_no_end yes"
    assert not cloud.fleet.created


def test_the_machine_is_what_was_asked_for_and_its_account_key_opens_nothing(cloud, opened, tmp_path):
    opened().create(request(opened()))
    (order,) = cloud.launches
    assert (order["name"], order["instance_type_name"]) == (f"gpujob-{KEY}", "gpu_1x_a10")
    ours = Contacts(tmp_path / "home").public_key().split()[1]
    assert ours in order["user_data"]
    (kept,) = cloud.fleet.keys.values()
    assert order["ssh_key_names"] == [kept["name"]]
    assert kept["public_key"].startswith("ssh-ed25519 ")
    assert ours not in kept["public_key"], "cloud-init would put it before ours with a command that refuses root"


def test_of_twins_the_oldest_is_kept_and_both_are_paid(cloud, opened):
    backend = opened(list_lag=0.0)
    cloud.faults.stale_list(seconds=HIDDEN)
    cloud.faults.lost_reply()
    with pytest.raises(Lost, match="broke off"):
        backend.create(request(backend))
    cloud.clock.advance(5)
    second = backend.create(request(backend))
    cloud.fleet.created[0].listed_from = 0.0
    cloud.clock.advance(95)
    kept = backend.find(KEY)
    assert kept.id == cloud.fleet.created[0].id != second.id
    assert [each.id for each in cloud.instances()] == [kept.id]
    deleted(backend, kept)
    paid = price_of(request(backend).offer).micros(backend.held_seconds(kept))
    assert paid >= sum(cloud.micros(each) for each in cloud.fleet.created)


def test_a_launch_that_nobody_heard_of_is_waited_for_until_lists_must_show_it(cloud, opened):
    backend = opened()
    wish = request(backend)
    cloud.faults.stale_list(seconds=HIDDEN)
    cloud.faults.lost_reply()
    with pytest.raises(Lost):
        backend.create(wish)
    with pytest.raises(Lost, match="Lambda's list does not show it yet"):
        opened().find(KEY)
    cloud.fleet.created[0].listed_from = 0.0
    lease = obtained(opened(), wish)
    assert [each.id for each in cloud.fleet.created] == [lease.id]


def test_a_launch_that_made_nothing_is_made_again_once_lists_must_have_shown_it(cloud, opened):
    backend = opened()
    cloud.faults.error(503, "global/internal-error", path="/api/v1/instance-operations/launch")
    with pytest.raises(Lost, match="503"):
        backend.create(request(backend))
    with pytest.raises(Lost):
        backend.find(KEY)
    cloud.clock.advance(91)
    assert opened().find(KEY) is None
    assert not cloud.fleet.keys, "the key that no machine needs is gone"


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ((400, "instance-operations/launch/insufficient-capacity"), NoCapacity, "none free"),
        ((400, "global/quota-exceeded"), NoCapacity, "may not rent more"),
        ((400, "global/invalid-parameters"), Rejected, "renting gpujob-job-abcde-a1"),
        ((403, "global/account-inactive"), AuthError, "renting"),
        ((401, "global/invalid-api-key"), AuthError, "renting"),
        ((404, "global/object-does-not-exist"), Transient, "renting"),
        ((429, "global/rate-limited"), Transient, "rate limit"),
    ],
)
def test_refusals_are_told_apart(cloud, opened, fault, error, words):
    backend = opened()
    wish = request(backend)
    cloud.faults.error(*fault, path="/api/v1/instance-operations/launch")
    with pytest.raises(error, match=words):
        backend.create(wish)
    assert not cloud.instances()
    assert backend.find(KEY) is None


def test_regions_are_chosen_and_avoided(cloud, opened):
    backend = opened()
    assert "free in us-east-1, us-west-1" in request(backend).offer.source
    lease = backend.create(request(backend, avoid=frozenset({"us-east-1"})))
    assert lease.details["place"] == "us-west-1"
    deleted(backend, lease)
    with pytest.raises(NoCapacity, match="avoided for now"):
        backend.create(request(backend, avoid=frozenset({"us-east-1", "us-west-1"})))
    assert not list(opened(regions=("us-south-1",)).offers(Need()))
    cloud.fleet.free["gpu_1x_a10"].clear()
    assert "gpu_1x_a10" not in {offer.name for offer in backend.offers(Need())}


def test_a_price_that_has_risen_since_is_refused_before_anything_is_rented(cloud, opened, monkeypatch):
    from tests.emulators.lambda_cloud.fleet import TYPES

    backend = opened()
    wish = request(backend)
    monkeypatch.setitem(TYPES, "gpu_1x_a10", TYPES["gpu_1x_a10"] | {"cents": 99})
    with pytest.raises(NoCapacity, match=r"\$0\.99/h by now for what it offered for \$0\.86"):
        backend.create(wish)
    assert not cloud.fleet.created


def test_a_machine_that_has_switched_itself_off_is_alive_and_costs(cloud, opened):
    backend = opened()
    lease = backend.create(request(backend))
    cloud.fleet._switched_off(cloud.fleet.created[0])
    cloud.clock.advance(120)
    assert backend.fate(lease) is Fate.ALIVE
    with pytest.raises(NotYetReady, match="unhealthy"):
        backend.connect(lease)
    assert price_of(request(backend).offer).micros(backend.held_seconds(lease)) >= cloud.micros(cloud.fleet.created[0])


def test_a_machine_that_lambda_takes_back_is_told_as_such(cloud, opened):
    backend = opened()
    lease = backend.create(request(backend))
    cloud.fleet.created[0].status = "preempted"
    assert backend.fate(lease) is Fate.PREEMPTED
    with pytest.raises(Gone) as over:
        opened().connect(lease)
    assert over.value.fate is Fate.PREEMPTED
    deleted(backend, lease)
    assert backend.find(KEY) is None


def test_a_key_is_tried_and_shown_nowhere(cloud, opened):
    assert opened().try_key(cloud.key) == ["the key is accepted; the account has 0 machines"]
    with pytest.raises(AuthError, match="API key was invalid") as refused:
        opened().try_key("wrong")
    assert "gpujob backends setup lambda" in refused.value.advice
    assert not opened(credential=lambda _: "wrong").setup_state().ready


DIES = """
import sys
from pathlib import Path
from backends.base import Need, LeaseRequest
from backends.testing.calls import deleted, obtained
from gpujob_lambda import open_backend
given = {"credential": lambda _: sys.argv[2], "accept_no_end": True, "pace": 0.0}
backend = open_backend(Path(sys.argv[1]), given)
offer = next(offer for offer in backend.offers(Need()) if offer.name == "gpu_1x_a10")
deleted(backend, obtained(backend, LeaseRequest("job-abcde-a1", offer, max_seconds=600)))
"""


def test_killed_at_any_point_of_renting_and_giving_back_it_is_mended_by_doing_it_again(cloud, opened, tmp_path):
    points = 0
    for point in range(1, 20):
        home = tmp_path / f"home-{point}"
        command = [sys.executable, "-c", DIES, str(home), cloud.key]
        died = subprocess.run(command, env={**os.environ, "GPUJOB_CRASH_AT": str(point)})
        if died.returncode == 0:
            break
        assert died.returncode == -signal.SIGKILL
        points += 1
        cloud.clock.advance(91)  # lists show by now whatever there is
        subprocess.run(command, env=os.environ.copy(), check=True)
        assert not cloud.instances()
        assert not cloud.fleet.keys
        cloud.clock.advance(-91)
    assert points >= 4, "it dies with the mark, the key, the machine made, and its end asked for"


def test_the_tables_say_what_gpujob_says_and_every_row_has_a_source(opened):
    def rows(path: str) -> list[dict[str, str]]:
        with (REPOSITORY / path).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    known = {
        row["instance_type"]: row for row in rows("orchestrator/catalog/offers.csv") if row["provider"] == "lambda"
    }
    gpus = {row["gpu"] for row in rows("orchestrator/catalog/gpus.csv")}
    gpus |= {alias for row in rows("orchestrator/catalog/gpus.csv") for alias in row["aliases"].split(";")}
    for row in rows("plugins/gpujob-lambda/gpujob_lambda/prices.csv"):
        told = known.pop(row["name"])
        assert (row["usd_per_hour"], row["as_of"]) == (told["on_demand_usd_h"], told["date"])
    assert not known, "prices that gpujob knows and the plugin does not"
    dated = list(opened(credential=lambda _: None).offers(Need()))
    assert [offer.name for offer in dated if "ARM" in offer.caveat] == ["gpu_1x_gh200"]
    assert all(offer.source and offer.as_of and offer.missing and offer.gpu in gpus for offer in dated)


def test_the_plugin_uses_what_is_public_alone():
    for path in sorted((LAMBDA / "gpujob_lambda").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.startswith(("backends", "orchestrator"))
            ):
                room = node.module.split(".")[1] if "." in node.module else node.names[0].name
                assert node.module.startswith("backends"), f"{path.name} imports {node.module}"
                assert room in PUBLIC, f"{path.name} imports backends.{room}"
                pure = path.stem in ("requests", "replies", "catalog", "marks")
                assert not (pure and room in ("channels", "failpoints")), f"{path.name} is to be pure"


def test_an_installed_plugin_has_settings_and_one_that_is_not_has_none(tmp_path):
    config = Config(tmp_path / "config.toml")
    config.set("lambda.accept_no_end", "yes")
    config.set("lambda.regions", "us-east-1, us-west-1")
    again = Config(tmp_path / "config.toml").for_backend("lambda")
    assert (again["accept_no_end"], again["regions"], again["list_lag"]) == (True, ("us-east-1", "us-west-1"), 90.0)
    with pytest.raises(ConfigError, match=r"There is no setting 'lambda\.regoins'.*lambda\.regions"):
        config.set("lambda.regoins", "any")
    for name, text in (("accept_no_end", "perhaps"), ("regions", "us east"), ("ssh_port", "0")):
        with pytest.raises(ConfigError, match=f"lambda.{name}"):
            config.set(f"lambda.{name}", text)
    assert Config(tmp_path / "none.toml").for_backend("elsewhere") == {}
