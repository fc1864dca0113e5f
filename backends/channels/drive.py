"""A mailbox on Google Drive: folders found by a key, files with one writer each.

Drive has no unique names, no compare-and-swap, and lists that lag. Hence:

- **No twins by retrying.** A file is created under an id that was made beforehand and kept in this process until
  Drive has the file, so a create that is repeated (by us, or by httplib2, which does so by itself) is refused as a
  duplicate and its file is found. Ids alone do not survive a crash of the writer; so after one, name and folder (or a
  folder's key) are looked up, and what a lagging list did not show yet becomes a twin.
- **Twins are resolved alike by all who see them.** Of files the newest wins, since a file has one writer and a twin is
  what it wrote later; of folders the oldest, since others may already have put something there. Readers ignore losers.
  The writer deletes them when it looks its file up, :meth:`Drive.tidy` what has been a loser for some time. A losing
  folder is emptied into the winner; it is deleted only when it is empty and old, for deleting a folder deletes
  whatever a lagging list did not show in it.
- **Both ways are verified.** Drive's checksums are compared with what was sent, and with what was read. The writer's
  own SHA-256 goes with the content, so a reader also knows content that was damaged on its way up.
- **Nothing is polled one by one.** :meth:`Drive.list_files` tells in one request what is new in a folder, which all who
  wait share; :meth:`Drive.entries` asks for a hundred files in one.

Every verb may be called again, never waits and never retries, but for the chunks of an upload.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from googleapiclient.http import HttpRequest

from backends.base import BackendError, Lost, Progress, Transient
from backends.channels import drive_requests as asked
from backends.channels.drive_replies import (
    Absent,
    Account,
    Entry,
    Taken,
    account,
    entry,
    first_folder,
    newest_file,
    without_twins,
)
from backends.channels.drive_session import API, MOST_BATCHED, REPLY_SECONDS, Session, understood
from backends.channels.drive_upload import CHUNK, Content, Uploads
from backends.channels.trees import explained

SETTLED = timedelta(minutes=10)
"""After so long every list shows a file, as far as lags have been seen; only then a losing twin is deleted unseen."""
IDS_AT_ONCE = 100

T = TypeVar("T")


def _unwatched(done: int, total: int) -> None:
    """Progress that nobody asked for."""


class Drive:
    """One user's Drive, as far as ``drive.file`` shows it. Threads may share it.

    ``token`` gives the secret that ``gpujob backends setup`` keeps (``drive_replies.TOKEN_NAME``); ``chunk`` is the
    size of an upload's requests in bytes, a multiple of 256 KiB.
    """

    def __init__(
        self, token: Callable[[], str | None], *, api: str = API, timeout: float = REPLY_SECONDS, chunk: int = CHUNK
    ) -> None:
        self._session = Session(token, api, timeout)
        self._uploads = Uploads(self._session)
        self._chunk = chunk
        self._lock = threading.Lock()
        self._spare_ids: list[str] = []
        self._reserved: dict[tuple[str, str], str] = {}
        self._written: dict[tuple[str, str], Entry] = {}
        self._folders: dict[str, str] = {}

    # --- folders ---

    def ensure_folder(self, key: str, name: str = "", parent: str | None = None) -> str:
        """The id of the folder with ``key``, made if there is none, under ``parent`` or else in My Drive."""
        with self._lock:
            known = self._folders.get(key)
        return known or self._remember(key, self._find_folder(key) or self._make_folder(key, name or key, parent))

    def _find_folder(self, key: str) -> str | None:
        found = first_folder(self._ask("Looking for a folder", asked.folders_with(key)))
        for loser in found[1:]:
            self._merge(loser, found[0])
        return found[0].id if found else None

    def _make_folder(self, key: str, name: str, parent: str | None) -> str:
        file_id = self._reserve("", key)
        body = asked.new_folder(file_id, key, name, parent)
        try:
            self._run("Making a folder", self._files.create(body=body, fields="id"), creates=True)
        except Taken:
            pass
        except Lost as lost:
            if self.entries([file_id])[file_id] is None:
                raise Transient(f"{lost}; it was not made") from lost
        self._release("", key)
        return self._find_folder(key) or file_id

    def _merge(self, loser: Entry, winner: Entry) -> None:
        left = self._ask("Looking into a twin folder", asked.children(loser.id))
        for each in left:
            move = self._files.update(fileId=each.id, addParents=winner.id, removeParents=loser.id, fields="id")
            self._run("Moving a file out of a twin folder", move)
        if not left and self._session.now() - loser.created > SETTLED:
            self.delete(loser.id)

    def _remember(self, key: str, folder: str) -> str:
        with self._lock:
            self._folders[key] = folder
        return folder

    def _forget_folder(self, folder: str) -> None:
        with self._lock:
            self._folders = {key: each for key, each in self._folders.items() if each != folder}

    # --- writing ---

    def put_bytes(self, folder: str, name: str, content: bytes, progress: Progress = _unwatched) -> Entry:
        """Make the file ``name`` in ``folder`` hold ``content``. Only one process may write a file of that name.

        Raises Transient for what may pass (call again: what is under way goes on), Rejected where the storage is full,
        Absent where the folder is gone (ensure it again), AuthError where access has ended.
        """
        return self._put(folder, name, Content(content, self._chunk), progress)

    def put_file(self, folder: str, name: str, path: Path, progress: Progress = _unwatched) -> Entry:
        """As :meth:`put_bytes`, from a file, which must not change meanwhile."""
        return self._put(folder, name, Content(path, self._chunk), progress)

    def _put(self, folder: str, name: str, content: Content, progress: Progress) -> Entry:
        place = (folder, name)
        with self._lock:
            last = self._written.get(place)
        if last is not None and last.sha256 == content.sha256 and self._still_there(last):
            return last
        found = last or self._find_file(folder, name)
        stored = self._rewrite(found.id, name, content, progress) if found else None
        if stored is None:
            stored = self._create(folder, name, content, progress)
        if stored.trashed:
            self._forget_folder(folder)
            raise Absent(f"Writing {name}: its folder on Google Drive was put into the bin")
        with self._lock:
            self._written[place] = stored
        content.check(stored)
        return stored

    def _still_there(self, last: Entry) -> bool:
        """Whether that is still so: a look costs a tenth of writing it again."""
        now = self.entries([last.id])[last.id]
        return now is not None and now.sha256 == last.sha256 and not now.trashed

    def _find_file(self, folder: str, name: str) -> Entry | None:
        found = self._ask(f"Looking for {name}", asked.named(folder, name))
        twins = newest_file(each for each in found if each.name == name)
        for loser in twins[1:]:
            self.delete(loser.id)
        return twins[0] if twins else None

    def _create(self, folder: str, name: str, content: Content, progress: Progress) -> Entry:
        file_id = self._reserve(folder, name)
        body = asked.new_file(file_id, folder, name, content.sha256)
        doing = f"Writing {name}"

        def make() -> Any:
            return self._files.create(body=body, media_body=content, fields=asked.FILE_FIELDS)

        try:
            stored = self._uploads.send(doing, file_id, content, make, progress, creates=True)
        except (Taken, Lost) as lost:
            made = self.entries([file_id])[file_id]
            if made is None:
                raise Transient(f"{lost}; it was not made") from lost
            same = made.sha256 == content.sha256
            stored = made if same else self._rewrite(file_id, name, content, progress) or made
        except Absent:
            self._forget_folder(folder)
            raise
        self._release(folder, name)
        return stored

    def _rewrite(self, file_id: str, name: str, content: Content, progress: Progress) -> Entry | None:
        """The file with its new content; None where it is gone."""
        body = asked.rewritten(content.sha256)

        def make() -> Any:
            return self._files.update(fileId=file_id, body=body, media_body=content, fields=asked.FILE_FIELDS)

        try:
            return self._uploads.send(f"Writing {name}", file_id, content, make, progress, creates=False)
        except Absent:
            return None

    # --- reading ---

    def read(self, file_id: str, offset: int, limit: int = 1 << 20) -> bytes:
        """Up to ``limit`` bytes of a file from ``offset``, unverified; empty at its end. Raises Absent."""
        return self._session.media("Reading a file", self._files.get_media(fileId=file_id), offset, limit)

    def content(self, wanted: Entry) -> bytes:
        """All of a small file, verified. Raises Transient while Drive still shows something older, Absent."""
        data = self.read(wanted.id, 0, wanted.size) if wanted.size else b""
        _check(wanted, hashlib.sha256(data).hexdigest())
        return data

    def fetch(self, file_id: str, dest: Path, progress: Progress = _unwatched) -> Entry:
        """All of a file into ``dest``, verified; called again it goes on where it stopped. Raises as ``content``."""
        wanted = self.entry(file_id)
        part = dest.with_name(f".{dest.name}.{(wanted.sha256 or wanted.declared or '')[:16]}.part")
        with explained(f"write {dest}"):
            self._append(wanted, part, progress)
            with part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            try:
                _check(wanted, found)
            except Transient:
                part.unlink()
                raise
            part.replace(dest)
        return wanted

    def _append(self, wanted: Entry, part: Path, progress: Progress) -> None:
        with part.open("ab") as file:
            while file.tell() < wanted.size:
                block = self.read(wanted.id, file.tell(), min(self._chunk, wanted.size - file.tell()))
                if not block:
                    break
                file.write(block)
                file.flush()
                progress(file.tell(), wanted.size)

    def entry(self, file_id: str) -> Entry:
        """A file as it is now, whatever lists show. Raises Absent."""
        doing = "Looking at a file"
        document = self._run(doing, self._files.get(fileId=file_id, fields=asked.FILE_FIELDS))
        return understood(doing, lambda: entry(document))

    def entries(self, file_ids: Iterable[str]) -> dict[str, Entry | None]:
        """Many files as they are now, a hundred for one request; None for one that is gone."""
        doing = "Looking at files"
        found: dict[str, Entry | None] = {}
        for some in asked.pages_of(file_ids, MOST_BATCHED):
            requests = {each: self._files.get(fileId=each, fields=asked.FILE_FIELDS) for each in some}
            for file_id, reply in self._session.batch(doing, requests).items():
                found[file_id] = _one_of_many(doing, reply)
        return found

    def list_files(self, folder: str, since: datetime | None = None) -> list[Entry]:
        """What lies in ``folder``, or what was changed after ``since`` (Drive's time), by name and without twins.

        A new file may be missing for a while.
        """
        return without_twins(self._ask("Listing a folder", asked.children(folder, since)))

    def account(self) -> Account:
        """Whose Drive it is and how full. Raises AuthError where access has ended."""
        doing = "Asking for the account"
        document = self._run(doing, self._session.service.about().get(fields=asked.ABOUT_FIELDS))
        return understood(doing, lambda: account(document))

    # --- removing ---

    def delete(self, file_id: str) -> None:
        """Remove a file, or a folder with all in it, for ever. Absent is success."""
        with suppress(Absent):
            self._run("Deleting a file", self._files.delete(fileId=file_id))
        with self._lock:
            self._written = {place: each for place, each in self._written.items() if each.id != file_id}
        self._forget_folder(file_id)

    def tidy(self, folder: str) -> int:
        """Delete what has lost against a twin in ``folder`` for some time; how many files that were."""
        every = self._ask("Listing a folder", asked.children(folder))
        kept = {each.id for each in without_twins(every)}
        lost = [each for each in every if not each.folder and each.id not in kept]
        losers = [each for each in lost if self._session.now() - each.modified > SETTLED]
        for loser in losers:
            self.delete(loser.id)
        return len(losers)

    def now(self) -> datetime:
        """The time by Drive's clock, which all who use the mailbox share."""
        return self._session.now()

    def close(self) -> None:
        """End this thread's connection."""
        self._session.close()

    # --- within ---

    @property
    def _files(self) -> Any:
        return self._session.service.files()

    def _run(self, doing: str, request: HttpRequest, *, creates: bool = False) -> Any:
        return self._session.run(doing, request, creates=creates)

    def _ask(self, doing: str, question: str) -> list[Entry]:
        """Every file that answers the question."""
        found: list[Entry] = []
        token: str | None = None
        while True:
            request = self._files.list(q=question, pageSize=asked.PAGE, pageToken=token, fields=asked.LIST_FIELDS)
            page = self._run(doing, request)
            found += understood(doing, partial(_each, entry, page.get("files", ())))
            token = page.get("nextPageToken")
            if token is None:
                return found

    def _reserve(self, folder: str, name: str) -> str:
        """The id under which that file is to be made; the same until it is made."""
        with self._lock:
            if (folder, name) not in self._reserved:
                if not self._spare_ids:
                    reply = self._run("Asking for ids", self._files.generateIds(count=IDS_AT_ONCE, type="files"))
                    self._spare_ids = list(reply["ids"])
                self._reserved[folder, name] = self._spare_ids.pop()
            return self._reserved[folder, name]

    def _release(self, folder: str, name: str) -> None:
        with self._lock:
            self._reserved.pop((folder, name), None)


def _check(wanted: Entry, sha256: str) -> None:
    """Raise Transient unless that is what the writer stored and what Drive says it has."""
    if wanted.damaged:
        raise Transient(f"{wanted.name} was damaged on its way to Google Drive; its writer will send it again")
    if sha256 != (wanted.sha256 or wanted.declared):
        raise Transient(
            f"{wanted.name}: what Google Drive gave is not what it says it has: damaged, or an older version"
        )


def _each(read: Callable[[Any], T], lines: Iterable[Any]) -> list[T]:
    return [read(line) for line in lines]


def _one_of_many(doing: str, reply: Any) -> Entry | None:
    if isinstance(reply, Absent):
        return None
    if isinstance(reply, BackendError):
        raise reply
    return understood(doing, lambda: entry(reply))
