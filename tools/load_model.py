"""Load a language model in one dtype and read 128 tokens with it: what tools/measure_jobs.py measures of loading.

python load_model.py FOLDER fp32|fp16|bf16
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

KINDS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TOKENS = 128


def main(folder: str, kind: str) -> None:
    """Load, read, and write ``results/metrics.json``; the GPU is used if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=KINDS[kind]).to(device)
    with torch.inference_mode():
        model(torch.zeros(1, TOKENS, dtype=torch.long, device=device))
    found = {
        "parameters": sum(each.numel() for each in model.parameters()),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if device == "cuda":
        found["peak_vram_allocated_bytes"] = torch.cuda.max_memory_allocated()
        found["peak_vram_reserved_bytes"] = torch.cuda.max_memory_reserved()
    Path("results").mkdir(exist_ok=True)
    Path("results", "metrics.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
