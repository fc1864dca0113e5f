"""Settings: one TOML file in the user's data folder, changed by ``gpujob config set``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from backends.settings import Setting
from orchestrator.setting_table import SETTINGS


class ConfigError(Exception):
    """A setting is unknown or its value is not understood; the message says what is possible."""


def settings() -> Mapping[str, Setting]:
    """Ours, and those of installed backends: entry points ``gpujob.settings``, loaded when they are needed."""
    return {**SETTINGS, **{name: setting for backend in _plugins() for name, setting in _of_plugin(backend).items()}}


@cache
def _plugins() -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="gpujob.settings")}


def _of_plugin(backend: str) -> Mapping[str, Setting]:
    """The settings that an installed backend declares, with its name in front; none where it declares none."""
    entry = _plugins().get(backend)
    return {f"{backend}.{name}": setting for name, setting in entry.load().items()} if entry else {}


class Config:
    """The settings as they are; values are parsed when they are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _changed_at(path)
        self._texts = _load(path)

    def reload(self) -> bool:
        """Read the file again if it has changed; True then. One that is not understood changes nothing."""
        if (changed := _changed_at(self._path)) == self._seen:
            return False
        self._seen = changed
        with suppress(ConfigError):
            self._texts = _load(self._path)
        return True

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
        names = [name for name in SETTINGS if name.startswith(prefix)] or _of_plugin(backend)
        return {name.removeprefix(prefix): self.get(name) for name in names}

    def set(self, name: str, text: str) -> None:
        """Check and store a setting. Raises ConfigError and changes nothing if it is not understood."""
        _parsed(name, _setting(name), text, self._path)
        kept = " ".join(text.split())
        if not kept.isprintable():
            raise ConfigError(f"{name}: {kept!r} holds characters that a file of settings cannot.")
        self._texts[name] = kept
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(_as_toml(self._texts), encoding="utf-8")
        draft.replace(self._path)


def default_of(name: str) -> Any:
    """What a setting is without being set."""
    setting = _setting(name)
    return setting.parse(setting.default)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


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
    if unknown := {name for name in texts if _known(name) is None}:
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


def _known(name: str) -> Setting | None:
    """A setting of ours, or else of an installed backend: only those take time to look up."""
    return SETTINGS.get(name) or _of_plugin(name.partition(".")[0]).get(name)


def _setting(name: str) -> Setting:
    if setting := _known(name):
        return setting
    raise ConfigError(_no_such(name))


def _no_such(name: str) -> str:
    return f"There is no setting {name!r}. There are: {', '.join(settings())}."


def _parsed(name: str, setting: Setting, text: str, path: Path) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error} ({path}).") from None
