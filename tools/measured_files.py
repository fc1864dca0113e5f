"""Models of real architectures with random weights, a tokenizer and texts, as the hub would give them as files."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PhiConfig, PhiForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

TEXTS, TOKENS, PHI, BERT = "texts", "tokens", "phi-1_5", "bert-tiny"
"""Folders within the one in which everything is made."""
GPT2_TOKENS, BERT_TOKENS = 50_257, 30_522
END = "<|endoftext|>"
PHI_PARAMETERS = 1_418_270_720
LINES, WORDS = 200, 600
"""Texts of more tokens than any example has, and enough of them for the largest batch twice."""


def write_texts(work: Path) -> None:
    """Lines of random words for sparsae, and the same with labels for phi15."""
    folder = work / TEXTS
    folder.mkdir(parents=True, exist_ok=True)
    chooser = random.Random(0)
    for split in ("train", "validation"):
        texts = [" ".join(f"w{chooser.randrange(BERT_TOKENS - 1)}" for _ in range(WORDS)) for _ in range(LINES)]
        (folder / f"{split}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *((text, number % 4) for number, text in enumerate(texts))])


def make_tokens(work: Path) -> None:
    """A tokenizer with as many tokens as GPT-2's, on which the size of sparsae's models depends; and texts for it."""
    write_texts(work)
    _save_tokenizer(work / TOKENS, GPT2_TOKENS)


def _save_tokenizer(folder: Path, size: int) -> None:
    """Every word ``w<number>`` is a token. None is for padding, as with GPT-2 and Phi."""
    vocabulary = {END: 0, **{f"w{number}": number + 1 for number in range(size - 1)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token=END, eos_token=END).save_pretrained(folder)


def make_phi(work: Path) -> None:
    """Phi-1.5, in fp16 as its file is: transformers' own defaults for Phi are its shape. It takes 3 GB of RAM."""
    _save_model(work / PHI, PhiForCausalLM, PhiConfig(), PHI_PARAMETERS, GPT2_TOKENS, torch.float16)


def make_bert(work: Path) -> None:
    """prajjwal1/bert-tiny: two blocks, 128 wide, in fp32."""
    config = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
    _save_model(work / BERT, BertModel, config, 4_385_920, BERT_TOKENS, torch.float32)


def _save_model(
    folder: Path, kind: type[PreTrainedModel], config: PhiConfig | BertConfig, count: int, tokens: int,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    """Model and tokenizer in ``folder``, made once; it must have exactly as many parameters as the published one."""
    if (folder / "tokenizer.json").exists():
        return
    write_texts(folder.parent)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        model = kind(config)
    finally:
        torch.set_default_dtype(torch.float32)
    made = sum(each.numel() for each in model.parameters())
    assert made == count, f"{folder.name} has {made} parameters and not {count}"
    model.save_pretrained(folder)
    _save_tokenizer(folder, tokens)
