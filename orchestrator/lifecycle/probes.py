"""What was probed: kept in one file per variant and command, and what the planner is told of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import replace

from orchestrator.home import Home
from orchestrator.planning.need import VariantNeed
from orchestrator.planning.outlook import Facts
from orchestrator.planning.probe import Probed
from orchestrator.spec.files import SelectedFile, tree_digest
from orchestrator.spec.model import JobSpec


def probe_digest(spec: JobSpec, variant: str, files: Sequence[SelectedFile]) -> str:
    """What the tiny runs ran, in 40 hex digits: commands, environment, inputs, files; not the full batch."""
    assert spec.probe
    tiny = spec.resolved(variant, spec.probe.at(spec.probe.batches[0]))
    others = [file for file in files if spec.workdir / file.path != spec.spec_path]
    inputs = [entry.model_dump(mode="json") for entry in spec.inputs]
    said = [tiny.run, tiny.setup, dict(tiny.env), inputs, spec.probe.batches, tree_digest(spec.workdir, others)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:40]


def keep_probe(home: Home, probed: Probed) -> None:
    """Record it, in one step; a newer one of the same command replaces it."""
    home.probes.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home.probe(probed.name, probed.variant, probed.digest)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(probed.to_json(), indent=1), encoding="utf-8")
    draft.replace(path)


def kept_probe(home: Home, spec: JobSpec, variant: str, files: Sequence[SelectedFile]) -> Probed | None:
    """What was probed of this very variant, command and files; None if nothing."""
    if spec.probe is None:
        return None
    digest = probe_digest(spec, variant, files)
    try:
        kept = json.loads(home.probe(spec.name, variant, digest).read_bytes())
    except FileNotFoundError:
        return None
    return Probed.from_json(kept)


def forget_probes(home: Home, name: str | None) -> int:
    """Drop what was probed, of jobs with that name or of all; how many probes that were."""
    paths = [path for path in home.probe_files() if name is None or json.loads(path.read_bytes())["name"] == name]
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def full_batch(spec: JobSpec, variant: str) -> int:
    """The batch of a real run of the variant."""
    assert spec.probe
    return int(spec.resolved(variant).params[spec.probe.batch_param])


def with_probes(
    home: Home, spec: JobSpec, files: Sequence[SelectedFile], facts: Facts, measured: Container[str]
) -> Facts:
    """``facts`` with needs of variants that were probed; those that have really run, ``measured``, say it better."""
    probed = {each.name: kept_probe(home, spec, each.name, files) for each in spec.variants}
    needs = {
        name: probed_need(found, full_batch(spec, name), facts.needs.get(name))
        for name, found in probed.items()
        if found and name not in measured
    }
    return replace(facts, needs={**facts.needs, **needs})


def probed_need(probed: Probed, batch: int, otherwise: VariantNeed | None) -> VariantNeed:
    """What was probed, at ``batch``; for a kind of memory that was not measured, what is known ``otherwise``."""
    ram, vram = probed.ram(), probed.vram()
    return VariantNeed(
        vram=vram.need(batch) if vram else otherwise.vram if otherwise else None,
        ram=ram.need(batch) if ram else otherwise.ram if otherwise else None,
        confidence="medium",
        notes=(probed.note(batch),),
    )
