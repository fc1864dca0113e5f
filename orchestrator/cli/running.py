"""Commands that make jobs go on, end, or be looked after."""

from __future__ import annotations

import logging
import sys

from backends.base import BackendError
from orchestrator.cli.failing import CANCELLED, FAILED
from orchestrator.cli.following import Follower, ask_interrupted
from orchestrator.cli.plans import plan_text
from orchestrator.cli.recording import record
from orchestrator.cli.screen import bold, complain, counted, dim, say, say_json
from orchestrator.cli.smoking import SmokeStopped, smoke_first
from orchestrator.cli.submitting import NO_PLAN, Wish, agreed, prepare, say_no_plan, say_submitted
from orchestrator.clock import SystemClock, stamp
from orchestrator.config import Config
from orchestrator.credentials import Credentials
from orchestrator.home import Home
from orchestrator.lifecycle.bills import ask_for_bills
from orchestrator.lifecycle.reaper import Discrepancy, discrepancies, mend
from orchestrator.lifecycle.registry import Backends
from orchestrator.lifecycle.signals import when_told_to_end
from orchestrator.lifecycle.smoking import smoke_settings
from orchestrator.lifecycle.tools import Tools
from orchestrator.lifecycle.waking import ensure_worker
from orchestrator.lifecycle.worker import Worker, open_tools
from orchestrator.planning.plan import Plan
from orchestrator.records.jobs import get_job, request_cancel
from orchestrator.records.reading import Reader
from orchestrator.records.store import Store


def submit_and_follow(home: Home, wish: Wish, *, detach: bool, yes: bool, as_json: bool, smoke: bool = False) -> int:
    """Plan, run it tiny here if asked to, ask, record, and watch to the end unless detached."""
    store = Store(home.ensure().journal)
    try:
        job = _submitted(home, store, wish, yes=yes, as_json=as_json, smoke=smoke)
    except KeyboardInterrupt:
        complain("interrupted; nothing was submitted")
        return CANCELLED
    if isinstance(job, int):
        return job
    if not (detach or as_json):
        say(f"\n{bold(job)} submitted")
    ensure_worker(home)
    if detach:
        say_submitted(job, as_json=as_json)
        return 0
    return _wait_for_json(home, job) if as_json else watch(home, store, job)


def _submitted(home: Home, store: Store, wish: Wish, *, yes: bool, as_json: bool, smoke: bool) -> str | int:
    """The id of the job that is recorded; or the exit code where none is."""
    prepared = prepare(home, Reader(home.journal), wish)
    if smoke:
        smoke_settings(prepared.spec)
    if not as_json:
        say(f"{bold(prepared.spec.name)}: {counted(len(prepared.files), 'file')}\n")
        say(plan_text(prepared.plan.to_json()))
    if not prepared.plan.ladder:
        say_json({"plan": prepared.plan.to_json()}) if as_json else say_no_plan(prepared.plan)
        return NO_PLAN
    _warn_of_fleeting_keys(home, prepared.plan)
    try:
        smoked = smoke_first(home, prepared, as_json=as_json) if smoke else None
    except SmokeStopped as stopped:
        return stopped.code
    if not agreed(prepared.plan, yes=yes):
        complain("nothing was submitted")
        return CANCELLED
    return record(home, store, wish, prepared, smoked)


def _warn_of_fleeting_keys(home: Home, plan: Plan) -> None:
    """A worker outlives its terminal, and the next may be started by another: neither has this one's environment."""
    backends = Backends(home, Config(home.config))
    for name in sorted({rung.backend for rung in plan.ladder}):
        keyed = backends.get(name).keyed
        if keyed and Credentials(home).only_here(keyed.credential.name):
            complain(
                f"{keyed.credential.name} is set in this terminal only: a worker that was started without it cannot "
                f"rent, nor give back. `gpujob backends setup {name}` keeps it for all"
            )


def watch(home: Home, store: Store, job: str, after: int = 0) -> int:
    """Follow a job, from what was told after event ``after``; Ctrl-C asks whether to detach, cancel or go on."""
    follower = Follower(home, Reader(home.journal), job, after)
    while True:
        try:
            return follower.to_the_end()
        except KeyboardInterrupt:
            follower.pause()
            answer = ask_interrupted(job)
            if answer == "detach":
                say(dim(f"Detached. `gpujob show {job}` looks, `gpujob cancel {job}` ends it."))
                return 0
            if answer == "cancel":
                request_cancel(store, job, stamp(SystemClock().now()))


def cancel_job(home: Home, job: str) -> int:
    """Ask for the end of a job."""
    store = Store(home.journal)
    if not request_cancel(store, job, stamp(SystemClock().now())):
        say(f"{job} is over already ({get_job(store, job).state}).")
        return 0
    ensure_worker(home)
    say(f"{job} is being cancelled: what it produced comes home, what is rented is given back.")
    return 0


def refresh_bills(home: Home) -> None:
    """Ask providers now for every bill that is not final."""
    ask_for_bills(open_tools(home), every=0.0)


def reap_all(home: Home, *, delete: bool, as_json: bool) -> int:
    """List what is rented and not accounted for; give it back if asked. It fails where a backend could not be asked."""
    tools = open_tools(home)
    found, unasked = discrepancies(tools)
    done = {each.key: _mended(tools, each) for each in found} if delete else {}
    for backend, why in unasked.items():
        complain(f"{backend} could not be asked: {why}")
    if as_json:
        say_json(
            [
                {"finding": d.finding, "backend": d.backend, "key": d.key, "text": d.text, "done": done.get(d.key)}
                for d in found
            ]
        )
        return FAILED if unasked else 0
    for each in found:
        say(each.text + (f": {done[each.key]}" if delete else ""))
    if not found:
        say("Everything that is rented is accounted for" + (", as far as could be asked." if unasked else "."))
    elif not delete:
        say("Nothing was touched. `gpujob reap --yes` gives back what is rented and closes the records.")
    return FAILED if unasked else 0


def _mended(tools: Tools, found: Discrepancy) -> str:
    """What was done; where it failed, why: the others are mended all the same."""
    try:
        return mend(tools, found)
    except BackendError as error:
        return f"not given back: {error}"


def run_worker(home: Home, *, background: bool, until_idle: bool) -> int:
    """Carry jobs until told to stop (or, in the background, until idle for a while)."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    tools = open_tools(home)
    config = Config(home.config)
    idle = 0.0 if until_idle else config.get("worker.idle") if background else None
    worker = Worker(tools, config.get("worker.threads"), idle)
    when_told_to_end(worker.stop)
    worker.run()
    return 0


def _wait_for_json(home: Home, job: str) -> int:
    from orchestrator.cli.following import wait_quietly
    from orchestrator.reports.jobs import job_detail

    reader = Reader(home.journal)
    try:
        code = wait_quietly(home, reader, job)
    except KeyboardInterrupt:
        say_submitted(job, as_json=True)
        complain(f"{job} runs on by itself; `gpujob show {job}` looks, `gpujob cancel {job}` ends it")
        return 0
    say_json(job_detail(reader, job))
    return code
