"""Which files of workdir are uploaded, and the digest of their content."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec
from pathspec.pattern import RegexPattern

from orchestrator.spec.model import JobSpec
from orchestrator.spec.problems import Problem, SpecError

ALWAYS_EXCLUDED = frozenset({".git", "__pycache__", ".venv", "node_modules"})
IGNORE_FILES = (".gpujobignore", ".gitignore")
"""In the order of their say: a pattern in any .gpujobignore outranks every .gitignore."""

_ALL_BELOW = re.compile(r"/\*\*(/?) *$")
"""The end of `folder/**`: to git all below the folder, to pathspec also the folder itself."""


MOST_FILES = 100_000
"""More than this in workdir is taken for a mistake, such as a home folder or a whole disk."""


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
    patterns: tuple[RegexPattern, ...]

    def verdict(self, path: PurePosixPath, is_folder: bool) -> bool | None:
        """Ignored, re-included (False), or not mentioned (None): as in git, the last pattern that matches."""
        entry = str(path.relative_to(self.folder)) + ("/" if is_folder else "")
        matching = (pattern.include for pattern in reversed(self.patterns) if _matches(pattern, entry))
        return next(matching, None)


def _matches(pattern: RegexPattern, entry: str) -> bool:
    """Whether ``pattern`` matches the entry itself.

    pathspec also lets a pattern match all that lies below a folder, and marks the folder's slash as ``ps_d``. The
    walk has decided about that folder already.
    """
    if pattern.include is None or pattern.regex is None:
        return False
    found = pattern.regex.finditer(entry)
    return any(match.groupdict().get("ps_d") is None or match.end() == len(entry) for match in found)


Rules = tuple[_Rules, ...]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the way: the rules of its parents by rank, and the real folders that contain it."""

    path: PurePosixPath
    ranks: tuple[Rules, ...]
    chain: frozenset[str]


