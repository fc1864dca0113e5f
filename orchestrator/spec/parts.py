"""The sections of a spec. Every attribute is named as its key; sizes are bytes, durations are seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from backends.base import GpuNeed, Need, Offer
from backends.units import format_size
from orchestrator.spec.fields import (
    Attempts,
    ComputeCapability,
    Count,
    Env,
    Fallback,
    GpuName,
    InputPath,
    Minutes,
    Params,
    Seconds,
    Sha256,
    SigkillPolicy,
    Size,
    SizeBound,
    SizeOrAuto,
    Source,
    VariableName,
)
from orchestrator.spec.values import Comparison, WrongValueError, as_list, as_mapping, whole

DEFAULT_RUNTIME = 86400.0
DEFAULT_IDLE = 900.0
DEFAULT_ATTEMPTS = 4
DEFAULT_TINY = 600.0
DEFAULT_SMOKE_MEMORY = 4_000_000_000
DEFAULT_LOG_SIZE = 50_000_000
DEFAULT_DOWNLOAD = 200_000_000


class Part(BaseModel):
    """A section: only known keys, never changed after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _is_a_mapping(cls, data: Any) -> Any:
        return data if isinstance(data, cls) else as_mapping(data)


class GpuRequirement(Part):
    """The GPUs that a job asks for."""

    count: Count = Field(1, description="How many GPUs.")
    vram: SizeOrAuto = Field(None, description="Usable memory of each GPU; `auto` lets the planner estimate it.")
    compute_capability: ComputeCapability | None = Field(
        None, description="Lowest CUDA compute capability that will do, such as 7.5."
    )
    names: Annotated[tuple[GpuName, ...], BeforeValidator(as_list)] = Field(
        (), description="The GPUs that will do, such as [T4, L4]; empty means any."
    )

    def as_need(self) -> GpuNeed:
        """The same in the words of the ground floor."""
        return GpuNeed(self.count, self.vram, self.compute_capability, self.names)


def _gpu_form(value: object) -> object:
    """A count, a name or `none` in the long form of a mapping; anything else as it is, for its own message."""
    if value is None or value == "none":
        return None
    if isinstance(value, bool) or value in (0, "auto", "any", "yes", "no"):
        raise WrongValueError("gpu takes none, a count such as 1, a name such as T4, or a mapping with count and vram")
    if isinstance(value, int):
        return {"count": value}
    return {"names": [value]} if isinstance(value, str) else value


class Needs(Part):
    """What a machine must have. None means `auto` for a size, and no GPU for ``gpu``."""

    gpu: Annotated[GpuRequirement | None, BeforeValidator(_gpu_form)] = Field(
        None, description="`none`, a count, a name, or a mapping with count, vram, compute_capability and names."
    )
    ram: SizeOrAuto = Field(None, description="Memory, and the cap that the job runs under; `auto` means no cap.")
    disk: SizeOrAuto = Field(None, description="Free disk space.")

    @model_validator(mode="before")
    @classmethod
    def _vram_belongs_to_the_gpu(cls, data: Any) -> Any:
        """``vram`` beside ``gpu`` is short for ``gpu.vram``; where no gpu is named it asks for one."""
        if not isinstance(data, Mapping) or "vram" not in data:
            return data
        rest = {key: value for key, value in data.items() if key != "vram"}
        written = rest.get("gpu", {})
        if written is None or written == "none":
            raise WrongValueError("vram is asked for, but gpu is none; write gpu: 1, or remove vram")
        gpu = {"count": 1} if isinstance(written, bool) else _gpu_form(written)
        if isinstance(gpu, Mapping) and "vram" in gpu:
            raise WrongValueError("vram is written twice, here and under gpu; keep one of the two")
        return {**rest, "gpu": {**gpu, "vram": data["vram"]} if isinstance(gpu, Mapping) else written}

    def overlaid(self, over: Needs) -> Needs:
        """These needs with every key that ``over`` names taken from there."""
        changed = {key: getattr(over, key) for key in over.model_fields_set}
        if self.gpu and over.gpu:
            named = {key: getattr(over.gpu, key) for key in over.gpu.model_fields_set}
            changed["gpu"] = self.gpu.model_copy(update=named)
        return self.model_copy(update=changed)

    def as_need(self) -> Need:
        """The same in the words of the ground floor."""
        return Need(self.gpu.as_need() if self.gpu else None, self.ram, self.disk)


