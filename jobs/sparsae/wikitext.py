"""Trains a language model with a sparse autoencoder in its middle on WikiText; goes on from its checkpoint.

python wikitext.py --model_size tiny --batch_size 4 --max_train_examples 30000
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rehearsal import rehearse
from sparse import SIZES, Pass, SparseLanguageModel, Sparsity, unexplained
from stream import Examples, load_lines
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PreTrainedTokenizerBase, __version__

LONGEST_GRADIENT = 1.0
SAID_EVERY = 200
"""Steps."""
COMPUTING = {"fp32": None, "amp-bf16": torch.bfloat16}


@dataclass
class Run:
    """All that changes while it trains, and the settings that do not."""

    args: argparse.Namespace
    device: torch.device
    tokenizer: PreTrainedTokenizerBase
    model: SparseLanguageModel
    optimizer: torch.optim.Optimizer
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    def batches(self, split: str) -> DataLoader[torch.Tensor]:
        """Batches of token ids, [batch, tokens], tokenised as they are asked for."""
        args, training = self.args, split == "train"
        most = args.max_train_examples if training else args.max_val_examples
        seed = args.seed * 1_000 + self.epoch if training else None
        examples = Examples(load_lines(args.data, split), self.tokenizer, args.max_length, most, seed)
        pinned = args.num_workers > 0 and self.device.type == "cuda"
        return DataLoader(examples, args.batch_size, num_workers=args.num_workers, pin_memory=pinned)

    def run(self, ids: torch.Tensor) -> tuple[Pass, torch.Tensor]:
        """A forward pass; the second value is the fraction of variance that the autoencoder loses."""
        kind = COMPUTING[self.args.precision]
        with torch.autocast(self.device.type, dtype=kind, enabled=kind is not None):
            passed = self.model(ids.to(self.device, non_blocking=True))
        return passed, unexplained(passed.stream, passed.read_back)


def build(args: argparse.Namespace) -> Run:
    """The run before its first epoch."""
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")  # TF32 where the GPU has it: eight times as fast, in the same memory
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    with device:  # weights are made where they are used, and never in RAM
        model = SparseLanguageModel(SIZES[args.model_size], len(tokenizer), args.max_length)
    return Run(args, device, tokenizer, model, torch.optim.AdamW(model.parameters(), lr=args.lr))


def train_epoch(run: Run) -> dict[str, float]:
    """One pass over the examples; returns the mean losses. Raises SystemExit where there is too little text."""
    run.model.train()
    sums, steps = torch.zeros(2, dtype=torch.float64), 0
    for ids in run.batches("train"):
        passed, lost = run.run(ids)
        (passed.cross_entropy + run.args.reconstruction * lost).backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), LONGEST_GRADIENT)
        run.optimizer.step()
        run.optimizer.zero_grad()
        sums += torch.tensor([passed.cross_entropy.item(), lost.item()])
        steps += 1
        if steps % SAID_EVERY == 0:
            print(f"  step {steps}: cross entropy {sums[0] / steps:.4f}, unexplained {sums[1] / steps:.4f}", flush=True)
    if not steps:
        raise SystemExit(f"{run.args.data} has less text than one example of {run.args.max_length} tokens")
    return {"cross_entropy": sums[0].item() / steps, "unexplained": sums[1].item() / steps, "steps": steps}


@torch.no_grad()
def evaluate(run: Run) -> dict[str, float]:
    """Loss, sparsity and reconstruction over the validation set. Raises SystemExit where it is too short."""
    run.model.eval()
    sums, examples, sparsity = torch.zeros(2, dtype=torch.float64), 0, Sparsity()
    for ids in run.batches("validation"):
        passed, lost = run.run(ids)
        sums += torch.tensor([passed.cross_entropy.item(), lost.item()]) * len(ids)
        examples += len(ids)
        sparsity.see(passed.latents)
    if not examples:
        raise SystemExit(f"{run.args.data} has less text for validation than {run.args.max_length} tokens")
    cross_entropy, lost_share = (sums / examples).tolist()
    measures = {"cross_entropy": cross_entropy, "perplexity": math.exp(cross_entropy), "unexplained": lost_share}
    return {**measures, **sparsity.measures(), "examples": examples}


def train(run: Run, checkpoint: Path) -> None:
    """All epochs that are not done yet; a checkpoint after each."""
    while run.epoch < run.args.epochs:
        began = time.monotonic()
        losses = train_epoch(run)
        seconds = time.monotonic() - began
        found = evaluate(run)
        run.history.append({"epoch": run.epoch + 1, "train": losses, "validation": found, "seconds": seconds})
        said = (
            f"perplexity {found['perplexity']:.2f}, unexplained {found['unexplained']:.4f}, {found['l0']:.1f} latents"
        )
        print(f"epoch {run.epoch}: {said} a token, {found['dead_share']:.0%} dead, {seconds:.1f} s", flush=True)
        save(run, checkpoint)


def save(run: Run, path: Path) -> None:
    """Write the checkpoint, whole or not at all."""
    model, optimizer = run.model.state_dict(), run.optimizer.state_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(
        {"settings": settings(run.args), "history": run.history, "model": model, "optimizer": optimizer}, partial
    )
    partial.replace(path)


def resume(run: Run, path: Path) -> None:
    """Go on from the checkpoint, if there is one of the same settings; another variant's is left alone."""
    if not path.exists():
        return
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"] != settings(run.args):
        print(f"{path} is of other settings: starting from the beginning", flush=True)
        return
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.history = state["history"]
    print(f"going on after epoch {run.epoch}", flush=True)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What a checkpoint must agree in: all but where files lie, and for how many epochs it goes on."""
    return {name: value for name, value in vars(args).items() if name not in ("out", "checkpoints", "epochs")}


def memory(device: torch.device) -> dict[str, int]:
    """Bytes: the peak of resident memory, pages of the mapped text included; of the GPU its peaks and its size."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        found["peak_vram_allocated_bytes"] = torch.cuda.max_memory_allocated()
        found["peak_vram_reserved_bytes"] = torch.cuda.max_memory_reserved()
        found["vram_free_bytes"], found["vram_total_bytes"] = torch.cuda.mem_get_info()
    return found


