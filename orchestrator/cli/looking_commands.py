"""The commands that only look: at jobs, their output and results, the money, this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import JobArgument, JsonOption
from orchestrator.cli.screen import say, say_json
from orchestrator.home import Home
from orchestrator.reports.cost import By

if TYPE_CHECKING:
    from orchestrator.records.reading import Reader


def reader_here() -> Reader:
    """A reader of this user's journal."""
    from orchestrator.records.reading import Reader

    return Reader(Home.locate().journal)


def ls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many jobs, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first.

    Example: gpujob ls -n 50
    """
    from orchestrator.cli.showing import list_text
    from orchestrator.reports.jobs import job_list

    reader = reader_here()
    jobs = job_list(reader, limit)
    if as_json:
        say_json(jobs)
    elif jobs:
        say(list_text(jobs))
        _say_if_asleep(reader)
    else:
        say("No jobs yet. `gpujob init` writes a spec; `gpujob submit SPEC --budget USD` runs it.")


def show(
    job: JobArgument,
    explain: Annotated[
        bool, typer.Option("--explain", help="What the plan expected of each attempt, beside what happened.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Everything about one job: plan, attempts, each step with every try, outcome with evidence, money.

    Example: gpujob show quickstart
    """
    from orchestrator.cli.showing import detail_text, explained_text
    from orchestrator.reports.explaining import explanation
    from orchestrator.reports.jobs import job_detail

    reader = reader_here()
    if explain:
        found = explanation(reader, reader.job_id(job))
        say_json(found) if as_json else say(explained_text(found))
        return
    detail = job_detail(reader, reader.job_id(job))
    if as_json:
        say_json(detail)
    else:
        say(detail_text(detail))
        _say_if_asleep(reader)


def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; the last one if not named.")] = None,
) -> None:
    """Print what a job wrote.

    Example: gpujob logs -f quickstart
    """
    from orchestrator.cli.logs import show_logs

    reader = reader_here()
    raise typer.Exit(show_logs(Home.locate(), reader, reader.job_id(job), attempt, follow=follow))


def results(
    job: JobArgument,
    dest: Annotated[Path | None, typer.Argument(help="Copy them into this folder.")] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Which attempt; the last with results if not named.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that differ.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List a job's results, or copy them.

    Example: gpujob results quickstart .
    """
    from orchestrator.cli.results import give_results

    reader = reader_here()
    job_id = reader.job_id(job)
    raise typer.Exit(give_results(Home.locate(), reader, job_id, dest, attempt, force=force, as_json=as_json))


def report(
    by: Annotated[By, typer.Option(help="What a line stands for.")] = By.JOB,
    since: Annotated[str, typer.Option(help="Only attempts since this date (UTC), such as 2026-11-01.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many lines, largest first.")] = 50,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="First ask providers for bills that they did not show yet.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Where every cent went: on success, on failed attempts, idle; and what providers say of it.

    Example: gpujob report --by backend --since 2026-11-01
    """
    from orchestrator.cli.options import checked_date
    from orchestrator.cli.showing import report_text
    from orchestrator.reports.cost import cost_report

    if refresh:
        from orchestrator.cli.running import refresh_bills

        refresh_bills(Home.locate())
    found = cost_report(reader_here(), by, checked_date(since), limit)
    say_json(found) if as_json else say(report_text(found))


def doctor(as_json: JsonOption = False) -> None:
    """This machine: RAM, VRAM and who holds it, how memory is capped, disk; which jobs here would fit.

    Example: gpujob doctor
    """
    from orchestrator.cli.checking import run_doctor

    raise typer.Exit(run_doctor(Home.locate(), as_json=as_json))


def _say_if_asleep(reader: Reader) -> None:
    from orchestrator.cli.screen import warned
    from orchestrator.lifecycle.waking import worker_comes

    if (count := reader.unfinished()) and not worker_comes(Home.locate()):
        say(f"\n{warned('!')} {count} unfinished, and no worker is running: `gpujob resume` goes on.")