class Input(Part):
    """A file that is brought to the machine before the command runs."""

    source: Source = Field(description="An https:// address, or the path of a file in workdir.")
    dest: InputPath = Field(description="Where it goes in workdir; a folder if it ends with /.")
    sha256: Sha256 | None = Field(None, description="SHA-256 of the content, checked after the transfer.")
    max_size: Size | None = Field(None, description="Give up beyond this size.")
    alternatives: Annotated[tuple[Source, ...], BeforeValidator(as_list)] = Field(
        (), description="Other sources of the same content, tried in order."
    )

    @model_validator(mode="after")
    def _content_is_bounded(self) -> Input:
        sources = (self.source, *self.alternatives)
        if self.sha256 is None and any(source.startswith("http://") for source in sources):
            raise WrongValueError("anyone between can change what http:// brings; add sha256, or write https://")
        if self.sha256 is None and self.alternatives:
            raise WrongValueError("alternatives need sha256, which shows that each source brings the same content")
        if self.sha256 is None and self.max_size is None and self.source.startswith("https://"):
            raise WrongValueError("a download needs sha256 or max_size, so that it cannot fill the disk unnoticed")
        return self


class When(Part):
    """Where a variant may run, as bounds on what an offer has."""

    vram: SizeBound | None = Field(None, description='Memory of each GPU, such as ">=35 GB".')
    ram: SizeBound | None = Field(None, description='Memory, such as ">=16 GB".')
    disk: SizeBound | None = Field(None, description='Disk space, such as ">=100 GB".')

    def excludes(self, offer: Offer) -> str | None:
        """Why ``offer`` is out of bounds, in words; None if it is not."""
        return next(self._broken_bounds(offer), None)

    def _broken_bounds(self, offer: Offer) -> Iterator[str]:
        found: tuple[tuple[str, Comparison | None, int], ...] = (
            ("VRAM", self.vram, offer.vram_bytes),
            ("RAM", self.ram, offer.ram_bytes),
            ("disk", self.disk, offer.disk_bytes),
        )
        for what, bound, count in found:
            if bound is not None and not bound.holds(count):
                has = "no GPU" if what == "VRAM" and not count else format_size(count)
                yield f"wants {what} {bound}; it has {has}"


class Duration(Part):
    """A first guess of how long the job takes; recorded runs replace it."""

    on: GpuName = Field(description="Where it takes that long: `cpu`, or a GPU such as T4.")
    minutes: Minutes = Field(description="How many minutes it takes there.")


class Limits(Part):
    """What one job may use up."""

    runtime: Seconds = Field(
        DEFAULT_RUNTIME, description="Longest run of one attempt, such as 10m or 2h; 24h if not given."
    )
    idle: Seconds = Field(DEFAULT_IDLE, description="End an attempt that does nothing for so long; 15m if not given.")
    attempts: Attempts = Field(DEFAULT_ATTEMPTS, description="Most attempts in all.")
    download: Size = Field(
        DEFAULT_DOWNLOAD, description="What one attempt brings home, where its provider charges; 200 MB if not given."
    )
    log_size: Size = Field(DEFAULT_LOG_SIZE, description="Most that is kept of each log; 50 MB if not given.")


class OnOom(Part):
    """What may be tried after an attempt ran out of memory."""

    allow: Annotated[tuple[Fallback, ...], BeforeValidator(as_list)] = Field(
        ("smaller_variant", "bigger_machine"), description="What the next attempt may change; [] stops the job."
    )
    unexplained_sigkill: SigkillPolicy = Field(
        "treat_as_oom", description="What a SIGKILL (exit -9) without evidence of its cause counts as."
    )


BatchSize = Annotated[int, whole(1, 1_000_000), WithJsonSchema({"type": "integer", "minimum": 1})]


class ProbeRuns(Part):
    """Two tiny runs of the same command, from which `gpujob probe` extrapolates the memory of the full batch."""

    batch_param: VariableName = Field(description="The parameter with the size of a batch.")
    batches: Annotated[tuple[BatchSize, BatchSize], BeforeValidator(as_list)] = Field(
        (1, 2), description="The two sizes that are tried, the smaller one first."
    )
    params: Params = Field(default_factory=dict, description="Parameters that differ, such as {steps: 2}.")
    env: Env = Field(default_factory=dict, description="Environment variables added or changed.")
    timeout: Seconds = Field(DEFAULT_TINY, description="Longest of one run, its setup included; 10m if not given.")
    memory: Size | None = Field(None, description="Most RAM that a run may take; what this machine can give if not.")

    @model_validator(mode="after")
    def _grows(self) -> ProbeRuns:
        if self.batches[0] >= self.batches[1]:
            raise WrongValueError("batches must be two sizes, the smaller one first, such as [1, 2]")
        return self

    def at(self, batch: int) -> Smoke:
        """The settings of the run with that batch."""
        return Smoke(params={**self.params, self.batch_param: batch}, env=self.env)


class Smoke(Part):
    """Tiny settings that run the same code in seconds."""

    params: Params = Field(default_factory=dict, description="Parameters that differ.")
    env: Env = Field(default_factory=dict, description="Environment variables added or changed.")
    timeout: Seconds = Field(DEFAULT_TINY, description="Longest of the run, its setup included; 10m if not given.")
    memory: Size = Field(DEFAULT_SMOKE_MEMORY, description="Most RAM that the run may take; 4 GB if not given.")
