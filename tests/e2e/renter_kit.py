"""Somebody who rents pods with the real command, from the emulator, and what must hold when they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e_kit import Gpujob, eventually, user_in

from orchestrator.config import Config
from orchestrator.home import Home
from tests.emulators.account_kit import Account, account, pods_of, rows, tell
from tests.emulators.runpod import Pod, RunPodEmulator

L4 = "NVIDIA L4"
SHORT = ("limits: {runtime: 1m}", "duration: {on: L4, minutes: 0.2}")
ON_L4 = ("needs: {gpu: L4}", *SHORT)
ON_L4_OR_L40S = ("needs: {gpu: {names: [L4, L40S], vram: 12 GB}}", *SHORT)
"""The L4 is the cheaper one and comes first."""

QUICK = "mkdir -p out; echo $GPUJOB_RUN > out/key"
WAITS_FOR_WORD = """
mkdir -p out; echo $GPUJOB_RUN >> /root/runs; echo at work; until [ -e /root/go ]; do sleep 0.1; done
cp /root/runs out/; echo done
"""
RESUMES = """
mkdir -p out ck; [ -e ck/at ] && { cp ck/at out/resumed; exit 0; }
echo step-7 > ck/at; echo at work; sleep 600
"""
"""Works until its pod is gone; where it finds a checkpoint it ends."""


@dataclass
class Renter(Gpujob):
    """A user whose only backend is the emulated cloud."""

    cloud: RunPodEmulator | None = None
    laptop_is_dead: bool = False
    """Nobody comes back: attempts stay open, and no results can come home."""

    def set(self, **settings: str) -> None:
        """Change settings; ``attempt_linger`` is ``attempt.linger``."""
        config = Config(Home(self.home).ensure().config)
        for name, text in settings.items():
            section, _, key = name.partition("_")
            config.set(f"{section}.{key}", text)

    def rent(self, spec: str, *options: str, code: int = 0, **env: str) -> dict[str, Any]:
        """Submit to the cloud, wait, and everything recorded of it."""
        return self.submit(spec, "--backend", "runpod", "--yes", *options, code=code, **env)

    def rent_detached(self, spec: str, *options: str, **env: str) -> str:
        """Submit to the cloud and return at once; the job's id."""
        return self.detached(spec, "--backend", "runpod", "--yes", *options, **env)

    def ended(self, job: str) -> dict[str, Any]:
        """The job once it is over: read from the journal, since a command for each look would take the job's time."""
        over = "SELECT ended_at FROM job WHERE id = ? AND ended_at IS NOT NULL"
        eventually(lambda: rows(self.home, over, job), f"the end of {job}")
        return self.show(job)

    def pods(self) -> list[Pod]:
        """Every pod ever rented, in order."""
        assert self.cloud
        return pods_of(self.cloud, self.home)

    def pod(self, number: int = 1) -> Pod:
        """The pod that was rented as the ``number``-th, once it is."""
        return eventually(lambda: len(self.pods()) >= number and self.pods()[number - 1], f"pod {number}")  # type: ignore[no-any-return]

    def up(self) -> Pod:
        """The first pod, once it has a container."""
        pod = self.pod()
        eventually(lambda: pod.container, "a container")
        return pod

    def fetched(self, detail: dict[str, Any], number: int, name: str) -> str:
        """A result file's text."""
        return (self.home / "jobs" / detail["id"] / f"attempt-{number}" / "files" / name).read_text()

    def until_said(self, job: str, number: int, word: str) -> None:
        """Wait until the command of an attempt has said it, at home."""
        log = self.home / "jobs" / job / f"attempt-{number}" / "stdout.log"
        eventually(lambda: log.exists() and word in log.read_text(), f"{word!r} of attempt {number} of {job}")

    def until_kept(self, job: str, number: int, name: str) -> None:
        """Wait until a checkpoint has come home."""
        path = Home(self.home).checkpoints(job, number) / name
        eventually(path.exists, f"the checkpoint {name} of attempt {number} of {job}")

    def say_word(self, pod: Pod) -> None:
        """Let :data:`WAITS_FOR_WORD` end."""
        if pod.container:
            disk(pod).joinpath("root/go").touch()

    def notes(self, detail: dict[str, Any]) -> str:
        """What was told beside the course of things."""
        return "\n".join(f"{note['kind']}: {note['text']}" for note in detail["notes"])


@contextmanager
def renter_in(folder: Path, cloud: RunPodEmulator, told: Callable[[str, object], None]) -> Iterator[Renter]:
    """A renter; when the block ends nothing may be left of what was rented, and nothing may have cost too much."""
    env = {"RUNPOD_API_BASE_URL": cloud.url, "RUNPOD_API_KEY": cloud.key}
    with user_in(folder) as user:
        renter = Renter(user.home, user.cwd, env, cloud)
        yield renter
        closed = close(renter, cloud)
        tell(told, [closed])
        told("nobody_came_back", renter.laptop_is_dead)
        assert closed.machines > 0, "this test rented nothing"
        assert closed.clean, closed
        assert closed.unbooked == 0, closed


def close(renter: Renter, cloud: RunPodEmulator) -> Account:
    """The figures, once no pod of the renter's has a process."""
    eventually(lambda: not any(pod.processes() for pod in renter.pods()), "the end of every process in the pods")
    return account(cloud, renter.home)


def disk(pod: Pod) -> Path:
    """A pod's root folder, as this machine sees it."""
    assert pod.container
    return pod.container.folder / "root"


def outcomes(detail: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in detail["attempts"]]


def offers(detail: dict[str, Any]) -> list[str]:
    return [attempt["offer"] for attempt in detail["attempts"]]
