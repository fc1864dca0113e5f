"""A tiny model with random weights and texts with a pattern, made here, so that the job can be rehearsed in seconds.

Both are files as the hub has them: from here on the job's own code loads them, and nothing in it knows the difference.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModel, BertConfig, PhiConfig, PreTrainedTokenizerFast

FOLDER = Path("rehearsal")
TOPICS = ("ship harbour sail anchor", "bread oven flour crust", "court judge verdict appeal", "goal match league coach")
FILLER = "the a of and then again often never here there one two many few some other such very quite rather"


def rehearse(model: str) -> tuple[str, str]:
    """A tiny relative of ``model`` and texts to go with it; returns the folders of both."""
    random.seed(0)
    FOLDER.mkdir(exist_ok=True)
    for split, count in (("train", 96), ("validation", 48)):
        _write_texts(FOLDER / f"{split}.csv", count)
    made = FOLDER / ("bert" if "bert" in model else "phi")
    tokenizer = _tokenizer(made)
    if not (made / "config.json").exists():
        _model(made.name, len(tokenizer)).save_pretrained(made)
    return str(made), str(FOLDER)


def _write_texts(path: Path, count: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for index in range(count):
            label = index % len(TOPICS)
            words = random.choices(TOPICS[label].split(), k=6) + random.choices(FILLER.split(), k=random.randint(4, 14))
            random.shuffle(words)
            writer.writerow([" ".join(words), label])


def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Words of the texts. It has an end-of-text token and no pad token, as that of Phi-1.5."""
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", "<|endoftext|>"])
    words.train_from_iterator([*TOPICS, FILLER], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    return tokenizer


def _model(family: str, vocabulary: int) -> AutoModel:
    import torch

    shape = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = (BertConfig if family == "bert" else PhiConfig)(
        **shape, intermediate_size=64, max_position_embeddings=64, initializer_range=0.1
    )
    torch.manual_seed(0)
    return AutoModel.from_config(config)
