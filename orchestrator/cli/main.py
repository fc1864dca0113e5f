"""The ``gpujob`` command. Thin: each command parses, calls, prints; its imports are its own."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from orchestrator import __version__
from orchestrator.cli.backend_commands import backends_app
from orchestrator.cli.catalog_commands import catalog_app, offers
from orchestrator.cli.colab_commands import colab_app
from orchestrator.cli.config_commands import config_app
from orchestrator.cli.failing import guarded
from orchestrator.cli.history_commands import history_app
from orchestrator.cli.job_commands import cancel, plan, reap, resume, submit, worker
from orchestrator.cli.looking_commands import doctor, logs, ls, report, results, show
from orchestrator.cli.screen import say, show_what_can_be_shown
from orchestrator.cli.spec_commands import estimate, init, probe, schema, validate

COMMANDS = (
    submit, plan, estimate, probe, validate, schema, init,
    ls, show, logs, results, cancel, resume, report, doctor, reap, worker, offers,
)  # fmt: skip
"""In the order of the help."""

app = typer.Typer(
    name="gpujob",
    help="Run a machine-learning job where it fits and where it is cheapest, inside a hard budget.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)
for group, name in (
    (config_app, "config"),
    (catalog_app, "catalog"),
    (backends_app, "backends"),
    (colab_app, "colab"),
    (history_app, "history"),
):
    app.add_typer(group, name=name)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"gpujob {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Run a machine-learning job where it fits and where it is cheapest, inside a hard budget."""
    del version
    if debug:
        os.environ["GPUJOB_DEBUG"] = "1"


def main() -> None:
    """Run the command and leave with its exit code; errors are told in one screen, without a traceback."""
    show_what_can_be_shown()
    sys.exit(guarded(app))


if __name__ == "__main__":
    main()
