"""What a model section means in bytes per weight, and which traced mode it runs in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.catalog.architecture import ENCODER, Architecture
from orchestrator.catalog.families import FamilyTable, Mode, Row, Sizes
from orchestrator.spec.neural import GGUF_BITS, NeuralModel

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}

QUANTIZED_BYTES = {
    "int8": 1.0,
    "nf4": 0.5 + 4 / 64,  # a scale in fp32 per block of 64
    "nf4-double": 0.5 + 1 / 64 + 4 / (64 * 256),  # scales in 8 bits, with their own scale per 256
    "gptq-int4": 0.5 + 2.5 / 128,  # scale and zero point per group of 128
    "gptq-int8": 1.0 + 3 / 128,
}
"""Bytes per weight of a quantised matrix."""

BITSANDBYTES = ("int8", "nf4", "nf4-double")

STATE_BYTES = {
    "adamw": 2.0,
    "adamw-fused": 2.0,
    "sgd": 0.0,
    "sgd-momentum": 1.0,
    "adafactor": 0.01,
}
"""States per trained weight, as a multiple of its own bytes."""
FIXED_STATE_BYTES = {"adamw-8bit": 2.03, "paged-adamw-8bit": 2.03, "paged-adamw-32bit": 8.0}
"""States whose size does not depend on the weight's dtype, in bytes per trained weight."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model section with its architecture, on ``gpus`` GPUs."""

    model: NeuralModel
    arch: Architecture
    families: FamilyTable
    gpus: int = 1

    @property
    def adapters(self) -> bool:
        """Whether only adapters are trained."""
        return self.model.method != "full"

    @property
    def amp(self) -> bool:
        """Whether computing and keeping differ in precision."""
        return self.model.precision.startswith("amp")

    @property
    def weight_bytes(self) -> int:
        """Bytes of a plain weight on the GPU. Frozen weights under autocast are kept in 16 bit."""
        if self.amp:
            return 2 if self.adapters or self.model.task == "infer" else 4
        return BYTES[self.model.precision]

    @property
    def activation_bytes(self) -> int:
        """Bytes of an element of the residual stream."""
        if self.model.precision == "fp32" or self.upcasts:
            return 4
        return 4 if self.amp and not self.adapters else 2

    @property
    def upcasts(self) -> bool:
        """Whether what bitsandbytes leaves alone is made fp32, as ``prepare_model_for_kbit_training`` does.

        The residual stream is fp32 then, and autocast computes in 16 bit. GPTQ models are left as they are.
        """
        return self.adapters and self.model.task == "train" and self.model.quantization in BITSANDBYTES

    @property
    def trained_bytes(self) -> int:
        """Bytes of a weight that is trained: adapters are kept in fp32."""
        return 4 if self.adapters else self.weight_bytes

    @property
    def sharding(self) -> int:
        """The ZeRO stage; FSDP shards as stage 3."""
        return (3 if self.model.fsdp else self.model.zero_stage) if self.gpus > 1 or self.offloads else 0

    @property
    def offloads(self) -> bool:
        """Whether anything is kept in host RAM."""
        return self.model.offload != "none"

    @property
    def master_bytes(self) -> int:
        """Bytes per weight of an fp32 copy beside 16-bit weights: DeepSpeed keeps one."""
        return 4 if self.model.zero_stage and self.weight_bytes == 2 and not self.adapters else 0

    def trained_params(self) -> int:
        """Weights that get gradients."""
        if not self.adapters:
            return self.arch.params
        return self.arch.adapter_params(self.model.lora.rank, self.model.lora.targets)

    def weights(self) -> int:
        """Bytes of the model's own weights, adapters not included."""
        model, arch = self.model, self.arch
        if model.quantization in GGUF_BITS:
            return model.file_size or round(arch.params * GGUF_BITS[model.quantization] / 8)
        if model.task == "infer" and model.file_size:
            return model.file_size
        if model.quantization == "none":
            return arch.params * self.weight_bytes
        linear = arch.linear_params or arch.params
        kept = max(arch.params - linear, 0)
        return round(linear * QUANTIZED_BYTES[model.quantization]) + kept * self.kept_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes of a weight that a quantiser leaves alone: embeddings and norms."""
        return 4 if self.upcasts else 2

    def states(self) -> int:
        """Bytes of the optimizer's states."""
        return self.states_of(self.trained_params())

    def states_of(self, trained: int) -> int:
        """Bytes of the optimizer's states of so many weights."""
        name = self.model.optimizer
        each = FIXED_STATE_BYTES.get(name, STATE_BYTES.get(name, 0.0) * self.trained_bytes)
        if self.master_bytes:
            each = each * 2 if name in ("adamw", "adamw-fused") else each
        return round(trained * (each + self.master_bytes))

    def gradients(self) -> int:
        """Bytes of all gradients."""
        return self.trained_params() * self.trained_bytes

    def mode(self) -> Mode:
        """The traced mode that it runs in."""
        precision = "amp" if self.amp else "fp32" if self.model.precision == "fp32" else "bf16"
        attention = "eager" if self.model.attention == "eager" else "sdpa"
        if not self.adapters:
            return precision, attention, "none"
        targets = "all" if self.model.lora.targets == "all-linear" else "qv"
        return "amp" if precision == "amp" or self.upcasts else "bf16", attention, targets

    def sizes(self) -> Sizes:
        """The batch."""
        source = source_tokens(self.model, self.arch.encoder) if self.arch.encoder else 0
        return Sizes(self.model.batch_size, tokens_of(self.model, self.arch), self.arch, source)

    @property
    def encoder(self) -> Recipe | None:
        """The same run of the encoder of an encoder-decoder."""
        return replace(self, arch=self.arch.encoder) if self.arch.encoder else None

    def row(self) -> Row:
        """The family's coefficients, or the upper envelope's."""
        found = self.families.find(self.arch.model_type, self.mode())
        return found or self.families.largest(self.mode(), self.sizes())

    @property
    def known_family(self) -> bool:
        """Whether the family was traced."""
        return self.families.knows(self.arch.model_type)


