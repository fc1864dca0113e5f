"""Sends requests to Google Drive: one call, one request, never a wait. One HTTP client for each thread.

httplib2 is not safe for threads, and sends a request again by itself when its connection ends before the reply
(hence pre-made ids: a create that comes twice is refused the second time). After a time-out it would take the late
reply for that of its next request, so a client that failed is thrown away.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import google_auth_httplib2
import httplib2
from google.auth.exceptions import RefreshError, TransportError
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import BatchError, HttpError
from googleapiclient.http import HttpRequest

from backends.addresses import checked_address
from backends.base import AuthError, BackendError, Lost, Transient
from backends.channels.drive_login import PUBLISH_ADVICE, Token
from backends.channels.drive_replies import LOGIN_ADVICE, BeyondTheEnd, Malformed, problem
from backends.channels.drive_requests import byte_range

API = "https://www.googleapis.com"
REPLY_SECONDS = 60.0
MOST_BATCHED = 100
PARTIAL = 206
FINAL_REFUSALS = (
    "invalid_grant",
    "invalid_client",
    "unauthorized_client",
    "deleted_client",
    "access_denied",
    "invalid_scope",
)
"""Words of Google's authorization server for access that will not come back by itself (RFC 6749, 5.2, and its own)."""

T = TypeVar("T")
_UNREACHED = (ConnectionRefusedError, httplib2.ServerNotFoundError)
_BROKEN = (OSError, http.client.HTTPException, httplib2.HttpLib2Error)


