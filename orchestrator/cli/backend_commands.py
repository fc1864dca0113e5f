"""The commands about backends: which are set up, and setting one up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import JsonOption
from orchestrator.home import Home

backends_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@backends_app.callback()
def backends(context: typer.Context, as_json: JsonOption = False) -> None:
    """Which backends are set up, what is missing, and how to set it up.

    Example: gpujob backends
    """
    if context.invoked_subcommand is None:
        from orchestrator.cli.checking import show_backends

        raise typer.Exit(show_backends(Home.locate(), as_json=as_json))


@backends_app.command()
def setup(
    name: Annotated[str, typer.Argument(metavar="BACKEND", help="Which backend, such as runpod.")],
    key_stdin: Annotated[bool, typer.Option("--key-stdin", help="Read the key from standard input.")] = False,
    in_file: Annotated[
        bool, typer.Option("--in-file", help="Keep it in a file only you can read, not in the OS keyring.")
    ] = False,
    client: Annotated[
        Path | None,
        typer.Option("--client", metavar="FILE", help="Sign in in a browser with this client_secret.json (colab)."),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the browser, or print the link.")
    ] = True,
) -> None:
    """Set a backend up: ask for its key, try it, and keep it.

    Example: gpujob backends setup runpod
    """
    from orchestrator.cli.setting_up import set_up, set_up_by_browser

    home = Home.locate().ensure()
    if client is not None:
        raise typer.Exit(set_up_by_browser(home, name, client, browser=browser, in_file=in_file))
    raise typer.Exit(set_up(home, name, key_stdin=key_stdin, in_file=in_file))
