"""``gpujob config``: the settings and their values."""

from __future__ import annotations

from orchestrator.cli.screen import say, say_json, table
from orchestrator.config import Config, settings
from orchestrator.home import Home


def show_settings(home: Home, *, as_json: bool) -> int:
    """Every setting with its value."""
    config = Config(home.config)
    if as_json:
        say_json({name: {"value": config.shown(name), "set": config.is_set(name)} for name in settings()})
        return 0
    rows = [(name, config.shown(name), setting.help) for name, setting in settings().items()]
    say(table(("setting", "value", "meaning"), rows, whole=True))
    return 0
