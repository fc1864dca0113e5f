"""What is asked of Google Drive: questions and metadata. Pure: nothing here sends anything.

A folder is found by a key in its ``appProperties``, which only our own OAuth client sees; a file by folder and name.
Every content is written together with its SHA-256 as its writer computed it, so that a reader can tell damage on the
way up, which Drive's own checksum would only confirm.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from backends.base import Rejected

FOLDER = "application/vnd.google-apps.folder"
BYTES = "application/octet-stream"

KEY, DECLARED = "gpujob-key", "gpujob-sha256"
MOST_PROPERTY_BYTES = 124
"""Of a property's name and value together, in UTF-8 (Drive's own limit)."""

FILE_FIELDS = (
    "id,name,mimeType,parents,size,md5Checksum,sha256Checksum,version,createdTime,modifiedTime,appProperties,trashed"
)
LIST_FIELDS = f"nextPageToken,incompleteSearch,files({FILE_FIELDS})"
ABOUT_FIELDS = "user(emailAddress),storageQuota(limit,usage)"
PAGE = 1000
"""Entries of one page, the most that Drive gives: a list costs 100 quota units however long it is."""


def quoted(text: str) -> str:
    """``text`` as a value in a question."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def folders_with(key: str) -> str:
    """The question for folders that carry ``key``."""
    has = f"appProperties has {{ key={quoted(KEY)} and value={quoted(key)} }}"
    return f"mimeType = {quoted(FOLDER)} and {has} and trashed = false"


def children(folder: str, since: datetime | None = None) -> str:
    """The question for what lies in ``folder``, or for what was changed there after ``since``."""
    newer = f" and modifiedTime > {quoted(moment(since))}" if since else ""
    return f"{quoted(folder)} in parents{newer} and trashed = false"


def named(folder: str, name: str) -> str:
    """The question for the files of that name; there may be several."""
    return f"{quoted(folder)} in parents and name = {quoted(name)} and trashed = false"


def moment(time: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_folder(file_id: str, key: str, name: str, parent: str | None) -> dict[str, Any]:
    """Metadata of a folder to be made. Raises Rejected for a key that does not fit into a property."""
    if len((KEY + key).encode()) > MOST_PROPERTY_BYTES:
        raise Rejected(f"The key {key!r} is too long for a folder on Drive: {MOST_PROPERTY_BYTES - len(KEY)} bytes")
    body = {"id": file_id, "name": name, "mimeType": FOLDER, "appProperties": {KEY: key}}
    return body | ({"parents": [parent]} if parent else {})


def new_file(file_id: str, folder: str, name: str, sha256: str) -> dict[str, Any]:
    """Metadata of a file to be made."""
    return {"id": file_id, "name": name, "mimeType": BYTES, "parents": [folder]} | {"appProperties": {DECLARED: sha256}}


def rewritten(sha256: str) -> dict[str, Any]:
    """Metadata that goes with new content; it also takes the file out of the bin."""
    return {"appProperties": {DECLARED: sha256}, "trashed": False}


def byte_range(offset: int, limit: int) -> str:
    """The value of a Range header."""
    return f"bytes={offset}-{offset + limit - 1}"


def pages_of(ids: Iterable[str], most: int) -> Iterable[list[str]]:
    """``ids`` in groups of ``most``."""
    every = list(ids)
    return (every[at : at + most] for at in range(0, len(every), most))
