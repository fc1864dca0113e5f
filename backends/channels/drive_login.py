"""Access to the user's Google Drive: asked for once in a browser, kept as one secret, told when it ends.

The least scope that does: ``drive.file`` sees only the files that this OAuth client has made. The token is kept where
every key is kept (``gpujob backends setup``), as one line of JSON. Access tokens live for an hour, in memory only.
"""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.oauth2.credentials import Credentials

from backends.addresses import checked_address
from backends.base import AuthError, Rejected
from backends.channels.drive_replies import FIRST_LOGIN_ADVICE, LOGIN_ADVICE, TOKEN_NAME

SCOPE = "https://www.googleapis.com/auth/drive.file"
CLIENTS_PAGE = "https://console.cloud.google.com/auth/clients"
PUBLISH_ADVICE = (
    "Google ends it after 7 days because your project's consent screen is in 'Testing'. Publish it "
    "(https://console.cloud.google.com/auth/audience, Publish app; drive.file needs no review) and sign in again."
)
CONSENT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Token:
    """What the user has allowed. ``ends_at`` (RFC 3339) is known where Google limits it; empty otherwise."""

    client_id: str
    client_secret: str
    refresh_token: str
    token_uri: str
    scopes: tuple[str, ...] = (SCOPE,)
    ends_at: str = ""

    @classmethod
    def read(cls, text: str | None) -> Token:
        """From the secret's value. Raises AuthError where there is none, or none that can be understood."""
        if not text:
            raise AuthError("Google Drive is not set up: nobody has signed in yet", advice=FIRST_LOGIN_ADVICE)
        try:
            known = {name: value for name, value in json.loads(text).items() if name in cls.__dataclass_fields__}
            return cls(**known | {"scopes": tuple(known.get("scopes", (SCOPE,)))})
        except (ValueError, TypeError, AttributeError):
            raise AuthError(f"The value of {TOKEN_NAME} is no token for Google Drive", advice=LOGIN_ADVICE) from None

    def text(self) -> str:
        """The secret's value: one line."""
        return json.dumps({"type": "authorized_user", **asdict(self)})

    def lifetime(self, now: datetime) -> str:
        """When it ends and what to do about it, in words; empty where it does not end by itself."""
        if not self.ends_at:
            return ""
        ends = datetime.fromisoformat(self.ends_at)
        left = ends - now
        if left <= timedelta(0):
            return f"Access to Google Drive ended on {ends:%Y-%m-%d %H:%M} UTC. {PUBLISH_ADVICE}"
        days, hours = left.days, left.seconds // 3600
        return f"Access to Google Drive ends in {days} d {hours} h ({ends:%Y-%m-%d %H:%M} UTC). {PUBLISH_ADVICE}"

    def credentials(self) -> Credentials:
        """For Google's client. Raises Rejected for a ``token_uri`` that is not safe.

        Made by hand, as ``from_authorized_user_info`` overrules ``token_uri``.
        """
        return Credentials(  # type: ignore[no-untyped-call]
            None,
            refresh_token=self.refresh_token,
            token_uri=checked_address(self.token_uri, "Google's sign-in", LOGIN_ADVICE),
            client_id=self.client_id,
            client_secret=self.client_secret,
            scopes=list(self.scopes),
        )


def sign_in(client: Mapping[str, Any], *, browser: bool = True, seconds: int = CONSENT_SECONDS) -> Token:
    """Ask the user in a browser, with the desktop client of a ``client_secret.json``; the answer comes to this machine.

    Without ``browser``, or where there is none, the link is printed; it has to be opened on this machine, or over a
    forwarded port. Raises AuthError where the user refuses or does not answer within ``seconds``, Rejected for a
    client of another kind.
    """
    from google_auth_oauthlib.flow import InstalledAppFlow, WSGITimeoutError
    from oauthlib.oauth2.rfc6749.errors import OAuth2Error

    if "installed" not in client:
        raise Rejected("That is no OAuth client of type Desktop", advice=f"Make one: {CLIENTS_PAGE}, type Desktop app.")
    flow = InstalledAppFlow.from_client_config(client, scopes=[SCOPE])
    try:
        flow.run_local_server(
            port=0,
            open_browser=browser and _has_browser(),
            timeout_seconds=seconds,
            prompt="consent",
            authorization_prompt_message="Allow gpujob to keep its files on your Google Drive:\n  {url}",
            success_message="gpujob may use Google Drive now. You can close this page.",
        )
    except WSGITimeoutError:
        raise AuthError(f"Nobody answered in the browser within {seconds} s", advice=LOGIN_ADVICE) from None
    except OAuth2Error as error:
        said = error.description or error.error or type(error).__name__
        raise AuthError(f"Google did not give access to Drive: {said}", advice=LOGIN_ADVICE) from error
    return _token(client["installed"], flow.oauth2session.token)


def _token(client: Mapping[str, Any], given: Mapping[str, Any]) -> Token:
    if not given.get("refresh_token"):
        raise AuthError("Google gave access for an hour only, without a refresh token", advice=LOGIN_ADVICE)
    lives = given.get("refresh_token_expires_in")
    ends = datetime.now(UTC) + timedelta(seconds=int(lives)) if lives else None
    return Token(
        client_id=client["client_id"],
        client_secret=client["client_secret"],
        refresh_token=given["refresh_token"],
        token_uri=client["token_uri"],
        ends_at=ends.isoformat(timespec="seconds") if ends else "",
    )


def _has_browser() -> bool:
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True
