"""The programs that are carried to every machine, and where they lie on this one."""

from pathlib import Path

RUNNER_PATH = Path(__file__).with_name("runner.py")
"""The runner: one file, standard library only; machines receive a copy of it."""

INPUTS_PATH = Path(__file__).with_name("inputs.py")
"""The fetcher of a job's inputs, sent along with jobs that have any."""

TRACING_PATH = Path(__file__).with_name("tracing")
"""The tracer, a folder that ``python -m tracing`` runs; sent along with jobs that want a preflight."""

CARRIED = tuple(
    Path(__file__).with_name(f"{name}.py")
    for name in ("runner", "courier", "parcels", "lanes", "wire", "fetcher", "inputs")
)
"""What machines that are reached over SSH receive: the runner, and the far end of file transfer."""
