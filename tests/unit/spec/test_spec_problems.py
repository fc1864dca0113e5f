"""Every way in which a spec can be wrong: what is said, and on which line."""

# ruff: noqa: E501  one case a line

from __future__ import annotations

import pytest

HEAD = "name: tiny\nrun: 'true'\n"

ONE_VALUE = [
    ("needs: {ram: 400 QB}", "needs.ram: '400 QB' is not a size; write a number and a unit, such as 400 MB or 1.5 GiB"),
    ("needs: {ram: 400}", "needs.ram: 400 has no unit; write 400 MB or 400 GB"),
    ("needs: {disk: '400'}", "needs.disk: '400' has no unit; write 400 MB or 400 GB"),
    ("needs: {disk: 0 GB}", "needs.disk: '0 GB' is not a possible size; it must be more than 0 and at most 10^6 TB"),
    ("needs: {disk: [1 GB]}", "needs.disk: this is a list; write text"),
    ("needs: 400 MB", "needs: '400 MB' is text; write a mapping, such as {key: value}"),
    ("needs: {gpu: yes}", "needs.gpu: gpu takes none, a count such as 1, a name such as T4, or a mapping with count and vram"),
    ("needs: {gpu: true}", "needs.gpu: gpu takes none, a count such as 1, a name such as T4, or a mapping with count and vram"),
    ("needs: {gpu: 65}", "needs.gpu.count: 65 is out of range; it must be from 1 to 64"),
    ("needs: {gpu: {count: two}}", "needs.gpu.count: 'two' is text; write a whole number, such as 1"),
    ("needs: {gpu: {vram: lots}}", "needs.gpu.vram: 'lots' is not a size; write a number and a unit, such as 400 MB or 1.5 GiB"),
    ("needs: {vram: lots}", "needs.gpu.vram: 'lots' is not a size; write a number and a unit, such as 400 MB or 1.5 GiB"),
    ("needs: {gpu: none, vram: 1 GB}", "needs: vram is asked for, but gpu is none; write gpu: 1, or remove vram"),
    ("needs: {gpu: {vram: 1 GB}, vram: 1 GB}", "needs: vram is written twice, here and under gpu; keep one of the two"),
    ("limits: {runtime: 10}", "limits.runtime: 10 has no unit; write 10s, 10m or 10h"),
    ("limits: {runtime: '10'}", "limits.runtime: '10' has no unit; write 10s, 10m or 10h"),
    ("limits: {idle: soon}", "limits.idle: 'soon' is not a duration; write a number and a unit, such as 90s, 10m, 2h or 1h30m"),
    ("limits: {idle: 9999d}", "limits.idle: '9999d' is not a possible limit; it must be between 1s and 366d"),
    ("limits: {attempts: 1.5}", "limits.attempts: 1.5 is a number; write a whole number, such as 1"),
    ("limits: {attempts: true}", "limits.attempts: true is a yes-or-no value; write a whole number, such as 1"),
    ("duration: {on: cpu, minutes: 0}", "duration.minutes: 0 is out of range; it must be more than 0, at most 527040"),
    ("results: results/", "results: 'results/' is text; write a list, such as [results/]"),
    ("results: [../x]", "results[0]: '../x' leaves workdir; a path must not contain '..'"),
    ("results: [a/../../x]", "results[0]: 'a/../../x' leaves workdir; a path must not contain '..'"),
    ("results: [/x]", "results[0]: '/x' is an absolute path; write one relative to workdir, such as results/"),
    ("results: [~/x]", "results[0]: '~/x' is an absolute path; write one relative to workdir, such as results/"),
    ("results: ['']", "results[0]: the text is empty"),
    ("results: [ok, ./]", "results[1]: './' is workdir itself; name a file or folder in it, such as results/"),
    ("results: ['*.json']", "results[0]: '*.json' is a pattern; name the file or the folder itself, such as results/"),
    (r"checkpoints: ['a\b']", r"checkpoints[0]: 'a\\b' contains a character no path may have here; write folders with /"),
    ("inputs: [{source: https://h/x, dest: ., max_size: 1 GB}]", "inputs[0].dest: '.' is workdir itself; name a file or folder in it, such as models/"),
    ("inputs: [{source: https://h/x, dest: x}]", "inputs[0]: a download needs sha256 or max_size, so that it cannot fill the disk unnoticed"),
    ("inputs: [{source: http://h/x, dest: x, max_size: 1 GB}]", "inputs[0]: anyone between can change what http:// brings; add sha256, or write https://"),
    ("inputs: [{source: https://h/x, dest: x, max_size: 1 GB, alternatives: [https://i/x]}]", "inputs[0]: alternatives need sha256, which shows that each source brings the same content"),
    ("inputs: [{source: https://h/x, dest: x, sha256: abc}]", "inputs[0].sha256: 'abc' is not a SHA-256; write its 64 digits 0-9 and a-f, in lower case"),
    ("inputs: [{source: ftp://h/x, dest: x}]", "inputs[0].source: 'ftp://h/x' cannot be fetched; write an https:// address or a path in workdir"),
    ("inputs: [{source: 'https:///', dest: x}]", "inputs[0].source: 'https:///' is not a complete address; write https://host/path, without spaces"),
    ("inputs: [{source: ../x, dest: x}]", "inputs[0].source: '../x' leaves workdir; a path must not contain '..'"),
    ("inputs: [{source: no.bin, dest: x}]", "inputs[0].source: there is no such file in workdir: 'no.bin'"),
    ("inputs: [{source: ., dest: x}]", "inputs[0].source: '.' is workdir itself; name a file or folder in it, such as models/"),
    ("env: {A: 1.10}", 'env.A: 1.1 is a number, and environment values are text; write it in quotes: "1.1"'),
    ("env: {A: true}", 'env.A: true is a yes-or-no value, and environment values are text; write it in quotes: "true"'),
    ("env: {A: }", "env.A: there is no value; write text"),
    ("env: {1A: x}", "env.1A: '1A' is not a name here; write letters, digits and _, beginning with no digit"),
    ("env: [A]", "env: this is a list; write a mapping, such as {key: value}"),
    ("secrets: [my-token]", "secrets[0]: 'my-token' is not a name here; write letters, digits and _, beginning with no digit"),
    ("params: {batch-size: 3}", "params.batch-size: 'batch-size' is not a name here; write letters, digits and _, beginning with no digit"),
    ("params: {x: [1]}", "params.x: this is a list; a parameter is text, a number, true or false"),
    ("params: {x: }", "params.x: there is no value; a parameter is text, a number, true or false"),
    ("image: two words", "image: 'two words' is not an image; write one such as pytorch/pytorch:2.8.0"),
    ("setup: [a, b]", "setup: this is a list; write text"),
    ("variants: [{name: a b}]", "variants[0].name: 'a b' is not a variant name; write 1 to 40 letters, digits, '.', '_' and '-'"),
    ("variants: [{name: a}, {name: a}]", "variants[1].name: another variant is called 'a' too"),
    ("variants: [{name: a, quality: 0}]", "variants[0].quality: 0 is out of range; it must be more than 0, at most 1"),
    ("variants: [{name: a, quality: best}]", "variants[0].quality: 'best' is text; write a number"),
    ("variants: [{name: a, when: {vram: 35 GB}}]", "variants[0].when.vram: '35 GB' is text; write a bound in quotes, such as \">=35 GB\" or \"<16 GB\""),
    ("variants: [{name: a, when: {vram: '>=35 XB'}}]", "variants[0].when.vram: '35 XB' is not a size; write a number and a unit, such as 400 MB or 1.5 GiB"),
    ("variants: [exact]", "variants[0]: 'exact' is text; write a mapping, such as {key: value}"),
    ("on_oom: {allow: [larger]}", "on_oom.allow[0]: 'larger' is not known here; write smaller_variant or bigger_machine"),
    ("on_oom: {unexplained_sigkill: ignore}", "on_oom.unexplained_sigkill: 'ignore' is not known here; write treat_as_oom or fail"),
    ("workdir: [a]", "workdir: this is a list; write text"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), ONE_VALUE, ids=[line for line, _ in ONE_VALUE])
