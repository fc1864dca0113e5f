"""Google's own client on the emulated Drive."""

from __future__ import annotations

import io
import json
from typing import Any

import google_auth_httplib2
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseUpload, build_http

from tests.emulators.drive import DriveEmulator

FOLDER = "application/vnd.google-apps.folder"
KIB = 1024


class Visitors:
    """Services of the real library for one emulator; their connections end with :meth:`close`."""

    def __init__(self, drive: DriveEmulator) -> None:
        self._drive = drive
        self._opened: list[Any] = []

    def __call__(self, **who: str) -> Any:
        """A Drive service, signed in as ``who`` says (client, scope, user)."""
        info = {name: value for name, value in self._drive.sign_in(**who).items() if name != "type"}
        credentials = Credentials(None, **info)  # from_authorized_user_info would ask Google, whatever token_uri says
        http = google_auth_httplib2.AuthorizedHttp(credentials, http=build_http())
        self._opened.append(build_from_document(self._drive.document, http=http))
        return self._opened[-1]

    def close(self) -> None:
        """Hang up."""
        for service in self._opened:
            service.close()


def media(content: bytes, resumable: bool = False, chunk: int = 256 * KIB) -> MediaIoBaseUpload:
    """Content to upload."""
    return MediaIoBaseUpload(
        io.BytesIO(content), "application/octet-stream", chunksize=chunk, resumable=resumable
    )  # fmt: skip


def said(error: HttpError) -> tuple[int, str]:
    """Status and reason."""
    detail = json.loads(error.content)["error"]["errors"][0]
    return error.resp.status, detail["reason"]
