"""Which files of workdir are uploaded, and the digest of their content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from orchestrator.spec.model import JobSpec
from orchestrator.spec.problems import Problem, SpecError

ALWAYS_EXCLUDED = frozenset({".git", "__pycache__", ".venv", "node_modules"})
IGNORE_FILES = (".gpujobignore", ".gitignore")
"""In the order of their say: a pattern in any .gpujobignore outranks every .gitignore."""


@dataclass(frozen=True, slots=True)
class SelectedFile:
    """A file to upload. ``path`` is relative to workdir, ``size`` in bytes, ``mode`` 0o755 or 0o644."""

    path: PurePosixPath
    size: int
    mode: int


@dataclass(frozen=True, slots=True)
class _Rules:
    """The patterns of one ignore file, which hold below the folder it lies in."""

    folder: PurePosixPath
    patterns: GitIgnoreSpec

    def verdict(self, path: PurePosixPath, is_folder: bool) -> bool | None:
        """Ignored, re-included (False), or not mentioned (None)."""
        inside = str(path.relative_to(self.folder)) + ("/" if is_folder else "")
        return self.patterns.check_file(inside).include


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the way: the rules of its parents, and the real folders that contain it."""

    path: PurePosixPath
    rules: tuple[tuple[_Rules, ...], ...]
    chain: frozenset[str]


def select_files(spec: JobSpec) -> list[SelectedFile]:
    """The regular files under workdir that are uploaded, sorted by path.

    Left out are what ``.gitignore`` and ``.gpujobignore`` exclude, version control, caches and environments, and
    the spec's own results and checkpoints. A file that ``inputs`` name is uploaded even where it is ignored. A
    link to a file or folder inside workdir is taken as what it points to. Raises SpecError for a link that leaves
    workdir, and for a folder that cannot be read.
    """
    walk = _Walk(spec)
    found = {file.path: file for file in walk.files()}
    for entry in spec.inputs:
        if "://" not in entry.source:
            path = PurePosixPath(entry.source)
            found[path] = walk.selected(path)
    if walk.problems:
        raise SpecError(walk.problems)
    return [found[path] for path in sorted(found)]


def tree_digest(root: Path, files: Iterable[SelectedFile]) -> str:
    """SHA-256, in hex, over path, mode and content of ``files`` under ``root``."""
    total = hashlib.sha256()
    for file in files:
        with (root / file.path).open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        name = os.fsencode(str(file.path))
        total.update(f"{len(name)} {file.mode:o} {digest} ".encode() + name)
    return total.hexdigest()


class _Walk:
    """One pass over workdir, gathering problems instead of stopping at the first."""

    def __init__(self, spec: JobSpec) -> None:
        self.root = Path(os.path.realpath(spec.workdir))
        self.outputs = {PurePosixPath(path) for path in (*spec.results, *spec.checkpoints)}
        self.said_in = str(spec.spec_path or spec.workdir)
        self.problems: list[Problem] = []

    def files(self) -> Iterator[SelectedFile]:
        pending = [_Folder(PurePosixPath(), ((), ()), frozenset({str(self.root)}))]
        while pending:
            folder = pending.pop()
            rules = self._rules(folder)
            for name in self._names(folder.path):
                path = folder.path / name
                below = self._folder_at(path, rules, folder.chain)
                if self._excluded(path, rules, below):
                    continue
                if not self._inside(path):
                    continue
                if below:
                    self._descend(path, below, folder, pending)
                elif (self.root / path).is_file():
                    yield self.selected(path)

    def selected(self, path: PurePosixPath) -> SelectedFile:
        found = (self.root / path).stat()
        return SelectedFile(path, found.st_size, 0o755 if found.st_mode & stat.S_IXUSR else 0o644)