def test_a_wrong_value_is_told_with_its_line(problems, line, message):
    assert [said.splitlines()[0] for said in problems(f"{HEAD}{line}\n")] == [f"job.yaml:3: {message}"]


WITH_HINT = [
    ("variant: []", "job.yaml:3: variant: unknown key\n    did you mean 'variants'?"),
    ("ram: 4 GB", "job.yaml:3: ram: unknown key\n    did you mean 'needs.ram'?"),
    ("spec_path: x", "job.yaml:3: spec_path: unknown key\n"),
    ("limits: {attemps: 3}", "job.yaml:3: limits.attemps: unknown key\n    did you mean 'attempts'?"),
    ("limits: {zzz: 3}", "job.yaml:3: limits.zzz: unknown key\n    known: runtime, idle, attempts, download, log_size"),
    ("needs: {gpu: {name: T4}}", "job.yaml:3: needs.gpu.name: unknown key\n    did you mean 'names'?"),
    ("<<: {a: b}", "job.yaml:3: <<: unknown key\n"),
    ("duration: {minutes: 1}", "job.yaml:3: duration.on: missing\n    on: Where it takes that long: `cpu`, or a GPU such as T4."),
    ("inputs: [{dest: x}]", "job.yaml:3: inputs[0].source: missing\n"),
    ("variants: [{quality: 1}]", "job.yaml:3: variants[0].name: missing\n"),
    ("env: {A: '{x}'}", "job.yaml:3: env.A: {x} has no value\n    declare it under params, or write {{x}} for the text {x}"),
    ("smoke: {env: {A: '{x}'}}", "job.yaml:3: smoke.env.A: {x} has no value\n"),
    ("params: {x: 1}\nvariants: [{name: a, params: {y: 1}}]", "job.yaml:4: variants[0].params.y: 'y' is not among params, and nothing uses it"),
    ("smoke: {params: {y: 1}}", "job.yaml:3: smoke.params.y: 'y' is not among params, and nothing uses it"),
    ("secrets: [T]\nenv:\n  A: b\n  T: x", "job.yaml:6: env.T: 'T' is also named under secrets, which sets it at run time\n    remove one of the two"),
    ("workdir: nowhere", "job.yaml:3: workdir: there is no such folder: "),
    ("workdir: job.yaml", "job.yaml:3: workdir: this is not a folder: "),
    ("workdir: /", "job.yaml:3: workdir: this is the whole disk; name the folder of the job"),
    ("env:\n  A: x\n  A: y", "job.yaml:5: 'A' is written twice; the first is on line 4\n    keep one of the two"),
    ("name: again", "job.yaml:3: 'name' is written twice; the first is on line 1\n    keep one of the two"),
    ("params: {x: 1e999}", "job.yaml:3: 1e999... is too large for a number\n    put it in quotes if it is text"),
    (f"params: {{x: {'9' * 5000}}}", "job.yaml:3: 99999999999999999999... is too large for a number\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), WITH_HINT, ids=[line[:40] for line, _ in WITH_HINT])
def test_a_wrong_spec_is_told_with_advice(problems, line, said):
    (only,) = problems(f"{HEAD}{line}\n")
    assert only.startswith(said)


NO_YAML = [
    ("name: a\nrun: x: y\n", "job.yaml:2: a ':' stands where no key can be"),
    ("name: a\n\trun: b\n", "job.yaml:2: a tab in the indentation; YAML wants spaces"),
    ("name: a\nenv:\n\tA: b\n", "job.yaml:3: a tab in the indentation; YAML wants spaces"),
    ("name: 'a\nrun: b\n", "job.yaml:1: a quote is opened here and never closed"),
    ("name: a\nresults: [a, b\nrun: c\n", "job.yaml:2: a list opened with [ is not closed, or lacks a comma"),
    ("name: a\nenv: {a: b\nrun: c\n", "job.yaml:2: a mapping opened with { is not closed, or lacks a comma"),
    ("name: a\n run: b\n", "job.yaml:2: a ':' stands where no key can be"),
    ("env:\n   A: b\n  B: c\n", "job.yaml:3: this line does not fit the lines above it"),
    ("name: a\nrun\nenv: {}\n", "job.yaml:2: a key without ':'"),
    ("name: a\nrun: @b\n", "job.yaml:2: a value begins with a character that means something else in YAML"),
    ("when: {vram: >=35 GB}\n", "job.yaml:1: a value begins with a character that means something else in YAML"),
    ("when:\n  vram: >=35 GB\n", "job.yaml:2: a value begins with > or | and goes on in the same line"),
    ("results: [*.json]\n", "job.yaml:1: a value begins with * or &, which means something else in YAML"),
    ("results: [*json]\n", "job.yaml:1: a value begins with *, but no anchor has that name"),
    ("name: a\n---\nname: b\n", "job.yaml:2: a spec is one document"),
    ("name: !!python/name:os.system\n", "job.yaml:1: a tag, which begins with !, is not allowed in a spec"),
    ("? [a]\n: b\n", "job.yaml:1: a key must be a plain word"),
    ("- a\n- b\n", "job.yaml:1: a spec is a mapping of keys to values, such as name: my-job"),
    ("just text\n", "job.yaml:1: a spec is a mapping of keys to values, such as name: my-job"),
    ("", "job.yaml:1: the spec is empty"),
    ("# only a comment\n", "job.yaml:1: the spec is empty"),
    ("name: a\nrun: \x07\n", "job.yaml:2: a control character, which YAML does not allow"),
    (b"name: a\nrun: \xff\n", "job.yaml:2: this is not UTF-8 text"),
    ("name: a\nenv: &a {x: *a}\n", "job.yaml:2: the spec is too large: more than 10000 values or 30 levels"),
    ("name: " + "[" * 5000 + "\n", "job.yaml:1: the spec is too large: more than 10000 values or 30 levels"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), NO_YAML, ids=[said[10:50] + str(i) for i, (_, said) in enumerate(NO_YAML)])
def test_broken_yaml_is_told_in_plain_words(problems, text, said):
    (only,) = problems(text)
    assert only.splitlines()[0] == said


def test_an_alias_bomb_is_refused(problems):
    bomb = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10) if n else 'x'}]\n" for n in range(12))
    (only,) = problems(bomb)
    assert "the spec is too large" in only


