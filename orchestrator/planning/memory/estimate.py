"""The estimate: allocated, reserved and device peak with their breakdown, host RAM, and how sure all of it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.catalog.diffusion import Diffusion
from orchestrator.catalog.places import Cnn
from orchestrator.planning.memory import device, host, inference
from orchestrator.planning.memory.diffusion import NOTE, diffusion_phases
from orchestrator.planning.memory.phases import Phase, training_phases
from orchestrator.planning.memory.recipe import BITSANDBYTES, BYTES, Recipe
from orchestrator.planning.need import Confidence, MemoryNeed, VariantNeed

SIGMA: Mapping[Confidence, float] = {"measured": 0.03, "high": 0.06, "medium": 0.12, "low": 0.15}
"""Spread of the natural logarithm of need over estimate, before calibration."""
HOARDING_SIGMA = 0.15
"""What the device shows beyond the need varies so much more where old trainers meet changing lengths: which gaps the
allocator is left with depends on the order in which the lengths come."""
RAM_SIGMA = 0.1

SLACK_TERM = "allocator slack"
CONTEXT_TERM = "CUDA context"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is estimated: a recipe, a network of convolutions or a diffusion model, on a GPU or on none."""

    recipe: Recipe
    cnn: Cnn | None = None
    on_gpu: bool = True
    known: bool = True
    diffusion: Diffusion | None = None

    @property
    def reads_text(self) -> bool:
        """Whether it has a length of sequences to speak of."""
        return not (self.cnn or self.diffusion or self.recipe.model.probe)

    @property
    def family(self) -> str:
        """What the estimate takes it for, such as ``llama lora``: measured peaks of a family correct one another."""
        model = self.recipe.model
        kind = "probe" if model.probe else self.recipe.arch.model_type or "unknown"
        return f"{kind} {model.method if model.task == 'train' else model.task}"


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Peaks in bytes. ``vram_terms`` add up to ``vram_bytes`` and ``ram_terms`` to ``ram_bytes``, to the byte.

    ``vram_bytes`` is what the device shows; ``needed_bytes``, never more, is below what it cannot run.
    """

    vram_bytes: int
    needed_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    phase: str
    vram_terms: Mapping[str, int]
    ram_bytes: int
    ram_terms: Mapping[str, int]
    family: str
    confidence: Confidence
    notes: tuple[str, ...]
    hoards: bool = False

    @property
    def sigma(self) -> float:
        """Spread of the natural logarithm of the VRAM that is needed."""
        return SIGMA[self.confidence]

    def vram_need(self) -> MemoryNeed | None:
        """The VRAM as a random variable; None where no GPU is used."""
        return MemoryNeed(self.needed_bytes, self.sigma, self.family) if self.vram_bytes else None

    def as_need(self) -> VariantNeed:
        """What the planner takes."""
        ram = MemoryNeed(self.ram_bytes, RAM_SIGMA, self.family)
        return VariantNeed(self.vram_need(), ram, self.confidence, self.notes)

    def interval(self) -> dict[str, int]:
        """Bytes that are not exceeded with 5, 50 and 95 %: of VRAM as the device shows it, or of RAM without a GPU."""
        shown = math.hypot(self.sigma, HOARDING_SIGMA) if self.hoards else self.sigma
        middle, sigma = (self.vram_bytes, shown) if self.vram_bytes else (self.ram_bytes, RAM_SIGMA)
        return {name: round(middle * math.exp(z * sigma)) for name, z in (("p05", -1.645), ("p50", 0), ("p95", 1.645))}


def estimate_memory(subject: Subject) -> MemoryEstimate:
    """The peaks of ``subject``."""
    phases = phases_of(subject)
    recipe = subject.recipe
    if not subject.on_gpu:
        peak = max(phases, key=lambda phase: phase.total)
        ram = host.host_terms(recipe, peak.terms)
        size, confidence, notes = sum(ram.values()), _confidence(subject), _notes(subject)
        return MemoryEstimate(0, 0, 0, 0, peak.name, {}, size, ram, subject.family, confidence, notes)
    peak = max(phases, key=lambda phase: device.device_bytes(recipe, phase.terms))
    total = device.device_bytes(recipe, peak.terms)
    context = device.context_bytes(recipe)
    terms = {**peak.terms, SLACK_TERM: total - context - peak.total, CONTEXT_TERM: context}
    ram = host.host_terms(recipe)
    return MemoryEstimate(
        vram_bytes=total,
        needed_bytes=max(device.needed_bytes(recipe, phase.terms) for phase in phases),
        allocated_bytes=max(phase.total for phase in phases),
        reserved_bytes=total - context,
        phase=peak.name,
        vram_terms={name: size for name, size in terms.items() if size},
        ram_bytes=sum(ram.values()),
        ram_terms=ram,
        family=subject.family,
        confidence=_confidence(subject),
        notes=_notes(subject),
        hoards=recipe.model.task == "train" and recipe.model.lengths == "dynamic" and recipe.model.transformers < 5,
    )


def phases_of(subject: Subject) -> list[Phase]:
    """Every phase of the run."""
    recipe = subject.recipe
    if recipe.model.probe:
        return [_probed(recipe)]
    if subject.cnn:
        return [_convolutions(recipe, subject.cnn)]
    if subject.diffusion:
        return list(diffusion_phases(recipe, subject.diffusion))
    if recipe.model.task == "infer":
        return list(inference.inference_phases(recipe))
    return list(training_phases(recipe))


def _probed(recipe: Recipe) -> Phase:
    """A straight line through two measured batches."""
    probe = recipe.model.probe
    assert probe is not None
    slope = (probe.large_peak - probe.small_peak) / (probe.large_batch - probe.small_batch)
    fixed = max(round(probe.small_peak - slope * probe.small_batch), 0)
    return Phase("measured step", {"fixed": fixed, "activations": round(slope * recipe.model.batch_size)})


def _convolutions(recipe: Recipe, cnn: Cnn) -> Phase:
    """Weights, gradients and states, and so many bytes for each image."""
    model = recipe.model
    area = ((model.image_size or 224) / 224) ** 2
    width = 1.0 if model.precision == "fp32" else 0.55 if recipe.amp else 0.5
    each = cnn.infer_bytes if model.task == "infer" else cnn.train_bytes
    terms = {"weights": recipe.weights()}
    if model.task == "train":
        terms |= {"gradients": recipe.gradients(), "optimizer states": recipe.states()}
    return Phase(
        "generate" if model.task == "infer" else "forward+loss",
        {**terms, "activations": round(each * model.batch_size * area * width)},
    )


def _confidence(subject: Subject) -> Confidence:
    recipe = subject.recipe
    if recipe.model.probe:
        return "medium"
    arch, model = recipe.arch, recipe.model
    if not subject.known or arch.confidence == "low" or not (recipe.known_family or subject.cnn):
        return "low"
    sharded = recipe.sharding > 0 or recipe.offloads
    unmeasured = arch.experts > 1 or arch.others or model.quantization != "none" or subject.cnn or model.compile
    return "medium" if sharded or unmeasured else "high"


def _notes(subject: Subject) -> tuple[str, ...]:
    recipe, model = subject.recipe, subject.recipe.model
    notes = []
    if subject.diffusion:
        notes.append(NOTE)
    elif not subject.known and not model.probe:
        notes.append("only the number of parameters is known: shape guessed, activations at the upper envelope")
    elif not (recipe.known_family or subject.cnn or model.probe):
        notes.append(f"family {recipe.arch.model_type!r} was never traced: activations at the upper envelope")
    if recipe.arch.confidence == "low":
        notes.append(f"the shape of {recipe.arch.name} is a guess: {recipe.arch.params / 1e6:.0f} million parameters")
    needless = recipe.weight_bytes < BYTES["fp32"] and host.loading_dtype(recipe) == "fp32" != host.file_dtype(recipe)
    if subject.on_gpu and needless and model.quantization == "none" and not model.probe:
        double = recipe.arch.params * BYTES["fp32"]
        notes.append(
            f"from_pretrained makes fp32 of a {host.file_dtype(recipe)} file: {double / 1e9:.1f} GB of host RAM; "
            f"pass dtype={_torch_name(host.file_dtype(recipe))} (torch_dtype before transformers 4.56)"
        )
    bitsandbytes = model.quantization in BITSANDBYTES and subject.on_gpu and subject.reads_text
    if bitsandbytes and model.transformers >= 5:
        notes.append("transformers 5 may keep the 16-bit weights on the GPU until all are quantised: counted in `load`")
    return tuple(notes)


def _torch_name(dtype: str) -> str:
    return {"fp32": "torch.float32", "fp16": "torch.float16", "bf16": "torch.bfloat16"}[dtype]
