"""Which environment a job's ``setup`` runs in: a shared one where it only installs, else one of the attempt's own.

``pip install -r requirements.txt`` always gives the same environment, so it is made once and shared by every job and
attempt that asks for it. Any other command may write into the job's folder, build, or install the folder itself; it
runs anew for every attempt.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

_SHELL = re.compile(r"[$`;|<>*?(){}~\\\n]|(?<!&)&(?!&)")
"""What makes a command more than words and ``&&``."""

_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w.,-]*\])?([=<>!~]=?[\w.*+!,<>=~-]*)?")
_WITH_FILE = ("-r", "--requirement", "-c", "--constraint")
_WITH_VALUE = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links")
_LINE_OPTIONS = ("--only-binary", "--no-binary", "--prefer-binary", "--pre")
_ALONE = ("-q", "--quiet", "--no-deps", "--no-cache-dir", "--pre", "--no-input", "--disable-pip-version-check")


def environment_name(command: str, source: Path, python: str) -> str | None:
    """The name of the shared environment that ``command`` makes from the files in ``source``; None if of its own."""
    files = installs_from(command, source)
    if files is None:
        return None
    digest = hashlib.sha256(f"{python}\0{command}".encode())
    for path in files:
        digest.update(f"\0{path.relative_to(source)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def installs_from(command: str, source: Path) -> list[Path] | None:
    """The requirement files that ``command`` installs from; None if it does anything but install packages by name."""
    if _SHELL.search(command):
        return None
    try:
        return [path for part in command.split("&&") for path in _files_of(shlex.split(part), source)]
    except _MoreThanInstalling:
        return None


class _MoreThanInstalling(Exception):
    """The command does something whose result depends on more than its words and requirement files."""


def _files_of(words: list[str], source: Path) -> Iterator[Path]:
    if words[:2] in (["python", "-m"], ["python3", "-m"]):
        words = words[2:]
    if len(words) < 3 or words[0] not in ("pip", "pip3") or words[1] != "install":
        raise _MoreThanInstalling
    rest = iter(words[2:])
    for word in rest:
        name, _, value = word.partition("=")
        if name in _WITH_FILE:
            yield from _with_included(source / (value or next(rest, "")), source)
        elif name in _WITH_VALUE:
            _ = value or next(rest, "")
        elif word not in _ALONE and (not _REQUIREMENT.fullmatch(word) or (source / word).exists()):
            raise _MoreThanInstalling


def _with_included(path: Path, source: Path) -> Iterator[Path]:
    """A requirement file and those that it includes."""
    if not path.is_file() or not path.resolve().is_relative_to(source.resolve()):
        raise _MoreThanInstalling
    yield path
    for line in _lines(path):
        words = line.replace("=", " ", 1).split() if line.startswith("--") else line.split()
        if words[0] in _WITH_FILE and len(words) == 2:
            yield from _with_included(path.parent / words[1], source)
        elif _is_of_the_job(words[0]):
            raise _MoreThanInstalling


def _is_of_the_job(word: str) -> bool:
    """Whether a line that begins so may install what lies in the job's folder."""
    if word.startswith("-"):
        return word not in (*_WITH_VALUE, *_LINE_OPTIONS)
    return "/" in word or word.startswith(".")


def _lines(path: Path) -> Iterable[str]:
    stripped = (line.split(" #")[0].strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [line for line in stripped if line and not line.startswith("#")]
