"""Who asks: consent, codes, refresh tokens that are revoked or die, access tokens that expire."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.emulators.clock import Clock
from tests.emulators.drive.errors import ApiError
from tests.emulators.drive.faults import Faults
from tests.emulators.drive.settings import DRIVE, Settings


@dataclass
class Grant:
    """What a user has allowed a client."""

    user: str
    client: str
    scopes: tuple[str, ...]
    made_at: float
    revoked: bool = False

    @property
    def sees_all(self) -> bool:
        """Whether it covers files of other clients too."""
        return DRIVE in self.scopes


@dataclass(frozen=True)
class Reply:
    """An answer of the authorization server: JSON, or a redirect to ``location``."""

    status: int
    document: dict[str, Any]
    location: str = ""


def refused(error: str, description: str, status: int = 400) -> Reply:
    """As RFC 6749 has it."""
    return Reply(status, {"error": error, "error_description": description})


class OAuth:
    """The authorization server."""

    def __init__(self, settings: Settings, clock: Clock, faults: Faults) -> None:
        self._settings, self._clock, self._faults = settings, clock, faults
        self._codes: dict[str, tuple[Grant, dict[str, str]]] = {}
        self._refresh: dict[str, Grant] = {}
        self._access: dict[str, tuple[Grant, float]] = {}

    def allow(self, user: str, client: str, scopes: tuple[str, ...]) -> str:
        """A refresh token for a new grant, as if the user had just consented."""
        token = "1//" + secrets.token_urlsafe(32)
        self._refresh[token] = Grant(user, client, scopes, self._clock.now())
        return token

    def revoke_all(self) -> None:
        """The user removes the app's access."""
        for grant in self._refresh.values():
            grant.revoked = True

    def expire_access(self) -> None:
        """Every access token is over now; refresh tokens are not."""
        self._access.clear()

    def grant(self, authorization: str) -> Grant:
        """Who sends this header. Raises ApiError 401."""
        token = authorization.removeprefix("Bearer ")
        grant, ends = self._access.get(token, (None, 0.0))
        if grant is None or grant.revoked or self._clock.now() >= ends:
            raise ApiError(401, "authError", "Invalid Credentials", location="Authorization", kind="header")
        return grant

    def consent(self, query: dict[str, str]) -> Reply:
        """The page on which a person says yes, who says it at once."""
        target = query.get("redirect_uri", "")
        if query.get("client_id") not in self._settings.clients:
            return refused("invalid_client", "The OAuth client was not found.", 401)
        if urlsplit(target).hostname not in ("localhost", "127.0.0.1") or query.get("response_type") != "code":
            return refused("redirect_uri_mismatch", "A desktop client is answered on this machine only.")
        if self._faults.take("consent refused"):
            answer = {"error": "access_denied"}
        else:
            code = "4/" + secrets.token_urlsafe(24)
            scopes = tuple(query["scope"].split())
            self._codes[code] = (Grant(self._settings.user, query["client_id"], scopes, self._clock.now()), query)
            answer = {"code": code, "scope": query["scope"]}
        return Reply(302, {}, f"{target}?{urlencode(answer | {'state': query.get('state', '')})}")

    def token(self, form: dict[str, str]) -> Reply:
        """A code or a refresh token for an access token."""
        if self._settings.clients.get(form.get("client_id", "")) != form.get("client_secret"):
            return refused("invalid_client", "The provided client secret is invalid.", 401)
        if form.get("grant_type") == "refresh_token":
            return self._refreshed(form.get("refresh_token", ""), form)
        if form.get("grant_type") == "authorization_code":
            return self._exchanged(form)
        return refused("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")

    def _exchanged(self, form: dict[str, str]) -> Reply:
        grant, query = self._codes.pop(form.get("code", ""), (None, {}))
        verifier = form.get("code_verifier", "")
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        proven = query.get("code_challenge") in (None, digest)
        if grant is None or not proven or form.get("redirect_uri") != query["redirect_uri"]:
            return refused("invalid_grant", "Malformed auth code.")
        token = self.allow(grant.user, grant.client, grant.scopes)
        lives = self._settings.refresh_token_seconds
        more = {"refresh_token": token} | ({"refresh_token_expires_in": int(lives)} if lives else {})
        return self._access_token(grant, self._refresh[token], more)

    def _refreshed(self, token: str, form: dict[str, str]) -> Reply:
        grant = self._refresh.get(token)
        lives = self._settings.refresh_token_seconds
        dead = grant is not None and lives is not None and self._clock.now() > grant.made_at + lives
        if grant is None or grant.revoked or dead or grant.client != form["client_id"]:
            return refused("invalid_grant", "Token has been expired or revoked.")
        return self._access_token(grant, grant, {})

    def _access_token(self, asked: Grant, grant: Grant, more: dict[str, Any]) -> Reply:
        token = "ya29." + secrets.token_urlsafe(32)
        lives = self._settings.access_token_seconds
        self._access[token] = (grant, self._clock.now() + lives)
        document = {"access_token": token, "expires_in": int(lives), "token_type": "Bearer"}
        return Reply(200, document | {"scope": " ".join(asked.scopes)} | more)


def as_body(reply: Reply) -> bytes:
    """Its JSON."""
    return json.dumps(reply.document).encode()
