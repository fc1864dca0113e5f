"""The emulated Drive as tests use it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.emulators.clock import Clock
from tests.emulators.drive import discovery
from tests.emulators.drive.api import Api
from tests.emulators.drive.faults import Faults
from tests.emulators.drive.files import File, Files
from tests.emulators.drive.oauth import OAuth
from tests.emulators.drive.server import CONSENT, TOKEN, Call, Server
from tests.emulators.drive.settings import DESKTOP, DRIVE_FILE, Settings


class DriveEmulator:
    """Drive v3 on ``url`` with its authorization server.

        with DriveEmulator(storage_bytes=10_000_000) as drive:
            service = build_from_document(drive.document, credentials=...)   # from drive.sign_in()
            drive.faults.list_lag(30)
            ...
            drive.advance(30)
            assert not drive.twins()

    Keyword arguments are those of :class:`Settings`.
    """

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.clock = Clock()
        self.faults = Faults()
        self.store = Files(self.settings, self.clock, self.faults)
        self._oauth = OAuth(self.settings, self.clock, self.faults)
        self._api = Api(self.store, self._oauth)
        self._server = Server(self._api, port)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._api.uploads.url = self.url

    def __enter__(self) -> DriveEmulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def document(self) -> dict[str, Any]:
        """The shipped discovery document with its addresses moved here, for ``build_from_document``."""
        return discovery.redirected(self.url)

    @property
    def client_config(self) -> dict[str, Any]:
        """What Google gives as ``client_secret.json`` of a desktop client."""
        return {
            "installed": {
                "client_id": DESKTOP, "client_secret": self.settings.clients[DESKTOP], "auth_uri": self.url + CONSENT,
                "token_uri": self.url + TOKEN, "redirect_uris": ["http://localhost"],
            }
        }  # fmt: skip

    def sign_in(self, client: str = DESKTOP, scope: str = DRIVE_FILE, user: str | None = None) -> dict[str, Any]:
        """An authorized user's information: what ``google.oauth2.credentials.Credentials`` is made from."""
        token = self._oauth.allow(user or self.settings.user, client, (scope,))
        return {
            "type": "authorized_user", "client_id": client, "client_secret": self.settings.clients[client],
            "refresh_token": token, "token_uri": self.url + TOKEN, "scopes": [scope],
        }  # fmt: skip

    @property
    def requests(self) -> list[Call]:
        """Every request so far, as it was answered."""
        with self._server.lock:
            return list(self._server.calls)

    def files(self) -> list[File]:
        """Everybody's files and folders, whatever lists show, the oldest first."""
        with self.store.lock:
            return list(self.store.all.values())

    def twins(self) -> dict[tuple[str, str], int]:
        """Names that are there more than once in one folder: (folder id, name) with how often."""
        count = Counter((parent, file.name) for file in self.files() for parent in file.parents)
        return {place: number for place, number in count.items() if number > 1}

    def busiest_minute(self, user: str | None = None) -> int:
        """The most quota units that the user has used in one minute."""
        return self._api.quota.busiest_minute(user or self.settings.user)

    def advance(self, seconds: float) -> None:
        """Let time pass: for tokens, sessions, lags and quotas."""
        self.clock.advance(seconds)

    def revoke(self) -> None:
        """The user takes back what every client was allowed."""
        self._oauth.revoke_all()

    def expire_access_tokens(self) -> None:
        """Access tokens are over; refresh tokens are not."""
        self._oauth.expire_access()

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()
