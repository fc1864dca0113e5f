"""Everybody's files, and how one client sees one of them."""

from __future__ import annotations

import copy
import hashlib
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.clock import Clock, parse_rfc3339, rfc3339
from tests.emulators.drive.errors import ApiError, invalid, not_found, storage_full
from tests.emulators.drive.faults import Faults
from tests.emulators.drive.oauth import Grant
from tests.emulators.drive.settings import SERVICE_ACCOUNT, Settings

FOLDER = "application/vnd.google-apps.folder"
MOST_PROPERTIES, MOST_PROPERTY_BYTES = 30, 124
SETTABLE = ("name", "mimeType", "description", "starred", "originalFilename")
KEPT_ON_MOVE = "The parents field is not directly writable in update requests. Use the addParents and removeParents "


@dataclass
class File:
    """A file or folder; ``app`` holds each OAuth client's private properties, ``clients`` who may see it at all."""

    id: str
    owner: str
    parents: list[str]
    created: float
    modified: float
    content: bytes | None
    clients: set[str]
    facts: dict[str, Any] = field(default_factory=dict)
    app: dict[str, dict[str, str]] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    version: int = 0
    revision: str = ""
    trashed: bool = False
    listed_at: float = 0.0
    before: File | None = None
    stale_until: float = 0.0
    stale_content_only: bool = False

    @property
    def name(self) -> str:
        """Its name, which others in the same folder may have as well."""
        return str(self.facts["name"])


@dataclass(frozen=True)
class Change:
    """A line of the feed, shown from ``due`` on."""

    number: int
    file_id: str
    owner: str
    clients: frozenset[str]
    moment: float
    due: float


