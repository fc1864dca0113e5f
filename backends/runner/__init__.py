"""The programs that are carried to every machine, and where they lie on this one."""

from pathlib import Path

RUNNER_PATH = Path(__file__).with_name("runner.py")
"""The runner: one file, standard library only; machines receive a copy of it."""

INPUTS_PATH = Path(__file__).with_name("inputs.py")
"""The fetcher of a job's inputs, sent along with jobs that have any."""

COURIER_PATH = Path(__file__).with_name("courier.py")
"""The far end of file transfer, sent along to machines that are reached over SSH."""
