"""From text to examples of equal length, one at a time: what is held in RAM does not grow with the number of examples.

The text lies in an Arrow file that is mapped, not read: `datasets` makes it of WikiText or of a file of lines.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

LINES_AT_ONCE = 64
"""Lines that are tokenised together."""
SHUFFLED_AMONG = 1000
"""Examples among which the next one is drawn: 4 MB at 512 tokens."""


def load_lines(name: str, split: str) -> Dataset:
    """Lines of ``split`` in the column ``text``: of a folder with train.txt and validation.txt, or of WikiText.

    ``name`` is then the set on the hub and its configuration: ``Salesforce/wikitext:wikitext-103-raw-v1``.
    """
    folder = Path(name)
    if folder.is_dir():
        files = {split: str(folder / f"{split}.txt")}
        return load_dataset("text", data_files=files, split=split, cache_dir=str(folder / ".cache"))
    owner, _, configuration = name.partition(":")
    return load_dataset(owner, configuration or None, split=split)


@dataclass
class Examples(IterableDataset[Tensor]):
    """At most ``most`` examples of ``length`` token ids each, drawn in an order by ``seed``; as they come without one.

    Each worker process takes every n-th run of lines, and its share of the examples.
    """

    lines: Dataset
    tokenizer: PreTrainedTokenizerBase
    length: int
    most: int
    seed: int | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """Read until there are enough, and no further."""
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        most = self.most // workers + (number < self.most % workers)
        found = self.packed(number, workers)
        yield from first(found if self.seed is None else shuffled(found, random.Random(f"{self.seed} {number}")), most)

    def packed(self, number: int, workers: int) -> Iterator[Tensor]:
        """Texts one after another, an end-of-text token between them, cut into examples; a rest is dropped."""
        end, rest = self.tokenizer.eos_token_id, torch.empty(0, dtype=torch.long)
        for index, lines in enumerate(self.lines.iter(LINES_AT_ONCE)):
            if index % workers != number:
                continue
            texts = [text for text in lines["text"] if text.strip()]
            ids = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
            rest = torch.cat([rest, *(torch.tensor([*each, end]) for each in ids)])
            while len(rest) >= self.length:
                yield rest[: self.length].clone()
                rest = rest[self.length :]


def first(examples: Iterator[Tensor], most: int) -> Iterator[Tensor]:
    """The first ``most``; the one after them is never made."""
    for _, example in zip(range(most), examples, strict=False):
        yield example


def shuffled(examples: Iterator[Tensor], chooser: random.Random) -> Iterator[Tensor]:
    """Each drawn from the next SHUFFLED_AMONG that have not been drawn."""
    waiting: list[Tensor] = []
    for example in examples:
        if len(waiting) < SHUFFLED_AMONG:
            waiting.append(example)
            continue
        place = chooser.randrange(len(waiting))
        yield waiting[place]
        waiting[place] = example
    chooser.shuffle(waiting)
    yield from waiting
