"""Every backend against every check; tools/reliability.py makes the table of docs/reliability.md of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends.testing import CHECKS, Check
from tests.conformance.providers import PROVIDERS
from tests.conformance.providers.adapter import Bench
from tests.conftest import why_not

RUN_BY_OTHERS = ("local", "colab", "rented")
"""Their machines are processes of this one: they need no guests."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", PROVIDERS)
def test_conforms(
    name: str,
    check: Check,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    if check.machines and name not in RUN_BY_OTHERS and (lack := why_not("guests")):
        pytest.skip(f"NOT TESTED: {lack}")
    record_property("provider", name)
    record_property("check", check.name)
    with PROVIDERS[name](Bench(tmp_path, monkeypatch, check.machines)) as provider:
        assert provider.name == name
        record_property("unfit", provider.unfit.get(check.name, ""))
        record_property("ends_alone", provider.ends_alone)
        if check.name not in provider.unfit:
            check(provider)


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_does_not_fit_names_a_check(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PROVIDERS[name](Bench(tmp_path, monkeypatch, machines=False)) as provider:
        assert set(provider.unfit) <= {check.name for check in CHECKS}
