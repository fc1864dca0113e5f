"""Serve one prediction from a checkpoint, within a size limit for its file and a cap on memory.

    python serve.py results/model_int8.pt --image cat.jpg --memory "512 MB" --max-size "350 MB"

Prints one line of JSON: the class, the probabilities, the seconds, and the most memory that was held. Exit code 2: the
file was refused before anything was loaded; 1: it cannot be read, or its memory ran out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from sizes import BrokenFileError, TooLargeError, checked_size, in_megabytes, parse_size

REFUSED = 2

FRUGAL = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""One heap for all threads, and what is freed goes back at once: else the peak differs by 50 MB from run to run."""


def cap_memory(limit: int) -> None:
    """Let this process have at most ``limit`` bytes of data: heap, stacks, and files mapped privately.

    Linux keeps it (RLIMIT_DATA counts mappings since 4.7) and refuses what goes beyond; other systems may not.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def held_bytes() -> int:
    """The most data that this process has had in private memory, as RLIMIT_DATA counts it now; 0 where not told."""
    for line in _status():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def peak_rss_bytes() -> int:
    """The most memory that this process had resident, pages of libraries and mapped files included."""
    for line in _status():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status() -> list[str]:
    path = Path("/proc/self/status")
    return path.read_text().splitlines() if path.exists() else []


def predict(checkpoint: Path, image: Path | None, side: int) -> dict[str, Any]:
    """The class of ``image``, or of a pattern that is drawn if there is none."""
    import torch  # only now: a checkpoint that is refused costs no memory

    torch.set_num_threads(1)  # a thread more is a stack and an arena more
    from images import from_file, generated, normalised
    from quantizing import load_quantized

    model = load_quantized(checkpoint)
    inputs = normalised(from_file(image, side)[None]) if image else generated(1, side, seed=0)[0]
    start = time.perf_counter()
    with torch.inference_mode():
        probabilities = model(inputs).logits.softmax(-1)[0]
    return {
        "class": int(probabilities.argmax()),
        "probabilities": [round(value, 6) for value in probabilities.tolist()],
        "seconds": round(time.perf_counter() - start, 3),
    }


def main() -> int:
    """Parse the command line, serve, and print what came of it."""
    parser = argparse.ArgumentParser(description="Serve one prediction under a cap on memory.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--image", type=Path, help="an image file; without it a pattern is drawn")
    parser.add_argument("--side", type=int, default=224, help="pixels of the network's input (default: 224)")
    parser.add_argument("--memory", type=parse_size, default=parse_size("512 MB"), help="cap (default: 512 MB)")
    parser.add_argument("--max-size", type=parse_size, default=parse_size("350 MB"), help="of the file, 350 MB")
    args = parser.parse_args()
    try:
        size = checked_size(args.checkpoint, args.max_size)
        cap_memory(args.memory)
        served = predict(args.checkpoint, args.image, args.side)
    except TooLargeError as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except (BrokenFileError, OSError) as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError) or "allocate memory" in str(error)
        why = f"out of memory: {in_megabytes(args.memory)} are not enough" if short else "cannot serve"
        print(f"{why}: {error}", file=sys.stderr)
        return 1
    held = {"held_bytes": held_bytes(), "peak_rss_bytes": peak_rss_bytes(), "cap_bytes": args.memory}
    print(json.dumps({**served, "file_bytes": size, **held}))
    return 0


if __name__ == "__main__":
    if not FRUGAL.items() <= os.environ.items():  # the C library reads them once, when a program starts
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **FRUGAL})
    sys.exit(main())
