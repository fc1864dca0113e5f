"""Somebody who uses Colab: an emulated Drive, real notebooks in real kernels, each in a control group of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e_kit import REPOSITORY, Gpujob, eventually, user_in

from backends.runner import runner
from orchestrator.config import Config
from orchestrator.home import Home
from tests.emulators.drive import DriveEmulator
from tests.emulators.guest.container import open_group

RUNTIME = Path(__file__).parent / "colab_runtime"
NOTEBOOK = REPOSITORY / "deploy/colab/gpujob.ipynb"
PACE = "0.1"
ON_CPU = ("needs: {gpu: none, ram: 200 MB}", "limits: {runtime: 2m}", "duration: {on: cpu, minutes: 0.1}")
ROOM = 1_200_000_000
"""Bytes of RAM of a runtime: enough for a kernel, an agent and a small job."""


@dataclass
class Runtime:
    """A Colab runtime: a kernel with the notebook and everything that it started, limited by the kernel below it."""

    folder: Path
    process: subprocess.Popen[bytes]
    group: runner.Cgroup | None

    @property
    def said(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def given_back(self) -> bool:
        return (self.folder / "unassigned").exists()

    def vanish(self) -> None:
        """All of it is gone at once, as when Google cuts it."""
        for pid in self.pids():
            runner.send([pid], signal.SIGKILL)
        eventually(lambda: not self.pids(), "the end of the runtime")
        self.process.wait()

    def freeze(self, *, thaw: bool = False) -> None:
        """Everything stands still, or goes on."""
        runner.send(self.pids(), signal.SIGCONT if thaw else signal.SIGSTOP)

    def pids(self) -> list[int]:
        marked = f"COLAB_UNASSIGNED={self.folder / 'unassigned'}".encode()
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _carries(path, marked)]

    def kills(self) -> int:
        """How many processes of it the kernel has killed for memory."""
        return (self.group.oom_kills() or 0) if self.group else 0


@dataclass
class Colabber(Gpujob):
    """A user with a Google account."""

    drive: DriveEmulator = field(kw_only=True)
    secret: str = field(kw_only=True)
    runtimes: list[Runtime] = field(default_factory=list)

    def set(self, **settings: str) -> None:
        config = Config(Home(self.home).ensure().config)
        for name, text in settings.items():
            section, _, key = name.partition("_")
            config.set(f"{section}.{key}", text)

    def open_notebook(self, ram: int = ROOM, secret: str | None = None, notebook: Path = NOTEBOOK) -> Runtime:
        """Open it and press Run all, in a runtime with so much RAM."""
        folder = self.home.parent / f"runtime-{len(self.runtimes) + 1}"
        folder.mkdir()
        parent = open_group(f"gpujob-colab-{os.getpid()}-{len(self.runtimes)}-{id(self)}")
        if parent:
            (runner.limit_cgroup2 if parent.version == 2 else runner.limit_cgroup1)(parent, ram)
        env = {name: value for name, value in os.environ.items() if not name.startswith("GPUJOB")} | {
            "PYTHONPATH": str(RUNTIME), "COLAB_UNASSIGNED": str(folder / "unassigned"), "TMPDIR": str(folder),
            "GPUJOB_DRIVE_API": self.drive.url, "GPUJOB_AGENT_PACE": PACE, "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"), "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }  # fmt: skip
        if secret != "":
            env["COLAB_SECRET_GPUJOB_DRIVE_TOKEN"] = secret or self.secret
        enter = f"echo $$ > {parent.file('cgroup.procs')} && exec" if parent else "exec"
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", f'{enter} "$@"', "sh", sys.executable, str(RUNTIME / "open_notebook.py"), str(notebook)],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=env, start_new_session=True, cwd=folder,
            )  # fmt: skip
        self.runtimes.append(Runtime(folder, process, parent))
        return self.runtimes[-1]

    def up(self, **how: Any) -> Runtime:
        """A runtime whose agent waits for jobs."""
        runtime = self.open_notebook(**how)
        eventually(lambda: "waiting for jobs" in runtime.said or runtime.process.poll() is not None, "an agent")
        assert "waiting for jobs" in runtime.said, runtime.said
        return runtime

    def colab(self, spec: str, *options: str, code: int = 0, **env: str) -> dict[str, Any]:
        """Submit to Colab, wait, and everything recorded of it."""
        return self.submit(spec, "--backend", "colab", *options, code=code, **env)

    def colab_detached(self, spec: str, *options: str) -> str:
        return self.detached(spec, "--backend", "colab", *options)

    def fetched(self, detail: dict[str, Any], number: int, name: str) -> str:
        return (self.home / "jobs" / detail["id"] / f"attempt-{number}" / "files" / name).read_text()

    def until_said(self, job: str, number: int, word: str) -> None:
        log = self.home / "jobs" / job / f"attempt-{number}" / "stdout.log"
        eventually(lambda: log.exists() and word in log.read_text(), f"{word!r} of attempt {number} of {job}")

    def until_kept(self, job: str, number: int, name: str) -> None:
        path = Home(self.home).checkpoints(job, number) / name
        eventually(path.exists, f"the checkpoint {name} of attempt {number}")

    def close(self) -> None:
        for runtime in self.runtimes:
            runtime.vanish()
            if runtime.group:
                eventually(lambda group=runtime.group: not group.pids(), "an empty group")  # type: ignore[misc]
                runtime.group.remove()

    def left_in_mailbox(self) -> list[str]:
        """Names of claims, lease folders and what lies in them."""
        names = [file.name for file in self.drive.files() if not file.facts.get("trashed")]
        return [name for name in names if not name.startswith(("agent-", "end-", "gpujob", "My Drive"))]


@contextmanager
def colabber_in(folder: Path, drive: DriveEmulator) -> Iterator[Colabber]:
    """A user who has signed in and agreed to the terms; at the end nothing of theirs may be left in the mailbox."""
    secret = json.dumps(drive.sign_in())
    with user_in(folder) as user:
        env = {"GPUJOB_DRIVE_TOKEN": secret}
        someone = Colabber(user.home, user.cwd, env, drive=drive, secret=secret)
        someone.set(colab_poll="0.3s", attempt_keep_every="1s", colab_api=drive.url)
        someone.run("colab", "terms", "--accept")
        someone.run("colab", "status")  # which makes the mailbox
        try:
            yield someone
        finally:
            someone.close()
        assert not drive.twins(), drive.twins()


def _carries(process: Path, setting: bytes) -> bool:
    try:
        return setting in process.joinpath("environ").read_bytes().split(b"\0")
    except OSError:
        return False