def test_a_large_spec_is_read_or_refused_without_delay(problems, load):
    assert "too large" in problems("a: [" + "x," * 100_000)[0]
    run = load(f"name: a\nparams: {{x: 1}}\nrun: |\n{'  echo {x} b' * 10_000}\n").resolved("default").run
    assert run.count("echo 1 b") == 10_000
    assert len(problems("name: a\nrun: |\n" + "  echo {x} b\n" * 20_000)) == 1


def test_everything_wrong_is_told_at_once_in_the_order_of_the_file(problems):
    said = problems("""\
name: Not a name
run: |
  # {this} is a comment
  echo {{plain}} {plain}

  cat <<END
  {x}
  END
params: {x: 1}
inputs:
  - source: https://h/x
    dest: models/
  - {source: https://h/y,
     dest: ../y, max_size: 1 GB}
variants:
  - name: a
    needs:
      gpu:
        vram: 12
    params:
      typo: 1
limits: {runtime: 1h30m, idle: 5}
""")
    assert [line.split(": ")[0] + ": " + line.split(": ")[1] for line in said] == [
        "job.yaml:1: name",
        "job.yaml:4: run",
        "job.yaml:7: run",
        "job.yaml:11: inputs[0]",
        "job.yaml:14: inputs[1].dest",
        "job.yaml:19: variants[0].needs.gpu.vram",
        "job.yaml:21: variants[0].params.typo",
        "job.yaml:22: limits.idle",
    ]