def report(run: Run) -> dict[str, Any]:
    """What goes into metrics.json."""
    return {
        **run.history[-1]["validation"],
        "history": run.history,
        "seconds_per_step": run.history[-1]["seconds"] / run.history[-1]["train"]["steps"],
        "settings": settings(run.args),
        "parameters": sum(each.numel() for each in run.model.parameters()),
        **memory(run.device),
        "device": torch.cuda.get_device_name() if run.device.type == "cuda" else "cpu",
        "versions": {"torch": torch.__version__, "transformers": __version__},
    }


def tell(step_seconds: float) -> None:
    """Tell gpujob what a step takes, where it runs this."""
    if told := os.environ.get("GPUJOB_METRICS"):
        Path(told).write_text(json.dumps({"step_seconds": step_seconds}), encoding="utf-8")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_size", choices=tuple(SIZES), default="tiny")
    parser.add_argument("--precision", choices=tuple(COMPUTING), default="fp32")
    for name, default in (("batch_size", 4), ("max_train_examples", 30_000), ("max_val_examples", 3_000),
                          ("max_length", 512), ("epochs", 3)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--num_workers", type=int, default=0, help="processes that tokenise; 0 takes the least RAM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--reconstruction", type=float, default=1.0, help="weight of the variance that is lost")
    parser.add_argument("--data", default="Salesforce/wikitext:wikitext-103-raw-v1", help="or a folder of .txt files")
    parser.add_argument("--tokenizer", default="openai-community/gpt2", help="name on the hub, or a folder")
    parser.add_argument("--rehearse", choices=("true", "false"), default="false", help="generated text instead")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    for name in ("batch_size", "max_train_examples", "max_val_examples", "epochs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.max_length < 2 or args.num_workers < 0:
        parser.error("--max_length must be at least 2, and --num_workers not below 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Train, and write the results when they are complete."""
    args = parse(argv)
    if args.rehearse == "true":
        args.data, args.tokenizer = rehearse()
    run = build(args)
    print(f"{args.model_size}: {sum(each.numel() for each in run.model.parameters()):,} parameters on {run.device}; "
          f"{memory(run.device)}", flush=True)  # fmt: skip
    checkpoint = args.checkpoints / "last.pt"
    resume(run, checkpoint)
    train(run, checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(run.model.state_dict(), args.out / "model.pt")
    metrics = report(run)
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    tell(metrics["seconds_per_step"])


if __name__ == "__main__":
    main()
