"""The commands about settings."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import JsonOption
from orchestrator.cli.screen import say
from orchestrator.home import Home

config_app = typer.Typer(help="Settings of this computer.", no_args_is_help=True, rich_markup_mode=None)


@config_app.command("set", context_settings={"ignore_unknown_options": True})  # so that -3 is a value
def config_set(
    name: Annotated[str, typer.Argument(help="The setting, such as local.price_per_hour.")],
    value: Annotated[str, typer.Argument(help="Its new value.")],
) -> None:
    """Change a setting.

    Example: gpujob config set local.price_per_hour 0.08
    """
    from orchestrator.config import Config

    config = Config(Home.locate().ensure().config)
    config.set(name, value)
    say(f"{name} = {config.shown(name)}")


@config_app.command("list")
def config_list(as_json: JsonOption = False) -> None:
    """Every setting, its value and meaning.

    Example: gpujob config list
    """
    from orchestrator.cli.settings import show_settings

    raise typer.Exit(show_settings(Home.locate(), as_json=as_json))
