"""A configuration of transformers from the shape of a model, whatever the family calls its sizes."""

from typing import Any, Callable, Dict, Mapping

from transformers import CONFIG_MAPPING

from .model import VISION, NotTracedError

USUAL = {
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "ffn": "intermediate_size",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "vocab": "vocab_size",
}
_GPT2 = {"hidden": "n_embd", "ffn": "n_inner", "heads": "n_head", "layers": "n_layer"}
NAMES: Dict[str, Dict[str, str]] = {
    "gpt2": _GPT2,
    "gptj": _GPT2,
    "codegen": _GPT2,
    "gpt_bigcode": _GPT2,
    "bloom": {"hidden": "hidden_size", "heads": "n_head", "layers": "n_layer"},
    "mpt": {"hidden": "d_model", "heads": "n_heads", "layers": "n_layers"},
    "opt": {"ffn": "ffn_dim"},
    "falcon": {"ffn": "ffn_hidden_size", "kv_heads": "num_kv_heads"},
    "gpt_neo": {"heads": "num_heads", "layers": "num_layers"},
    "distilbert": {"hidden": "dim", "ffn": "hidden_dim", "heads": "n_heads", "layers": "n_layers"},
}
"""Where a family's names differ from the usual ones."""

Shape = Mapping[str, Any]

FIXED: Dict[str, Callable[[Shape], Dict[str, Any]]] = {
    "opt": lambda s: {"word_embed_proj_dim": s["hidden"]},
    "falcon": lambda _: {"new_decoder_architecture": True, "bias": False},
    "gpt_neo": lambda s: {"attention_types": [[["global"], s["layers"]]]},
    "gptj": lambda _: {"rotary_dim": 64},
    "codegen": lambda _: {"rotary_dim": 64},
    "electra": lambda s: {"embedding_size": s["hidden"]},
    "gemma2": lambda s: {"query_pre_attn_scalar": s["head_dim"]},
    "gemma3_text": lambda s: {"query_pre_attn_scalar": s["head_dim"]},
    "vit": lambda s: {"image_size": s["image_size"]},
}

FREE_HEAD_DIM = frozenset(["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3", "granite",
                           "glm"])  # fmt: skip
"""Families whose heads need not add up to the hidden size."""
MANY_KV = frozenset(["gpt2", "phi", "opt", "bloom", "gpt_neox", "gpt_neo", "gptj", "mpt", "codegen", "gpt_bigcode",
                     "bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta", "modernbert",
                     "vit"])  # fmt: skip
"""Families whose number of key and value heads is not free."""
FOUR_H = frozenset(["bloom", "mpt"])
"""Families whose feed-forward part is four times as wide as the model."""
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")


def config_of(shape: Shape, tokens: int) -> Any:
    """The configuration: ``shape`` has type, layers, hidden, ffn, heads, kv_heads, head_dim, vocab; image_size and
    labels for an encoder of images; tied where it is not as usual. Raises NotTracedError.
    """
    family = shape["type"]
    if family not in CONFIG_MAPPING:
        raise NotTracedError("this version of transformers knows no model type %r" % family)
    sizes = ["hidden", "heads", "layers"]
    sizes += [] if family in FOUR_H else ["ffn"]
    sizes += [] if family in MANY_KV else ["kv_heads"]
    sizes += ["head_dim"] if family in FREE_HEAD_DIM else []
    names = {**USUAL, **NAMES.get(family, {})}
    wanted = {names[size]: shape[size] for size in sizes}
    if family in VISION:
        wanted["num_labels"] = shape["labels"]
    else:
        wanted.update(vocab_size=shape["vocab"], pad_token_id=0, bos_token_id=1, eos_token_id=2)
    wanted.update(FIXED[family](shape) if family in FIXED else {})
    config = CONFIG_MAPPING[family](**wanted)
    if shape.get("tied") is not None and family not in VISION:
        config.tie_word_embeddings = shape["tied"]
    for key in POSITIONS:
        if key in config.to_dict():
            setattr(config, key, max(tokens, 1024))
    return config


def without_dropout(config: Any, kinds: str = "drop") -> None:
    """Set every rate of dropout whose name holds ``kinds`` to 0."""
    for key, value in config.to_dict().items():
        if kinds in key and "drop" in key and isinstance(value, float):
            setattr(config, key, 0.0)
