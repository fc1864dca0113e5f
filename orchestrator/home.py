"""Where gpujob keeps what is yours: one private folder, and the name of everything in it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path


class HomeError(Exception):
    """The folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Home:
    """The user's data folder. Nothing outside this class knows a file name in it."""

    root: Path

    @classmethod
    def locate(cls) -> Home:
        """``$GPUJOB_HOME``, or the platform's folder for user data. Raises HomeError if that is no folder."""
        if named := os.environ.get("GPUJOB_HOME"):
            root = Path(named).expanduser().absolute()
            if root.exists() and not root.is_dir():
                raise HomeError(f"GPUJOB_HOME names {root}, which is not a folder. Name one, or unset it.")
            return cls(root)
        from platformdirs import user_data_path

        return cls(user_data_path("gpujob"))

    def ensure(self) -> Home:
        """Make the folders that are always there. Raises HomeError where that is impossible."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            for folder in (self.locks, self.jobs, self.secrets):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"gpujob cannot write its data folder {self.root}: {error.strerror or error}.\n"
                "Make it writable, or point GPUJOB_HOME to a folder that is."
            ) from error
        return self

    def _close_to_others(self) -> None:
        """A folder that was there already may be open to others; one that all share, such as /tmp, stays as it is."""
        found = self.root.stat()
        ours = found.st_uid == os.getuid() and not found.st_mode & stat.S_ISVTX
        if ours and found.st_mode & 0o077:
            self.root.chmod(0o700)

    @property
    def journal(self) -> Path:
        """The SQLite file that records everything."""
        return self.root / "journal.sqlite"

    @property
    def config(self) -> Path:
        """Settings, as TOML."""
        return self.root / "config.toml"

    @property
    def locks(self) -> Path:
        """Lock files: one per run, one for workers."""
        return self.root / "locks"

    @property
    def hub(self) -> Path:
        """What the Hugging Face hub said of models."""
        return self.root / "hub"

    @property
    def probes(self) -> Path:
        """What `gpujob probe` measured."""
        return self.root / "probes"

    def probe(self, name: str, variant: str, digest: str) -> Path:
        """What was measured of one variant and command."""
        return self.probes / f"{name}.{variant}.{digest[:16]}.json"

    def probe_files(self) -> list[Path]:
        """Everything that was probed."""
        return sorted(self.probes.glob("*.json"))

    @property
    def jobs(self) -> Path:
        """One folder per job: the snapshot of its files, its logs and its results."""
        return self.root / "jobs"

    @property
    def secrets(self) -> Path:
        """Values of secrets of unfinished jobs, readable by the user only."""
        return self.root / "secrets"

    @property
    def credentials(self) -> Path:
        """Keys of providers that are in no keyring, readable by the user only."""
        return self.root / "credentials"

    @property
    def local(self) -> Path:
        """The local backend's machine: its leases, job directories and environments."""
        return self.root / "local"

    @property
    def catalog(self) -> Path:
        """The user's own price tables, one CSV file per day on which there was a newer one."""
        return self.root / "catalog"

    @property
    def worker_log(self) -> Path:
        """What background workers say."""
        return self.root / "worker.log"

    @property
    def worker_lock(self) -> Path:
        """Held, shared, by every worker that is alive."""
        return self.locks / "worker.lock"

    @property
    def worker_start_lock(self) -> Path:
        """Held by a background worker from its start until it is alive."""
        return self.locks / "worker.starting"

    def job_lock(self, job: str) -> Path:
        """Held by the worker that carries ``job``."""
        return self.locks / f"job-{job}.lock"

    def tiny_lock(self, key: str) -> Path:
        """Held by whoever watches the probe or smoke run ``key``, which no job owns."""
        return self.locks / f"tiny-{key}.lock"

    def job_locks(self) -> list[Path]:
        """The lock files of all jobs that have one."""
        return list(self.locks.glob("job-*.lock"))

    def job_of_lock(self, path: Path) -> str:
        """The job whose lock file ``path`` is."""
        return path.name.removeprefix("job-").removesuffix(".lock")

    def folder(self, job: str) -> Path:
        """Everything kept of ``job`` outside of the journal."""
        return self.jobs / job

    def source(self, job: str) -> Path:
        """The snapshot of the user's files that every attempt of ``job`` uploads."""
        return self.folder(job) / "source"

    def attempt(self, job: str, number: int) -> Path:
        """What one attempt left: logs and the runner's record."""
        return self.folder(job) / f"attempt-{number}"

    def fetched(self, job: str, number: int) -> Path:
        """The results that one attempt left, even if it failed, under their own paths."""
        return self.attempt(job, number) / "files"

    def checkpoints(self, job: str, number: int) -> Path:
        """The checkpoints that one attempt left for the next."""
        return self.attempt(job, number) / "checkpoints"

    def live(self, job: str) -> Path:
        """The newest reading of the running attempt, for whoever follows it; not a record."""
        return self.folder(job) / "live.json"
