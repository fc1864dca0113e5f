from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from backends.base import GpuNeed, Need
from orchestrator.spec.load import MAX_BYTES, SpecError, load_spec
from orchestrator.spec.model import JobSpec, spec_digest

ROOT = Path(__file__).parents[3]
ISSUE_SPEC = """\
name: quickstart
workdir: .                       # what is uploaded; .gitignore and .gpujobignore are honoured
image: pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime   # optional; container backends only
setup: pip install -r requirements.txt
run: python evaluate.py --features {features} --out results/
results: [results/]
checkpoints: [checkpoints/]      # carried from a failed or preempted attempt to the next
env: {OMP_NUM_THREADS: "2"}
secrets: [HF_TOKEN]              # by name; values come from the environment or the OS keyring at run time
params: {features: exact}
needs: {gpu: none, ram: 400 MB, disk: 1 GB}
inputs:                          # files fetched onto the machine before `run`
  - {source: https://host/a, sha256: SHA, dest: models/, max_size: 350 MB, alternatives: [https://other/a]}
variants:                        # best first
  - {name: exact}
  - {name: compact, params: {features: compact}, quality: 0.98}
duration: {on: cpu, minutes: 1}  # a first guess; history replaces it
limits: {runtime: 10m, idle: 15m, attempts: 4}
on_oom: {allow: [smaller_variant, bigger_machine], unexplained_sigkill: treat_as_oom}
smoke: {params: {features: compact}}
""".replace("SHA", "0a" * 32)


def test_the_example_of_the_documentation_means_what_it_says(load, tmp_path):
    spec = load(ISSUE_SPEC)
    assert spec.workdir == tmp_path
    assert spec.spec_path == tmp_path / "job.yaml"
    assert (spec.results, spec.checkpoints, spec.secrets) == (("results",), ("checkpoints",), ("HF_TOKEN",))
    assert (spec.needs.gpu, spec.needs.ram, spec.needs.disk) == (None, 400_000_000, 1_000_000_000)
    assert (spec.limits.runtime, spec.limits.idle, spec.limits.attempts) == (600.0, 900.0, 4)
    assert spec.inputs[0].dest == "models/"
    assert spec.inputs[0].max_size == 350_000_000
    assert spec.duration is not None
    assert (spec.duration.on, spec.duration.minutes) == ("cpu", 1.0)
    assert [variant.name for variant in spec.variants] == ["exact", "compact"]
    compact = spec.resolved("compact")
    assert compact.run == "python evaluate.py --features compact --out results/"
    assert (compact.quality, compact.ram_cap_bytes) == (0.98, 400_000_000)
    assert spec.resolved("exact", spec.smoke).run == compact.run


def test_what_is_not_written_has_its_default(load):
    spec = load("name: tiny\nrun: 'true'\n")
    assert [variant.name for variant in spec.variants] == ["default"]
    assert spec.resolved("default").need == Need()
    assert (spec.limits.runtime, spec.limits.idle) == (86400.0, 900.0)
    assert (spec.limits.attempts, spec.limits.log_size) == (4, 50_000_000)
    assert spec.on_oom.allow == ("smaller_variant", "bigger_machine")
    assert spec.on_oom.unexplained_sigkill == "treat_as_oom"
    assert (spec.setup, spec.image, spec.smoke, spec.duration) == (None, None, None, None)


def test_sections_left_empty_are_as_if_not_written(load):
    empty = "env:\nparams:\nneeds:\nvariants:\nresults:\nsmoke:\nlimits:\nsetup:\n"
    plain = load("name: tiny\nrun: 'true'\n")
    assert load(f"name: tiny\nrun: 'true'\n{empty}") == plain


def test_workdir_is_relative_to_the_spec_file(tmp_path, monkeypatch):
    (tmp_path / "specs").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text("name: a\nrun: 'true'\nworkdir: ../code\n")
    monkeypatch.chdir(tmp_path)
    assert load_spec(Path("specs/a.yaml")).workdir == tmp_path / "code"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("no", "no"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("007", "007"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("true", True),
        ("FALSE", False),
        ("-3", -3),
        ("0", 0),
        ("1e-5", 1e-5),
        ("3.0", 3.0),
        (".5", 0.5),
        ("'3'", "3"),
        ("''", ""),
    ],
)
def test_values_are_read_as_yaml_1_2(load, written, value):
    read = load(f"name: tiny\nrun: 'true'\nparams: {{x: {written}}}\n").params["x"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("needs", "need"),
    [
        ("{gpu: none}", Need()),
        ("{gpu: }", Need()),
        ("{gpu: 2}", Need(GpuNeed(2))),
        ("{gpu: T4}", Need(GpuNeed(names=("T4",)))),
        ("{gpu: RTX 4090}", Need(GpuNeed(names=("RTX 4090",)))),
        ("{gpu: {count: 2, vram: 16 GiB}}", Need(GpuNeed(2, 16 * 2**30))),
        ("{gpu: {vram: auto}}", Need(GpuNeed())),
        ("{gpu: 1, vram: 16 GB}", Need(GpuNeed(1, 16 * 10**9))),
        ("{gpu: L4, vram: 16 GB}", Need(GpuNeed(1, 16 * 10**9, names=("L4",)))),
        ("{vram: 16 GB}", Need(GpuNeed(1, 16 * 10**9))),
        ("{gpu: {compute_capability: 8, names: [L4, A10]}}", Need(GpuNeed(1, None, 8.0, ("L4", "A10")))),
        ("{ram: auto, disk: 1.5 GiB}", Need(None, None, 3 * 2**29)),
    ],
)
def test_needs_have_short_and_long_forms(load, needs, need):
    assert load(f"name: tiny\nrun: 'true'\nneeds: {needs}\n").resolved("default").need == need


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [("exact", "compact", "compact"), ("3", "7", 7), ("0.1", "3", 3.0), ("true", "False", False), ("''", "", "")],
)
def test_an_override_has_the_type_of_the_default(load, default, text, value):
    read = load(f"name: tiny\nrun: 'true'\nparams: {{x: {default}}}\n", x=text).params["x"]
    assert (read, type(read)) == (value, type(value))