class Files:
    """The store. Callers hold ``lock`` for the length of a request."""

    def __init__(self, settings: Settings, clock: Clock, faults: Faults) -> None:
        self.settings, self.clock, self.faults = settings, clock, faults
        self.lock = threading.RLock()
        self.all: dict[str, File] = {}
        self.changes: list[Change] = []
        self._issued: set[str] = set()
        self._numbers = iter(range(100, 1 << 60))

    # --- looking ---

    def root(self, user: str) -> str:
        """The id of a user's My Drive."""
        return "0A" + hashlib.sha256(user.encode()).hexdigest()[:17]

    def visible(self, grant: Grant) -> Iterator[File]:
        """What this grant lets its client see."""
        return (file for file in self.all.values() if self._may_see(grant, file))

    def find(self, grant: Grant, file_id: str) -> File:
        """A file by its id. Raises ApiError 404, also for one of another client under ``drive.file``."""
        file = self.all.get(file_id)
        if file is None or not self._may_see(grant, file):
            raise not_found(file_id)
        return file

    def as_read(self, file: File, content: bool) -> File:
        """The file as a read finds it now: as it was before, where reads are stale."""
        stale = file.before is not None and self.clock.now() < file.stale_until
        return file.before if stale and file.before and (content or not file.stale_content_only) else file

    def used(self, user: str) -> int:
        """Bytes of a user's storage that are taken."""
        return sum(len(file.content or b"") for file in self.all.values() if file.owner == user)

    def trashed(self, file: File) -> bool:
        """Whether it or a folder above it is in the trash."""
        above = (self.all[parent] for parent in file.parents if parent in self.all)
        return file.trashed or any(self.trashed(each) for each in above)

    # --- changing ---

    def issue(self, count: int) -> list[str]:
        """Ids that creates may use."""
        ids = ["1" + secrets.token_urlsafe(24)[:32] for _ in range(count)]
        self._issued.update(ids)
        return ids

    def check_room(self, grant: Grant, size: int) -> None:
        """Raise ApiError 403 unless so many bytes more may be stored."""
        if grant.user == SERVICE_ACCOUNT and size:
            raise storage_full(service_account=True)
        full = self.used(grant.user) + size > self.settings.storage_bytes
        if full or self.faults.take("storage full"):
            raise storage_full()

    def check_id(self, file_id: str) -> None:
        """Raise ApiError 409 for an id that is in use, 400 for one that Drive did not make."""
        if file_id in self.all:
            raise ApiError(409, "fileIdInUse", "A file already exists with the provided ID.")
        if file_id not in self._issued:
            raise ApiError(400, "invalid", "The provided file ID is not usable.", location="file.id", kind="other")

    def create(self, grant: Grant, metadata: dict[str, Any], content: bytes | None) -> File:
        """A new file; without content and without a folder's type it is an empty one."""
        if content is None and metadata.get("mimeType") != FOLDER:
            content = b""
        if content:
            self.check_room(grant, len(content))
        file_id = metadata.get("id") or self.issue(1)[0]
        self.check_id(file_id)
        now = self.clock.shown()
        file = File(
            id=file_id, owner=grant.user, parents=self._parents(grant, metadata.get("parents")), created=now,
            modified=now, content=None, clients={grant.client},
        )  # fmt: skip
        file.facts = {"name": "Untitled", "mimeType": "application/octet-stream", "starred": False}
        self._apply(grant, file, metadata)
        self._fill(file, content)
        lag = self.faults.take("list lag")
        file.listed_at = self.clock.now() + (lag["seconds"] if lag else 0.0)
        self.all[file.id] = file
        self._changed(file)
        return file

    def update(self, grant: Grant, file: File, metadata: dict[str, Any], content: bytes | None) -> File:
        """Change what ``metadata`` names, and the content where it is given. Last writer wins: there is no If-Match."""
        if "parents" in metadata:
            raise ApiError(403, "fieldNotWritable", KEPT_ON_MOVE + "parameters instead.")
        if content is not None:
            self.check_room(grant, len(content) - len(file.content or b""))
        before = copy.copy(file)
        before.before = None
        file.modified = self.clock.shown()
        self._apply(grant, file, metadata)
        if content is not None:
            self._fill(file, content)
            if stale := self.faults.take("stale"):
                file.before, file.stale_until = before, self.clock.now() + stale["seconds"]
                file.stale_content_only = stale["content_only"]
        self._changed(file)
        return file

    def move(self, grant: Grant, file: File, add: list[str], remove: list[str]) -> None:
        """Put it elsewhere. Raises ApiError 403 where it would have two parents."""
        kept = [parent for parent in file.parents if parent not in self._parents(grant, remove, default=False)]
        parents = list(dict.fromkeys(kept + self._parents(grant, add, default=False)))
        if len(parents) > 1:
            raise ApiError(403, "cannotAddParent", "Increasing the number of parents is not allowed")
        file.parents = parents or [self.root(file.owner)]
        self._changed(file)

    def delete(self, file: File) -> None:
        """For ever, and everything below it."""
        for child in [each for each in self.all.values() if file.id in each.parents]:
            self.delete(child)
        if self.all.pop(file.id, None):
            self._changed(file)

    # --- within ---

    def _may_see(self, grant: Grant, file: File) -> bool:
        return file.owner == grant.user and (grant.sees_all or grant.client in file.clients)

    def _parents(self, grant: Grant, wanted: list[str] | None, default: bool = True) -> list[str]:
        root = self.root(grant.user)
        if not wanted:
            return [root] if default else []
        if len(wanted) > 1 and default:
            raise invalid("parents", "A file can only have one parent.")
        return [root if each in ("root", root) else self.find(grant, each).id for each in wanted]

    def _apply(self, grant: Grant, file: File, metadata: dict[str, Any]) -> None:
        file.facts |= {name: metadata[name] for name in SETTABLE if name in metadata}
        file.trashed = metadata.get("trashed", file.trashed)
        own = file.app.get(grant.client, {})
        file.app = file.app | {grant.client: _merged(own, metadata.get("appProperties", {}))}
        file.properties = _merged(file.properties, metadata.get("properties", {}))
        for name, attribute in (("createdTime", "created"), ("modifiedTime", "modified")):
            if name in metadata:
                setattr(file, attribute, parse_rfc3339(metadata[name]))

    def _fill(self, file: File, content: bytes | None) -> None:
        if content and self.faults.take("corrupt upload"):
            content = spoiled(content)
        file.content = content
        file.revision = "0B" + secrets.token_urlsafe(24) if content is not None else ""

    def _changed(self, file: File) -> None:
        number = next(self._numbers)
        file.version = number
        lag = self.faults.take("changes lag")
        now = self.clock.now()
        due = now + (lag["seconds"] if lag else 0.0)
        self.changes.append(Change(number, file.id, file.owner, frozenset(file.clients), now, due))

    # --- as JSON ---

    def document(self, file: File, grant: Grant) -> dict[str, Any]:
        """All that this client may know of it."""
        owner = {"kind": "drive#user", "displayName": file.owner.split("@")[0], "emailAddress": file.owner, "me": True}
        document = {
            "kind": "drive#file", "id": file.id, "parents": list(file.parents), "version": str(file.version),
            "createdTime": rfc3339(file.created), "modifiedTime": rfc3339(file.modified), "spaces": ["drive"],
            "trashed": self.trashed(file), "explicitlyTrashed": file.trashed, "ownedByMe": True, "owners": [owner],
            "isAppAuthorized": grant.client in file.clients, "shared": False,
            "webViewLink": f"https://drive.google.com/file/d/{file.id}/view", **file.facts,
        }  # fmt: skip
        if own := file.app.get(grant.client):
            document["appProperties"] = dict(own)
        if file.properties:
            document["properties"] = dict(file.properties)
        return document | (_checksums(file) if file.content is not None else {})


def spoiled(content: bytes) -> bytes:
    """One bit of it is another one."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _checksums(file: File) -> dict[str, Any]:
    content = file.content or b""
    return {
        "size": str(len(content)), "quotaBytesUsed": str(len(content)), "headRevisionId": file.revision,
        "md5Checksum": hashlib.md5(content).hexdigest(), "sha1Checksum": hashlib.sha1(content).hexdigest(),
        "sha256Checksum": hashlib.sha256(content).hexdigest(), "originalFilename": file.name,
    }  # fmt: skip


def _merged(old: dict[str, str], new: dict[str, str | None]) -> dict[str, str]:
    merged = {name: value for name, value in (old | new).items() if value is not None}
    too_long = [name for name, value in merged.items() if len((name + value).encode()) > MOST_PROPERTY_BYTES]
    if too_long or len(merged) > MOST_PROPERTIES:
        raise ApiError(403, "propertiesLimitExceeded", f"Too many or too long properties: {', '.join(too_long)}")
    return merged
