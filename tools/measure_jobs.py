"""Run the jobs in jobs/ at their real sizes through gpujob, and print what they took beside what was predicted.

    .venv-exact/bin/python tools/measure_jobs.py                 every row that this machine can do
    .venv-exact/bin/python tools/measure_jobs.py phi15-lora      one of them

Rows go into docs/measurements.md. What is measured and predicted is what gpujob itself records (`history export`);
what torch allocated comes from the job's metrics.json. Where there is no GPU the same program runs on the CPU, and RAM
is the whole of it. Models have the real architecture and random weights, texts are made: nothing is downloaded, but
for DeepSeek-OCR, whose code lies with its weights, and for the packages of rows in an environment of their own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from measured_files import BERT, PHI, TEXTS, TOKENS, make_bert, make_phi, make_tokens

from orchestrator.spec.document import parse

JOBS = Path(__file__).parents[1] / "jobs"
LOAD = "load_model"
"""No job but a program beside this one: Phi-1.5 loaded in a dtype, and 128 tokens read."""
STEPS = 2
"""Steps of training: the second has all that lasts, weights, gradients and the states of the optimizer."""


@dataclass(frozen=True)
class Row:
    """A variant of a job. ``params`` and ``model`` are laid over those of its spec, ``cpu_*`` where there is no GPU.

    ``own`` rows are submitted as they are, in the environment of their requirements; the others run in this one.
    """

    job: str
    variant: str
    params: Mapping[str, Any] = field(default_factory=dict)
    cpu_params: Mapping[str, Any] = field(default_factory=dict)
    cpu_model: Mapping[str, Any] = field(default_factory=dict)
    needs_gpu: bool = False
    own: bool = False


def sparsae(variant: str, batch: int, *, needs_gpu: bool = False) -> Row:
    """Two steps of a real size, with as many tokens as the spec has."""
    return Row("sparsae", variant, {"max_train_examples": STEPS * batch, "max_val_examples": 1, "epochs": 1},
               needs_gpu=needs_gpu)  # fmt: skip


def phi15(variant: str, *, batch: int = 8, needs_gpu: bool = False, **cpu_too: str) -> Row:
    """Two steps; on a CPU of one example of 128 tokens, which weights and states dwarf, and with ``cpu_too``."""
    few = {"max_train_examples": STEPS * batch, "max_val_examples": 1, "epochs": 1}
    small = {"batch_size": 1, "seq_len": 128, "grad_accumulation": 1, **cpu_too}
    cpu = {"batch_size": 1, "accumulate": 1, "max_length": 128, "max_train_examples": STEPS, **cpu_too}
    return Row("phi15", variant, few, cpu, small, needs_gpu=needs_gpu)


ROWS = {
    "convnext": Row("convnext_quantize", "both", own=True),
    "sparsae-tiny": sparsae("tiny", 4),
    "sparsae-small": sparsae("small", 6),
    "sparsae-medium": sparsae("medium", 16, needs_gpu=True),
    **{f"phi15-load-{kind}": Row(LOAD, kind) for kind in ("fp16", "bf16", "fp32")},
    "phi15-full": phi15("full", needs_gpu=True),
    "phi15-accumulate": phi15("accumulate", needs_gpu=True),
    "phi15-offload": phi15("offload", needs_gpu=True),
    "phi15-adamw-8bit": phi15("adamw-8bit"),
    "phi15-lora": phi15("lora", precision="amp-bf16"),  # fp16 takes a CPU minutes a step
    "phi15-bert-tiny": phi15("bert-tiny"),
    **{f"ocr-{load}": Row("deepseek_ocr", load, {"count": 4}, needs_gpu=True, own=True)
       for load in ("bf16", "fp16", "nf4", "as-published")},
}  # fmt: skip


def write_load_spec(name: str, kind: str, work: Path) -> Path:
    """A spec at ``work/name`` that loads Phi-1.5 in the dtype ``kind``."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name(f"{LOAD}.py"), folder)
    model = {"hf": "microsoft/phi-1_5", "task": "infer", "precision": kind, "load_dtype": kind}
    spec = {
        "name": name,
        "run": f"{sys.executable} {LOAD}.py {work / PHI} {kind}",
        "results": ["results"],
        "model": {**model, "batch_size": 1, "seq_len": 128},
        "needs": {"gpu": 1 if torch.cuda.is_available() else "none"},
    }
    return write(spec, folder / "load.yaml")


def write(spec: Mapping[str, Any], path: Path) -> Path:
    """``spec`` as the file ``path``."""
    path.write_text(yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True))
    return path


