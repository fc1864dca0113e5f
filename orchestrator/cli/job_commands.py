"""The commands that make jobs run, end and go on, and look after what is rented."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.looking_commands import reader_here
from orchestrator.cli.options import (
    BackendOption,
    BudgetOption,
    JobArgument,
    JsonOption,
    MaxRuntimeOption,
    ParamOption,
    PriorityOption,
    SpecArgument,
    wish_from,
)
from orchestrator.home import Home
from orchestrator.planning.plan import Priority


def submit(
    spec: SpecArgument,
    budget: BudgetOption,
    priority: PriorityOption = Priority.BALANCED,
    backend: BackendOption = None,
    max_runtime: MaxRuntimeOption = None,
    param: ParamOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; the job goes on by itself.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before money is spent.")] = False,
    smoke: Annotated[
        bool,
        typer.Option("--smoke-first", help="First run it here, tiny, as its smoke section says; stop if it fails."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a job: plan, rent, upload, run, fetch, give back; fall back when memory runs out.

    Example: gpujob submit jobs/quickstart/quickstart.yaml --budget 3
    """
    from orchestrator.cli.running import submit_and_follow

    wish = wish_from(spec, budget, priority, backend, max_runtime, param)
    raise typer.Exit(submit_and_follow(Home.locate(), wish, detach=detach, yes=yes, as_json=as_json, smoke=smoke))


def plan(
    spec: SpecArgument,
    budget: BudgetOption,
    priority: PriorityOption = Priority.BALANCED,
    backend: BackendOption = None,
    max_runtime: MaxRuntimeOption = None,
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what submit would try, in which order and why; rents nothing.

    Example: gpujob plan jobs/quickstart/quickstart.yaml --budget 3 --priority cost
    """
    from orchestrator.cli.submitting import prepare, show_plan

    home = Home.locate().ensure()
    wish = wish_from(spec, budget, priority, backend, max_runtime, param)
    raise typer.Exit(show_plan(prepare(home, reader_here(), wish), as_json=as_json))


def cancel(job: JobArgument) -> None:
    """End a job; what it produced so far comes home, what is rented is given back.

    Example: gpujob cancel quickstart
    """
    from orchestrator.cli.running import cancel_job

    raise typer.Exit(cancel_job(Home.locate(), reader_here().job_id(job)))


def resume(
    job: Annotated[str | None, typer.Argument(help="Job id or unique prefix; all unfinished jobs if left out.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once.")] = False,
) -> None:
    """Go on after a crash, or after a failure that you have mended: a full disk, a key, a secret. Files stay as
    they were submitted.

    Example: gpujob resume quickstart
    """
    from orchestrator.cli.resuming import resume_all, resume_job

    home = Home.locate().ensure()
    if job is None:
        raise typer.Exit(resume_all(home, reader_here()))
    raise typer.Exit(resume_job(home, reader_here().job_id(job), detach=detach))


def reap(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Give back what is found; without it, only list.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find what is rented and not accounted for, and records of machines that are gone.

    Example: gpujob reap --yes
    """
    from orchestrator.cli.running import reap_all

    raise typer.Exit(reap_all(Home.locate(), delete=yes, as_json=as_json))


def worker(
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Return when no job is left.")] = False,
) -> None:
    """Carry jobs in the foreground, for services; submit starts one in the background by itself.

    Example: gpujob worker
    """
    from orchestrator.cli.running import run_worker

    raise typer.Exit(run_worker(Home.locate(), background=background, until_idle=until_idle))
