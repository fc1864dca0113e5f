"""Asks Compute Engine by Google's own client: one call, one request. Never waits by itself, and never asks twice.

Google's library finds the credentials, as every tool of Google's does, and keeps them. httplib2 is not safe for
threads: each has a connection of its own, and one that failed is thrown away.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

import google.auth
import google_auth_httplib2
import httplib2
from google.auth.exceptions import GoogleAuthError, TransportError
from google.oauth2 import service_account
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError

from backends.base import AuthError, BackendError, Lost, Transient
from backends.gce.replies import Absent, page_of, problem
from backends.gce.requests import Ask
from backends.gce.settings import HOW_TO_SIGN_IN, Settings
from backends.rented.calls import Malformed

T = TypeVar("T")

logging.getLogger("googleapiclient").addHandler(logging.NullHandler())  # it tells refusals twice, once on the screen

SCOPE = "https://www.googleapis.com/auth/compute"
REPLY_SECONDS = 60.0
WAITING_SECONDS = 150.0
"""Google lets a `wait` hang for two minutes."""

MOST_PAGES = 100
_UNREACHED = (ConnectionRefusedError, httplib2.ServerNotFoundError)
_BROKEN = (OSError, http.client.HTTPException, httplib2.HttpLib2Error)
_UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError)
_SENSELESS = (Malformed, LookupError, TypeError, ValueError, AttributeError)


class Client:
    """Access to one project, shared by threads."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._opened: tuple[Any, Any] | None = None
        self._resources: dict[str, Any] = {}
        self._date: tuple[datetime, float] | None = None

    def call(self, ask: Ask) -> Mapping[str, Any]:
        """The reply. Raises Transient for what may pass, Lost where an instance may have been made though no good reply
        came, Absent, NoCapacity, Rejected or AuthError for a refusal.
        """
        request = getattr(self._resource(ask.resource), ask.method)(**ask.params)
        request.add_response_callback(self._learn)
        try:
            reply: Mapping[str, Any] = request.execute(http=self._http(ask.waits))
        except HttpError as error:
            raise problem(ask, int(error.resp.status), error.content) from None
        except GoogleAuthError as error:
            raise self._no_access(ask, error) from error
        except _UNREACHED as error:
            self._hang_up()
            raise Transient(f"{ask.doing}: Google cannot be reached: {error}") from error
        except _BROKEN as error:
            self._hang_up()
            words = f"{ask.doing}: the connection to Google broke off: {error or type(error).__name__}"
            raise (Lost if ask.rents else Transient)(words) from error
        except _UNREADABLE as error:
            raise _senseless(ask, error) from error
        return reply

    def call_or_none(self, ask: Ask) -> Mapping[str, Any] | None:
        """The same; None where there is no such thing."""
        try:
            return self.call(ask)
        except Absent:
            return None

    def read(self, ask: Ask, parse: Callable[[Mapping[str, Any]], T]) -> T:
        """What ``parse`` makes of the reply; one out of contract is Transient, or Lost after renting."""
        return _parsed(ask, self.call(ask), parse)

    def read_or_none(self, ask: Ask, parse: Callable[[Mapping[str, Any]], T]) -> T | None:
        """The same; None where there is no such thing."""
        reply = self.call_or_none(ask)
        return None if reply is None else _parsed(ask, reply, parse)

    def pages(self, ask: Callable[[str], Ask], parse: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
        """What ``parse`` makes of each page of a list; ``ask`` gets the token of the page."""
        page = ""
        for _ in range(MOST_PAGES):
            reply = self.call(ask(page))
            yield _parsed(ask(page), reply, parse)
            page = page_of(reply)
            if not page:
                return
        raise Transient(f"{ask('').doing}: the list has no end")

    def now(self) -> datetime | None:
        """Google's clock, carried on by ours that nobody can set; None before the first reply."""
        if self._date is None:
            return None
        date, seen = self._date
        return date + timedelta(seconds=self._clock() - seen)

    @property
    def project(self) -> str:
        """The project to rent in. Raises AuthError."""
        return str(self._open()[1][1])

    def _resource(self, name: str) -> Any:
        """One resource of the API, made once: making all its methods takes 20 ms."""
        service, _ = self._open()
        with self._lock:
            if name not in self._resources:
                self._resources[name] = getattr(service, name)()
            return self._resources[name]

    def _open(self) -> tuple[Any, tuple[Any, str]]:
        """The service; the credentials and their project. Raises AuthError where there are none that can be used."""
        with self._lock:
            if self._opened is None:
                access = self._access()
                document, api = _document(), self._settings.api
                moved = {"rootUrl": f"{api}/", "baseUrl": f"{api}/{document['servicePath']}"}
                self._opened = (build_from_document(document | moved, http=httplib2.Http()), access)
            return self._opened

    def _access(self) -> tuple[Any, str]:
        file, scopes = self._settings.credentials and self._settings.credentials_file(), [SCOPE]
        try:
            if file:
                credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
                    file, scopes=scopes
                )
                project = credentials.project_id
            else:
                credentials, project = google.auth.default(scopes=scopes)
        except (GoogleAuthError, OSError, ValueError) as error:
            raise AuthError(f"Google's credentials cannot be used: {error}", advice=f"{HOW_TO_SIGN_IN}.") from error
        return credentials, self._settings.project_or_none() or str(project or "")

    def _no_access(self, ask: Ask, error: GoogleAuthError) -> BackendError:
        """What it means that no access token was to be had. Nothing was asked then."""
        if isinstance(error, TransportError) or getattr(error, "retryable", False):
            return Transient(f"{ask.doing}: Google's sign-in has trouble: {error}")
        with self._lock:
            self._opened = None
        return AuthError(f"Google does not accept the credentials: {error}", advice=f"{HOW_TO_SIGN_IN}.")

    def _http(self, waits: bool) -> Any:
        """This thread's own connection; one for what Google answers late."""
        _, (credentials, _) = self._open()
        own: dict[bool, Any] = self._mine.__dict__.setdefault("own", {})
        if waits not in own or own[waits].credentials is not credentials:
            plain = httplib2.Http(timeout=WAITING_SECONDS if waits else REPLY_SECONDS)
            weakref.finalize(plain, _close_all, plain.connections)
            own[waits] = google_auth_httplib2.AuthorizedHttp(credentials, http=plain)
        return own[waits]

    def _hang_up(self) -> None:
        own: dict[bool, Any] = self._mine.__dict__.setdefault("own", {})
        while own:
            own.popitem()[1].close()

    def _learn(self, reply: Mapping[str, str]) -> None:
        if "date" in reply:
            self._date = (parsedate_to_datetime(reply["date"]).astimezone(UTC), self._clock())


@cache
def _document() -> dict[str, Any]:
    """The discovery document in the package, without the address for certificates of the client's own."""
    document: dict[str, Any] = json.loads(get_static_doc("compute", "v1"))
    document.pop("mtlsRootUrl", None)
    return document


def _parsed(ask: Ask, reply: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return parse(reply)
    except _SENSELESS as error:
        raise _senseless(ask, error) from error


def _senseless(ask: Ask, error: Exception) -> BackendError:
    return (Lost if ask.rents else Transient)(f"{ask.doing}: Google's reply makes no sense: {error}")


def _close_all(connections: dict[str, Any]) -> None:
    for connection in connections.values():
        connection.close()
