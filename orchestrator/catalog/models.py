"""The table of common models by their names on the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from orchestrator.catalog.architecture import Architecture
from orchestrator.catalog.rows import Row, read_rows

BUNDLED_MODELS = Path(__file__).with_name("models.csv")

_COLUMNS = (
    "hf", "model_type", "layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "tied", "params", "dtype",
    "dropout", "experts", "active_experts", "expert_ffn", "encoder_layers", "parts", "source", "date", "confidence",
    "note",
)  # fmt: skip

TUNED = re.compile(
    r"[-_](instruct|chat|it|base|pt|hf|sft|dpo|rlhf|python|deduped|finetuned|unsloth|bnb|4bit|8bit|awq|gptq|gguf|int4|int8"
    r"|v\d+(\.\d+)?|\d{4}|\d+k)$"
)
"""Endings of a name that say how a model was tuned, packed or dated, and nothing of its shape."""
_PLAIN = ("", "-hf", "-base", "-pt")
"""What names of models end with that nobody tuned."""


class ModelTable:
    """The common models by their names on the hub."""

    def __init__(self, models: Mapping[str, tuple[Architecture, tuple[str, ...]]]) -> None:
        self._models = models
        self._short = {name.rpartition("/")[2]: name for name in models}

    def find(self, name: str) -> Architecture | None:
        """The model called ``name``, with or without its owner; None if it is not in the table.

        A tuned variant, such as Qwen2.5-7B-Instruct, has the shape of the model that it was tuned from.
        """
        key = self._key(name.lower())
        if not key:
            return None
        model, parts = self._models[key]
        return replace(model, parts=tuple(part for each in parts if (part := self.find(each))))

    def _key(self, name: str) -> str:
        while name:
            short = name.rpartition("/")[2]
            for key in (name, *(self._short.get(short + ending, "") for ending in _PLAIN)):
                if key in self._models:
                    return key
            name = shorter if (shorter := TUNED.sub("", name)) != name else ""
        return ""

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
    own = Architecture(
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
        confidence=row.needed("confidence"),
    )
    encoder = row.whole("encoder_layers")
    return own.with_encoder(encoder) if encoder else own, parts