def test_a_variant_keeps_its_own_params_against_an_override(load):
    spec = load("name: a\nrun: echo {x}\nparams: {x: 1}\nvariants: [{name: a}, {name: b, params: {x: 2}}]\n", x="9")
    assert [spec.resolved(name).run for name in "ab"] == ["echo 9", "echo 2"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"lr": "1"}, "job.yaml:3: --param lr: unknown\n    params of this spec: epochs, fast"),
        (
            {"epoch": "1"},
            "job.yaml:3: --param epoch: unknown\n    did you mean 'epochs'? params of this spec: epochs, fast",
        ),
        ({"epochs": "3.5"}, "job.yaml:3: --param epochs: '3.5' is not a whole number, as the spec's default 3 is"),
        ({"fast": "yes"}, "job.yaml:4: --param fast: 'yes' is not true or false, as the spec's default true is"),
    ],
)
def test_a_wrong_override_is_told(problems, overrides, expected):
    spec = "name: a\nrun: 'true'\nparams: {epochs: 3,\n  fast: true}\n"
    assert problems(spec, **overrides) == [expected]


def test_files_that_are_no_spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    Path("folder").mkdir()
    said = []
    for name in ("absent.yaml", "folder", "large.yaml"):
        with pytest.raises(SpecError) as raised:
            load_spec(Path(name))
        said.append(str(raised.value).splitlines()[0])
    assert said == [
        "absent.yaml: there is no such file",
        "folder: this is a folder",
        "large.yaml: it is larger than 1 MB, which no spec is",
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(load):
    assert load(b"\xef\xbb\xbfname: tiny\r\nrun: |\r\n  echo a\r\n  echo b\r\n").run == "echo a\necho b\n"


def test_a_variant_overrides_key_by_key(load):
    spec = load("""\
name: a
run: 'true'
env: {A: "1", B: "2"}
needs: {gpu: {count: 2, vram: 40 GB, names: [A100]}, ram: 8 GB, disk: 5 GB}
variants:
  - {name: same}
  - {name: vram, needs: {vram: 16 GB}}
  - {name: gpu, needs: {gpu: T4, ram: auto}, env: {B: "3"}}
  - {name: cpu, needs: {gpu: none}}
""")
    needs = {name: spec.resolved(name).need for name in ("same", "vram", "gpu", "cpu")}
    assert needs["same"] == Need(GpuNeed(2, 40 * 10**9, None, ("A100",)), 8 * 10**9, 5 * 10**9)
    assert needs["vram"].gpu == GpuNeed(2, 16 * 10**9, None, ("A100",))
    assert needs["gpu"] == Need(GpuNeed(2, 40 * 10**9, None, ("T4",)), None, 5 * 10**9)
    assert needs["cpu"] == Need(None, 8 * 10**9, 5 * 10**9)
    assert spec.resolved("gpu").env == {"A": "1", "B": "3"}
    assert JobSpec.from_json(spec.to_json()).resolved("vram").need == needs["vram"]


def test_the_digest_is_of_what_the_spec_says(load):
    text = "name: a\nrun: echo {x}\nparams: {x: 1}\n"
    spec = load(text)
    assert spec_digest(spec) == spec_digest(load(f"# a comment\n{text}limits: {{attempts: 4}}\n"))
    assert spec_digest(spec) == spec_digest(spec.model_copy(update={"workdir": Path("/elsewhere")}))
    assert spec_digest(spec) != spec_digest(load(text, x="2"))
    assert spec_digest(spec) != spec_digest(load(text.replace("x: 1", "x: 1.0")))


def test_a_spec_cannot_be_changed(load):
    spec = load("name: a\nrun: 'true'\n")
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "b"


def test_an_unknown_variant_names_the_known_ones(load):
    with pytest.raises(KeyError, match="no variant 'b'; there are default"):
        load("name: a\nrun: 'true'\n").resolved("b")


def test_the_model_alone_imports_neither_yaml_nor_pathspec():
    code = "import sys, orchestrator.spec.model; print({'yaml', 'pathspec'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (shown.stdout, shown.stderr) == ("set()\n", "")


def test_numbers_stay_finite(load):
    values = load("name: a\nrun: 'true'\nparams: {x: 1e300, y: 123456789012345678901234567890}\n").params
    assert all(math.isfinite(float(value)) for value in values.values())
