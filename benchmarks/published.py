"""What sources of published peaks call their models, and what their scripts did: set once per source, never per row."""

from __future__ import annotations

from typing import Any

NAMES = {
    "qwen-1_8b-chat": "Qwen/Qwen-1_8B", "qwen-7b-chat": "Qwen/Qwen-7B", "qwen-14b-chat": "Qwen/Qwen-14B",
    "Qwen-14B": "Qwen/Qwen-14B", "qwen-72b-chat": "Qwen/Qwen-72B", "chatglm3-6b": "THUDM/chatglm3-6b",
    "yi-6b-chat": "01-ai/Yi-6B", "openbuddy-zephyr-7b-chat": "HuggingFaceH4/zephyr-7b-beta",
    "baichuan2-7b-chat": "baichuan-inc/Baichuan2-7B-Chat", "meta-llama/Llama-3.2-3B": "meta-llama/Llama-3.2-3B",
    "bert-large-uncased": "google-bert/bert-large-uncased", "phi1.5": "microsoft/phi-1_5",
    "llama2-7b": "meta-llama/Llama-2-7b-hf", "gpt2nd": "gpt2", "llama1b": "meta-llama/Llama-3.2-1B",
    "llama3b": "meta-llama/Llama-3.2-3B", "bertbase": "google-bert/bert-base-uncased",
    "berttiny": "prajjwal1/bert-tiny", "falcon-7b": "tiiuae/falcon-7b", "gemma-2b": "google/gemma-2b",
    "gemma-7b": "google/gemma-7b", "gemma-2-9b": "google/gemma-2-9b", "llama-2-7b": "meta-llama/Llama-2-7b-hf",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B", "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B", "llama-3.2-3b": "meta-llama/Llama-3.2-3B",
    "mistral-7b": "mistralai/Mistral-7B-v0.1", "phi-2": "microsoft/phi-2", "phi-1.5 1.3 B": "microsoft/phi-1_5",
    "Llama 2 7 B": "meta-llama/Llama-2-7b-hf", "CodeLlama 34 B": "codellama/CodeLlama-34b-hf",
    "Falcon 40 B": "tiiuae/falcon-40b",
}  # fmt: skip

STACKS: dict[str, dict[str, Any]] = {
    # padded to the longest of each batch, current versions; PEFT's default targets
    "peft": {"lengths": "dynamic", "transformers": 5, "lora": {"rank": 32}},
    # Trainer of early 2024, accumulating over 16 batches of varying length; rank 8
    "ms-swift": {"lengths": "dynamic", "transformers": 4, "grad_accumulation": 16, "lora": {"rank": 8}},
    # finetune.py with rank 64 on all matrices, accumulating over 8 batches
    "Qwen": {"transformers": 4, "grad_accumulation": 8, "lora": {"rank": 64, "targets": "all-linear"}},
    # a classifier on a V100 with the eager attention of 2022
    "HF": {"transformers": 4, "attention": "eager", "head": "classifier"},
    # litgpt's own blocks, loss in chunks, two embeddings of every model; adapters by model, below
    "litgpt": {"chunked_loss": True, "transformers": 4, "optimizer": "adamw", "tied": False},
}
LITGPT_LORA = {
    "gemma-2b": {"rank": 8, "targets": "all-linear"},
    "gemma-7b": {"rank": 16, "targets": "all-linear"},
    "gemma-2-9b": {"rank": 16, "targets": "all-linear"},
    "phi-2": {"rank": 8, "targets": "all-linear"},
}
"""As its config_hub has them (lora.yaml of commit 26857050): some adapt every matrix, the others queries and values
with rank 32. The tables of 2023 have rank 8 on queries and values."""
METRIC = {"peft": "reserved", "ms-swift": "device", "Qwen": "device", "HF": "device", "litgpt": "allocated"}
TORCHTUNE: dict[str, dict[str, Any]] = {
    "+packed": {},
    "+compile": {"compile": True},
    "+chunked CE": {"compile": True, "chunked_loss": True},
    "+activation ckpt": {"compile": True, "chunked_loss": True, "gradient_checkpointing": True},
}
"""What its table adds, step by step. What comes after these is not modelled: the optimizer within the backward pass."""
UNSTATED = "itu-rad/GPUMemNet"
UNSTATED_NAMES = {
    "BERT_base": "google-bert/bert-base-uncased", "BERT_large": "google-bert/bert-large-uncased",
    "gpt2_large": "gpt2-large", "gpt2_xl": "gpt2-xl",
}  # fmt: skip
OLD_CONTEXT = 893_000_000
"""The context of 1,343 MB that the row of 2022 states, beyond today's."""
CAPACITY = {"A10G": 23.0e9, "A100": 42.0e9, "L40S": 47.6e9, "80": 84.4e9}
