"""DeepSeek-OCR-2 with 400,000 random weights: of DeepSeek's readers the one whose code transformers itself has."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import DeepseekOcr2Config, DeepseekOcr2ForConditionalGeneration, DeepseekOcr2Processor
from transformers.models.deepseek_ocr2.image_processing_pil_deepseek_ocr2 import DeepseekOcr2ImageProcessorPil
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

WIDTH = 64
SEEING = {
    "sam_config": {
        "hidden_size": 32, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "window_size": 2,
        "global_attn_indexes": [1], "downsample_channels": [32, WIDTH],
    },
    "encoder_config": {
        "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 8,
    },
}  # fmt: skip
WRITING = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
    "mlp_layer_types": ["dense", "sparse"], "max_position_embeddings": 4096,
}  # fmt: skip


def write_tiny_deepseek(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Two vision transformers, of SAM's and of a language model's kind, and a decoder with experts, as files."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    config = DeepseekOcr2Config(
        vision_config=SEEING,
        text_config={**WRITING, "vocab_size": len(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    DeepseekOcr2ForConditionalGeneration(config).save_pretrained(folder)
    DeepseekOcr2Processor(image_processor=DeepseekOcr2ImageProcessorPil(), tokenizer=tokenizer).save_pretrained(folder)
    return folder
