from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.spec.load import SpecError, load_spec
from orchestrator.spec.model import JobSpec

MINIMAL = "name: tiny\nrun: 'true'\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobSpec]:
    """Loads text as ``job.yaml`` in an empty folder, named without its folder as a user would."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str | bytes, **overrides: str) -> JobSpec:
        Path("job.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_spec(Path("job.yaml"), overrides)

    return load_text


@pytest.fixture
def problems(load: Callable[..., JobSpec]) -> Callable[..., list[str]]:
    """The problems of a spec, each as it is printed."""

    def of(text: str | bytes, **overrides: str) -> list[str]:
        with pytest.raises(SpecError) as raised:
            load(text, **overrides)
        assert str(raised.value) == "\n".join(map(str, raised.value.problems))
        return [str(problem) for problem in raised.value.problems]

    return of
