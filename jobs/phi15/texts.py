"""Labelled texts: a data set of the hub, or a folder with train.csv and validation.csv, of columns text and label."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import BatchEncoding, PreTrainedTokenizerBase

Batch = tuple[BatchEncoding, Tensor]


@dataclass(frozen=True)
class Texts:
    """Both splits, as they lie on the disk: only what a batch needs is read and tokenised."""

    train: Dataset
    validation: Dataset
    classes: int


def load_texts(name: str, most_train: int, most_validation: int, seed: int) -> Texts:
    """Up to so many examples of each split, drawn by ``seed``. Raises SystemExit where a column is missing."""
    folder = Path(name)
    if folder.is_dir():
        files = {split: str(folder / f"{split}.csv") for split in ("train", "validation")}
        splits = load_dataset("csv", data_files=files, cache_dir=str(folder / ".cache"))
    else:
        splits = load_dataset(name)
    validation = splits["validation" if "validation" in splits else "test"]
    if missing := {"text", "label"} - set(validation.column_names):
        raise SystemExit(
            f"{name} has no column {' and no '.join(sorted(missing))}; rename those of yours to text, label"
        )
    train = splits["train"]
    classes = 1 + max(max(split["label"]) for split in (train, validation))
    return Texts(_some(train, most_train, seed), _some(validation, most_validation, seed), classes)


def _some(split: Dataset, most: int, seed: int) -> Dataset:
    return split.shuffle(seed=seed).select(range(min(most, len(split))))


def collator(tokenizer: PreTrainedTokenizerBase, max_length: int) -> Callable[[list[dict[str, Any]]], Batch]:
    """From examples to a batch, padded to its longest text."""

    def collate(examples: list[dict[str, Any]]) -> Batch:
        texts = [each["text"] for each in examples]
        batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        return batch, torch.tensor([each["label"] for each in examples])

    return collate


def batches(split: Dataset, size: int, collate: Callable[..., Batch], order: int | None) -> Iterator[Batch]:
    """Batches of ``split``, shuffled by the seed ``order``; in its own order without one."""
    shuffler = None if order is None else torch.Generator().manual_seed(order)
    return iter(DataLoader(split, size, shuffle=order is not None, generator=shuffler, collate_fn=collate))