def dequantised_bytes(recipe: Recipe) -> int:
    """16-bit copies of quantised matrices that live at once.

    bitsandbytes makes that of one matrix and computes it again for the backward pass. The GPTQ kernels of training are
    plain torch: autograd keeps the 16-bit copies of a block, and the largest is unpacked in 32 and in 16 bit first.
    """
    model, arch = recipe.model, recipe.arch
    if model.quantization == "none" or model.quantization.startswith("gguf"):
        return 0
    largest = arch.hidden * (arch.expert_ffn or arch.ffn)
    if model.task == "train" and model.quantization.startswith("gptq"):
        return 2 * arch.block_params + 6 * largest
    return 2 * largest


WHISPER_TOKENS = 1500
"""Every window of 30 seconds, whatever is said in it."""
WHISPER_TARGET = 448
"""Tokens that it writes at most."""


def tokens_of(model: NeuralModel, arch: Architecture) -> int:
    """Tokens of one sequence: of an image of ``image_size`` its patches, of an encoder-decoder those of the target."""
    if arch.is_vision:
        patch = 14 if "patch14" in arch.name else 32 if "patch32" in arch.name else 16
        return ((model.image_size or 224) // patch) ** 2 + 1
    if arch.model_type.endswith(ENCODER):
        return source_tokens(model, arch)
    if arch.encoder:
        most = WHISPER_TARGET if arch.model_type == "whisper" else model.seq_len
        return model.target_len or min(model.seq_len, most)
    return model.seq_len


def source_tokens(model: NeuralModel, encoder: Architecture) -> int:
    """Tokens that the encoder of an encoder-decoder reads."""
    return WHISPER_TOKENS if encoder.model_type.startswith("whisper") else model.seq_len
