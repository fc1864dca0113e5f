"""The commands about what earlier runs taught."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.home import Home

history_app = typer.Typer(
    help="What earlier runs taught: share it, forget it.", no_args_is_help=True, rich_markup_mode=None
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A file of JSON lines.")]


@history_app.command("export")
def export(file: FileArgument) -> None:
    """Write every observation to a file that others can import: no secrets, no paths, no machine names.

    Example: gpujob history export observations.jsonl
    """
    from orchestrator.cli.history import export_history

    raise typer.Exit(export_history(Home.locate().ensure(), file))


@history_app.command("import")
def import_(file: FileArgument) -> None:
    """Learn from the observations in a file; those that are known already are passed over.

    Example: gpujob history import observations.jsonl
    """
    from orchestrator.cli.history import import_history

    raise typer.Exit(import_history(Home.locate().ensure(), file))


@history_app.command()
def reset(
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="Only of jobs with this name.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget what earlier runs taught; jobs, results and costs stay recorded.

    Example: gpujob history reset --job ocr-eval
    """
    from orchestrator.cli.history import reset_history

    raise typer.Exit(reset_history(Home.locate().ensure(), job, yes=yes))
