"""Tests that need torch and transformers: `make test-exact` installs both and runs them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

LACKING = [name for name in ("torch", "transformers") if find_spec(name) is None]


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Every test here is marked ``needs``; where it cannot run, it says so."""
    assert request.node.get_closest_marker("needs")
    if LACKING:
        pytest.skip(f"needs {' and '.join(LACKING)}: run `make test-exact`")
