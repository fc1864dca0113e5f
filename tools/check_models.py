"""Check orchestrator/catalog/models.csv: build each row with transformers on the meta device and count its parameters.

    .venv-exact/bin/python tools/check_models.py [NAME ...]

Needs torch and transformers, as tools/trace_families.py. Prints every row whose count differs from the one in the
table, and those that transformers has no code for. A right count means that shape, vocabulary and tying are right
together; whether it is the shape of that name is what the row's source says. Of three rows the file holds more than a
class of transformers: CLIP's vision part with its projection, and models with code of their own.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
)

TABLE = Path(__file__).parents[1] / "orchestrator" / "catalog" / "models.csv"

HEADS = (
    AutoModelForCausalLM, AutoModelForPreTraining, AutoModelForMaskedLM, AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq, AutoModelForImageClassification, AutoModel,
)  # fmt: skip
"""Files of encoders hold one of several heads: any of them may be what was counted."""

NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim"),
    "ffn": ("intermediate_size", "ffn_dim", "n_inner", "hidden_dim", "ffn_hidden_size", "d_ff", "encoder_ffn_dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim", "d_kv"),
    "vocab": ("vocab_size",),
}
FREE_HEAD_DIM = ("mistral", "llama", "mixtral", "qwen3_moe")
"""Whose default configuration does not list the head's width, and which take it all the same."""
DECODER = {"layers": "decoder_layers", "ffn": "decoder_ffn_dim", "heads": "decoder_attention_heads"}
ALIASES = {"t5_gated": "t5"}
OTHER_CODE = {
    "mpnet": "mpnet",
    "dinov2": "dinov2",
    "Mixtral": "mixtral",
    "gpt-oss": "gpt_oss",
    "A3B": "qwen3_moe",
    "OLMoE": "olmoe",
}
"""Names of models whose blocks the table takes from another family that was traced."""


def config_of(row: dict[str, str]) -> Any:
    """The configuration that the row describes. Raises LookupError where transformers has no such family."""
    family = next((kind for word, kind in OTHER_CODE.items() if word in row["hf"]), row["model_type"])
    config = CONFIG_MAPPING[ALIASES.get(family, family)]()
    known = config.to_dict()
    for column, names in NAMES.items():
        for name in names:
            if name in known or (name == "head_dim" and family in FREE_HEAD_DIM):
                setattr(config, name, int(row[column]))
        if DECODER.get(column) in known:
            setattr(config, DECODER[column], int(row[column]))
    for name, value in {**mixed(row), **two_sided(row)}.items():
        if name in known:
            setattr(config, name, value)
    if known.get("layer_types"):
        config.layer_types = ["full_attention"] * int(row["layers"])
    config.tie_word_embeddings = row["tied"] == "1"
    for name, value in special(row).items():
        setattr(config, name, value)
    return config


def mixed(row: dict[str, str]) -> dict[str, int]:
    """The experts, under every name that they have."""
    experts, width = int(row["experts"] or 0), int(row["expert_ffn"] or 0)
    return {"num_local_experts": experts, "num_experts": experts, "moe_intermediate_size": width} if experts else {}


def two_sided(row: dict[str, str]) -> dict[str, int]:
    """The blocks of encoder and decoder."""
    encoder = int(row["encoder_layers"] or 0)
    both = {"encoder_layers": encoder, "num_layers": encoder, "num_decoder_layers": int(row["layers"])}
    return both if encoder else {}


def special(row: dict[str, str]) -> dict[str, Any]:
    """What sizes do not say."""
    name = row["hf"].lower()
    return {
        **({"new_decoder_architecture": True, "bias": False, "num_kv_heads": 8} if "falcon-40b" in name else {}),
        **({"num_kv_heads": 1, "multi_query": True} if "falcon-7b" in name else {}),
        **({"patch_size": 32} if "patch32" in name else {"patch_size": 14} if "patch14" in name else {}),
        **({"max_position_embeddings": 514, "type_vocab_size": 1} if "roberta" in name else {}),
        **({"use_qkv_bias": True} if "stablelm-2" in name else {}),
        **({"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 256,
            "norm_rel_ebd": "layer_norm", "type_vocab_size": 0, "position_biased_input": False,
            "max_relative_positions": -1} if "deberta" in name else {}),
        **({"feed_forward_proj": "gated-gelu", "is_gated_act": True, "dense_act_fn": "gelu_new"}
           if row["model_type"] == "t5_gated" else {}),
        **({"num_labels": 1000} if row["model_type"] == "vit" else {}),
        **({"num_mel_bins": 128} if "large-v3" in name else {}),
    }  # fmt: skip


def counts(config: Any) -> dict[str, int]:
    """Parameters by head."""
    found = {}
    for head in HEADS:
        try:
            with torch.device("meta"):
                model = head.from_config(config)
        except (ValueError, AttributeError, LookupError, TypeError, AssertionError):
            continue
        # T5 without a tied head reads one embedding in encoder and decoder all the same; its class makes three of it.
        doubled = 2 * config.vocab_size * config.d_model if getattr(config, "is_gated_act", False) else 0
        found[head.__name__] = sum({id(p): p.numel() for p in model.parameters()}.values()) - doubled
    return found


def main(names: list[str]) -> None:
    """Print what differs."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not names or row["hf"] in names]
    for row in rows:
        try:
            found = counts(config_of(row))
        except KeyError:
            print(f"{row['hf']}: transformers has no {row['model_type']}", flush=True)
            continue
        wanted = int(row["params"])
        if wanted not in found.values():
            closest = min(found.items(), key=lambda each: abs(each[1] - wanted), default=("nothing", 1))
            print(f"{row['hf']}: {wanted:,} in the table, {closest[1]:,} as {closest[0]} "
                  f"({wanted / closest[1] - 1:+.2%})", flush=True)  # fmt: skip
        else:
            print(f"{row['hf']}: ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
