"""The shape of a neural network, as far as memory depends on it, and how a config.json says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

UNGATED = frozenset(
    ("phi", "gpt2", "opt", "bloom", "falcon", "gpt_neox", "starcoder2", "gpt_neo", "gptj", "mpt", "codegen",
     "gpt_bigcode", "nemotron", "bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "vit",
     "clip_vision_model", "t5", "bart", "whisper")
)  # fmt: skip
"""Families whose feed-forward part has two matrices; the others have three."""
WITH_DROPOUT = frozenset(
    ("gpt2", "opt", "bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "t5", "t5_gated", "bart")
)  # fmt: skip
ENCODER_DECODERS = frozenset(["t5", "t5_gated", "bart", "whisper"])
ENCODER = " encoder"
"""Ends the family's name of the encoder of an encoder-decoder: its blocks have no attention to another side."""
VISION = frozenset(["vit", "clip_vision_model"])
ENCODERS = frozenset(["bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "modernbert"])

LEARNED_POSITIONS = {
    "gpt2": 1024, "opt": 2050, "gpt_neo": 2048, "gpt_bigcode": 8192, "bert": 512, "roberta": 514, "distilbert": 512,
    "electra": 512, "deberta-v2": 512, "xlm-roberta": 514, "vit": 965, "bart": 2052, "whisper": 1948,
}  # fmt: skip
"""Rows of learned positions; of a vision transformer also those of its patch embedding, 768 pixels each."""
WITH_BIASES = frozenset([*LEARNED_POSITIONS, "phi", "bloom", "gpt_neox", "starcoder2", "codegen", "gptj", "nemotron"])


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network. ``params`` counts everything, parts and encoder too.

    Of an encoder-decoder the sizes are those of the decoder, and ``encoder`` is the other side. ``confidence`` says how
    sure the shape is.
    """

    model_type: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    params: int = 0
    experts: int = 1
    active_experts: int = 1
    expert_ffn: int = 0
    dtype: str = "bf16"
    dropout: bool = False
    parts: tuple[Architecture, ...] = ()
    name: str = ""
    encoder: Architecture | None = None
    confidence: str = "high"

    @property
    def q(self) -> int:
        """Width of all queries."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of all keys."""
        return self.kv_heads * self.head_dim

    @property
    def active_ffn(self) -> int:
        """Width of the feed-forward part that a token passes through."""
        return self.expert_ffn * self.active_experts if self.experts > 1 else self.ffn

    @property
    def matrices(self) -> int:
        """Matrices of a feed-forward part."""
        return 2 if self.model_type.removesuffix(ENCODER) in UNGATED else 3

    @property
    def block_params(self) -> int:
        """Weights of the matrices of one block."""
        ffn = (self.expert_ffn or self.ffn) * self.experts
        attention = self.hidden * (2 * self.q + 2 * self.kv) * self.attentions
        return attention + self.matrices * self.hidden * ffn

    @property
    def attentions(self) -> int:
        """Attentions of a block: a decoder beside an encoder has one to each side."""
        return 2 if self.encoder else 1

    @property
    def others(self) -> tuple[Architecture, ...]:
        """Everything beside the network that speaks: parts and encoder."""
        return (*self.parts, self.encoder) if self.encoder else self.parts

    @property
    def embedding_params(self) -> int:
        """Weights of one embedding."""
        return self.vocab * self.hidden

    @property
    def linear_params(self) -> int:
        """Weights that a quantiser stores in few bits: the matrices of all blocks, of all parts."""
        return self.layers * self.block_params + sum(other.linear_params for other in self.others)

    @property
    def active_params(self) -> int:
        """Weights that a token is multiplied with: of experts the active ones, of embeddings the head."""
        resting = (self.expert_ffn or self.ffn) * self.experts - self.active_ffn
        looked_up = 0 if self.tied else self.embedding_params
        return max(self.params - self.layers * self.matrices * self.hidden * resting - looked_up, 0)

    @property
    def is_vision(self) -> bool:
        """Whether it reads images."""
        return self.model_type in VISION

    def counted(self) -> Architecture:
        """The same with ``params`` computed where it is not known."""
        if self.params:
            return self
        embeddings = self.embedding_params * (1 if self.tied or self.is_vision else 2)
        total = self.layers * self.block_params + embeddings + self._small + sum(other.params for other in self.others)
        return replace(self, params=total)

    @property
    def _small(self) -> int:
        """Norms, biases, learned positions and the dense layer of a masked language model's head, by family."""
        if self.model_type not in WITH_BIASES:
            return self.layers * 2 * self.hidden
        biases = self.layers * (9 * self.hidden + self.ffn)
        positions = LEARNED_POSITIONS.get(self.model_type, 0) * self.hidden
        return biases + positions + (self.hidden**2 if self.model_type in ENCODERS else 0)

    def adapter_params(self, rank: int, targets: str) -> int:
        """Parameters of low-rank adapters."""
        ends = self.attentions * ((self.hidden + self.q) + (self.hidden + self.kv))
        if targets == "all-linear":
            ends = 2 * ends + self.matrices * (self.hidden + (self.expert_ffn or self.ffn)) * self.experts
        beside = self.encoder.adapter_params(rank, targets) if self.encoder else 0
        return self.layers * rank * ends + beside

    def with_encoder(self, layers: int) -> Architecture:
        """The same as the decoder of an encoder-decoder, whose encoder has ``layers`` blocks of the same sizes."""
        encoder = replace(
            self, model_type=self.model_type + ENCODER, layers=layers, vocab=1, params=0, encoder=None
        ).counted()
        return replace(self, encoder=encoder)


ALIASES = {
    "qwen": "qwen2", "baichuan": "llama", "yi": "llama", "internlm": "llama", "internlm2": "llama", "chatglm": "glm",
    "deepseek_v2": "llama", "deepseek_v3": "llama", "deepseek_vl_v2": "llama", "mixtral": "mistral",
    "qwen2_moe": "qwen2", "qwen3_moe": "qwen3", "olmoe": "olmo", "gpt_oss": "mistral", "gemma3": "gemma3_text",
    "cohere2": "cohere", "glm4": "glm", "mpnet": "bert", "exaone": "llama", "qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2",
    "camembert": "roberta", "albert": "bert", "siglip_vision_model": "clip_vision_model", "deit": "vit", "beit": "vit",
    "dinov2": "vit", "clip_vision_model": "vit", "mt5": "t5_gated", "umt5": "t5_gated", "mbart": "bart",
    "pegasus": "bart", "marian": "bart", "m2m_100": "bart", "blenderbot": "bart",
}  # fmt: skip
"""Families whose blocks hold what those of a traced family hold."""


_SYNONYMS = {
    "layers": ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"),
    "ffn": (
        "intermediate_size", "ffn_dim", "n_inner", "hidden_dim", "ffn_hidden_size", "d_ff", "decoder_ffn_dim",
    ),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "multi_query_group_num"),
    "head_dim": ("head_dim", "d_kv", "kv_channels"),
    "vocab": ("vocab_size", "padded_vocab_size"),
}  # fmt: skip
_TIED_BY_DEFAULT = frozenset(
    ("gpt2", "opt", "bloom", "falcon", "gemma", "gemma2", "gemma3_text", "mpt", "t5", "bart", "whisper", *ENCODERS)
)
_SPEAKING = ("text_config", "language_config", "llm_config")
"""Where configs of several parts keep the one that speaks."""


def from_config(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a ``config.json`` describes. Raises ValueError with what is missing in it."""
    text = next((config[key] for key in _SPEAKING if isinstance(config.get(key), Mapping)), config)
    found = {name: _first(text, names) for name, names in _SYNONYMS.items()}
    if missing := [name for name in ("layers", "hidden", "heads") if not found[name]]:
        names = ", ".join(_SYNONYMS[missing[0]])
        raise ValueError(f"the config has none of {names}; give the shape under model.arch")
    hidden, heads = found["hidden"] or 0, found["heads"] or 1
    kv_heads = 1 if text.get("multi_query") and not found["kv_heads"] else found["kv_heads"] or heads
    vision = config.get("vision_config") or {}
    model_type = _family(config, text)
    known = ALIASES.get(model_type, model_type)
    own = Architecture(
        model_type=model_type,
        layers=found["layers"] or 0,
        hidden=hidden,
        ffn=found["ffn"] or 4 * hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=found["head_dim"] or hidden // heads,
        vocab=found["vocab"] or 1,
        tied=bool(text.get("tie_word_embeddings", known in _TIED_BY_DEFAULT)),
        experts=_first(text, ("num_local_experts", "num_experts", "n_routed_experts")) or 1,
        active_experts=(_first(text, ("num_experts_per_tok",)) or 1) + int(text.get("n_shared_experts") or 0),
        expert_ffn=_first(text, ("moe_intermediate_size",)) or found["ffn"] or 0,
        dtype=_DTYPES.get(str(text.get("dtype", text.get("torch_dtype", ""))), "bf16"),
        dropout=known in WITH_DROPOUT,
        parts=(from_config(vision),) if vision.get("num_hidden_layers") else (),
    )
    if known in ENCODER_DECODERS:
        own = own.with_encoder(_first(text, ("encoder_layers", "num_layers")) or own.layers)
    return own.counted()


def _family(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """The model_type; of T5 also whether its feed-forward part is gated, which its model_type does not say."""
    model_type = str(text.get("model_type", config.get("model_type", "")))
    return "t5_gated" if model_type == "t5" and "gated" in str(text.get("feed_forward_proj", "")) else model_type


_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((int(config[name]) for name in names if config.get(name)), None)
