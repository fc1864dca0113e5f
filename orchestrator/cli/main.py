"""The ``gpujob`` command. Thin: each command parses, calls, prints; its imports are its own."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import __version__
from orchestrator.cli.backend_commands import backends_app
from orchestrator.cli.catalog_commands import catalog_app, offers
from orchestrator.cli.colab_commands import colab_app
from orchestrator.cli.failing import guarded
from orchestrator.cli.history_commands import history_app
from orchestrator.cli.options import (
    BackendOption,
    BudgetOption,
    JobArgument,
    JsonOption,
    MaxRuntimeOption,
    ParamOption,
    PriorityOption,
    SpecArgument,
    overrides_from,
    wish_from,
)
from orchestrator.cli.screen import say, say_json
from orchestrator.home import Home
from orchestrator.planning.plan import Priority
from orchestrator.reports.cost import By

if TYPE_CHECKING:
    from orchestrator.records.reading import Reader

app = typer.Typer(
    name="gpujob",
    help="Run a machine-learning job where it fits and where it is cheapest, inside a hard budget.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Settings of this computer.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(catalog_app, name="catalog")
app.add_typer(backends_app, name="backends")
app.add_typer(colab_app, name="colab")
app.add_typer(history_app, name="history")


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


def _reader() -> Reader:
    from orchestrator.records.reading import Reader

    return Reader(Home.locate().journal)


@app.command()
def submit(
    spec: SpecArgument,
    budget: BudgetOption,
    priority: PriorityOption = Priority.BALANCED,
    backend: BackendOption = None,
    max_runtime: MaxRuntimeOption = None,
    param: ParamOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; the job goes on by itself.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before money is spent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a job: plan, rent, upload, run, fetch, give back; fall back when memory runs out.

    Example: gpujob submit jobs/quickstart/quickstart.yaml --budget 3
    """
    from orchestrator.cli.running import submit_and_follow

    wish = wish_from(spec, budget, priority, backend, max_runtime, param)
    raise typer.Exit(submit_and_follow(Home.locate(), wish, detach=detach, yes=yes, as_json=as_json))


@app.command()
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
    raise typer.Exit(show_plan(prepare(home, _reader(), wish), as_json=as_json))


@app.command()
def estimate(
    spec: SpecArgument,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this GPU; exit code 3 if it does not fit.")
    ] = None,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help="Which variant; the first if not named.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="A place with a known limit of RAM, such as railway-free.")
    ] = None,
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """How much VRAM and RAM a job takes, by its model section; what fits, and what would lower it.

    Example: gpujob estimate train.yaml --gpu T4
    """
    from orchestrator.cli.estimating import estimate_spec

    params = overrides_from(param or ())
    raise typer.Exit(estimate_spec(Home.locate(), spec, gpu, variant, target, params, as_json=as_json))


@app.command()
def validate(spec: SpecArgument, param: ParamOption = None, as_json: JsonOption = False) -> None:
    """Check a spec and say what would be uploaded; exit code 2 if anything is wrong.

    Example: gpujob validate ocr_eval.yaml
    """
    from orchestrator.cli.checking import validate_spec

    raise typer.Exit(validate_spec(spec, tuple(param or ()), as_json=as_json))


@app.command()
def schema() -> None:
    """Print the JSON Schema of job specs, for editors.

    Example: gpujob schema > gpujob.schema.json
    """
    from orchestrator.spec.schema import json_schema

    say_json(json_schema())


@app.command()
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


@app.command()
def ls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many jobs, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first.

    Example: gpujob ls -n 50
    """
    from orchestrator.cli.showing import list_text
    from orchestrator.reports.jobs import job_list

    reader = _reader()
    jobs = job_list(reader, limit)
    if as_json:
        say_json(jobs)
    elif jobs:
        say(list_text(jobs))
        _say_if_asleep(reader)
    else:
        say("No jobs yet. `gpujob init` writes a spec; `gpujob submit SPEC --budget USD` runs it.")


@app.command()
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

    reader = _reader()
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


@app.command()
def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; the last one if not named.")] = None,
) -> None:
    """Print what a job wrote.

    Example: gpujob logs -f quickstart
    """
    from orchestrator.cli.logs import show_logs

    reader = _reader()
    raise typer.Exit(show_logs(Home.locate(), reader, reader.job_id(job), attempt, follow=follow))


@app.command()
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

    reader = _reader()
    job_id = reader.job_id(job)
    raise typer.Exit(give_results(Home.locate(), reader, job_id, dest, attempt, force=force, as_json=as_json))


@app.command()
def cancel(job: JobArgument) -> None:
    """End a job; what it produced so far comes home, what is rented is given back.

    Example: gpujob cancel quickstart
    """
    from orchestrator.cli.running import cancel_job

    raise typer.Exit(cancel_job(Home.locate(), _reader().job_id(job)))


@app.command()
def resume(
    job: Annotated[str | None, typer.Argument(help="Job id or unique prefix; all unfinished jobs if left out.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once.")] = False,
) -> None:
    """Go on after a crash, or after a failure that you have mended.

    Example: gpujob resume quickstart
    """
    from orchestrator.cli.running import resume_all, resume_job

    home = Home.locate().ensure()
    if job is None:
        raise typer.Exit(resume_all(home, _reader()))
    raise typer.Exit(resume_job(home, _reader().job_id(job), detach=detach))


@app.command()
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
    found = cost_report(_reader(), by, checked_date(since), limit)
    say_json(found) if as_json else say(report_text(found))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """This machine: RAM, VRAM and who holds it, how memory is capped, disk; which jobs here would fit.

    Example: gpujob doctor
    """
    from orchestrator.cli.checking import run_doctor

    raise typer.Exit(run_doctor(Home.locate(), as_json=as_json))


@app.command()
def reap(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Give back what is found; without it, only list.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find what is rented and not accounted for, and records of machines that are gone.

    Example: gpujob reap --yes
    """
    from orchestrator.cli.running import reap_all

    raise typer.Exit(reap_all(Home.locate(), delete=yes, as_json=as_json))


@app.command()
def worker(
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Return when no job is left.")] = False,
) -> None:
    """Carry jobs in the foreground, for services; submit starts one in the background by itself.

    Example: gpujob worker
    """
    from orchestrator.cli.running import run_worker

    raise typer.Exit(run_worker(Home.locate(), background=background, until_idle=until_idle))


app.command()(offers)


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


def _say_if_asleep(reader: Reader) -> None:
    from orchestrator.cli.screen import warned
    from orchestrator.lifecycle.waking import worker_runs

    if (count := reader.unfinished()) and not worker_runs(Home.locate()):
        say(f"\n{warned('!')} {count} unfinished, and no worker is running: `gpujob resume` goes on.")


def main() -> None:
    """Run the command and leave with its exit code; errors are told in one screen, without a traceback."""
    code = guarded(app)
    gc.freeze()  # nothing is searched for garbage on the way out: that would take a fifth of what `submit` takes
    sys.exit(code)


if __name__ == "__main__":
    main()
