"""The shape of a neural network, as far as memory depends on it, and the table of the common ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.catalog.rows import Row, read_rows

BUNDLED_MODELS = Path(__file__).with_name("models.csv")

_COLUMNS = (
    "hf", "model_type", "layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "tied", "params", "dtype",
    "dropout", "experts", "active_experts", "expert_ffn", "parts", "source", "date", "note",
)  # fmt: skip

UNGATED = frozenset(
    ("phi", "gpt2", "opt", "bloom", "falcon", "gpt_neox", "starcoder2", "gpt_neo", "gptj", "mpt", "codegen",
     "gpt_bigcode", "nemotron", "bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "vit",
     "clip_vision_model")
)  # fmt: skip
"""Families whose feed-forward part has two matrices; the others have three."""
WITH_DROPOUT = frozenset(["gpt2", "opt", "bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta"])
VISION = frozenset(["vit", "clip_vision_model"])
ENCODERS = frozenset(["bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "modernbert"])

LEARNED_POSITIONS = {
    "gpt2": 1024, "opt": 2050, "gpt_neo": 2048, "gpt_bigcode": 8192, "bert": 512, "roberta": 514, "distilbert": 512,
    "electra": 512, "deberta-v2": 512, "xlm-roberta": 514, "vit": 965,
}  # fmt: skip
"""Rows of learned positions; of a vision transformer also those of its patch embedding, 768 pixels each."""
WITH_BIASES = frozenset([*LEARNED_POSITIONS, "phi", "bloom", "gpt_neox", "starcoder2", "codegen", "gptj", "nemotron"])


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network. ``params`` counts everything, parts too."""

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
        return 2 if self.model_type in UNGATED else 3

    @property
    def block_params(self) -> int:
        """Weights of the matrices of one block."""
        ffn = (self.expert_ffn or self.ffn) * self.experts
        return self.hidden * (2 * self.q + 2 * self.kv) + self.matrices * self.hidden * ffn

    @property
    def embedding_params(self) -> int:
        """Weights of one embedding."""
        return self.vocab * self.hidden

    @property
    def linear_params(self) -> int:
        """Weights that a quantiser stores in few bits: the matrices of all blocks, of all parts."""
        return self.layers * self.block_params + sum(part.linear_params for part in self.parts)

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
        total = self.layers * self.block_params + embeddings + self._small + sum(part.params for part in self.parts)
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
        ends = (self.hidden + self.q) + (self.hidden + self.kv)
        if targets == "all-linear":
            ends = 2 * ends + self.matrices * (self.hidden + (self.expert_ffn or self.ffn)) * self.experts
        return self.layers * rank * ends


ALIASES = {
    "qwen": "qwen2", "baichuan": "llama", "yi": "llama", "internlm": "llama", "internlm2": "llama", "chatglm": "glm",
    "deepseek_v2": "llama", "deepseek_v3": "llama", "deepseek_vl_v2": "llama", "mixtral": "mistral",
    "qwen2_moe": "qwen2", "qwen3_moe": "qwen3", "olmoe": "olmo", "gpt_oss": "mistral", "gemma3": "gemma3_text",
    "cohere2": "cohere", "glm4": "glm", "mpnet": "bert", "exaone": "llama", "qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2",
    "camembert": "roberta", "albert": "bert", "siglip_vision_model": "clip_vision_model", "deit": "vit", "beit": "vit",
    "dinov2": "vit", "clip_vision_model": "vit",
}  # fmt: skip
"""Families whose blocks hold what those of a traced family hold."""


