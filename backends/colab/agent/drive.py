"""Google Drive over plain HTTPS, as far as the agent needs it: look, read, write its own files.

What may pass is tried a few times here; what does not pass is an error whose text says what to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

API = "https://www.googleapis.com"
FIELDS = "id,name,mimeType,size,md5Checksum,sha256Checksum,createdTime,modifiedTime,appProperties"
KEY, DECLARED = "gpujob-key", "gpujob-sha256"
CHUNK = 8 << 20
REPLY_SECONDS = 60.0
TRIES = 5
RATES = ("rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded")


class DriveError(Exception):
    """Drive cannot be reached or has trouble: later it may go."""


class Refused(DriveError):
    """Drive refuses and will go on refusing."""


class Full(DriveError):
    """There is no room: the run goes on, and what it says waits until somebody makes some."""


class Absent(DriveError):
    """There is no such file."""


class Drive:
    """One user's Drive through the OAuth client of ``token`` (its id, secret and refresh token, and where they go)."""

    def __init__(self, token: dict[str, Any], api: str = API, sleep: Callable[[float], None] = time.sleep) -> None:
        self._token, self._api, self._sleep = token, api, sleep
        self._access, self._access_ends = "", 0.0
        self._ids: dict[tuple[str, str], str] = {}
        self._made: set[str] = set()

    # --- looking and reading ---

    def folder(self, key: str) -> str | None:
        """The id of the folder with that key: of twins the oldest, as everybody chooses."""
        has = f"appProperties has {{ key='{KEY}' and value='{_quoted(key)}' }}"
        found = self._ask(f"mimeType = 'application/vnd.google-apps.folder' and {has} and trashed = false")
        return min(found, key=lambda each: (each["createdTime"], each["id"]))["id"] if found else None

    def files(self, folder: str, name: str | None = None) -> dict[str, dict[str, Any]]:
        """What lies in a folder by its name: of twins the newest, as everybody chooses."""
        named = f" and name = '{_quoted(name)}'" if name else ""
        found = self._ask(f"'{_quoted(folder)}' in parents{named} and trashed = false")
        return {each["name"]: each for each in sorted(found, key=lambda each: (each["modifiedTime"], each["id"]))}

    def exists(self, file_id: str) -> bool:
        """Whether the file is there, whatever lists show."""
        try:
            return not self._json("GET", f"/drive/v3/files/{file_id}", {"fields": "id,trashed"}).get("trashed", False)
        except Absent:
            return False

    def read(self, file: dict[str, Any]) -> bytes:
        """All of a small file, as its writer meant it. Raises DriveError while Drive gives something else."""
        data = self._request("GET", f"/drive/v3/files/{file['id']}", {"alt": "media"})[0]
        declared = file.get("appProperties", {}).get(DECLARED)
        if declared not in (None, hashlib.sha256(data).hexdigest()):
            raise DriveError(f"{file['name']} is damaged or older than it says")
        return data

    def fetch(self, file: dict[str, Any], dest: Path, sha256: str) -> None:
        """All of a file into ``dest``, in pieces. Raises DriveError where it is not what ``sha256`` says."""
        part, size, digest = dest.with_name(dest.name + ".part"), int(file.get("size", 0)), hashlib.sha256()
        with part.open("wb") as out:
            while out.tell() < size:
                last = min(out.tell() + CHUNK, size) - 1
                headers = {"Range": f"bytes={out.tell()}-{last}"}
                data = self._request("GET", f"/drive/v3/files/{file['id']}", {"alt": "media"}, headers=headers)[0]
                if not data:
                    break
                digest.update(data)
                out.write(data)
        if digest.hexdigest() != sha256:
            part.unlink()
            raise DriveError(f"{file['name']} arrived damaged")
        part.replace(dest)

    # --- writing; each file has this agent as its only writer ---

    def write(self, folder: str, name: str, data: bytes) -> None:
        """Make the file ``name`` hold ``data``."""
        sha256 = hashlib.sha256(data).hexdigest()
        file_id = self._ids.get((folder, name)) or self._reserve()
        self._ids[folder, name] = file_id
        if file_id not in self._made:
            created = self._upload("POST", "", _new(file_id, folder, name, sha256), data)
            self._made.add(file_id)
            if created is not None:
                return _check(created, data)
        try:
            written = self._upload("PATCH", f"/{file_id}", {"appProperties": {DECLARED: sha256}}, data)
        except Absent:  # somebody has deleted it: the next time it is made anew
            del self._ids[folder, name]
            raise
        return _check(written or {}, data)

    def write_file(self, folder: str, name: str, path: Path, sha256: str) -> bool:
        """The same from a file of ``sha256``; False, and nothing written, where the file is another one by now."""
        size = path.stat().st_size
        file_id = self._reserve()
        query = {"uploadType": "resumable", "fields": FIELDS}
        headers = {"X-Upload-Content-Type": "application/octet-stream", "X-Upload-Content-Length": str(size)}
        body = json.dumps(_new(file_id, folder, name, sha256)).encode()
        _, reply = self._request("POST", "/upload/drive/v3/files", query, body, headers | JSON)
        place, sent, digest = reply["Location"], 0, hashlib.sha256()
        with path.open("rb") as source:
            while sent < size:
                chunk = source.read(CHUNK)
                digest.update(chunk)
                last = sent + len(chunk) == size
                if not chunk or (last and digest.hexdigest() != sha256):
                    return False
                self._chunk(place, chunk, sent, size)
                sent += len(chunk)
        self._ids[folder, name] = file_id
        return True

    def remove(self, folder: str, name: str) -> None:
        """Remove a file that this agent has written; absent is success."""
        if file_id := self._ids.pop((folder, name), None):
            with contextlib.suppress(Absent):
                self._request("DELETE", f"/drive/v3/files/{file_id}", {})

    # --- within ---

    def _reserve(self) -> str:
        """An id to make a file under: a repeated request then makes no twin."""
        return str(self._json("GET", "/drive/v3/files/generateIds", {"count": "1"})["ids"][0])

    def _chunk(self, place: str, chunk: bytes, begin: int, size: int) -> None:
        """Send one chunk whole, however much of it Drive takes at once; after trouble it says how much it has."""
        done, failures = 0, 0
        while done < len(chunk):
            headers = {"Content-Range": f"bytes {begin + done}-{begin + len(chunk) - 1}/{size}"}
            try:
                _, reply = self._request("PUT", place, None, chunk[done:], headers, tries=1)
            except Absent:
                raise DriveError("the upload's session is gone") from None
            except (Refused, Full):
                raise
            except DriveError:
                failures += 1
                if failures == TRIES:
                    raise
                self._sleep(0.5 * 2**failures)
                _, reply = self._request("PUT", place, None, b"", {"Content-Range": f"bytes */{size}"})
            if reply[":status"] != "308":
                return
            stored = reply.get("Range")
            done = int(stored.rpartition("-")[2]) + 1 - begin if stored else 0

    def _upload(self, method: str, path: str, metadata: dict[str, Any], data: bytes) -> dict[str, Any] | None:
        """Metadata and content in one request; None where the id is taken, by an earlier try whose reply was lost."""
        line = f"gpujob{hashlib.sha256(data).hexdigest()}"
        head = f"--{line}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(metadata)}\r\n"
        head += f"--{line}\r\nContent-Type: application/octet-stream\r\n\r\n"
        body = head.encode() + data + f"\r\n--{line}--\r\n".encode()
        headers = {"Content-Type": f'multipart/related; boundary="{line}"'}
        query = {"uploadType": "multipart", "fields": FIELDS}
        try:
            found = self._request(method, f"/upload/drive/v3/files{path}", query, body, headers)[0]
        except urllib.error.HTTPError as error:
            if error.code == http.client.CONFLICT and method == "POST":
                return None
            raise DriveError(f"Drive answers {error.code}") from error
        return dict(json.loads(found))

    def _ask(self, question: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {"q": question, "pageSize": "1000", "fields": f"nextPageToken,files({FIELDS})"}
        while True:
            page = self._json("GET", "/drive/v3/files", query)
            found += page.get("files", [])
            if "nextPageToken" not in page:
                return found
            query = query | {"pageToken": page["nextPageToken"]}

    def _json(self, method: str, path: str, query: dict[str, str]) -> dict[str, Any]:
        try:
            return dict(json.loads(self._request(method, path, query)[0]))
        except ValueError as error:
            raise DriveError(f"Drive's reply makes no sense: {error}") from error

    def _request(
        self, method: str, path: str, query: dict[str, str] | None, body: bytes | None = None,
        headers: dict[str, str] | None = None, tries: int = TRIES,
    ) -> tuple[bytes, dict[str, str]]:  # fmt: skip
        """One request, tried a few times while its trouble may pass: the reply's body and headers."""
        url = path if query is None else f"{self._api}{path}?{urllib.parse.urlencode(query)}"
        pause = 0.5
        for tries_left in reversed(range(tries)):
            access = self._access_token()
            request = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
            request.add_header("Authorization", f"Bearer {access}")
            try:
                return _sent(request)
            except urllib.error.HTTPError as error:
                trouble = self._understood(error)
            except (OSError, http.client.HTTPException) as error:
                trouble = DriveError(f"Drive cannot be reached: {error}")
            if not tries_left:
                raise trouble
            self._sleep(pause)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def _understood(self, error: urllib.error.HTTPError) -> DriveError:
        """The trouble that may pass; what does not pass is raised."""
        text = error.read().decode(errors="replace")
        if error.code == http.client.UNAUTHORIZED:
            self._access_ends = 0.0
            return DriveError("Drive does not accept the access token")
        if error.code in (http.client.NOT_FOUND, http.client.GONE):
            raise Absent(f"Drive has no such file: {text[:200]}")
        if error.code == http.client.TOO_MANY_REQUESTS or error.code >= 500 or any(word in text for word in RATES):
            return DriveError(f"Drive answers {error.code}: {text[:200]}")
        if "storageQuotaExceeded" in text:
            raise Full("your Google Drive is full: make room (https://drive.google.com/drive/quota)")
        if error.code == http.client.CONFLICT:
            raise error
        raise Refused(f"Drive refuses: {error.code} {text[:300]}")

    def _access_token(self) -> str:
        """Good for an hour; got anew a minute before its end. Raises Refused where access was taken back."""
        if time.monotonic() < self._access_ends:
            return self._access
        names = ("client_id", "client_secret", "refresh_token")
        form = {name: self._token[name] for name in names} | {"grant_type": "refresh_token"}
        request = urllib.request.Request(
            self._token["token_uri"], data=urllib.parse.urlencode(form).encode(), method="POST"
        )
        try:
            given = json.loads(_sent(request)[0])
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            if error.code >= 500:
                raise DriveError(f"Google's sign-in answers {error.code}") from None
            raise Refused(
                f"Google no longer accepts gpujob's access to Drive ({said[:200]}). At home run "
                "`gpujob backends setup colab` and `gpujob colab token`, put the new token into Colab's secret "
                "GPUJOB_DRIVE_TOKEN, and press Run all again."
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DriveError(f"Google's sign-in cannot be reached: {error}") from error
        self._access = given["access_token"]
        self._access_ends = time.monotonic() + float(given.get("expires_in", 3600)) - 60
        return self._access


JSON = {"Content-Type": "application/json; charset=UTF-8"}


def _sent(request: urllib.request.Request) -> tuple[bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(request, timeout=REPLY_SECONDS) as reply:
            return reply.read(), dict(reply.headers) | {":status": str(reply.status)}
    except urllib.error.HTTPError as error:
        if error.code == http.client.PERMANENT_REDIRECT:  # "Resume Incomplete" is no redirect
            return b"", dict(error.headers) | {":status": "308"}
        raise


def _new(file_id: str, folder: str, name: str, sha256: str) -> dict[str, Any]:
    return {"id": file_id, "name": name, "parents": [folder], "appProperties": {DECLARED: sha256}}


def _check(stored: dict[str, Any], data: bytes) -> None:
    if stored.get("md5Checksum") != hashlib.md5(data, usedforsecurity=False).hexdigest():
        raise DriveError(f"{stored.get('name', 'a file')} arrived damaged on Drive")


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def checked_api(environment: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """Where Drive is; another address only on this machine, since the token goes there."""
    api = environment.get("GPUJOB_DRIVE_API", API)
    if api != API and not api.startswith("http://127.0.0.1:"):
        raise Refused(f"GPUJOB_DRIVE_API is {api!r}: a token is sent to Google or to this machine only")
    return api