def write_spec(name: str, work: Path) -> Path:
    """The job's folder at ``work/name`` with a spec of the row's one variant at its real size."""
    row, folder = ROWS[name], work / name
    if row.job == LOAD:
        return write_load_spec(name, row.variant, work)
    shutil.copytree(JOBS / row.job, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (path,) = folder.glob("*.yaml")
    spec = parse(path.read_text(), str(path)).data
    (variant,) = (each for each in spec["variants"] if each["name"] == row.variant)
    variant.pop("when", None)
    spec |= {"name": name, "variants": [variant]}
    settings = {**row.params, **made_files(row, work)}
    if not row.own:
        del spec["setup"]
        spec["run"] = spec["run"].replace("python ", f"{sys.executable} ", 1)
        spec["needs"] = {"gpu": 1}
    if not row.own and not torch.cuda.is_available():
        spec["needs"], variant["needs"] = {"gpu": "none"}, {}
        settings |= row.cpu_params
        variant["model"] = {**variant.get("model", {}), **row.cpu_model}
    variant["params"] = {**variant.get("params", {}), **settings}
    return write(spec, path)


def made_files(row: Row, work: Path) -> dict[str, str]:
    """The parameters that name what stands for downloads, once :func:`make_files` has made it in ``work``."""
    if row.job == "sparsae":
        return {"data": str(work / TEXTS), "tokenizer": str(work / TOKENS)}
    if row.job == "phi15":
        return {"data": str(work / TEXTS), "model": str(work / (BERT if row.variant == "bert-tiny" else PHI))}
    return {}


def make_files(row: Row, work: Path) -> None:
    """Texts, tokenizers and models with random weights for ``row``, unless they are there."""
    if row.job == "sparsae":
        make_tokens(work)
    elif row.job == LOAD or row.job == "phi15":
        make_bert(work) if row.variant == "bert-tiny" else make_phi(work)


def gpujob(work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``gpujob`` of this environment, with a home of its own in ``work``."""
    command = [sys.executable, "-m", "orchestrator.cli.main", *words]
    env = {**os.environ, "GPUJOB_HOME": str(work / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=False)


def measure(name: str, work: Path) -> dict[str, Any]:
    """Submit the row and wait; what gpujob recorded of it, and under ``torch`` what its metrics say.

    Raises SystemExit with gpujob's own words where it is not run or does not succeed.
    """
    spec = write_spec(name, work)
    make_files(ROWS[name], work)
    done = gpujob(work, "submit", str(spec), "--budget", "0", "--backend", "local", "--json")
    if done.returncode:
        raise SystemExit(f"{name} was not measured:\n{done.stdout}")
    job = json.loads(done.stdout)["id"]
    metrics = json.loads(
        (work / "home" / "jobs" / job / "attempt-1" / "files" / "results" / "metrics.json").read_text()
    )
    exported = work / f"{job}.jsonl"
    gpujob(work, "history", "export", str(exported))
    seen = [json.loads(line) for line in exported.read_text().splitlines()]
    return {**[each for each in seen if each["name"] == name][-1], "torch": metrics}


def as_row(name: str, found: Mapping[str, Any]) -> str:
    """A line of the table of docs/measurements.md: sizes in GB, times in seconds."""
    told = found["torch"]
    sizes = [
        found.get("predicted_ram_bytes"), found.get("peak_ram_bytes"), told.get("peak_rss_bytes"),
        found.get("predicted_vram_bytes"), found.get("peak_vram_bytes"),
        told.get("peak_vram_reserved_bytes"), told.get("peak_vram_allocated_bytes"),
    ]  # fmt: skip
    times = [found.get("step_seconds"), found["run_seconds"]]
    cells = [
        *(f"{size / 1e9:.2f}" if size else "" for size in sizes),
        *(f"{time:.3g}" if time else "" for time in times),
    ]
    return f"| `{name}` | {' | '.join(cells)} | {found['at'][:10]} |"


def machine() -> str:
    """Where this was: processor or GPU, and versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}, {gpu}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def main() -> None:
    """Measure, and print a line for each row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--work", type=Path, default=Path("build/measured"), help="folder for files, 8 GB")
    args = parser.parse_args()
    if unknown := [name for name in args.rows if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    able = [name for name, row in ROWS.items() if torch.cuda.is_available() or not row.needs_gpu]
    work = args.work.absolute()
    print(machine(), flush=True)
    for name in args.rows or able:
        print(as_row(name, measure(name, work)), flush=True)


if __name__ == "__main__":
    main()
