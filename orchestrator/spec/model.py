"""JobSpec: a job as its user wrote it, checked. ``load.load_spec`` reads one from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from backends.base import Need, Offer
from orchestrator.spec.fields import Env, Folder, Image, JobName, OutputPaths, Params, Text, VariableName
from orchestrator.spec.neural import NeuralModel
from orchestrator.spec.parts import (
    Duration,
    GpuRequirement,
    Input,
    Limits,
    Needs,
    OnOom,
    Part,
    ProbeRuns,
    Smoke,
    When,
)
from orchestrator.spec.template import Value, fill_command, fill_text
from orchestrator.spec.values import WrongValueError, as_list
from orchestrator.spec.variants import Variant

__all__ = [
    "Duration",
    "GpuRequirement",
    "Input",
    "JobSpec",
    "Limits",
    "Needs",
    "NeuralModel",
    "OnOom",
    "ProbeRuns",
    "ResolvedVariant",
    "Smoke",
    "Variant",
    "When",
    "spec_digest",
]

_PLACES = ("workdir", "spec_path")


def _at_least_one(value: object) -> list[Any]:
    return as_list(value) or [{"name": "default"}]


@dataclass(frozen=True, slots=True)
class ResolvedVariant:
    """The spec with one variant applied: what to run, and what it needs."""

    name: str
    quality: float
    when: When
    params: Mapping[str, Value]
    env: Mapping[str, str]
    need: Need
    run: str
    setup: str | None
    ram_cap_bytes: int | None
    model: NeuralModel | None = None
    note: str | None = None

    def allows(self, offer: Offer) -> str | None:
        """None if the variant may run on ``offer``; else the reason why its ``when`` excludes it."""
        reason = self.when.excludes(offer)
        return f"variant '{self.name}' {reason}" if reason else None


class JobSpec(Part):
    """A job. Attributes are named as the keys of the file; docs/spec.md describes each."""

    name: JobName = Field(description="The job's name: 1 to 40 of a-z, 0-9 and -.")
    workdir: Folder = Field(Path(), description="The folder that is uploaded, relative to the spec file.")
    image: Image | None = Field(None, description="Container image, for backends that run containers.")
    setup: Text | None = Field(None, description="Shell command that prepares the machine, before `run`.")
    run: Text = Field(description="Shell command that does the job. {param} is replaced by its value, quoted.")
    results: OutputPaths = Field((), description="Files and folders to bring home, relative to workdir.")
    checkpoints: OutputPaths = Field(
        (), description="Files and folders carried from a failed or preempted attempt to the next."
    )
    env: Env = Field(default_factory=dict, description="Environment variables. No secrets here.")
    secrets: Annotated[tuple[VariableName, ...], BeforeValidator(as_list)] = Field(
        (), description="Names of secrets; their values come from your environment or keyring at run time."
    )
    params: Params = Field(default_factory=dict, description="Parameters of the commands, with default values.")
    needs: Needs = Field(default_factory=Needs, description="What a machine must have.")
    model: NeuralModel | None = Field(None, description="The neural network, from which memory is predicted.")
    inputs: Annotated[tuple[Input, ...], BeforeValidator(as_list)] = Field(
        (), description="Files fetched onto the machine before `run`."
    )
    variants: Annotated[tuple[Variant, ...], BeforeValidator(_at_least_one)] = Field(
        (Variant(name="default"),), description="Ways to do the job, best first."
    )
    duration: Duration | None = Field(None, description="A first guess of how long it takes.")
    limits: Limits = Field(default_factory=Limits, description="What one job may use up.")
    on_oom: OnOom = Field(default_factory=OnOom, description="What may be tried after running out of memory.")
    smoke: Smoke | None = Field(None, description="Tiny settings that run the same code in seconds.")
    probe: ProbeRuns | None = Field(None, description="Two tiny runs that tell the memory of the full batch.")
    spec_path: Path | None = Field(None, description="The file it was read from.")

    @model_validator(mode="after")
    def _models_go_together(self) -> JobSpec:
        for variant in self.variants:
            model = self._model_of(variant)
            if model and (why := model.contradiction()):
                raise WrongValueError(f"model of variant {variant.name!r}: {why}")
        return self

    def _model_of(self, variant: Variant) -> NeuralModel | None:
        if self.model and variant.model:
            return self.model.overlaid(variant.model)
        return variant.model or self.model

    def variant(self, name: str) -> Variant:
        """The variant called ``name``. Raises KeyError with the known names."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(f"no variant {name!r}; there are {', '.join(each.name for each in self.variants)}")

    def resolved(self, variant_name: str, tiny: Smoke | None = None) -> ResolvedVariant:
        """The spec with that variant applied, and on top of it the settings of a tiny run, if any."""
        variant = self.variant(variant_name)
        tiny = tiny or Smoke()
        params = {**self.params, **variant.params, **tiny.params}
        env = {**self.env, **variant.env, **tiny.env}
        need = self.needs.overlaid(variant.needs).as_need()
        return ResolvedVariant(
            name=variant.name,
            quality=variant.quality,
            when=variant.when,
            params=params,
            env={key: fill_text(value, params) for key, value in env.items()},
            need=need,
            run=fill_command(self.run, params),
            setup=None if self.setup is None else fill_command(self.setup, params),
            ram_cap_bytes=need.ram_bytes,
            model=self._model_of(variant),
            note=variant.note,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, every default written out; ``from_json`` gives the same spec again."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobSpec:
        """The spec that ``to_json`` wrote."""
        return cls.model_validate(data)


def spec_digest(spec: JobSpec) -> str:
    """SHA-256, in hex, of what the spec says; where it lies does not count."""
    content = {key: value for key, value in spec.to_json().items() if key not in _PLACES}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
