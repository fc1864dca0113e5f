"""Signing in to Drive with the real OAuth library, a browser that is not one, and tokens that end."""

from __future__ import annotations

import json
import threading
import urllib.request
import webbrowser
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("google_auth_oauthlib", reason="NOT TESTED: google-auth-oauthlib is not installed")

from backends.base import AuthError, Rejected
from backends.channels.drive import Drive
from backends.channels.drive_login import SCOPE, Token, sign_in
from backends.colab.settings import CREDENTIAL
from orchestrator.credentials import Credentials
from orchestrator.home import Home
from tests.emulators.drive import DriveEmulator


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[DriveEmulator]:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # the emulator speaks plain HTTP
    with DriveEmulator() as drive:
        yield drive


class Clicker(webbrowser.BaseBrowser):
    """Opens a page as a person would: follows it to where it leads, after the sign-in has begun to listen."""

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        def visit() -> None:
            with urllib.request.urlopen(url, timeout=60) as page:
                page.read()

        threading.Thread(target=visit, daemon=True).start()
        return True


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda using=None: Clicker())


@pytest.mark.usefixtures("browser")
def test_sign_in_and_work(emulator: DriveEmulator) -> None:
    token = sign_in(emulator.client_config)
    assert (token.scopes, token.ends_at) == ((SCOPE,), "")
    asked = next(call.query for call in emulator.requests if call.path == "/o/oauth2/auth")
    assert (asked["scope"], asked["access_type"], asked["code_challenge_method"]) == (SCOPE, "offline", "S256")
    kept = token.text()
    assert "\n" not in kept
    assert Token.read(kept) == token
    drive = Drive(lambda: kept, api=emulator.url)
    assert drive.account().email == emulator.settings.user


@pytest.mark.usefixtures("browser")
def test_the_token_is_kept_as_every_key_is(emulator: DriveEmulator, tmp_path: Path) -> None:
    keys = Credentials(Home(tmp_path), {})
    kept = Path(keys.keep(CREDENTIAL.name, sign_in(emulator.client_config).text(), in_file=True))
    assert kept.stat().st_mode & 0o777 == 0o600
    assert Drive(lambda: keys.find(CREDENTIAL.name), api=emulator.url).account().used == 0


@pytest.mark.usefixtures("browser")
def test_a_project_in_testing_is_told_in_time(emulator: DriveEmulator) -> None:
    emulator.settings.refresh_token_seconds = 7 * 86400
    token = sign_in(emulator.client_config)
    now = datetime.now(UTC)
    assert "ends in 6 d 2" in token.lifetime(now)
    assert "Publish" in token.lifetime(now)
    assert "ended on" in token.lifetime(now + timedelta(days=8))
    drive = Drive(token.text, api=emulator.url)
    drive.account()
    emulator.advance(8 * 86400)
    with pytest.raises(AuthError) as caught:
        drive.account()
    assert "7 days" in caught.value.advice


@pytest.mark.usefixtures("browser")
def test_consent_refused(emulator: DriveEmulator) -> None:
    emulator.faults.consent_refused()
    with pytest.raises(AuthError, match="did not give access"):
        sign_in(emulator.client_config)


def test_nobody_answers(emulator: DriveEmulator, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AuthError, match="Nobody answered in the browser within 1 s"):
        sign_in(emulator.client_config, browser=False, seconds=1)
    assert f"{emulator.url}/o/oauth2/auth?" in capsys.readouterr().out


def test_only_a_desktop_client_will_do(emulator: DriveEmulator) -> None:
    with pytest.raises(Rejected, match="type Desktop"):
        sign_in({"web": emulator.client_config["installed"]})


@pytest.mark.parametrize("text", [None, "", "{", "[]", json.dumps({"client_id": "x"})])
def test_a_secret_that_is_none(text: str | None) -> None:
    with pytest.raises(AuthError) as caught:
        Token.read(text)
    assert "gpujob backends setup colab" in caught.value.advice
