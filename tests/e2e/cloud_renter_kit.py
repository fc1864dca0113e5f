"""Somebody who rents from a cloud with the real command, from its emulator, and what must hold when they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from e2e_kit import Gpujob, eventually, user_in

from orchestrator.config import Config
from orchestrator.home import Home
from tests.emulators.account_kit import Account, rows, tell

SHORT = ("limits: {runtime: 1m}", "duration: {on: L4, minutes: 0.2}")
ON_L4 = ("needs: {gpu: L4, ram: 4 GB}", *SHORT)


QUICK = "mkdir -p out; echo $GPUJOB_RUN > out/key; nvidia-smi -L > out/gpus"
SLEEPS = "echo at work; sleep 600"
RESUMES = """
mkdir -p out ck; [ -e ck/at ] && { cp ck/at out/resumed; exit 0; }
echo step-7 > ck/at; echo begun > out/begun; echo at work; sleep 600
"""
CUDA_OOM = """
mkdir -p out; size=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits); echo $size > out/seen; sleep 2
if [ $size -lt 70000 ]; then
total=$(awk "BEGIN { printf \\"%.2f\\", $size / 1024 }")
cat >&2 <<END
Traceback (most recent call last):
  File "train.py", line 12, in <module>
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of $total GiB of \
which 0.12 GiB is free.
END
exit 1
fi
"""
"""Runs out of VRAM on anything below 70 GB."""


class Cloud(Protocol):
    """An emulated provider."""

    @property
    def env(self) -> dict[str, str]:
        """What its client has to find to come here."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the backend has to be set to."""

    @property
    def created(self) -> list[Any]:
        """Every instance there ever was."""


C = TypeVar("C", bound=Cloud)


def outcomes(detail: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in detail["attempts"]]


@dataclass
class CloudRenter(Gpujob):
    """A user whose only backend is ``backend``; ``boxes`` are the instances that they have rented, in order."""

    backend: str = ""
    boxes: Callable[[], list[Any]] = list

    def set(self, name: str, text: str) -> None:
        Config(Home(self.home).ensure().config).set(name, text)

    def rent(self, spec: str, *options: str, code: int = 0) -> dict[str, Any]:
        """Submit to it, wait, and everything recorded of it."""
        return self.submit(spec, "--backend", self.backend, "--yes", *options, code=code)

    def rent_detached(self, spec: str, *options: str) -> str:
        """Submit to it and return at once; the job's id."""
        return self.detached(spec, "--backend", self.backend, "--yes", *options)

    def over(self, job: str) -> dict[str, Any]:
        """The job once it is over."""
        query = "SELECT ended_at FROM job WHERE id = ? AND ended_at IS NOT NULL"
        eventually(lambda: rows(self.home, query, job), f"the end of {job}")
        return self.show(job)

    def box(self, number: int = 1) -> Any:
        """The instance that was rented as the ``number``-th, once it is."""
        return eventually(lambda: self.boxes()[number - 1 :], f"instance {number}")[0]

    def fetched(self, detail: dict[str, Any], number: int, name: str) -> str:
        """A result file's text."""
        return (self.home / "jobs" / detail["id"] / f"attempt-{number}" / "files" / name).read_text()

    def until_said(self, job: str, number: int, word: str) -> None:
        """Wait until the command of an attempt has said it, at home."""
        log = self.home / "jobs" / job / f"attempt-{number}" / "stdout.log"
        eventually(lambda: log.exists() and word in log.read_text(), f"{word!r} of attempt {number} of {job}")


@contextmanager
def renter_in(
    folder: Path, backend: str, cloud: C, boxes: Callable[[C, Path], list[Any]], account: Callable[[C, Path], Account],
    told: Callable[[str, object], None],
) -> Iterator[CloudRenter]:  # fmt: skip
    """A renter; when the block ends nothing may be left of what was rented, and nothing may have cost too much."""
    with user_in(folder) as user:
        renter = CloudRenter(user.home, user.cwd, cloud.env, backend, lambda: boxes(cloud, user.home))
        for name, value in cloud.settings.items():
            renter.set(f"{backend}.{name}", str(value))
        yield renter
        eventually(lambda: not any(box.processes() for box in cloud.created), "the end of every process in instances")
        closed = account(cloud, renter.home)
        tell(told, [closed])
        assert closed.clean, closed
        assert closed.unbooked == 0, closed
