"""Fine-tunes a language model as a classifier with losses that shape its geometry; goes on from its checkpoint.

python train.py --model microsoft/phi-1_5 --data fancyzhx/ag_news --out results
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
from calibration import all_metrics
from classifier import PRECISIONS, Classifier, Precision, load_classifier, load_tokenizer, trained_state
from geometry import GeometricLoss, Weights
from optimizers import NAMES, OffloadedAdamW, make_optimizer
from rehearsal import rehearse
from texts import Texts, batches, collator, load_texts
from torch import Tensor
from torch.nn import functional
from transformers import BatchEncoding, __version__

CHECKPOINT_EVERY = 2
"""Epochs."""
LONGEST_GRADIENT = 1.0


@dataclass
class Run:
    """All that changes while it trains, and the settings that do not."""

    args: argparse.Namespace
    device: torch.device
    precision: Precision
    model: Classifier
    criterion: GeometricLoss
    optimizer: torch.optim.Optimizer | OffloadedAdamW
    scaler: torch.amp.GradScaler
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    def computing(self) -> torch.autocast:
        """The precision of the forward pass."""
        kind = self.precision.computing
        return torch.autocast(self.device.type, dtype=kind, enabled=kind is not None)


def build(args: argparse.Namespace, classes: int) -> Run:
    """The run before its first epoch."""
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = PRECISIONS[args.precision]
    model = load_classifier(args.model, classes, precision, lora=args.method == "lora").to(device)
    weights = Weights(args.stability, args.center, args.separation, args.brier)
    criterion = GeometricLoss(classes, model.head.in_features, weights).to(device)
    optimizer = make_optimizer(args.optimizer, model.parameters(), args.lr)
    scaler = torch.amp.GradScaler(device.type, enabled=precision.scales)
    return Run(args, device, precision, model, criterion, optimizer, scaler)


def train_epoch(run: Run, texts: Texts, collate: Any) -> dict[str, float]:
    """One pass over the data; returns the mean of each loss.

    The seed is that of the epoch, so an epoch is the same whether or not the run was interrupted before it.
    """
    torch.manual_seed(run.args.seed * 1_000 + run.epoch)
    run.model.train()
    sums: dict[str, float] = {}
    count = math.ceil(len(texts.train) / run.args.batch_size)
    found = batches(texts.train, run.args.batch_size, collate, order=run.args.seed + run.epoch)
    for number, (batch, labels) in enumerate(found, 1):
        parts = backward(run, batch.to(run.device), labels.to(run.device))
        sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
        if number % run.args.accumulate == 0 or number == count:
            step(run)
    return {name: total / count for name, total in sums.items()}


def backward(run: Run, batch: BatchEncoding, labels: Tensor) -> dict[str, float]:
    """Gradients of one batch, by its share in the step; returns its losses."""
    with run.computing():
        pooled = run.model(batch)
        loss, parts = run.criterion(run.model.head, pooled, labels)
    run.scaler.scale(loss / run.args.accumulate).backward()
    return parts


def step(run: Run) -> None:
    """Clip what has been added up, and take it."""
    if run.scaler.is_enabled():
        run.scaler.unscale_(run.optimizer)
    trained = [each for group in run.optimizer.param_groups for each in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, LONGEST_GRADIENT)
    if run.scaler.is_enabled():
        run.scaler.step(run.optimizer)
        run.scaler.update()
    else:
        run.optimizer.step()
    run.optimizer.zero_grad()


@torch.no_grad()
def evaluate(run: Run, texts: Texts, collate: Any) -> dict[str, float]:
    """Accuracy, calibration and geometry on the validation set."""
    run.model.eval()
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch, labels in batches(texts.validation, run.args.batch_size, collate, order=None):
        with run.computing():
            pooled = run.model(batch.to(run.device))
            logits = run.model.head(pooled)
        seen.append((logits.float().softmax(1).cpu(), labels, functional.normalize(pooled.float(), dim=1).cpu()))
    return all_metrics(*(torch.cat(each) for each in zip(*seen, strict=True)))


def save(run: Run, path: Path) -> None:
    """Write the checkpoint, whole or not at all."""
    state = {
        "settings": settings(run.args),
        "history": run.history,
        "model": trained_state(run.model),
        "centers": run.criterion.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def resume(run: Run, path: Path) -> None:
    """Go on from the checkpoint, if there is one of the same settings; another variant's is left alone."""
    if not path.exists():
        return
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"] != settings(run.args):
        print(f"{path} is of other settings: starting from the beginning", flush=True)
        return
    run.model.load_state_dict(state["model"], strict=False)
    run.criterion.load_state_dict(state["centers"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.scaler.load_state_dict(state["scaler"])
    run.history = state["history"]
    print(f"going on after epoch {run.epoch}", flush=True)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What a checkpoint must agree in: all but where files lie, and for how many epochs it goes on."""
    return {name: value for name, value in vars(args).items() if name not in ("out", "checkpoints", "epochs")}


def peaks(device: torch.device) -> dict[str, int]:
    """Peaks in bytes: of resident memory, and of what torch took on the GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        found["peak_vram_allocated_bytes"] = torch.cuda.max_memory_allocated()
        found["peak_vram_reserved_bytes"] = torch.cuda.max_memory_reserved()
    return found


def train(run: Run, texts: Texts, checkpoint: Path) -> None:
    """All epochs that are not done yet."""
    collate = collator(load_tokenizer(run.args.model), run.args.max_length)
    while run.epoch < run.args.epochs:
        began = time.monotonic()
        losses = train_epoch(run, texts, collate)
        seconds = time.monotonic() - began
        found = evaluate(run, texts, collate)
        run.history.append({"epoch": run.epoch + 1, "train": losses, "validation": found, "seconds": seconds})
        print(f"epoch {run.epoch}: loss {losses['loss']:.4f}, accuracy {found['accuracy']:.3f}, "
              f"ECE {found['ece']:.3f}, {seconds:.1f} s", flush=True)  # fmt: skip
        if run.epoch % CHECKPOINT_EVERY == 0 or run.epoch == run.args.epochs:
            save(run, checkpoint)


def report(run: Run, texts: Texts) -> dict[str, Any]:
    """What goes into metrics.json."""
    seconds = sum(each["seconds"] for each in run.history) / len(run.history)
    return {
        **run.history[-1]["validation"],
        "history": run.history,
        "settings": settings(run.args),
        "parameters": sum(each.numel() for each in run.model.parameters()),
        "trained_parameters": sum(each.numel() for each in run.model.parameters() if each.requires_grad),
        "examples": {"train": len(texts.train), "validation": len(texts.validation)},
        "seconds_per_epoch": seconds,
        "seconds_per_step": seconds / math.ceil(len(texts.train) / (run.args.batch_size * run.args.accumulate)),
        **peaks(run.device),
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
    parser.add_argument("--model", required=True, help="name on the hub, or a folder")
    parser.add_argument("--data", required=True, help="data set of the hub, or a folder with train.csv, validation.csv")
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="amp-fp16")
    parser.add_argument("--optimizer", choices=NAMES, default="adamw")
    for name, default in (("batch-size", 8), ("accumulate", 1), ("max-length", 512), ("epochs", 10), ("seed", 0),
                          ("max-train-examples", 2000), ("max-val-examples", 1000)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, weight in vars(Weights()).items():
        parser.add_argument(f"--{name}", type=float, default=weight, help="weight of this loss")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--rehearse", choices=("true", "false"), default="false", help="tiny model, generated texts")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    for name in ("batch_size", "accumulate", "max_length", "epochs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Train, and write the results when they are complete."""
    args = parse(argv)
    if args.rehearse == "true":
        args.model, args.data = rehearse(args.model)
    texts = load_texts(args.data, args.max_train_examples, args.max_val_examples, args.seed)
    run = build(args, texts.classes)
    checkpoint = args.checkpoints / "last.pt"
    resume(run, checkpoint)
    train(run, texts, checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)
    metrics = report(run, texts)
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    tell(metrics["seconds_per_step"])
    save_model(run.model, args.out / "classifier.pt")


def save_model(model: Classifier, path: Path) -> None:
    """What was trained, in 16 bit where it was more: what is needed to use it."""
    torch.save({name: each.to(torch.bfloat16) for name, each in trained_state(model).items()}, path)


if __name__ == "__main__":
    main()
