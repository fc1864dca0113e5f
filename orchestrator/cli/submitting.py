"""From a spec to a plan that is agreed to: nothing here writes, and no ORM is loaded for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from backends.units import format_usd
from orchestrator.cli.options import overrides_from
from orchestrator.cli.plans import plan_text
from orchestrator.cli.screen import ask, dim, say, say_json, warned
from orchestrator.config import Config
from orchestrator.home import Home
from orchestrator.lifecycle.avoiding import offers_to_avoid, recently_unreachable
from orchestrator.lifecycle.learning import calibrated, learned, reliability
from orchestrator.lifecycle.memory_needs import needs_by_lever, predicted_facts
from orchestrator.lifecycle.planning import gather_offers, knowledge_for, weights_for
from orchestrator.lifecycle.probes import with_probes
from orchestrator.lifecycle.registry import Backends
from orchestrator.lifecycle.selecting import absent_programs, files_to_send
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.outlook import Facts
from orchestrator.planning.plan import Plan, Priority
from orchestrator.planning.whatif import what_if
from orchestrator.records.reading import Reader
from orchestrator.spec.files import SelectedFile, tree_digest
from orchestrator.spec.load import load_spec
from orchestrator.spec.model import JobSpec, spec_digest

NO_PLAN = 3
"""Exit code where nothing feasible fits in the budget."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user typed after the spec's name."""

    spec: Path
    budget_micros: int
    priority: Priority
    backends: tuple[str, ...] = ()
    max_runtime: float | None = None
    params: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked spec with its files and the plan for it; nothing recorded, nothing spent."""

    spec: JobSpec
    files: Sequence[SelectedFile]
    digest: str
    predicted: Facts
    plan: Plan


def prepare(home: Home, reader: Reader, wish: Wish) -> Prepared:
    """Load and plan. Raises SpecError, BackendError, JournalError."""
    spec = _limited(load_spec(wish.spec, overrides_from(wish.params)), wish.max_runtime)
    files = files_to_send(spec, home)
    digest = f"{spec_digest(spec)[:20]}-{tree_digest(spec.workdir, files)[:20]}"
    config = Config(home.config)
    avoided = offers_to_avoid(recently_unreachable(reader, config.get("attempt.avoid"), datetime.now(UTC)))
    knowledge = knowledge_for(reader, spec, digest, (), avoided)
    ran = {each.name for each in spec.variants if knowledge.successes(each.name)}
    predicted = with_probes(home, spec, files, predicted_facts(spec, home.hub), ran)
    size = sum(file.size for file in files)
    plan = _planned(home, reader, wish, spec, digest, size, predicted, knowledge)
    plan = replace(plan, notes=(*plan.notes, *absent_programs(spec, files)))
    return Prepared(spec, files, digest, predicted, plan)


def _planned(
    home: Home,
    reader: Reader,
    wish: Wish,
    spec: JobSpec,
    digest: str,
    size: int,
    predicted: Facts,
    knowledge: Knowledge,
) -> Plan:
    """The plan, and what would change it."""
    config = Config(home.config)
    listing = gather_offers(Backends(home, config), wish.backends, spec, size)
    taught = learned(reader, predicted.needs)
    needs = calibrated(taught, spec.name, digest, predicted.needs)
    known = replace(predicted, needs=needs, reliability=reliability(reader))

    def again(
        *, budget_micros: int | None = None, priority: Priority | None = None, facts: Facts | None = None
    ) -> Plan:
        chosen = priority or wish.priority
        return make_plan(
            spec,
            listing.offers,
            knowledge,
            wish.budget_micros if budget_micros is None else budget_micros,
            chosen,
            backends=wish.backends,
            weights=weights_for(config, chosen),
            facts=facts or known,
        )

    plan = again()
    changes = needs_by_lever(spec, predicted.needs, home.hub)
    levers = {
        words: replace(known, needs=calibrated(taught, spec.name, digest, other)) for words, other in changes.items()
    }
    return replace(plan, what_if=what_if(plan, again, levers), notes=listing.left_out)


def show_plan(prepared: Prepared, *, as_json: bool) -> int:
    """Print the plan; exit code 3 if it is empty."""
    if as_json:
        say_json(prepared.plan.to_json())
    else:
        say(plan_text(prepared.plan.to_json()))
    if prepared.plan.ladder:
        return 0
    if not as_json:
        say_no_plan(prepared.plan)
    return NO_PLAN


def say_no_plan(plan: Plan) -> None:
    """Why nothing can be tried, and the nearest change, in one line."""
    say(f"\n{warned('No feasible plan')} within {format_usd(plan.budget_micros)}. {plan.advice}")


def agreed(plan: Plan, *, yes: bool) -> bool:
    """Ask once before money is spent, on a terminal. Free plans and ``--yes`` are not asked about."""
    if yes or plan.worst_case_micros == 0 or not sys.stdin.isatty():
        return True
    question = f"Spend about {format_usd(plan.expected_micros)}, at worst {format_usd(plan.worst_case_micros)}? [y/N] "
    return ask(question).lower() in ("y", "yes")


def say_submitted(job_id: str, *, as_json: bool) -> None:
    """What a detached submission leaves on the screen."""
    if as_json:
        say_json({"id": job_id})
        return
    say(f"{job_id} is on its way. It needs no terminal.")
    say(dim(f"  watch: gpujob logs -f {job_id}   look: gpujob show {job_id}   end: gpujob cancel {job_id}"))


def _limited(spec: JobSpec, max_runtime: float | None) -> JobSpec:
    if max_runtime is None or max_runtime >= spec.limits.runtime:
        return spec
    return spec.model_copy(update={"limits": spec.limits.model_copy(update={"runtime": max_runtime})})
