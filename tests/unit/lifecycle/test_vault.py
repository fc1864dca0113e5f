"""Secrets: found, kept privately, given to the run, gone afterwards."""

import stat
from pathlib import Path

import pytest

from orchestrator.home import Home
from orchestrator.lifecycle.vault import MissingSecret, Vault


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    return Home(tmp_path / "home").ensure()


def test_values_wait_in_a_file_for_the_user_only_and_go_with_the_job(home):
    vault = Vault(home)
    vault.keep("job-1", ["HF_TOKEN"], {"HF_TOKEN": "canary", "OTHER": "x"})
    assert vault.values("job-1", ["HF_TOKEN"]) == {"HF_TOKEN": "canary"}
    (kept,) = home.secrets.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700
    vault.forget("job-1")
    assert list(home.secrets.iterdir()) == []
    vault.forget("job-1")


def test_a_secret_without_a_value_is_named_with_what_to_do(home):
    with pytest.raises(MissingSecret, match=r"HF_TOKEN.*export HF_TOKEN="):
        Vault(home).keep("job-1", ["HF_TOKEN"], {})
    assert list(home.secrets.iterdir()) == []


def test_a_value_that_is_gone_asks_for_a_resume(home):
    with pytest.raises(MissingSecret, match="gpujob resume job-1"):
        Vault(home).values("job-1", ["HF_TOKEN"])


def test_the_keyring_is_asked_where_the_environment_is_silent(home):
    keyring = pytest.importorskip("keyring", reason="NOT TESTED: the keyring extra is not installed")
    before = keyring.get_keyring()
    keyring.set_keyring(_ring({("gpujob", "HF_TOKEN"): "from-the-ring"}))
    try:
        vault = Vault(home)
        vault.keep("job-1", ["HF_TOKEN"], {})
        assert vault.values("job-1", ["HF_TOKEN"]) == {"HF_TOKEN": "from-the-ring"}
        assert list(home.secrets.iterdir()) == []
    finally:
        keyring.set_keyring(before)


def _ring(values: dict[tuple[str, str], str]):
    """A keyring in memory, made of keyring's own parts."""
    from keyring.backend import KeyringBackend

    class Ring(KeyringBackend):
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return values.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            values[service, username] = password

    return Ring()