def test_a_parameter_that_only_some_variants_have_is_told(problems):
    spec = "name: a\nrun: echo {x}\nvariants:\n  - {name: a, params: {x: 1}}\n  - {name: b}\n"
    (only,) = problems(spec)
    assert only.startswith("job.yaml:2: run: {x} has no value in variants[1]\n")


CREDENTIALS = [
    "hf_AbCdEfGhIjKlMnOpQrStUv",
    "sk-proj-Abcdefghijklmnop0123456789",
    "sk-ant-api03-Abcdefghijklmnop0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "https://user:letmein@host/x",
]


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("key", ["env: {A: VALUE}", "run2: VALUE", "params: {A: VALUE}", "secrets: [VALUE]"])
def test_a_credential_is_refused_and_never_repeated(problems, credential, key):
    said = problems(HEAD + key.replace("VALUE", f'"{credential}"') + "\n")
    assert any("a spec holds no secrets" in line and line.startswith("job.yaml:3") for line in said)
    assert credential not in "\n".join(said)


@pytest.mark.parametrize("innocent", ["sk-learn-pipeline-benchmark", "hf_transfer", "https://host/a@b", "AKIA"])
def test_what_only_looks_like_a_credential_passes(load, innocent):
    assert load(f'{HEAD}env: {{A: "{innocent}"}}\n').env == {"A": innocent}


def test_no_message_speaks_of_the_program(problems):
    everything = "\n".join("\n".join(problems(f"{HEAD}{line}\n")) for line, _ in ONE_VALUE)
    for word in ("Input should", "pydantic", "Traceback", "valid dictionary", "Value error"):
        assert word not in everything
