"""The ``model`` section of a spec: what is trained or run, and how, as far as memory depends on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from orchestrator.spec.fields import Size, Text
from orchestrator.spec.parts import Part
from orchestrator.spec.values import WrongValueError, as_text, choice, described, shown, whole

PRECISIONS = ("fp32", "amp-fp16", "amp-bf16", "bf16", "fp16")
OPTIMIZERS = (
    "adamw", "adamw-fused", "adamw-8bit", "paged-adamw-8bit", "paged-adamw-32bit", "adafactor", "sgd", "sgd-momentum",
)  # fmt: skip
GGUF_BITS = {
    "gguf-q2_k": 3.35,
    "gguf-q3_k_m": 4.0,
    "gguf-q4_0": 4.55,
    "gguf-q4_k_m": 4.9,
    "gguf-q5_k_m": 5.7,
    "gguf-q6_k": 6.57,
    "gguf-q8_0": 8.5,
    "gguf-mxfp4": 5.0,
    "gguf-f16": 16.0,
}
"""Bits per weight over a whole file, embeddings and mixed layers included."""
QUANTIZATIONS = ("none", "int8", "nf4", "nf4-double", "gptq-int4", "gptq-int8", *GGUF_BITS)

_PARAMS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMBTkmbt]?)\s*")
_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def as_parameter_count(value: object) -> int:
    """A number of parameters: ``1.4B``, ``350M`` or a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    else:
        match = _PARAMS.fullmatch(as_text(value))
        if match is None:
            raise WrongValueError(f"{shown(value)} is not a number of parameters; write one such as 1.4B or 350M")
        count = round(float(match[1]) * _FACTORS[match[2].upper()])
    if not 1000 <= count <= 10**13:
        raise WrongValueError(f"{shown(value)} is not a possible number of parameters; write one such as 1.4B or 350M")
    return count


