from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.base import Offer
from orchestrator.spec.model import JobSpec, spec_digest

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
sizes = st.integers(1, 10**15).map(lambda count: f"{count} B")
seconds = st.floats(1, 10**6, allow_nan=False).map(lambda value: f"{value!r}s")
params = st.dictionaries(
    names, st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts), max_size=3
)
gpus = st.one_of(
    st.sampled_from(["none", None, 1, "T4"]),
    st.fixed_dictionaries({}, optional={"count": st.integers(1, 8), "vram": sizes, "names": st.just(["T4", "L4"])}),
)
needs = st.fixed_dictionaries({}, optional={"gpu": gpus, "ram": sizes | st.just("auto"), "disk": sizes})
env = st.dictionaries(names, texts, max_size=3)
when = st.fixed_dictionaries({}, optional={"vram": sizes.map(">={}".format), "ram": sizes.map("< {}".format)})
variant = {"params": params, "needs": needs, "env": env, "when": when, "quality": st.floats(0.01, 1), "note": texts}
specs = st.fixed_dictionaries(
    {"name": st.just("a"), "run": texts},
    optional={
        "setup": texts,
        "results": st.just(["results/", "a/b"]),
        "secrets": st.lists(names, max_size=2),
        "params": params,
        "env": env,
        "needs": needs,
        "variants": st.lists(st.fixed_dictionaries({"name": st.just("v")}, optional=variant), max_size=3),
        "duration": st.just({"on": "cpu", "minutes": 2.5}),
        "limits": st.fixed_dictionaries({}, optional={"runtime": seconds, "idle": seconds, "log_size": sizes}),
        "on_oom": st.sampled_from([{"allow": []}, {"unexplained_sigkill": "fail"}]),
        "smoke": st.fixed_dictionaries({"params": params, "env": env}),
        "inputs": st.just([{"source": "https://h/x", "dest": "m/", "max_size": "5 MB"}]),
    },
)


@settings(max_examples=150)
@given(specs)
def test_a_stored_spec_is_the_same_spec(written):
    spec = JobSpec.model_validate({**written, "workdir": Path("/w"), "spec_path": Path("/w/a.yaml")})
    stored = json.loads(json.dumps(spec.to_json()))
    again = JobSpec.from_json(stored)
    assert again == spec
    assert again.to_json() == stored
    assert spec_digest(again) == spec_digest(spec)
    kinds = [type(value) for value in spec.params.values()]
    assert [type(value) for value in again.params.values()] == kinds
    base = spec.needs
    assert [base.overlaid(each.needs) for each in spec.variants] == [
        base.overlaid(each.needs) for each in again.variants
    ]


T4 = Offer("local", "T4", 16 * 10**9, 10**11, 4, 0, gpu="T4", gpu_count=1, vram_bytes=15 * 10**9)
CPU = Offer("local", "cpu", 8 * 10**9, 10**11, 4, 0)


@pytest.mark.parametrize(
    ("when", "offer", "reason"),
    [
        ("{}", CPU, None),
        ("{vram: '>=15 GB'}", T4, None),
        ("{vram: '>15 GB'}", T4, "variant 'a' wants VRAM > 15 GB; it has 15 GB"),
        ("{vram: '<=15 GB'}", T4, None),
        ("{vram: '<15 GB'}", T4, "variant 'a' wants VRAM < 15 GB; it has 15 GB"),
        ("{vram: '>=35 GB'}", CPU, "variant 'a' wants VRAM >= 35 GB; it has no GPU"),
        ("{ram: '>= 16 GiB'}", T4, "variant 'a' wants RAM >= 17.2 GB; it has 16 GB"),
        ("{vram: '>=10 GB', disk: '<1 GB'}", T4, "variant 'a' wants disk < 1 GB; it has 100 GB"),
    ],
)
def test_when_says_where_a_variant_may_run(load, when, offer, reason):
    spec = load(f"name: a\nrun: 'true'\nvariants: [{{name: a, when: {when}}}]\n")
    assert spec.resolved("a").allows(offer) == reason


def test_environment_values_are_templates_without_quoting(load):
    spec = load("""\
name: a
run: 'true'
params: {x: "a b"}
env: {A: "{x}/c", B: "${HOME} {{x}}", C: '{"k": {"n": 1}}'}
""")
    assert spec.resolved("default").env == {"A": "a b/c", "B": "${HOME} {x}", "C": '{"k": {"n": 1}}'}
