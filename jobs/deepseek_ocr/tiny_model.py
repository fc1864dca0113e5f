"""A vision-language model of 170,000 random weights, saved as any model of transformers is: for smoke runs and tests.

It sees and writes like TrOCR (a vision transformer and a decoder that attends to it), and what it writes is nonsense.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pages import documents
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    TrOCRConfig,
    TrOCRProcessor,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
WORDS, SIDE, WIDTH = 400, 64, 64  # of 64 or a multiple: 4-bit weights come in blocks of 64


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Save model, image processor and tokenizer in ``folder``; the same seed gives the same weights."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    encoder = ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=128, image_size=SIDE
    )
    decoder = TrOCRConfig(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=128,
        max_position_embeddings=128,
        cross_attention_hidden_size=WIDTH,
    )
    model = VisionEncoderDecoderModel(VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder))
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id = tokenizer.bos_token_id
        config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model.save_pretrained(folder)
    seeing = ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    TrOCRProcessor(image_processor=seeing, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs, learned from the job's own texts."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=list(SPECIAL.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(documents().values(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
