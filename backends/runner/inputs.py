"""Fetches a job's inputs on its machine: ``python inputs.py inputs.json WORK_DIR``. Standard library, Python 3.8+.

``inputs.json`` is ``{"cache": folder or null, "inputs": [{"sources", "dest", "sha256", "max_size"}]}``. A source is an
https address or a path in the work folder; they are tried in order. Downloads are streamed, resumed after a cut,
bounded by ``max_size`` before and while they run, and checked. Ends with 0, or with 1 and one plain line on stderr.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Callable, Dict, List, Optional

CHUNK = 8 * 1024 * 1024
TRIES = 4
TIMEOUT = 60.0
"""Seconds of silence after which a connection is given up and resumed."""


Told = Callable[[int, Optional[int]], Any]
"""Called with (bytes here, bytes in all or None) while a download goes on."""


class InputError(Exception):
    """An input cannot be had; the message is for the user."""


def main(argv: List[str]) -> int:
    """Fetch everything; the exit code."""
    with open(argv[1], encoding="utf-8") as file:
        wanted = json.load(file)
    for number, entry in enumerate(wanted["inputs"], 1):
        try:
            fetch(entry, argv[2], wanted.get("cache"), "input %d of %d" % (number, len(wanted["inputs"])))
        except (InputError, OSError) as error:
            print("gpujob: input %s: %s" % (entry["dest"], error), file=sys.stderr)
            return 1
    return 0


def fetch(entry: Dict[str, Any], work: str, cache: Optional[str], label: str) -> None:
    """Make ``entry``'s file be at its place; nothing to do if it is there and right."""
    target = place_of(entry, work)
    digest = entry.get("sha256")
    if digest and is_right(target, digest):
        print("%s: %s is there already" % (label, entry["dest"]), flush=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    kept = os.path.join(cache, digest) if cache and digest else None
    if kept and digest and is_right(kept, digest):
        print("%s: %s from the cache" % (label, entry["dest"]), flush=True)
        copy(kept, target)
        return
    bring(entry, work, target, label)
    if kept:
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        copy(target, kept)


def place_of(entry: Dict[str, Any], work: str) -> str:
    """Where the file goes; a ``dest`` that ends with / is a folder. Raises InputError where it leads out."""
    dest = entry["dest"]
    if dest.endswith("/"):
        name = os.path.basename(urllib.parse.urlparse(entry["sources"][0]).path)
        if not name:
            raise InputError("%s names no file; write dest with a file name" % entry["sources"][0])
        dest += name
    target = os.path.realpath(os.path.join(work, dest))
    if not target.startswith(os.path.realpath(work) + os.sep):
        raise InputError("it would lie outside of the job's folder")
    return target


def bring(entry: Dict[str, Any], work: str, target: str, label: str) -> None:
    """From the first source that has it. Raises InputError with what each said."""

    def told(done: int, total: Optional[int]) -> None:
        print("%s: %s" % (label, progress(done, total)), flush=True)

    said = []
    for source in entry["sources"]:
        try:
            if source.startswith(("http://", "https://")):
                download(source, target, entry.get("max_size"), told)
            else:
                copy(os.path.join(work, source), target)
            check(target, entry)
        except (InputError, OSError) as error:
            said.append("%s: %s" % (source, error))
        else:
            return
    raise InputError("; ".join(said))


def download(
    url: str, target: str, max_size: Optional[int], told: Told, tries: int = TRIES, timeout: float = TIMEOUT
) -> None:
    """Stream ``url`` into ``target``, going on after cuts. Raises InputError."""
    part = target + ".part"
    for number in range(tries):
        try:
            stream(url, part, max_size, told, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what is there is not a beginning of what the server has now
                os.unlink(part)
            elif error.code < 500 and error.code != 429:
                raise InputError("the server answers %d %s" % (error.code, error.reason)) from None
        except (OSError, EOFError) as error:
            if number == tries - 1:
                raise InputError("the connection failed %d times: %s" % (tries, error)) from None
        else:
            os.replace(part, target)
            return
        time.sleep(2**number)
    raise InputError("the server was not able to answer %d times" % tries)


def stream(url: str, part: str, max_size: Optional[int], told: Told, timeout: float) -> None:
    """One connection: from where ``part`` ends to the end. Raises EOFError if it was cut."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": "bytes=%d-" % have} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        if have and answer.status != 206:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        if max_size is not None and total is not None and total > max_size:
            raise InputError("it has %d bytes, more than max_size allows (%d)" % (total, max_size))
        with open(part, "ab" if have else "wb") as file:
            done = have
            for data in iter(lambda: answer.read(CHUNK), b""):
                done += len(data)
                if max_size is not None and done > max_size:
                    raise InputError("it has more bytes than max_size allows (%d)" % max_size)
                file.write(data)
                told(done, total)
    if total is not None and done < total:
        raise EOFError("cut after %d of %d bytes" % (done, total))


def progress(done: int, total: Optional[int]) -> str:
    """``"16.8 of 350.0 MB (5 %)"``."""
    if not total:
        return "%.1f MB" % (done / 1e6)
    return "%.1f of %.1f MB (%d %%)" % (done / 1e6, total / 1e6, 100 * done // total)


def check(target: str, entry: Dict[str, Any]) -> None:
    """Remove what is too large or not what was asked for. Raises InputError."""
    size, digest = os.path.getsize(target), entry.get("sha256")
    if entry.get("max_size") is not None and size > entry["max_size"]:
        os.unlink(target)
        raise InputError("it has %d bytes, more than max_size allows (%d)" % (size, entry["max_size"]))
    if digest and not is_right(target, digest):
        os.unlink(target)
        raise InputError("its SHA-256 is not %s" % digest)


def is_right(path: str, digest: str) -> bool:
    """Whether the file is there and has that SHA-256."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for data in iter(lambda: file.read(CHUNK), b""):
                found.update(data)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return found.hexdigest() == digest


def copy(source: str, target: str) -> None:
    """Copy in one step: the target is whole or not there."""
    draft = "%s.copy-%d" % (target, os.getpid())
    try:
        shutil.copyfile(source, draft)
        os.replace(draft, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
