"""Settings: stored as text, checked when they are set and when they are read."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.base import Need
from orchestrator.config import Config, ConfigError
from orchestrator.home import Home
from orchestrator.lifecycle.registry import Backends
from orchestrator.setting_table import SETTINGS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "config.toml"


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_without_a_file_there_are_the_defaults(file: Path) -> None:
    config = Config(file)
    assert config.get("local.price_per_hour") == 0
    assert config.get("worker.idle") == 60
    assert not any(config.is_set(name) for name in SETTINGS)
    assert not file.exists()


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_shows_and_explains_itself(name: str, file: Path) -> None:
    assert Config(file).shown(name)
    assert SETTINGS[name].help


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_shown_can_be_set(name: str, file: Path) -> None:
    before = Config(file).get(name)
    Config(file).set(name, Config(file).shown(name))
    assert Config(file).get(name) == before


def test_a_setting_is_kept(file: Path) -> None:
    config = Config(file)
    config.set("local.price_per_hour", "$0.12")
    config.set("worker.idle", "1h30m")
    again = Config(file)
    assert again.get("local.price_per_hour") == config.get("local.price_per_hour") == 120_000
    assert again.shown("local.price_per_hour") == "0.12"
    assert again.shown("worker.idle") == "1 h 30 min"
    assert again.is_set("worker.idle")
    assert not again.is_set("worker.threads")
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_backend_sees_its_own_settings_without_their_prefix(file: Path) -> None:
    Config(file).set("local.slots", "3")
    assert Config(file).for_backend("local") == {"price_per_hour": 0, "watts": 0, "price_per_kwh": 0, "slots": 3}
    assert Config(file).for_backend("elsewhere") == {}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("local.price_per_hour", "cheap", "is not an amount of money"),
        ("local.price_per_hour", "-1", "that can be spent"),
        ("local.slots", "-1", "is not a whole number"),
        ("local.slots", "1.5", "is not a whole number"),
        ("worker.threads", "0", "at least 1"),
        ("worker.idle", "60", "is not a duration"),
        ("worker.idel", "60s", "There is no setting 'worker.idel'. There are: local.price_per_hour, "),
    ],
)
def test_a_wrong_value_changes_nothing(name: str, text: str, words: str, file: Path) -> None:
    config = Config(file)
    config.set("local.slots", "2")
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=words):
        config.set(name, text)
    assert file.read_bytes() == before
    assert config.get("local.slots") == 2


def test_line_breaks_do_not_break_the_file(file: Path) -> None:
    Config(file).set("worker.idle", "1h\n30m\n")
    assert Config(file).get("worker.idle") == 5400
    assert tomllib.loads(file.read_text()) == {"worker": {"idle": "1h 30m"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[local", r"config\.toml: .*Correct the file, or delete it"),
        ("[local]\nprise = 1", r"config\.toml: There is no setting 'local\.prise'.*Correct the file"),
        ("price = 1", r"config\.toml: There is no setting 'price'"),
        ("[local]\nslots.big = 1", r"local\.slots: .* is not a whole number"),
    ],
)
def test_a_wrong_file_is_named(text: str, words: str, file: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        Config(written(file, text)).get("local.slots")


def test_a_file_that_is_not_text(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"\xff\xfe[\x00")
    with pytest.raises(ConfigError, match="Correct the file"):
        Config(file)


def test_a_wrong_value_in_the_file_is_named_when_it_is_read(file: Path) -> None:
    config = Config(written(file, '[worker]\nthreads = "many"\nidle = "5s"\n'))
    assert config.get("worker.idle") == 5
    with pytest.raises(ConfigError, match=r"worker\.threads: 'many' is not a whole number \(.*config\.toml\)"):
        config.get("worker.threads")


def test_numbers_may_be_written_without_quotes(file: Path) -> None:
    config = Config(written(file, "[local]\nslots = 4\nprice_per_hour = 0.25\n"))
    assert (config.get("local.slots"), config.get("local.price_per_hour")) == (4, 250_000)


@given(text=st.text(max_size=20), name=st.sampled_from(sorted(SETTINGS)))
def test_whatever_is_set_leaves_a_file_that_can_be_read(
    text: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("home") / "config.toml"
    config = Config(file)
    try:
        config.set(name, text)
    except ConfigError:
        assert not file.exists()
    else:
        assert Config(file).get(name) == config.get(name)


def test_a_worker_that_runs_notices_new_settings(tmp_path: Path) -> None:
    backends = Backends(Home(tmp_path).ensure(), Config(tmp_path / "config.toml"))
    assert [offer.micros_per_hour for offer in backends.get("local").offers(Need())] == [0]
    Config(tmp_path / "config.toml").set("local.price_per_hour", "0.36")
    assert [offer.micros_per_hour for offer in backends.get("local").offers(Need())] == [360_000]
    (tmp_path / "config.toml").write_text("half writ")
    assert [offer.micros_per_hour for offer in backends.get("local").offers(Need())] == [360_000]
