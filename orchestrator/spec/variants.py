"""Variants: the ways to do a job. Each overrides what it names."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_serializer

from orchestrator.spec.fields import Env, Params, Quality, Text, VariantName
from orchestrator.spec.neural import NeuralModel
from orchestrator.spec.parts import Needs, Part, When


class Variant(Part):
    """One way to do the job. It overrides what it names; the rest is as in the spec."""

    name: VariantName = Field(description="How plans and reports call it.")
    params: Params = Field(default_factory=dict, description="Parameters that differ.")
    needs: Needs = Field(default_factory=Needs, description="Needs that differ, key by key.")
    env: Env = Field(default_factory=dict, description="Environment variables added or changed.")
    quality: Quality = Field(1.0, description="Worth of its result, more than 0 and at most 1; the best variant has 1.")
    when: When = Field(default_factory=When, description="Bounds on the machines it may run on.")
    model: NeuralModel | None = Field(None, description="What differs in the model section, key by key.")
    note: Text | None = Field(None, description="A word to the reader of a plan.")

    @field_serializer("needs", "model", when_used="json")
    def _only_what_differs(self, part: Part | None) -> dict[str, Any] | None:
        return part.model_dump(mode="json", exclude_unset=True) if part else None
