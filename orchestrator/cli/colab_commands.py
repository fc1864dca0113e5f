"""The commands about Colab: its notebook, the token for it, its terms, and who is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import JsonOption
from orchestrator.home import Home

colab_app = typer.Typer(help="Google Colab, by a notebook that you open.", no_args_is_help=True, rich_markup_mode=None)


@colab_app.command()
def notebook(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("gpujob.ipynb"),
    gpu: Annotated[str, typer.Option("--gpu", help="What Colab is asked for: T4, L4, A100, or none.")] = "T4",
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep models that jobs download on your Drive, for the next session.")
    ] = False,
) -> None:
    """Write the notebook: upload it to Colab once, then each time open it and press Run all.

    Example: gpujob colab notebook
    """
    from orchestrator.cli.colab import write_notebook

    raise typer.Exit(write_notebook(file, gpu, keep_models=keep_models))


@colab_app.command()
def token() -> None:
    """Show the token for Colab's secret GPUJOB_DRIVE_TOKEN. Whoever has it sees what gpujob keeps in your Drive.

    Example: gpujob colab token
    """
    from orchestrator.cli.colab import show_token

    raise typer.Exit(show_token(Home.locate()))


@colab_app.command()
def terms(
    accept: Annotated[bool, typer.Option("--accept", help="Agree to them, once for this computer.")] = False,
) -> None:
    """Show what Google forbids on Colab; the free tier is offered once you have agreed.

    Example: gpujob colab terms --accept
    """
    from orchestrator.cli.colab import show_terms

    raise typer.Exit(show_terms(Home.locate().ensure(), accept=accept))


@colab_app.command()
def status(as_json: JsonOption = False) -> None:
    """Which sessions are there, what they have and do, and what your jobs have used.

    Example: gpujob colab status
    """
    from orchestrator.cli.colab import show_status

    raise typer.Exit(show_status(Home.locate(), as_json=as_json))


@colab_app.command()
def end(
    session: Annotated[str, typer.Argument(metavar="SESSION", help="Its name, as `gpujob colab status` shows it.")],
) -> None:
    """End a session and give its runtime back; a job that runs there is lost with it.

    Example: gpujob colab end 3fa94c11
    """
    from orchestrator.cli.colab import end_session

    raise typer.Exit(end_session(Home.locate(), session))
