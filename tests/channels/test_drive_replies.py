"""The pure half of the Drive client: questions that mean what they say, replies and refusals read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("googleapiclient", reason="NOT TESTED: google-api-python-client is not installed")

from backends.base import AuthError, BackendError, Rejected, Transient
from backends.channels.drive import Drive
from backends.channels.drive_login import Token
from backends.channels.drive_replies import (
    Absent,
    Malformed,
    Taken,
    account,
    entry,
    first_folder,
    problem,
    without_twins,
)
from backends.channels.drive_requests import children, folders_with, moment, named
from tests.emulators.drive.query import predicate

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
FILE: dict[str, Any] = {
    "id": "1", "name": "a", "mimeType": "text/plain", "parents": ["f"], "size": "3", "version": "7",
    "createdTime": "2026-11-27T12:00:00.000Z", "modifiedTime": "2026-11-27T12:00:00.000Z", "sha256Checksum": "cafe",
}  # fmt: skip


@given(folder=st.text(min_size=1), name=st.text())
def test_whatever_a_file_is_called_it_is_found_and_no_other(folder: str, name: str) -> None:
    asked = predicate(named(folder, name))
    here = {"parents": [folder], "name": name, "trashed": False, "$in_root": False}
    assert asked(here)
    assert not asked(here | {"name": name + "x"})
    assert not asked(here | {"parents": [folder + "x"]})
    assert not asked(here | {"trashed": True})


@given(key=st.text())
def test_whatever_a_folder_s_key_is_it_is_found(key: str) -> None:
    folder = {"mimeType": "application/vnd.google-apps.folder", "trashed": False, "appProperties": {"gpujob-key": key}}
    assert predicate(folders_with(key))(folder)
    assert not predicate(folders_with(key))(folder | {"appProperties": {"gpujob-key": key + "x"}})


def test_since_is_in_utc_and_excludes_the_moment() -> None:
    asked = predicate(children("f", NOON))
    file = {"parents": ["f"], "trashed": False, "$in_root": False}
    assert not asked(file | {"modifiedTime": moment(NOON)})
    assert asked(file | {"modifiedTime": moment(NOON + timedelta(milliseconds=1))})


def test_entries_and_what_lacks_something() -> None:
    read = entry(FILE | {"appProperties": {"gpujob-sha256": "beef"}})
    assert (read.size, read.version, read.created, read.damaged) == (3, 7, NOON, True)
    for name in ("id", "name", "mimeType", "version", "createdTime"):
        with pytest.raises(Malformed):
            entry({key: value for key, value in FILE.items() if key != name})
    with pytest.raises(Malformed):
        entry(FILE | {"size": "many"})
    unlimited = {"user": {"emailAddress": "a@b"}, "storageQuota": {"usage": "5"}}
    assert account(unlimited).limit is None
    with pytest.raises(Malformed):
        account({})


def test_twins_have_one_winner_in_whatever_order_they_come() -> None:
    later = (NOON + timedelta(seconds=1)).isoformat()
    old, new, tie = (entry(FILE | more) for more in ({}, {"id": "2", "modifiedTime": later}, {"id": "3"}))
    for order in ([old, new, tie], [tie, old, new], [new, tie, old]):
        assert [each.id for each in without_twins(order)] == ["2"]
        assert first_folder(order)[0].id == "1"


def test_folders_have_the_oldest_of_each_key() -> None:
    folder = FILE | {"mimeType": "application/vnd.google-apps.folder", "appProperties": {"gpujob-key": "k"}}
    later = (NOON + timedelta(seconds=1)).isoformat()
    every = [entry(folder | {"id": "2", "createdTime": later}), entry(folder), entry(FILE | {"id": "3"})]
    assert [each.id for each in without_twins(every)] == ["1", "3"]


def refusal(*reasons: str) -> bytes:
    errors = [{"domain": "usageLimits", "reason": reason} for reason in reasons]
    return json.dumps({"error": {"code": 403, "message": "because", "errors": errors}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "wait"),
    [
        (403, refusal("userRateLimitExceeded"), Transient, 20.0),
        (403, refusal("dailyLimitExceeded"), Transient, 3600.0),
        (403, refusal("storageQuotaExceeded"), Rejected, None),
        (403, refusal("rateLimitExceeded", "storageQuotaExceeded"), Rejected, None),
        (403, refusal("insufficientPermissions"), AuthError, None),
        (403, refusal("somethingNew"), Rejected, None),
        (403, refusal("appNotAuthorizedToFile"), Absent, None),
        (403, b"<html>", Rejected, None),
        (401, b"", AuthError, None),
        (404, refusal("notFound"), Absent, None),
        (409, refusal("fileIdInUse"), Taken, None),
        (429, b"", Transient, 20.0),
        (500, b"[]", Transient, None),
        (502, b"<html>\xff", Transient, None),
        (503, b'{"error": "x"}', Transient, None),
        (400, b'{"error": {"message": 5, "errors": [{}]}}', Rejected, None),
    ],
)
def test_refusals(status: int, body: bytes, kind: type[BackendError], wait: float | None) -> None:
    error = problem("Doing", status, {}, body)
    assert type(error) is kind
    assert getattr(error, "retry_after", None) == wait
    assert str(error).startswith(f"Doing: Google Drive says {status}: ")


def test_the_newer_form_of_a_refusal_is_understood() -> None:
    body = {"error": {"code": 403, "message": "no", "details": [{"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]}}
    assert isinstance(problem("Doing", 403, {}, json.dumps(body).encode()), AuthError)


def test_secrets_go_over_https_only() -> None:
    with pytest.raises(Rejected, match="no address for Google Drive"):
        Drive(lambda: None, api="http://example.com")
    with pytest.raises(Rejected, match="no address for Google's sign-in"):
        Token("a", "b", "c", "http://example.com/token").credentials()