class ModelTable:
    """The common models by their names on the hub."""

    def __init__(self, models: Mapping[str, tuple[Architecture, tuple[str, ...]]]) -> None:
        self._models = models
        self._short = {name.rpartition("/")[2]: name for name in models}

    def find(self, name: str) -> Architecture | None:
        """The model called ``name``, with or without its owner; None if it is not in the table."""
        key = name.lower()
        key = key if key in self._models else self._short.get(key.rpartition("/")[2], "")
        if key not in self._models:
            return None
        model, parts = self._models[key]
        return replace(model, parts=tuple(part for each in parts if (part := self.find(each))))

    def __len__(self) -> int:
        return len(self._models)

    def names(self) -> list[str]:
        """Every name, as on the hub."""
        return [model.name for model, _ in self._models.values()]


@cache
def bundled_models() -> ModelTable:
    """The table that comes with the program."""
    rows = read_rows(BUNDLED_MODELS, _COLUMNS, _model)
    return ModelTable({model.name.lower(): (model, parts) for model, parts in rows})


def _model(row: Row) -> tuple[Architecture, tuple[str, ...]]:
    def whole(column: str, absent: int) -> int:
        return row.whole(column) or absent

    row.needed("source")
    parts = tuple(part for part in row.text("parts").split(";") if part)
    return (
        Architecture(
            model_type=row.needed("model_type"),
            layers=int(row.needed_number("layers")),
            hidden=int(row.needed_number("hidden")),
            ffn=int(row.needed_number("ffn")),
            heads=int(row.needed_number("heads")),
            kv_heads=int(row.needed_number("kv_heads")),
            head_dim=int(row.needed_number("head_dim")),
            vocab=int(row.needed_number("vocab")),
            tied=row.text("tied") == "1",
            params=int(row.needed_number("params")),
            experts=whole("experts", 1),
            active_experts=whole("active_experts", 1),
            expert_ffn=whole("expert_ffn", 0),
            dtype=row.needed("dtype"),
            dropout=row.text("dropout") == "1",
            name=row.needed("hf"),
        ),
        parts,
    )


_SYNONYMS = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "ffn": ("intermediate_size", "ffn_dim", "n_inner", "hidden_dim", "ffn_hidden_size", "d_ff"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "multi_query_group_num"),
}
_TIED_BY_DEFAULT = frozenset(["gpt2", "opt", "bloom", "falcon", "gemma", "gemma2", "gemma3_text", "mpt", *ENCODERS])


def from_config(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a ``config.json`` describes. Raises ValueError with what is missing in it."""
    text = config.get("text_config", config)
    model_type = str(text.get("model_type", config.get("model_type", "")))
    found = {name: _first(text, names) for name, names in _SYNONYMS.items()}
    if missing := [name for name in ("layers", "hidden", "heads") if not found[name]]:
        names = ", ".join(_SYNONYMS[missing[0]])
        raise ValueError(f"the config has none of {names}; give the shape under model.arch")
    hidden, heads = found["hidden"] or 0, found["heads"] or 1
    kv_heads = 1 if text.get("multi_query") and not found["kv_heads"] else found["kv_heads"] or heads
    vision = config.get("vision_config") or {}
    known = ALIASES.get(model_type, model_type)
    return Architecture(
        model_type=model_type,
        layers=found["layers"] or 0,
        hidden=hidden,
        ffn=found["ffn"] or 4 * hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=int(text.get("head_dim") or hidden // heads),
        vocab=int(text.get("vocab_size") or 1),
        tied=bool(text.get("tie_word_embeddings", known in _TIED_BY_DEFAULT)),
        experts=_first(text, ("num_local_experts", "num_experts", "n_routed_experts")) or 1,
        active_experts=(_first(text, ("num_experts_per_tok",)) or 1) + int(text.get("n_shared_experts") or 0),
        expert_ffn=_first(text, ("moe_intermediate_size",)) or found["ffn"] or 0,
        dtype=_DTYPES.get(str(text.get("dtype", text.get("torch_dtype", ""))), "bf16"),
        dropout=known in WITH_DROPOUT,
        parts=(from_config(vision),) if vision.get("num_hidden_layers") else (),
    ).counted()


_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((int(config[name]) for name in names if config.get(name)), None)
