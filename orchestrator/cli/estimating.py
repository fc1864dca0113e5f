"""``gpujob estimate``: the memory that a job takes, as a picture, and what would lower it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from backends.hardware import SPILLS, Gpu, find_gpus, spills_to_ram
from backends.units import format_chance, format_size
from orchestrator.catalog.gpus import GpuFacts, bundled_gpus
from orchestrator.catalog.places import Target, bundled_targets
from orchestrator.cli.options import variant_named
from orchestrator.cli.probed import probed_fits, probed_value
from orchestrator.cli.screen import bad as wrong
from orchestrator.cli.screen import bold, dim, good, plain, say, say_json, warned
from orchestrator.home import Home
from orchestrator.lifecycle.exact import run_trace
from orchestrator.lifecycle.memory_needs import config_of, subject
from orchestrator.lifecycle.probes import full_batch, kept_probe
from orchestrator.lifecycle.selecting import files_to_send
from orchestrator.planning.memory.capacity import Fit, gpu_fits, target_fit
from orchestrator.planning.memory.estimate import MemoryEstimate, Subject, estimate_memory
from orchestrator.planning.memory.exact import trace_request, traced_estimate
from orchestrator.planning.memory.levers import in_words, largest_batch, largest_sequence, levers_of
from orchestrator.planning.probe import Probed
from orchestrator.spec.load import load_spec
from orchestrator.spec.model import JobSpec
from orchestrator.spec.problems import Problem, SpecError

BAR = 32
HERE = "here:"
"""Before the name of a GPU of this machine."""
SHOWN_GPUS = ("T4", "RTX 4090 Laptop", "RTX 4090", "A40", "A100 40GB", "A100 80GB SXM", "H100 SXM", "H200 SXM")

Found = dict[str, Any]


def estimate_spec(
    home: Home, path: Path, gpu: str | None, variant: str | None, target: str | None, params: Mapping[str, str],
    *, exact: bool = False, as_json: bool,
) -> int:  # fmt: skip
    """Print the estimate. Exit code 0; 3 if a GPU or target was named and it does not fit."""
    spec = load_spec(path, params)
    name = variant_named(spec, variant)
    assume_gpu = gpu is not None or not (target or _says_no_gpu(spec, name))
    found = subject(spec, name, home.hub, ask_hub=True, assume_gpu=assume_gpu)
    probed = kept_probe(home, spec, name, files_to_send(spec, home)) if spec.probe and not exact else None
    if probed:
        value, fits = _probed(probed, full_batch(spec, name), _gpus(gpu), target, named=gpu is not None)
    elif found is None:
        hint = "add one, such as model: {hf: microsoft/phi-1_5}; or a probe section, and run `gpujob probe`"
        raise SpecError([Problem("it has no model section", str(path), None, hint)])
    else:
        estimate, added = _traced(found, spec, name) if exact else (estimate_memory(found), {})
        value, fits = _estimated(found, estimate, _gpus(gpu), target, named=gpu is not None)
        value |= added
    say_json(value) if as_json else say(_text(value))
    return 3 if (gpu or target) and any(fit.verdict == "no" for fit in fits) else 0


def _says_no_gpu(spec: JobSpec, variant: str) -> bool:
    """Whether ``gpu: none`` is written; a spec that says nothing of needs is estimated on a GPU."""
    return any("gpu" in needs.model_fields_set for needs in (spec.needs, spec.variant(variant).needs))


def _gpus(name: str | None) -> list[GpuFacts]:
    table = bundled_gpus()
    if name is None:
        return list(table.gpus)
    if found := table.find(name):
        return [found]
    raise typer.BadParameter(f"no GPU {name!r} is known; there are {', '.join(each.name for each in table.gpus)}")


def _traced(found: Subject, spec: JobSpec, variant: str) -> tuple[MemoryEstimate, Found]:
    """The estimate by a trace, or by the formulas where there can be none, and what to tell of it under ``exact``."""
    estimate = estimate_memory(found)
    traced = run_trace(trace_request(found, config_of(spec, variant)))
    if isinstance(traced, str):
        return estimate, {"exact": {"traced": False, "why": traced}}
    formulas = {"peak_bytes": estimate.vram_bytes, "allocated_bytes": estimate.allocated_bytes}
    kept = ("parameters", "seconds", "torch", "transformers")
    said = {name: getattr(traced, name) for name in kept}
    added = {"traced": True, "why": None, **said, "needed_bytes": traced.needed_bytes, "formulas": formulas}
    return traced_estimate(found, estimate, traced), {"exact": added}


def _estimated(
    found: Subject, estimate: MemoryEstimate, gpus: list[GpuFacts], target: str | None, *, named: bool
) -> tuple[Found, list[Fit]]:
    fits = gpu_fits(estimate, gpus)
    here = [] if named or target or not estimate.vram_bytes else find_gpus()
    fits += [_on(gpu, estimate) for gpu in here]
    if target:
        fits = [*(fits if named else []), target_fit(estimate, _target(target))]
    room = _room(fits, "VRAM" if estimate.vram_bytes else "RAM")
    return {
        "vram": {
            "peak_bytes": estimate.vram_bytes,
            "allocated_bytes": estimate.allocated_bytes,
            "reserved_bytes": estimate.reserved_bytes,
            "phase": estimate.phase,
            "terms": dict(estimate.vram_terms),
        },
        "ram": {"peak_bytes": estimate.ram_bytes, "terms": dict(estimate.ram_terms)},
        "interval": estimate.interval(),
        "confidence": estimate.confidence,
        "fits": [_fit(fit) for fit in fits],
        "levers": [asdict(lever) for lever in levers_of(found, estimate_memory(found))],
        "largest": _largest(found, room) if room else None,
        "notes": [*estimate.notes, *([SPILLS] if here and spills_to_ram() else [])],
    }, fits


def _on(gpu: Gpu, estimate: MemoryEstimate) -> Fit:
    """A GPU of this machine by what is free on it now: the display and other programs were there before."""
    need = estimate.vram_need()
    assert need is not None
    return Fit(f"{HERE} {gpu.name}", "VRAM", gpu.usable_bytes, need.p_oom(gpu.usable_bytes))


def _probed(
    probed: Probed, batch: int, gpus: list[GpuFacts], target: str | None, *, named: bool
) -> tuple[Found, list[Fit]]:
    """What was probed, in the form of any estimate."""
    fits = probed_fits(probed, batch, gpus if named or not target else (), _target(target) if target else None)
    value = probed_value(probed, batch, _room(fits, "VRAM" if probed.vram() else "RAM"))
    return {**value, "fits": [_fit(fit) for fit in fits]}, fits


def _target(name: str) -> Target:
    targets = bundled_targets()
    if name not in targets:
        raise typer.BadParameter(f"no target {name!r} is known; there are {', '.join(targets)}")
    return targets[name]


def _room(fits: list[Fit], kind: str) -> Fit | None:
    """The capacity for which the largest batch is sought: the only one, or the smallest that fits."""
    able = [fit for fit in fits if fit.kind == kind and not fit.name.startswith(HERE)]
    return next((fit for fit in able if fit.verdict == "fits"), able[-1] if able else None)


def _largest(found: Subject, room: Fit) -> Found:
    has_length = found.reads_text and not found.recipe.arch.is_vision
    sequence = largest_sequence(found, room.capacity_bytes) if has_length else None
    return {"on": room.name, "batch_size": largest_batch(found, room.capacity_bytes), "seq_len": sequence}


def _fit(fit: Fit) -> Found:
    where = {"gpu": fit.name} if fit.kind == "VRAM" else {"target": fit.name}
    return {**where, "capacity_bytes": fit.capacity_bytes, "p_oom": round(fit.p_oom, 4), "verdict": fit.verdict}


def _text(value: Found) -> str:
    lines = []
    if value["vram"]["peak_bytes"]:
        vram, interval = value["vram"], value["interval"]
        title = f"VRAM  {format_size(vram['peak_bytes'])}"
        spread = f"{format_size(interval['p05'])} to {format_size(interval['p95'])}, confidence {value['confidence']}"
        lines += [bold(title) + dim(f"  at {vram['phase']}; {spread}"), *_bars(vram["terms"])]
        if vram["allocated_bytes"]:
            lines.append(dim(f"  allocated {format_size(vram['allocated_bytes'])}, as torch counts it"))
        lines += [_exact_line(value["exact"])] if "exact" in value else []
    ram = value["ram"]
    lines += ["", bold(f"RAM   {format_size(ram['peak_bytes'])}"), *_bars(ram["terms"])]
    lines += ["", bold("Where it fits"), *map(_fit_line, _shown(value))] if value["fits"] else []
    lines += ["", bold("What would lower it"), *map(_lever_line, value["levers"])] if value["levers"] else []
    if largest := value["largest"]:
        words = f"batch of {largest['batch_size']}" if largest["batch_size"] else "no batch at all"
        tokens = f", or {largest['seq_len']} tokens at this batch" if largest["seq_len"] else ""
        lines += ["", f"The largest that fits {largest['on']}: {words}{tokens}."]
    return "\n".join([*lines, *(warned("! ") + plain(note) for note in value["notes"])]).strip()


def _exact_line(exact: Found) -> str:
    if not exact["traced"]:
        return warned("! ") + plain(f"by formulas. {exact['why']}")
    formulas, versions = exact["formulas"], f"torch {exact['torch']}, transformers {exact['transformers']}"
    return dim(
        f"  traced in {exact['seconds']:.0f} s with {versions}; the formulas alone say "
        f"{format_size(formulas['peak_bytes'])}, {format_size(formulas['allocated_bytes'])} allocated"
    )


def _shown(value: Found) -> list[Found]:
    """All fits if few, else those of GPUs that people know, and the one that the largest batch is told for."""
    fits: list[Found] = value["fits"]
    named = {*SHOWN_GPUS, (value["largest"] or {}).get("on")}
    few = len(fits) < len(SHOWN_GPUS)
    return [fit for fit in fits if few or "target" in fit or fit["gpu"] in named or fit["gpu"].startswith(HERE)]


def _bars(terms: Mapping[str, int]) -> list[str]:
    most = max(terms.values(), default=1)
    return [
        f"  {name:<24}{format_size(size):>8}  {'█' * max(round(size / most * BAR), 1)}"
        for name, size in sorted(terms.items(), key=lambda term: -term[1])
    ]


def _fit_line(fit: Found) -> str:
    styled = {"fits": good, "risky": warned, "no": wrong}[fit["verdict"]]
    name = fit.get("gpu") or fit["target"]
    chance = format_chance(fit["p_oom"])
    return f"  {name:<24}{format_size(fit['capacity_bytes']):>8}  {styled(fit['verdict'])}, {chance} to run out"


def _lever_line(lever: Found) -> str:
    saved = f"{format_size(lever['saved_bytes'])} of {lever['memory'].upper()}"
    return f"  {lever['name']:<28}{format_size(lever['peak_bytes']):>8}  saves {saved}  ({in_words(lever['change'])})"
