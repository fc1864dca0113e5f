from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orchestrator.spec.credentials import credential_kind
from orchestrator.spec.document import parse
from orchestrator.spec.load import load_spec
from orchestrator.spec.schema import json_schema
from orchestrator.spec.starter import job_name, starter_spec

ROOT = Path(__file__).parents[3]
SCHEMA = json_schema()
GOOD = {
    "short": "name: a\nrun: 'true'\n",
    "sections left empty": "name: a\nrun: 'true'\nenv:\nneeds:\nvariants:\nresults:\nsmoke:\n",
    "gpu forms": "name: a\nrun: 'true'\nvariants:\n"
    + "".join(
        f"  - {{name: v{index}, needs: {{gpu: {gpu}}}}}\n"
        for index, gpu in enumerate(["none", "", "2", "RTX 4090", "{count: 2, vram: 16 GiB, names: [A100, H100]}"])
    ),
    "starter": starter_spec("a", "python train.py", "T4", "pip install -r requirements.txt"),
}


def errors(text: str) -> list[str]:
    return [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(parse(text, "x").data)]


def documented_examples() -> dict[str, str]:
    page = (ROOT / "docs" / "spec.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    return {f"docs/spec.md {index}": block for index, block in enumerate(blocks) if block.startswith("name:")}


def job_specs() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.glob("jobs/*/*.yaml"))}


def test_the_schema_is_a_schema_of_plain_json():
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


ALL_GOOD = {**GOOD, **documented_examples(), **job_specs()}


@pytest.mark.parametrize("text", ALL_GOOD.values(), ids=ALL_GOOD.keys())
def test_good_specs_fit_the_schema(text):
    assert errors(text) == []


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("variant: []", "$"),
        ("spec_path: x", "$"),
        ("needs: {ram: 400}", "$.needs"),
        ("needs: {ram: 400 QB}", "$.needs"),
        ("limits: {runtime: 10}", "$.limits"),
        ("results: [../x]", "$.results[0]"),
        ("results: [/x]", "$.results[0]"),
        ("results: [.]", "$.results[0]"),
        ("params: {batch-size: 1}", "$.params"),
        ("variants: [{name: a, quality: 0}]", "$.variants[0].quality"),
        ("variants: [{name: a, when: {vram: 35 GB}}]", "$.variants[0].when"),
        ("on_oom: {allow: [larger]}", "$.on_oom"),
    ],
)
def test_an_editor_sees_the_same_mistakes(line, path):
    assert errors(f"name: a\nrun: 'true'\n{line}\n") == [path]


def described(schema: dict) -> list[tuple[str, str]]:
    sections = {"": schema, **schema["$defs"]}
    return [
        (f"{section}.{name}", str(each.get("description", "")))
        for section, content in sections.items()
        for name, each in content["properties"].items()
    ]


@pytest.mark.parametrize(("name", "text"), described(SCHEMA))
def test_every_key_is_described(name, text):
    assert 5 < len(text) < 120
    assert text.endswith(".")


@pytest.mark.parametrize(("name", "text"), described(SCHEMA))
def test_every_key_is_documented(name, text):
    assert f"`{name.rpartition('.')[2]}`" in (ROOT / "docs" / "spec.md").read_text()


@pytest.mark.parametrize(("name", "text"), documented_examples().items())
def test_the_examples_of_the_documentation_load(load, tmp_path, name, text):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words.txt").write_text("a")
    load(text)


commands = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@settings(max_examples=100)
@given(run=commands | st.text(alphabet="{}ab' \"$#:\n", min_size=1).filter(str.strip), setup=commands | st.none())
def test_a_starter_spec_loads_and_runs_the_command_word_for_word(tmp_path_factory, run, setup):
    assume(credential_kind(f"{run} {setup}") is None)
    path = tmp_path_factory.getbasetemp() / "starter.yaml"
    path.write_text(starter_spec("my-job", run, None, setup), encoding="utf-8")
    resolved = load_spec(path).resolved("default")
    # In a shell comment braces are text already, so their escape stays as it is.
    assert "#" in run + (setup or "") or (resolved.run, resolved.setup) == (run, setup)


@pytest.mark.parametrize(("gpu", "count", "names"), [("2", 2, ()), ("T4", 1, ("T4",)), ("RTX 4090", 1, ("RTX 4090",))])
def test_a_starter_spec_asks_for_the_gpu(load, gpu, count, names):
    need = load(starter_spec("a", "true", gpu)).resolved("default").need
    assert need.gpu is not None
    assert (need.gpu.count, need.gpu.names) == (count, names)


def test_the_examples_in_a_starter_spec_hold(load):
    text = starter_spec("a", "echo {batch_size}", None).replace("{{batch_size}}", "{batch_size}")
    uncommented = [line.removeprefix("# ") if ":" in line and "`" not in line else line for line in text.splitlines()]
    spec = load("\n".join(line for line in uncommented if not line.startswith(("The job", "none"))) + "\n")
    assert [variant.name for variant in spec.variants] == ["full", "small"]
    assert yaml.safe_load(text)["limits"]["runtime"] == "2h"


@pytest.mark.parametrize(
    ("text", "name"), [("My Job_2", "my-job-2"), ("---", "job"), ("x" * 50, "x" * 40), ("Ünï", "n"), ("ok", "ok")]
)
def test_a_job_name_is_made_from_any_text(load, text, name):
    assert job_name(text) == name
    assert load(starter_spec(name, "true", None)).name == name
