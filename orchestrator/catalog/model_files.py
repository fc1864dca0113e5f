"""What files say of a model: config.json, and the header of a safetensors file, here or on the hub."""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

MAX_CONFIG = 1_000_000
MAX_HEADER = 100_000_000


class ModelFileError(Exception):
    """A file cannot be used. The message says which, why, and what to do."""


def read_config(path: Path) -> Mapping[str, Any]:
    """The JSON object in ``path``. Raises ModelFileError."""
    try:
        config = json.loads(path.read_bytes()[:MAX_CONFIG])
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}. Write the path of config.json under model.config.") from None
    except ValueError as error:
        raise ModelFileError(f"{path}: no JSON ({error}). Name the model's config.json.") from None
    if not isinstance(config, dict):
        raise ModelFileError(f"{path}: no JSON object. Name the model's config.json.")
    return config


def safetensors_counts(path: Path) -> dict[str, int]:
    """Elements by dtype, such as ``{"BF16": 1418270720}``; only the header is read. Raises ModelFileError."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= MAX_HEADER:
                raise ModelFileError(f"{path}: no safetensors file. Name one that ends with .safetensors.")
            return _counted(json.loads(file.read(length)))
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}. Write the path of the file under model.weights.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelFileError(f"{path}: its header is no safetensors header. Is the download complete?") from None


def _counted(header: Mapping[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + prod(tensor["shape"])
    return counts


def hub_counts(name: str, cache: Path) -> dict[str, int] | None:
    """Elements by dtype of the model ``name`` on the hub, which is asked once: the answer is kept in ``cache``.

    None without huggingface_hub, without network, or where the model has no safetensors: callers fall back.
    """
    if kept := kept_counts(name, cache):
        return kept
    try:
        hub = importlib.import_module("huggingface_hub")
        counts = dict(hub.get_safetensors_metadata(name).parameter_count)
    except (ImportError, OSError, ValueError, RuntimeError):
        return None
    cache.mkdir(parents=True, exist_ok=True)
    _kept_at(name, cache).write_text(json.dumps(counts), encoding="utf-8")
    return counts


def kept_counts(name: str, cache: Path) -> dict[str, int] | None:
    """What ``hub_counts`` was told earlier; None if nothing."""
    kept = _kept_at(name, cache)
    if not kept.is_file():
        return None
    return {str(key): int(value) for key, value in json.loads(kept.read_text(encoding="utf-8")).items()}


def _kept_at(name: str, cache: Path) -> Path:
    return cache / f"{name.replace('/', '--')}.json"
