"""The program that is carried to every machine, and where it lies on this one."""

from pathlib import Path

RUNNER_PATH = Path(__file__).with_name("runner.py")
"""The runner's single file; machines receive a copy of it beside their job directory."""
