"""``gpujob results``: what came home, listed or copied."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path
from typing import Any

from backends.units import format_size
from orchestrator.cli.screen import complain, counted, one_line, say, say_json, table
from orchestrator.home import Home
from orchestrator.records.reading import Reader


def give_results(
    home: Home, reader: Reader, job: str, dest: Path | None, attempt: int | None, *, force: bool, as_json: bool
) -> int:
    """List the results of an attempt (the last that has any), or copy them into ``dest``. Raises UnknownAttempt."""
    folder = _folder(home, reader, job, attempt)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    if folder is None or not files:
        say_json([]) if as_json else say(f"{job} has brought no results home. `gpujob show {job}` says how it stands.")
        return 1
    if dest is not None and (code := _copy(folder, files, dest, force=force)):
        return code
    shown = [_entry(folder, path, dest) for path in files]
    if as_json:
        say_json(shown)
    elif dest is None:
        say(table(("file", "size"), [(e["path"], format_size(e["bytes"])) for e in shown], right={"size"}))
        say(f"\nThey are in {folder}\nCopy them here: gpujob results {job} .")
    else:
        say(f"{counted(len(files), 'file')} copied to {dest}")
    return 0


def _folder(home: Home, reader: Reader, job: str, attempt: int | None) -> Path | None:
    for number in reversed(reader.numbers(job, attempt)):
        folder = home.fetched(job, number)
        if folder.is_dir() and any(path.is_file() for path in folder.rglob("*")):
            return folder
    return None


def _copy(folder: Path, files: list[Path], dest: Path, *, force: bool) -> int:
    """Copy, refusing to replace a file that differs unless forced; nothing is copied if anything is refused."""
    targets = {path: dest / path.relative_to(folder) for path in files}
    if kept := next(filter(None, map(_in_the_way, targets.values())), None):
        found, wanted = ("folder", "file") if kept.is_dir() else ("file", "folder")
        complain(f"{one_line(str(kept))} is a {found} where a {wanted} would go; nothing was copied. Move it away.")
        return 2
    differing = [to for path, to in targets.items() if to.exists() and not filecmp.cmp(path, to, shallow=False)]
    if differing and not force:
        complain(f"{one_line(str(differing[0]))} exists and differs; nothing was copied. --force replaces it.")
        return 2
    for path, to in targets.items():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    return 0


def _in_the_way(target: Path) -> Path | None:
    """What not even ``--force`` replaces: a folder where the file would go, or a file where its folder would."""
    if target.is_dir():
        return target
    return next((folder for folder in target.parents if folder.exists() and not folder.is_dir()), None)


def _entry(folder: Path, path: Path, dest: Path | None) -> dict[str, Any]:
    relative = path.relative_to(folder)
    return {
        "path": str(relative),
        "bytes": path.stat().st_size,
        "stored_at": str(path),
        "copied_to": str(dest / relative) if dest else None,
    }