def select_files(spec: JobSpec, apart: Path | None = None) -> list[SelectedFile]:
    """The regular files under workdir that are uploaded, sorted by path.

    Left out are what ``.gitignore`` and ``.gpujobignore`` exclude, version control, caches and environments, and
    the spec's own results and checkpoints. A file that ``inputs`` name is uploaded even where it is ignored. A
    link to a file or folder inside workdir is taken as what it points to. Raises SpecError for a link that leaves
    workdir, and for a folder that cannot be read. The folder ``apart`` is not looked into.
    """
    walk = _Walk(spec, apart)
    found = {file.path: file for file in (*walk.files(), *walk.inputs(spec))}
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

    def __init__(self, spec: JobSpec, apart: Path | None) -> None:
        self.root = Path(os.path.realpath(spec.workdir))
        self.apart = os.path.realpath(apart) if apart else None
        self.outputs = {PurePosixPath(path) for path in (*spec.results, *spec.checkpoints)}
        self.said_in = str(spec.spec_path or spec.workdir)
        self.problems: list[Problem] = []
        self.seen = 0

    def files(self) -> Iterator[SelectedFile]:
        ranks: tuple[Rules, ...] = tuple(() for _ in IGNORE_FILES)
        pending = [_Folder(PurePosixPath(), ranks, frozenset({str(self.root)}))]
        while pending:
            folder = self._with_own_rules(pending.pop())
            for name in self._names(folder.path):
                self._count()
                path = folder.path / name
                mode = self._mode(path)
                if self._excluded(path, stat.S_ISDIR(mode), folder) or not self._sound(path, mode, folder.chain):
                    continue
                if stat.S_ISDIR(mode):
                    chain = folder.chain | {os.path.realpath(self.root / path)}
                    pending.append(_Folder(path, folder.ranks, chain))
                elif stat.S_ISREG(mode):
                    yield self._selected(path)

    def _count(self) -> None:
        """Stop where workdir is larger than any job's files. Raises SpecError."""
        self.seen += 1
        if self.seen > MOST_FILES:
            text = f"workdir: {self.root} holds more than {MOST_FILES} files"
            hint = "name the job's own folder as workdir, or leave out what it does not need by .gpujobignore"
            raise SpecError([Problem(text, self.said_in, hint=hint)])

    def inputs(self, spec: JobSpec) -> Iterator[SelectedFile]:
        """The files that ``inputs`` name, ignored or not."""
        for path in (PurePosixPath(entry.source) for entry in spec.inputs if "://" not in entry.source):
            mode = self._mode(path)
            if not stat.S_ISREG(mode):
                self._problem(path, "is named by inputs, but there is no such file")
            elif self._sound(path, mode, frozenset()):
                yield self._selected(path)

    def _selected(self, path: PurePosixPath) -> SelectedFile:
        found = (self.root / path).stat()
        return SelectedFile(path, found.st_size, 0o755 if found.st_mode & stat.S_IXUSR else 0o644)

    def _names(self, path: PurePosixPath) -> list[str]:
        try:
            return sorted(entry.name for entry in (self.root / path).iterdir())
        except OSError as error:
            self._problem(path, f"is a folder that cannot be read: {error.strerror}")
            return []

    def _mode(self, path: PurePosixPath) -> int:
        """Kind and permissions of what ``path`` is or points to; 0 where that cannot be told."""
        try:
            return (self.root / path).stat().st_mode
        except OSError:
            return 0

    def _with_own_rules(self, folder: _Folder) -> _Folder:
        own = (self._rules_of(folder.path, name) for name in IGNORE_FILES)
        ranks = tuple(rules + rank for rules, rank in zip(own, folder.ranks, strict=True))
        return _Folder(folder.path, ranks, folder.chain)

    def _rules_of(self, folder: PurePosixPath, name: str) -> Rules:
        path = folder / name
        if not stat.S_ISREG(self._mode(path)):
            return ()
        try:
            lines = (self.root / path).read_text("utf-8", "surrogateescape").splitlines()
            patterns = GitIgnoreSpec.from_lines(_ALL_BELOW.sub(r"/**/*\1", line) for line in lines).patterns
            return (_Rules(folder, tuple(each for each in patterns if isinstance(each, RegexPattern))),)
        except (OSError, ValueError) as error:
            self._problem(path, f"cannot be used: {error}")
            return ()

    def _excluded(self, path: PurePosixPath, is_folder: bool, folder: _Folder) -> bool:
        if path.name in ALWAYS_EXCLUDED or path in self.outputs:
            return True
        if is_folder and self.apart == os.path.realpath(self.root / path):
            return True
        verdicts = (rules.verdict(path, is_folder) for rank in folder.ranks for rules in rank)
        return next((verdict for verdict in verdicts if verdict is not None), False)

    def _sound(self, path: PurePosixPath, mode: int, chain: frozenset[str]) -> bool:
        """Whether ``path`` can be read and stays inside workdir; says why if not."""
        real = Path(os.path.realpath(self.root / path))
        is_link = (self.root / path).is_symlink()
        if not real.is_relative_to(self.root):
            self._problem(path, "is a link that leaves workdir")
        elif not mode:
            self._problem(path, "is a link to nothing" if is_link else "cannot be read")
        elif is_link and str(real) in chain:
            self._problem(path, "is a link to a folder that contains it")
        else:
            return True
        return False

    def _problem(self, path: PurePosixPath, message: str) -> None:
        hint = "replace it by what is meant, or exclude it in .gpujobignore"
        self.problems.append(Problem(f"workdir: '{path}' {message}", self.said_in, None, hint))


def snapshot(root: Path, files: Iterable[SelectedFile], dest: Path) -> None:
    """Copy ``files`` from ``root`` into ``dest``, a folder that is made, so that a run has them as they are now."""
    dest.mkdir(parents=True)
    for file in files:
        target = dest / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / file.path, target)
