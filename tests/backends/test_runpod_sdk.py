"""The road through RunPod's own package: the same life cycle, and the package's traps."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runpod_kit import rented, sooner_or_later, the_offer, until

from backends.base import (
    AuthError,
    Fate,
    GpuNeed,
    LeaseRequest,
    Lost,
    Need,
    NoCapacity,
    NotYetReady,
    Rejected,
    Transient,
)
from backends.rented.calls import Request
from backends.runpod.requests import Wish
from backends.runpod.sdk import arguments, at_least, meaning
from tests.emulators.runpod import problems

package = pytest.mark.needs("runpod")
# Its dependencies are old in places, and warn when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

ASKED = Request("POST", "/graphql", "renting", rents=True)
WISH = Wish("gpujob-k-a1", "me/img:1", "echo 'a \"b\"'\n", {"A": "b"}, 30, gpu="NVIDIA L4", gpu_count=2)


@package
def test_the_same_life_cycle(cloud, opened):
    backend = opened(cloud, client="sdk")
    lease = rented(backend)
    assert rented(backend).id == lease.id
    assert backend.find("job-abcde-a1").id == lease.id
    assert [each.id for each in opened(cloud).owned()] == [lease.id]
    assert backend.fate(lease) is Fate.ALIVE
    with pytest.raises(NotYetReady):
        backend.connect(lease)
    backend.delete(lease)
    assert not cloud.pods()
    assert backend.fate(lease) is Fate.GONE
    backend.delete(lease)


@package
def test_the_pod_is_as_from_the_other_road(cloud, opened):
    lease = rented(opened(cloud, client="sdk", data_centers=("EU-RO-1",)), disk_bytes=50 * 10**9)
    order = cloud.pod(lease.id).order
    assert (order.cloud, order.gpu_count, order.disk, order.ports) == ("SECURE", 1, 50, ["22/tcp"])
    assert order.data_centers == ["EU-RO-1"]
    assert order.env["GPUJOB_KEY"] == "job-abcde-a1"
    assert cloud.pod(lease.id).command()[0] == "sh"


@package
def test_a_pod_of_that_road_is_reached_and_ends_itself(machines, opened):
    backend = opened(machines, client="sdk")
    lease = rented(backend, max_seconds=25.0)
    machine = sooner_or_later(lambda: backend.connect(lease))
    assert machine.status("nothing").phase == "absent"
    until(lambda: not machines.pods(), "the pod is terminated")


@package
def test_its_ways_to_fail_become_ours(cloud, opened):
    backend = opened(cloud, client="sdk")
    request = LeaseRequest("k-a1", the_offer(backend), max_seconds=60)
    cloud.faults.no_capacity(times=1)
    with pytest.raises(NoCapacity, match="no longer any instances"):
        backend.create(request)
    cloud.faults.server_errors(path="/graphql")
    with pytest.raises(Transient):
        list(backend.owned())
    cloud.faults.too_many_requests(path="/graphql")
    with pytest.raises(Transient, match="does not say why"):
        list(backend.owned())
    with pytest.raises(AuthError):
        list(opened(cloud, key="rpa_WRONG", client="sdk").owned())
    assert not cloud.pods()


@package
def test_its_lost_reply_is_looked_for(cloud, opened):
    backend = opened(cloud, client="sdk")
    request = LeaseRequest("k-a1", the_offer(backend), max_seconds=60)
    assert backend.find("k-a1") is None
    cloud.faults.lost_reply(path="/graphql", times=3)  # the listing before, the look at the GPU, the rental
    for _ in range(3):
        with pytest.raises((Lost, Transient)):
            backend.create(request)
    assert len(cloud.pods()) == (1 if backend.find("k-a1") else 0)


def test_no_cpu_pods_on_that_road(cloud, opened):
    offers = list(opened(cloud, client="sdk").offers(Need(gpu=GpuNeed())))
    names = {offer.name for offer in offers}
    assert not [name for name in names if name.startswith("cpu")]
    with pytest.raises(Rejected, match="CPU pods"):
        arguments(Wish("n", "i", "b", {}, 1, cpu="cpu3c", vcpus=2))
    assert names


@pytest.mark.parametrize("env", [{"A": 'say "hi"'}, {"A": "two\nlines"}, {"A": "back\\slash"}, {'"': "x"}])
def test_what_would_break_its_query_is_refused_in_words(env):
    with pytest.raises(Rejected, match="cannot send") as refused:
        arguments(Wish("n", "i", "b", env, 1, gpu="NVIDIA L4", gpu_count=1))
    assert "runpod.client rest" in refused.value.advice


def test_what_it_is_given_holds_nothing_that_it_would_have_to_escape():
    given = arguments(WISH)
    assert not any(sign in str(value) for value in given.values() for sign in '"\\\n')
    assert (given["gpu_count"], given["ports"], given["cloud_type"]) == (2, "22/tcp", "SECURE")


def test_at_least_a_cuda_version_is_a_list_of_all_of_them():
    assert at_least("12.8") == ["12.8", "12.9", "13.0", "13.1", "13.2", "13.3"]
    assert at_least("11.8")[:2] == ["11.8", "12.0"]


class AuthenticationError(Exception):
    """As the package has one."""


class QueryError(Exception):
    """As the package has one."""


class ReadTimeout(Exception):
    """As ``requests`` has one."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AuthenticationError("Unauthorized request"), AuthError),
        (QueryError(problems.NO_INSTANCES), NoCapacity),
        (QueryError(problems.LOW_BALANCE), Rejected),
        (ValueError("No GPU found with the specified ID"), Rejected),
        (KeyError("data"), Transient),
        (ConnectionError("Connection refused"), Transient),
        (ConnectionError("Remote end closed connection without response"), Lost),
        (ReadTimeout("timed out"), Lost),
        (TypeError("'NoneType' object is not subscriptable"), Lost),
    ],
)
def test_each_exception_has_a_meaning(error, kind):
    assert type(meaning(ASKED, error)) is kind


def test_opening_the_backend_loads_neither_the_package_nor_http():
    program = "import sys, backends.runpod; print(*{'runpod', 'httpx', 'paramiko'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
