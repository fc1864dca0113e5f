"""The methods of Drive v3 that are emulated, each checked against the discovery document before it is carried out."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.emulators.clock import rfc3339
from tests.emulators.drive import discovery, limits
from tests.emulators.drive.discovery import Method
from tests.emulators.drive.errors import ApiError, invalid
from tests.emulators.drive.files import FOLDER, File, Files, spoiled
from tests.emulators.drive.masks import mask
from tests.emulators.drive.messages import Answer, Request, json_answer
from tests.emulators.drive.oauth import Grant, OAuth
from tests.emulators.drive.query import ordered, predicate
from tests.emulators.drive.uploads import Uploads

MOST_IDS, PAGE, MOST_PAGE = 1000, 100, 1000
Verb = Callable[[Grant, Method, Request, dict[str, str]], Answer | File | dict[str, Any]]


class Api:
    """Answers one request at a time."""

    def __init__(self, files: Files, oauth: OAuth) -> None:
        self.files, self.oauth = files, oauth
        self.uploads = Uploads(files)
        self.quota = limits.Quota(files.settings)
        self._pages: dict[str, tuple[float, list[str]]] = {}
        self._verbs: dict[str, Verb] = {
            "files.list": self._list, "files.get": self._get, "files.create": self._create,
            "files.update": self._update, "files.delete": self._delete, "files.copy": self._copy,
            "files.generateIds": self._generate, "changes.list": self._changes,
            "changes.getStartPageToken": self._start_token, "about.get": self._about,
        }  # fmt: skip

    def answer(self, request: Request) -> Answer:
        """Carry it out. Raises ApiError."""
        grant = self.oauth.grant(request.headers.get("authorization", ""))
        if request.method == "PUT" and "upload_id" in request.query:
            with self.files.lock:
                return self._shown(self.uploads.receive(request.query["upload_id"], request), grant, "File", request)
        method, names, upload = discovery.find(request.method, request.path)
        discovery.check_query(method, request.query)
        units = limits.cost(method.id, request.query.get("alt") == "media")
        self.quota.take(grant.user, grant.client, units, self.files.clock.now())
        verb = self._verbs.get(method.id)
        if verb is None:
            raise ApiError(501, "notImplemented", f"{method.id} is not emulated")
        with self.files.lock:
            if upload:
                target = self.files.find(grant, names["fileId"]) if "fileId" in names else None
                return self._shown(self.uploads.begin(grant, method, request, target), grant, "File", request)
            if method.request and request.body:
                discovery.check_body(method.request, request.json())
            return self._shown(verb(grant, method, request, names), grant, method.response or "", request)

    def _shown(self, found: Answer | File | dict[str, Any], grant: Grant, schema: str, request: Request) -> Answer:
        if isinstance(found, Answer):
            return found
        document = self.files.document(found, grant) if isinstance(found, File) else found
        return json_answer(mask(document, schema, request.query.get("fields")))

    # --- files ---

    def _create(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> File:
        return self.files.create(grant, request.json(), None)

    def _update(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> File:
        file = self.files.find(grant, names["fileId"])
        add, remove = (request.query.get(name, "") for name in ("addParents", "removeParents"))
        if add or remove:
            self.files.move(grant, file, [*filter(None, add.split(","))], [*filter(None, remove.split(","))])
        return self.files.update(grant, file, request.json(), None)

    def _delete(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> Answer:
        self.files.delete(self.files.find(grant, names["fileId"]))
        return Answer(204)

    def _copy(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> File:
        file = self.files.find(grant, names["fileId"])
        if file.facts["mimeType"] == FOLDER:
            raise ApiError(403, "cannotCopyFile", "This file cannot be copied by the user.")
        taken = {"name": file.name, "mimeType": file.facts["mimeType"], "parents": file.parents}
        return self.files.create(grant, taken | request.json(), file.content)

    def _get(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> Answer | File:
        media = request.query.get("alt") == "media"
        file = self.files.as_read(self.files.find(grant, names["fileId"]), media)
        if not media:
            return file
        if file.content is None:
            raise ApiError(403, "fileNotDownloadable", "Only files with binary content can be downloaded.")
        answer = _media(file.content, file.facts["mimeType"], request.headers.get("range", ""))
        if answer.body and self.files.faults.take("corrupt download"):
            answer = replace(answer, body=spoiled(answer.body))
        cut = bool(answer.body) and self.files.faults.take("cut download") is not None
        return replace(answer, cut=cut)

    def _generate(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> dict[str, Any]:
        ids = self.files.issue(int(request.query.get("count", "10")))
        return {"kind": "drive#generatedIds", "space": "drive", "ids": ids}

    def _list(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> dict[str, Any]:
        now = self.files.clock.now()
        if token := request.query.get("pageToken"):
            ends, ids = self._pages.get(token, (0.0, []))
            if now > ends:
                raise invalid("pageToken")
        else:
            ids = self._found(grant, request.query)
        size = int(request.query.get("pageSize", str(PAGE)))
        files = [self.files.all[each] for each in ids[:size] if each in self.files.all]
        page = {"kind": "drive#fileList", "incompleteSearch": False}
        page["files"] = [self.files.document(file, grant) for file in files]
        if ids[size:]:
            page["nextPageToken"] = token = "~!!~" + secrets.token_urlsafe(16)
            self._pages[token] = (now + self.files.settings.page_token_seconds, ids[size:])
        return page

    def _found(self, grant: Grant, query: dict[str, str]) -> list[str]:
        asked = predicate(query["q"]) if query.get("q") else lambda facts: True
        now, root = self.files.clock.now(), self.files.root(grant.user)
        documents = [
            self.files.document(file, grant) | {"$in_root": root in file.parents}
            for file in self.files.visible(grant)
            if file.listed_at <= now
        ]
        found = [document for document in documents if asked(document)]
        if order := query.get("orderBy"):
            return [document["id"] for document in ordered(found, order)]
        return [document["id"] for document in reversed(found)]

    # --- changes, about ---

    def _start_token(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> dict[str, Any]:
        return {"kind": "drive#startPageToken", "startPageToken": str(self._settled(grant) + 1)}

    def _settled(self, grant: Grant) -> int:
        """The number of the last change that the feed shows by now."""
        now, last = self.files.clock.now(), 99
        for change in self.files.changes:
            if change.owner == grant.user and change.due > now:
                break
            last = change.number
        return last

    def _changes(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> dict[str, Any]:
        token = request.query["pageToken"]
        if not re.fullmatch(r"\d+", token):
            raise invalid("pageToken")
        settled = self._settled(grant)
        newest = {
            change.file_id: change
            for change in self.files.changes
            if int(token) <= change.number <= settled
            and change.owner == grant.user
            and (grant.sees_all or grant.client in change.clients)
        }
        lines = sorted(newest.values(), key=lambda change: change.number)
        size = int(request.query.get("pageSize", str(PAGE)))
        page: dict[str, Any] = {"kind": "drive#changeList", "changes": []}
        for change in lines[:size]:
            file = self.files.all.get(change.file_id)
            if file is None and request.query.get("includeRemoved") == "false":
                continue
            line = {
                "kind": "drive#change", "type": "file", "changeType": "file", "time": rfc3339(change.moment),
                "removed": file is None, "fileId": change.file_id,
            }  # fmt: skip
            page["changes"].append(line | ({"file": self.files.document(file, grant)} if file else {}))
        after = {"nextPageToken": str(lines[size].number)} if lines[size:] else {"newStartPageToken": str(settled + 1)}
        return page | after

    def _about(self, grant: Grant, method: Method, request: Request, names: dict[str, str]) -> dict[str, Any]:
        if "fields" not in request.query:
            raise ApiError(
                400, "required", "The 'fields' parameter is required for this method.", location="fields"
            )  # fmt: skip
        used = self.files.used(grant.user)
        quota = {"limit": str(self.files.settings.storage_bytes), "usage": str(used), "usageInDrive": str(used)}
        user = {"kind": "drive#user", "displayName": grant.user.split("@")[0], "emailAddress": grant.user, "me": True}
        return {"kind": "drive#about", "user": user, "storageQuota": quota | {"usageInDriveTrash": "0"}}


def _media(content: bytes, mime: str, wanted: str) -> Answer:
    """Content, or the range of it that ``wanted`` names. Raises ApiError 416."""
    headers = {"Content-Type": mime}
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if not match:
        return Answer(200, content, headers)
    start, end = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
    if start >= len(content) or end < start:
        raise ApiError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable", location="Range",
                       kind="header", headers={"Content-Range": f"bytes */{len(content)}"})  # fmt: skip
    range_header = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
    return Answer(206, content[start : end + 1], headers | range_header)
