"""What a model takes of a GPU, by a trace of its code on fake tensors.

    python -m tracing trace REQUEST.json        prints one JSON object
    python -m tracing preflight REQUEST.json    ends with 69 if this machine's GPU is too small with near certainty

The last line of the output is a sentence for the user. Exit code 1: nothing was traced, and it says why.
"""

import json
import os
import resource
import subprocess
import sys
import warnings
from typing import Any, Dict, List, Mapping, Optional

REFUSED = 69
"""EX_UNAVAILABLE: what preflights end with that forbid the run."""

SURE_SHARE = 0.95
"""Of what is allocated in a trace, what a GPU must have at least. Real runs were measured at 0.95 to 1.16 times a
trace, fragmentation and CUDA context included."""


def main(argv: List[str]) -> int:
    """Trace, print, and in a preflight compare. The exit code."""
    if len(argv) != 2 or argv[0] not in ("trace", "preflight"):
        sys.stderr.write("%s\n" % __doc__)
        return 2
    with open(argv[1], encoding="utf-8") as file:
        request = json.load(file)
    try:
        found = trace(request)
    except Exception as error:
        print("%s was not traced: %s" % (request["name"], told(error)), file=sys.stderr)
        return 1
    if argv[0] == "trace":
        print(json.dumps(found))
        return 0
    return judge(request["name"], found, vram_bytes(), os.path.join(os.path.dirname(argv[1]), "preflight.json"))


def trace(request: Mapping[str, Any]) -> Dict[str, Any]:
    """What ``steps.traced`` finds, within the RAM that the request allows. Raises whatever the model raises."""
    resource.setrlimit(resource.RLIMIT_DATA, (request["ram_bytes"], request["ram_bytes"]))
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    warnings.simplefilter("ignore")
    from .steps import traced  # loads torch: after the limit, and with its absence told like any other reason

    return traced(request)


def told(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, ModuleNotFoundError):
        return "%s is not installed in this environment" % error.name
    if isinstance(error, MemoryError):
        return "tracing it takes more RAM than it may"
    if type(error).__name__ == "NotTracedError":
        return str(error)
    return "%s: %s" % (type(error).__name__, " ".join(str(error).split())[:300])


def judge(name: str, found: Mapping[str, Any], vram: Optional[int], result: str) -> int:
    """Say whether this machine's GPU can be enough; REFUSED if not. What is needed at least goes to ``result``."""
    least = int(found["allocated_bytes"] * SURE_SHARE)
    with open(result, "w", encoding="utf-8") as file:
        json.dump({"vram_bytes": least}, file)
    traced = "%s, traced: %s allocated at its peak (%s)" % (name, gb(found["allocated_bytes"]), found["phase"])
    if vram is None:
        print("%s; no GPU to compare with was found here" % traced)
        return 0
    if least <= vram:
        print("%s; this GPU has %s: the run may begin" % (traced, gb(vram)))
        return 0
    print("%s, at least %s are needed; this GPU has %s: the run was not started" % (traced, gb(least), gb(vram)))
    return REFUSED


def gb(size: int) -> str:
    """Bytes as people read them."""
    return "%.1f GB" % (size / 1e9) if size >= 10**9 else "%.0f MB" % (size / 1e6)


def vram_bytes() -> Optional[int]:
    """Memory of the smallest GPU that the job may use, by nvidia-smi; None where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return None
    only = ["--id=" + visible] if visible else []
    query = ["nvidia-smi", *only, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    sizes = [int(line) << 20 for line in answer.stdout.decode("ascii", "replace").split() if line.isdigit()]
    return min(sizes, default=None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
