"""First guesses about providers have a source and a date, and make what a setup takes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import Offer
from orchestrator.catalog.providers import OTHER, bundled_providers, provider
from orchestrator.planning.duration import Workload, course
from orchestrator.planning.knowledge import Knowledge, Seen
from orchestrator.spec.model import JobSpec

GB = 10**9
MINUTE = 60.0


def setup(backend: str, *, image: str | None = None, download: int = 0, known: tuple[Seen, ...] = (), **fields: object):
    """How long getting ready takes."""
    spec = JobSpec.from_json({"name": "job", "run": "true", "image": image, "results": ["out/"], **fields})
    offer = Offer(backend, "m", 64 * GB, 100 * GB, 4, 10**6)
    return course(spec, spec.resolved("default"), offer, Knowledge(known), Workload(download_bytes=download)).setup


def test_every_row_says_where_it_is_from():
    assert {"local", "colab", "runpod", "aws", "gce", OTHER} <= set(bundled_providers())
    for row in bundled_providers().values():
        assert row.source
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row.date)
        assert 0.5 < row.holds < 1
    assert provider("somebody new") == provider(OTHER)


@pytest.mark.parametrize(("size_gb", "least", "most"), [(4.9, 2, 3), (9.3, 4, 6), (13, 6, 8)])
def test_downloads_take_what_document_004_measured_on_colab(size_gb, least, most):
    """llama3.1:8b, qwen3:14b and gpt-oss:20b, without the start of the machine."""
    took = (setup("colab", download=int(size_gb * GB)).median - setup("colab").median) / MINUTE
    assert least * 0.85 <= took <= most


def test_an_image_of_its_own_is_pulled_onto_a_rented_machine():
    pulled = setup("runpod", image="someone/torch:2").mean - setup("runpod").mean
    assert 2 * MINUTE < pulled < 6 * MINUTE
    assert setup("local", image="someone/torch:2") == setup("local")


def test_packages_and_inputs_are_counted():
    assert setup("runpod", setup="pip install x").mean > setup("runpod").mean + MINUTE
    source = {"source": "https://example.org/data", "dest": "data", "max_size": "10 GB"}
    assert setup("runpod", inputs=[source]).mean == pytest.approx(setup("runpod").mean + 100, rel=0.3)


def test_what_was_measured_on_the_backend_replaces_the_guess():
    seen = Seen("default", "runpod", "other", "succeeded", setup_seconds=600.0)
    assert setup("runpod", known=(seen,), setup="pip install x").median == pytest.approx(660, rel=0.1)
    assert setup("colab", known=(seen,)) == setup("colab")


def test_this_machine_keeps_what_an_earlier_run_brought():
    seen = Seen("default", "local", "cpu", "succeeded", setup_seconds=600.0)
    assert setup("local", known=(seen,), download=10 * GB).median < 1


@given(st.sampled_from(["local", "colab", "runpod", "aws"]), st.integers(0, 100), st.integers(0, 100))
def test_a_larger_download_never_takes_less(backend, one, more):
    assert setup(backend, download=one * GB).mean <= setup(backend, download=(one + more) * GB).mean + 1e-9
