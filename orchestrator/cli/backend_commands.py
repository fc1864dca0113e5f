"""The commands about backends: which are set up, and setting one up."""

from __future__ import annotations

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
) -> None:
    """Set a backend up: ask for its key, try it, and keep it.

    Example: gpujob backends setup runpod
    """
    from orchestrator.cli.setting_up import set_up

    raise typer.Exit(set_up(Home.locate().ensure(), name, key_stdin=key_stdin, in_file=in_file))
