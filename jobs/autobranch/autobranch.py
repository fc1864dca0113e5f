"""Branches of creative writing: many openings from a model that Ollama serves, of which those too alike are pruned.

Leaves ``branches.json``, ``branches.md`` and, last, ``metrics.json`` in ``results/``. Every opening is kept in
``checkpoints/`` as soon as it is written; a run that is started again goes on from there to the same result.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ollama import OllamaError, Server
from results import write_results
from scenarios import SCENARIOS
from writing import Openings, Settings, Writer


def main() -> int:
    """Write, embed, prune; the exit code, 0 only if all of it is there."""
    args = arguments()
    settings = Settings(args.model, args.embedder, args.processor, args.tokens, args.temperature, args.seed)
    chosen = dict(list(SCENARIOS.items())[: args.scenarios])
    cache = Path(args.cache).expanduser().absolute()
    cache.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        openings = Openings(Path("checkpoints") / "openings.jsonl")
        with Server(cache, args.context, args.out / "ollama.log") as server:
            writer = Writer(server, settings, openings)
            writer.begin()
            written = {name: writer.write(prompt, args.candidates, name) for name, prompt in chosen.items()}
            vectors = {name: writer.embed([each.text for each in texts]) for name, texts in written.items()}
            write_results(args.out, chosen, written, vectors, writer, keep=args.keep, similarity=args.similarity)
    except (OllamaError, ValueError) as error:  # ValueError: embeddings that nothing can be compared with
        print(f"autobranch: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="Write openings with Ollama, and keep those that differ.")
    parser.add_argument("--model", default="llama3.1:8b")
    parser.add_argument("--embedder", default="all-minilm")
    parser.add_argument(
        "--processor", choices=("gpu", "any"), default="gpu", help="gpu: fail if the CPU has a part in it"
    )
    parser.add_argument("--context", type=count, default=4096, help="tokens")
    parser.add_argument("--scenarios", type=count, default=len(SCENARIOS), help="how many of them")
    parser.add_argument("--candidates", type=count, default=10, help="openings written for each scenario")
    parser.add_argument("--keep", type=count, default=4, help="most branches kept of each scenario")
    parser.add_argument("--similarity", type=cosine_limit, default=0.85, help="of two openings more alike one goes")
    parser.add_argument("--tokens", type=count, default=400, help="longest opening")
    parser.add_argument("--temperature", type=float, default=1.2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--cache", default="~/.cache/autobranch", help="folder for Ollama and its models, kept from run to run"
    )
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    if args.scenarios > len(SCENARIOS):
        parser.error(f"argument --scenarios: there are {len(SCENARIOS)}")
    return args


def count(text: str) -> int:
    """A whole number from 1 up."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def cosine_limit(text: str) -> float:
    """More than 0, at most 1."""
    if not 0 < (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError("it must be more than 0 and at most 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