class Session:
    """Access to one user's Drive at the address ``api``, shared by threads. ``token`` is asked for the secret once."""

    def __init__(self, token: Callable[[], str | None], api: str = API, timeout: float = REPLY_SECONDS) -> None:
        self._token = token
        self._api = checked_address(api, "Google Drive", "")
        self._timeout = timeout
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._opened: tuple[Any, Any] | None = None
        self._date: tuple[datetime, float] | None = None

    @property
    def service(self) -> Any:
        """Google's own client, from the discovery document in its package: it makes requests, we send them."""
        return self._open()[0]

    def run(self, doing: str, request: HttpRequest, *, creates: bool = False) -> Any:
        """The reply's JSON.

        Raises Transient for what may pass, Lost where a file may have been made though no reply came, Absent, Taken,
        Rejected or AuthError for a refusal.
        """
        request.add_response_callback(self._learn)
        return self._sent(doing, lambda: request.execute(http=self._http()), creates=creates)

    def media(self, doing: str, request: HttpRequest, offset: int, limit: int) -> bytes:
        """Up to ``limit`` bytes of content from ``offset``; empty beyond the end. Raises as :meth:`run`."""
        request.headers["Range"] = byte_range(offset, limit)
        status: list[int] = []
        request.add_response_callback(lambda reply: status.append(reply.status))
        try:
            data: bytes = self._sent(doing, lambda: request.execute(http=self._http()))
        except BeyondTheEnd:
            return b""
        return data if status[-1] == PARTIAL else data[offset : offset + limit]

    def chunk(self, doing: str, request: HttpRequest) -> Any:
        """Send the next chunk of a resumable upload: the reply's JSON, None while more is to come.

        After an error it asks first how far the upload is, by itself. Raises as :meth:`run`.
        """
        return self._sent(doing, lambda: request.next_chunk(http=self._http(), num_retries=0)[1])

    def batch(self, doing: str, requests: Mapping[str, HttpRequest]) -> dict[str, Any]:
        """At most MOST_BATCHED requests in one: for each its reply's JSON, or the error that it met."""
        replies: dict[str, Any] = {}

        def keep(name: str, reply: Any, error: HttpError | None) -> None:
            replies[name] = reply if error is None else _refusal(doing, error)

        def send() -> None:
            http, credentials = self._http(), self._open()[1]
            if not credentials.valid:  # else the batch gets a token over a connection of its own, without a time-out
                credentials.refresh(google_auth_httplib2.Request(http.http))
            try:
                batch.execute(http=http)
            except (BatchError, KeyError) as error:
                raise Transient(f"{doing}: Google Drive's reply makes no sense: {error}") from error

        batch = self.service.new_batch_http_request(callback=keep)
        for name, request in requests.items():
            batch.add(request, request_id=name)
        self._sent(doing, send)
        return replies

    def now(self) -> datetime:
        """Drive's clock, carried on by ours that nobody can set; this machine's before the first reply."""
        if self._date is None:
            return datetime.now(UTC)
        date, seen = self._date
        return date + timedelta(seconds=time.monotonic() - seen)

    def close(self) -> None:
        """End this thread's connection."""
        if own := getattr(self._mine, "http", None):
            own.close()
            self._mine.http = None

    def _open(self) -> tuple[Any, Any]:
        """The service and the credentials. Raises AuthError where nobody has signed in."""
        with self._lock:
            if self._opened is None:
                credentials = Token.read(self._token()).credentials()
                self._opened = (build_from_document(_document(self._api), http=httplib2.Http()), credentials)
            return self._opened

    def _no_access(self, error: RefreshError) -> BackendError:
        """What it means that no access token was to be had; after a final refusal the secret is read anew next time."""
        if not str(error.args[0]).startswith(FINAL_REFUSALS):
            return Transient(f"Google's sign-in has trouble: {error.args[0]}")
        with self._lock:
            self._opened = None
        return AuthError(
            f"Google no longer accepts gpujob's access to Drive: {error.args[0]}",
            advice=f"{LOGIN_ADVICE} It was revoked, or it ran out. {PUBLISH_ADVICE}",
        )

    def _sent(self, doing: str, send: Callable[[], T], *, creates: bool = False) -> T:
        try:
            return send()
        except HttpError as error:
            raise _refusal(doing, error) from None
        except RefreshError as error:
            raise self._no_access(error) from error
        except TransportError as error:
            raise Transient(f"{doing}: Google's sign-in cannot be reached: {error}") from error
        except _UNREACHED as error:
            self.close()
            raise Transient(f"{doing}: Google Drive cannot be reached: {error}") from error
        except _BROKEN as error:
            self.close()
            kind = Lost if creates else Transient
            raise kind(f"{doing}: the connection to Google Drive broke off: {error or type(error).__name__}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise (Lost if creates else Transient)(f"{doing}: Google Drive's reply makes no sense: {error}") from error

    def _http(self) -> Any:
        """This thread's own client."""
        _, credentials = self._open()
        own = getattr(self._mine, "http", None)
        if own is None or own.credentials is not credentials:
            plain = httplib2.Http(timeout=self._timeout)
            plain.redirect_codes = plain.redirect_codes - {308}  # "Resume Incomplete" is no redirect
            weakref.finalize(plain, _hang_up, plain.connections)
            self._mine.http = own = google_auth_httplib2.AuthorizedHttp(credentials, http=plain)
        return own

    def _learn(self, reply: Mapping[str, str]) -> None:
        if "date" in reply:
            self._date = (parsedate_to_datetime(reply["date"]).astimezone(UTC), time.monotonic())


def understood(doing: str, read: Callable[[], T]) -> T:
    """What ``read`` makes of a reply; one out of contract is Transient."""
    try:
        return read()
    except Malformed as error:
        raise Transient(f"{doing}: Google Drive's reply makes no sense: {error}") from None


def _document(api: str) -> dict[str, Any]:
    """The discovery document in the package, with its addresses at ``api``: ``api_endpoint`` does not move uploads."""
    document: dict[str, Any] = json.loads(get_static_doc("drive", "v3"))
    document.pop("mtlsRootUrl", None)
    return document | {"rootUrl": f"{api}/", "baseUrl": f"{api}/{document['servicePath']}"}


def _refusal(doing: str, error: HttpError) -> BackendError:
    return problem(doing, error.resp.status, error.resp, error.content)


def _hang_up(connections: dict[str, Any]) -> None:
    for connection in connections.values():
        connection.close()
