"""Settings: one TOML file in the user's data folder, changed by ``gpujob config set``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.units import decimal_usd, format_duration, parse_duration, parse_usd


class ConfigError(Exception):
    """A setting is unknown or its value is not understood; the message says what is possible."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set: how its text is read, how it is shown, and what it is without being set."""

    help: str
    default: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _one_or_more(text: str) -> int:
    count = _count(text)
    if count == 0:
        raise ValueError("there must be at least 1")
    return count


SETTINGS: dict[str, Setting] = {
    "local.price_per_hour": Setting(
        "what an hour of this machine costs you in USD, such as its electricity", "0", parse_usd, decimal_usd
    ),
    "local.slots": Setting("CPU jobs that may run at once on this machine; 0 means one per CPU", "0", _count),
    "worker.threads": Setting("jobs that one worker looks after at once", "16", _one_or_more),
    "worker.idle": Setting("how long a background worker waits for more work", "60s", parse_duration, format_duration),
}


class Config:
    """The settings as they are; values are parsed when they are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts = _load(path)

    def get(self, name: str) -> Any:
        """The parsed value of a setting, or its default."""
        setting = _setting(name)
        return _parsed(name, setting, self._texts.get(name, setting.default), self._path)

    def shown(self, name: str) -> str:
        """The value as people read it."""
        return _setting(name).show(self.get(name))

    def is_set(self, name: str) -> bool:
        """Whether the file sets it."""
        return name in self._texts

    def for_backend(self, backend: str) -> Mapping[str, Any]:
        """The settings of one backend, without their prefix."""
        prefix = f"{backend}."
        return {name.removeprefix(prefix): self.get(name) for name in SETTINGS if name.startswith(prefix)}

    def set(self, name: str, text: str) -> None:
        """Check and store a setting. Raises ConfigError and changes nothing if it is not understood."""
        _parsed(name, _setting(name), text, self._path)
        self._texts[name] = " ".join(text.split())
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(_as_toml(self._texts), encoding="utf-8")
        draft.replace(self._path)


def _load(path: Path) -> dict[str, str]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}. Correct the file, or delete it to return to the defaults.") from None
    texts: dict[str, str] = {}
    for section, values in data.items():
        named = values if isinstance(values, dict) else {"": values}
        texts |= {f"{section}.{key}".rstrip("."): str(value) for key, value in named.items()}
    if unknown := texts.keys() - SETTINGS.keys():
        raise ConfigError(f"{path}: {_no_such(min(unknown))} Correct the file, or delete it to return to the defaults.")
    return texts


def _as_toml(texts: Mapping[str, str]) -> str:
    lines: list[str] = []
    for section in sorted({name.partition(".")[0] for name in texts}):
        lines.append(f"[{section}]")
        for name, text in sorted(texts.items()):
            if name.startswith(f"{section}."):
                quoted = text.replace("\\", "\\\\").replace('"', '\\"')
                lines.append(f'{name.partition(".")[2]} = "{quoted}"')
    return "\n".join(lines) + "\n"


def _setting(name: str) -> Setting:
    if name not in SETTINGS:
        raise ConfigError(_no_such(name))
    return SETTINGS[name]


def _no_such(name: str) -> str:
    return f"There is no setting {name!r}. There are: {', '.join(SETTINGS)}."


def _parsed(name: str, setting: Setting, text: str, path: Path) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error} ({path}).") from None
