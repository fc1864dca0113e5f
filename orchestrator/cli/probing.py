"""``gpujob probe``: two tiny runs of a job's own command, and what they say of the full batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends.units import format_size
from orchestrator.cli.options import variant_named
from orchestrator.cli.probed import interval
from orchestrator.cli.screen import bold, complain, dim, good, say, say_json
from orchestrator.clock import SystemClock
from orchestrator.config import Config
from orchestrator.home import Home
from orchestrator.lifecycle.probes import full_batch, keep_probe
from orchestrator.lifecycle.probing import Prober
from orchestrator.lifecycle.registry import Backends
from orchestrator.lifecycle.selecting import files_to_send
from orchestrator.planning.probe import Line, Probed
from orchestrator.spec.load import load_spec


def probe_spec(home: Home, path: Path, variant: str | None, params: Mapping[str, str], *, as_json: bool) -> int:
    """Probe, keep what came of it, print it. Raises ProbeFailed and what loading a spec raises."""
    spec = load_spec(path, params)
    name = variant_named(spec, variant)
    files = files_to_send(spec, home.ensure())
    local = Backends(home, Config(home.config)).get("local")
    probed = Prober(home, local, SystemClock(), spec, files, name, complain).probe()
    keep_probe(home, probed)
    value = probe_json(probed, full_batch(spec, name))
    say_json(value) if as_json else say(probe_text(value))
    return 0


def probe_json(probed: Probed, batch: int) -> dict[str, Any]:
    """What was measured and what follows for ``batch``."""
    return {
        "variant": probed.variant,
        "batch_param": probed.batch_param,
        "batch": batch,
        "gpu": probed.gpu,
        "at": probed.at,
        "runs": [asdict(run) for run in probed.runs],
        "ram": _line(probed.ram(), batch),
        "vram": _line(probed.vram(), batch),
    }


def _line(line: Line | None, batch: int) -> dict[str, int] | None:
    if line is None:
        return None
    return {"fixed_bytes": line.fixed, "each_bytes": round(line.each), **interval(line, batch)}


def probe_text(value: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [bold(f"{value['variant']} on this machine") + (dim(f"  with {value['gpu']}") if value["gpu"] else "")]
    for run in value["runs"]:
        vram = f"  VRAM {format_size(run['vram_bytes']):>8}" if run["vram_bytes"] else ""
        ram = format_size(run["ram_bytes"])
        lines.append(f"  {value['batch_param']} {run['batch']:<6} RAM {ram:>8}{vram}  in {run['seconds']:.1f} s")
    lines.append("")
    for kind in ("vram", "ram"):
        if found := value[kind]:
            lines.append(
                bold(f"{kind.upper():<5} {format_size(found['p50'])}")
                + f"  at {value['batch_param']} {value['batch']}; with 90 % between {format_size(found['p05'])} and "
                + f"{format_size(found['p95'])}"
            )
            fixed, each = (format_size(found[name]) for name in ("fixed_bytes", "each_bytes"))
            lines.append(dim(f"      {fixed} fixed and {each} for each of the batch"))
    kept = "Kept: plan and estimate use it for this command and these files, until a real run says it better."
    return "\n".join([*lines, "", f"{good('✓')} {kept}"])
