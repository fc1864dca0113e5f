"""Commands that look and change nothing: validate, backends, doctor; and ``init``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.units import format_chance, format_size, parse_usd
from orchestrator.catalog.model_files import ModelFileError
from orchestrator.cli.doctor import doctor_text, examine, specs_near
from orchestrator.cli.options import overrides_from
from orchestrator.cli.screen import ask, bad, complain, counted, good, one_line, plain, say, say_json, warned
from orchestrator.config import Config
from orchestrator.home import Home
from orchestrator.lifecycle.memory_needs import predicted_facts
from orchestrator.lifecycle.planning import gather_offers
from orchestrator.lifecycle.registry import Backends, backend_names
from orchestrator.lifecycle.selecting import absent_programs, files_to_send
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.plan import Priority
from orchestrator.spec.load import SpecError, load_spec, parse_spec
from orchestrator.spec.starter import job_name, starter_spec

ANY_BUDGET = parse_usd("1000000")
"""``doctor`` asks what fits on this machine, not what its hours cost."""


def validate_spec(path: Path, params: tuple[str, ...], *, as_json: bool) -> int:
    """Check a spec. Raises SpecError, which lists every problem with file and line."""
    spec = load_spec(path, overrides_from(params))
    files = files_to_send(spec, Home.locate())
    size = sum(file.size for file in files)
    smoke = spec.resolved(spec.variants[0].name, spec.smoke).run if spec.smoke else None
    warnings = list(absent_programs(spec, files))
    if as_json:
        say_json(
            {
                "valid": True,
                "name": spec.name,
                "files": len(files),
                "bytes": size,
                "smoke": smoke,
                "warnings": warnings,
                "spec": spec.to_json(),
            }
        )
        return 0
    variants = ", ".join(variant.name for variant in spec.variants)
    say(f"{good('✓')} {path}: {spec.name} is valid; variants: {variants}")
    say(f"  uploads {counted(len(files), 'file')}, {format_size(size)}, from {spec.workdir}")
    for warning in warnings:
        say(f"{warned('!')} {warning}")
    if smoke:
        say(f"  submit --smoke-first tries this here before anything is rented: {one_line(smoke)}")
    else:
        say("  has no smoke section: submit --smoke-first cannot try it here before anything is rented")
    return 0


def write_starter(path: Path, run: str | None, gpu: str | None) -> int:
    """Write a commented spec; an existing file is never replaced, and nothing is written that is not valid."""
    if path.exists():
        complain(f"{path} exists and was left as it is. Name another file: gpujob init other.yaml")
        return 2
    if run is None:
        run = _guessed_run(path.parent)
    has_requirements = (path.parent / "requirements.txt").is_file()
    setup = "pip install -r requirements.txt" if has_requirements else None
    text = starter_spec(job_name(path.absolute().stem), run, gpu, setup)
    try:
        parse_spec(text, path)
    except SpecError as error:
        complain(f"{path} was not written: " + "; ".join(problem.message for problem in error.problems))
        return 2
    path.write_text(text, encoding="utf-8")
    say(f"{path} written. Look through it, then: gpujob submit {path} --budget 1")
    return 0


def _guessed_run(folder: Path) -> str:
    scripts = [
        name for name in ("train.py", "evaluate.py", "eval.py", "main.py", "run.py") if (folder / name).is_file()
    ]
    guess = f"python {scripts[0] if scripts else 'train.py'}"
    if not sys.stdin.isatty():
        return guess
    return ask(f"Which command does the job? [{guess}] ") or guess


def show_backends(home: Home, *, as_json: bool) -> int:
    """What is set up, what is missing, how to set it up."""
    backends = Backends(home.ensure(), Config(home.config))
    states = [_state_of(backends, name) for name in backend_names()]
    if as_json:
        say_json(states)
        return 0
    for state in states:
        say(f"{good('✓') if state['ready'] else bad('✗')} {state['name']}: {state['summary']}")
        if not state["ready"]:
            say(f"    missing: {state['missing']}\n    set it up: {state['how']}")
    return 0


def _state_of(backends: Backends, name: str) -> dict[str, Any]:
    try:
        state = backends.get(name).setup_state()
    except BackendError as error:
        return {"name": name, "ready": False, "summary": "not usable", "missing": str(error), "how": error.advice}
    return {
        "name": name, "ready": state.ready, "summary": state.summary, "missing": state.missing, "how": state.how,
    }  # fmt: skip


def run_doctor(home: Home, *, as_json: bool) -> int:
    """Look at this machine; exit code 1 if something needs mending."""
    found = examine(home)
    fits = [_fit(home, path) for path in specs_near(Path())]
    if as_json:
        say_json({**found, "specs": fits})
    else:
        say(doctor_text(found, fits))
    return 1 if found["problems"] else 0


def _fit(home: Home, path: Path) -> dict[str, Any]:
    """Whether the job of a spec would run on this machine, and with which variant."""
    try:
        spec = load_spec(path)
        facts = predicted_facts(spec, home.hub)
    except (SpecError, ModelFileError) as error:
        return {"spec": str(path), "fits": False, "answer": f"not a valid spec: {plain(str(error).splitlines()[0])}"}
    offers = gather_offers(Backends(home, Config(home.config)), ["local"], spec).offers
    plan = make_plan(spec, offers, Knowledge(), ANY_BUDGET, Priority.BALANCED, backends=["local"], facts=facts)
    if plan.ladder:
        first = plan.ladder[0]
        answer = f"yes: {first.variant} on {first.offer}, {format_chance(first.p_success)} chance"
    else:
        answer = f"no. {plan.advice}"
    return {"spec": str(path), "fits": bool(plan.ladder), "answer": answer}
