"""The commands about a spec: what it takes, whether it is right, and writing one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import JsonOption, ParamOption, SpecArgument, overrides_from
from orchestrator.cli.screen import say_json
from orchestrator.home import Home


def estimate(
    spec: SpecArgument,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this GPU; exit code 3 if it does not fit.")
    ] = None,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help="Which variant; the first if not named.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="A place with a known limit of RAM, such as railway-free.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Trace the real code of transformers; needs gpujob[exact] (torch).")
    ] = False,
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """How much VRAM and RAM a job takes, by its model section; what fits, and what would lower it.

    Example: gpujob estimate train.yaml --gpu T4
    """
    from orchestrator.cli.estimating import estimate_spec

    params = overrides_from(param or ())
    raise typer.Exit(estimate_spec(Home.locate(), spec, gpu, variant, target, params, exact=exact, as_json=as_json))


def probe(
    spec: SpecArgument,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help="Which variant; the first if not named.")] = None,
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a job's own command here, twice and tiny, and say what memory its full batch takes.

    Example: gpujob probe train.yaml
    """
    from orchestrator.cli.probing import probe_spec

    raise typer.Exit(probe_spec(Home.locate(), spec, variant, overrides_from(param or ()), as_json=as_json))


def validate(spec: SpecArgument, param: ParamOption = None, as_json: JsonOption = False) -> None:
    """Check a spec and say what would be uploaded; exit code 2 if anything is wrong.

    Example: gpujob validate ocr_eval.yaml
    """
    from orchestrator.cli.checking import validate_spec

    raise typer.Exit(validate_spec(spec, tuple(param or ()), as_json=as_json))


def schema() -> None:
    """Print the JSON Schema of job specs, for editors.

    Example: gpujob schema > gpujob.schema.json
    """
    from orchestrator.spec.schema import json_schema

    say_json(json_schema())


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("job.yaml"),
    run: Annotated[str | None, typer.Option(help="The command that does the job.")] = None,
    gpu: Annotated[str | None, typer.Option(help="none, a number of GPUs, or a GPU's name.")] = None,
) -> None:
    """Write a commented spec to start from; asks only what it cannot guess.

    Example: gpujob init train.yaml --run "python train.py" --gpu 1
    """
    from orchestrator.cli.checking import write_starter

    raise typer.Exit(write_starter(path, run, gpu))
