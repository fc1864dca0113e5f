"""Generated text and a tokenizer of its words, as files, so that the job can be rehearsed without a download."""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

FOLDER = Path("rehearsal")
SUBJECTS = ["the fox", "the old judge", "a pilot", "our neighbour", "the river"]
VERBS = ["crosses", "remembers", "repairs", "follows", "describes"]
OBJECTS = ["a narrow bridge", "the second letter", "that engine", "the harbour", "an answer"]


def rehearse(lines: int = 1000) -> tuple[str, str]:
    """Make train.txt, validation.txt and a tokenizer; returns the folder of the text and that of the tokenizer."""
    FOLDER.mkdir(exist_ok=True)
    chooser = random.Random(0)
    for split, count in (("train", lines), ("validation", lines // 10)):
        text = "".join(f"{paragraph(chooser)}\n" for _ in range(count))
        (FOLDER / f"{split}.txt").write_text(text, encoding="utf-8")
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", "<|endoftext|>"])
    words.train_from_iterator([*SUBJECTS, *VERBS, *OBJECTS, "."], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<|endoftext|>")
    fast.save_pretrained(FOLDER / "tokenizer")
    return str(FOLDER), str(FOLDER / "tokenizer")


def paragraph(chooser: random.Random) -> str:
    """Some sentences on a line, as WikiText has them."""
    return " ".join(sentence(chooser) for _ in range(chooser.randint(1, 9)))


def sentence(chooser: random.Random) -> str:
    """A subject, a verb and an object; the verb depends on the subject, so there is something to learn."""
    subject = chooser.randrange(len(SUBJECTS))
    return f"{SUBJECTS[subject]} {VERBS[subject]} {chooser.choice(OBJECTS)} ."