def as_switch(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise WrongValueError(f"{described(value)}; write true or false")
    return value


def _words(*known: str) -> tuple[BeforeValidator, WithJsonSchema]:
    return BeforeValidator(choice(*known)), WithJsonSchema({"enum": list(known)})


def _counted(most: int) -> tuple[BeforeValidator, WithJsonSchema]:
    return whole(1, most), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": most})


def _from_zero(most: int) -> tuple[BeforeValidator, WithJsonSchema]:
    return whole(0, most), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": most})


Parameters = Annotated[
    int,
    BeforeValidator(as_parameter_count),
    WithJsonSchema({"type": ["string", "integer"], "pattern": _PARAMS.pattern, "examples": ["1.4B", "350M"]}),
]
Switch = Annotated[bool, BeforeValidator(as_switch), WithJsonSchema({"type": "boolean"})]
Width = Annotated[int, *_counted(1_000_000)]
Tokens = Annotated[int, *_counted(10_000_000)]
Small = Annotated[int, *_counted(100_000)]
FileName = Annotated[
    Path,
    BeforeValidator(lambda value: value if isinstance(value, Path) else Path(as_text(value))),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
Precision = Annotated[Literal["fp32", "amp-fp16", "amp-bf16", "bf16", "fp16"], *_words(*PRECISIONS)]


class Arch(Part):
    """The shape of a transformer, as in its config.json."""

    type: Text = Field(description="The `model_type` of its config.json, such as llama.")
    layers: Small = Field(description="Transformer blocks.")
    hidden: Width = Field(description="Width of the residual stream.")
    ffn: Width = Field(description="Width of the feed-forward part.")
    heads: Small = Field(description="Attention heads.")
    kv_heads: Small | None = Field(None, description="Heads of keys and values; as `heads` if not given.")
    head_dim: Small | None = Field(None, description="Width of a head; hidden / heads if not given.")
    vocab: Width = Field(1, description="Size of the vocabulary; 1 for a vision encoder.")
    tied: Switch = Field(False, description="Whether input and output embedding are one.")
    experts: Small | None = Field(None, description="Experts per block of a mixture of experts.")
    active_experts: Small | None = Field(None, description="Experts that each token passes through, shared ones too.")
    expert_ffn: Width | None = Field(None, description="Width of one expert; `ffn` if not given.")


class Lora(Part):
    """Low-rank adapters."""

    rank: Small = Field(16, description="Rank of the adapters.")
    targets: Annotated[Literal["attention", "all-linear"], *_words("attention", "all-linear")] = Field(
        "attention", description="`attention` for queries and values, `all-linear` for every matrix of a block."
    )


class Probe(Part):
    """Two measured peaks of your own code, from which larger batches are extrapolated."""

    small_batch: Small = Field(1, description="Batch of the first measurement.")
    small_peak: Size = Field(description="Its peak of allocated memory.")
    large_batch: Small = Field(2, description="Batch of the second.")
    large_peak: Size = Field(description="Its peak.")

    @model_validator(mode="after")
    def _grows(self) -> Probe:
        if self.large_batch <= self.small_batch or self.large_peak < self.small_peak:
            raise WrongValueError("large_batch must be above small_batch, and large_peak not below small_peak")
        return self


_SHAPES = ("hf", "config", "arch", "params", "weights", "probe")


class NeuralModel(Part):
    """What memory depends on. One of hf, config, arch, params, weights or probe says what the model is."""

    hf: Text | None = Field(None, description="Name on the Hugging Face hub, such as microsoft/phi-1_5.")
    config: FileName | None = Field(None, description="A config.json, relative to the spec file.")
    arch: Arch | None = Field(None, description="The shape, written out.")
    params: Parameters | None = Field(None, description="Number of parameters, such as 1.4B.")
    weights: FileName | None = Field(None, description="A .safetensors file: its header has the exact counts.")
    probe: Probe | None = Field(None, description="Two measured peaks of your own code.")
    tied: Switch | None = Field(
        None, description="Whether input and output embedding are one in memory; as the model has it if not given."
    )
    file_size: Size | None = Field(
        None, description="Size of the file with the weights, if it is no plain dump of them."
    )

    task: Annotated[Literal["train", "infer"], *_words("train", "infer")] = Field(
        "train", description="`train` or `infer`."
    )
    method: Annotated[Literal["full", "lora", "qlora"], *_words("full", "lora", "qlora")] = Field(
        "full", description="What is trained: everything, adapters, adapters on a quantised model."
    )
    lora: Lora = Field(default_factory=Lora, description="The adapters of lora and qlora.")
    precision: Precision = Field(
        "bf16", description="amp-* keeps fp32 weights and computes in 16 bit; bf16 and fp16 keep all in 16 bit."
    )
    quantization: Annotated[str, *_words(*QUANTIZATIONS)] = Field("none", description="How frozen weights are stored.")
    head: Annotated[Literal["lm", "classifier"], *_words("lm", "classifier")] = Field(
        "lm", description="lm predicts every token over the whole vocabulary; classifier has no such logits."
    )
    optimizer: Annotated[str, *_words(*OPTIMIZERS)] = Field(
        "adamw", description="`adamw` is torch's default (foreach); transformers takes adamw-fused since torch 2.8."
    )
    batch_size: Small = Field(1, description="Sequences or images per GPU in one forward pass.")
    seq_len: Tokens = Field(512, description="Tokens per sequence, of the longest one.")
    target_len: Tokens | None = Field(
        None, description="Tokens that the decoder of an encoder-decoder writes; seq_len, its source, if not given."
    )
    lengths: Annotated[Literal["fixed", "dynamic"], *_words("fixed", "dynamic")] = Field(
        "fixed", description="`dynamic` where each batch is padded to its own longest sequence: memory fragments."
    )
    gradient_checkpointing: Switch = Field(False, description="Recompute each block in the backward pass.")
    chunked_loss: Switch = Field(False, description="Loss in chunks, so that logits never lie in fp32 at once.")
    attention: Annotated[Literal["sdpa", "flash", "eager"], *_words("sdpa", "flash", "eager")] = Field(
        "sdpa", description="eager keeps the matrix of every head."
    )
    compile: Switch = Field(False, description="Whether torch.compile runs it: activations shrink, by how much varies.")
    dropout: Switch | None = Field(
        None, description="Whether dropout is on; as the family usually has it if not given."
    )
    grad_accumulation: Small = Field(1, description="Forward passes per step; above 1 gradients stay alive.")
    zero_stage: Annotated[int, *_from_zero(3)] = Field(0, description="DeepSpeed ZeRO stage, 0 to 3.")
    fsdp: Switch = Field(False, description="Fully sharded data parallel, as ZeRO 3.")
    offload: Annotated[Literal["none", "optimizer", "all"], *_words("none", "optimizer", "all")] = Field(
        "none", description="What ZeRO or FSDP keeps in host RAM: the optimizer, or the parameters too."
    )
    kv_cache_tokens: Tokens | None = Field(
        None, description="Tokens per sequence in the KV cache; seq_len if not given."
    )
    image_size: Small | None = Field(None, description="Side of the images in pixels.")

    load_dtype: Annotated[
        Literal["auto", "default", "fp32", "fp16", "bf16"], *_words("auto", "default", "fp32", "fp16", "bf16")
    ] = Field("default", description="The `dtype` argument of from_pretrained; `default` if it is not passed.")
    file_dtype: Annotated[Literal["fp32", "fp16", "bf16"], *_words("fp32", "fp16", "bf16")] | None = Field(
        None, description="What the file holds; known for catalogued models, else bf16."
    )
    file_format: Annotated[Literal["safetensors", "bin", "pickle"], *_words("safetensors", "bin", "pickle")] = Field(
        "safetensors", description="bin is torch's zip file; pickle one from before torch 1.6 or not a state dict."
    )
    transformers: Annotated[int, whole(4, 5), WithJsonSchema({"enum": [4, 5]})] = Field(
        5, description="Major version: 4 loads fp32 by default, 5 what the file holds."
    )
    steps: Annotated[int, *_counted(1_000_000_000)] | None = Field(
        None, description="Steps of the whole run, or forward passes of inference, from which its time is computed."
    )
    workers: Annotated[int, *_from_zero(256)] = Field(0, description="Worker processes of the data loader.")
    dataset_examples: Annotated[int, *_from_zero(1_000_000_000)] = Field(
        0, description="Tokenised examples held in RAM, each of seq_len tokens."
    )
    preflight: Switch = Field(
        False, description="Trace it on the machine before `run`, which is not started where its GPU cannot be enough."
    )

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("method") == "qlora" and "quantization" not in data:
            return {**data, "quantization": "nf4"}
        return data

    def contradiction(self) -> str:
        """What does not go together, in words; empty if all does."""
        if self.task == "train" and self.quantization.startswith("gguf"):
            return "gguf files are for inference; write task: infer, or quantization: nf4"
        if self.task == "train" and self.method != "qlora" and self.quantization != "none":
            return "quantised weights cannot be trained; write method: qlora"
        return ""

    def says_what(self) -> bool:
        """Whether anything says what the model is."""
        return any(getattr(self, name) is not None for name in _SHAPES)

    def overlaid(self, over: NeuralModel) -> NeuralModel:
        """This section with every key that ``over`` names taken from there; another model replaces the model."""
        changed = {key: getattr(over, key) for key in over.model_fields_set}
        if over.says_what():
            changed = {**dict.fromkeys(_SHAPES), **changed}
        if changed.get("method") == "qlora" and self.quantization == "none" and "quantization" not in changed:
            changed["quantization"] = "nf4"
        return self.model_copy(update=changed)
