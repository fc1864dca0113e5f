"""Google Drive's replies, read into values; and its refusals, told apart. Pure: nothing here sends anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backends.base import AuthError, BackendError, Rejected, Transient
from backends.channels.drive_requests import DECLARED, FOLDER, KEY

TOKEN_NAME = "GPUJOB_DRIVE_TOKEN"  # noqa: S105 - the name of a secret, not one
SETUP_COMMAND = "gpujob backends setup colab --client client_secret.json"
LOGIN_ADVICE = f"Sign in again: `{SETUP_COMMAND}`."
FIRST_LOGIN_ADVICE = f"Sign in: `{SETUP_COMMAND}`."
MINUTE_LIMIT_WAIT = 20.0
"""Seconds asked for where a limit counted by the minute is reached and Google does not say how long."""
DAY_LIMIT_WAIT = 3600.0

MINUTE_LIMITS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded"})
DAY_LIMITS = frozenset({"dailyLimitExceeded", "downloadQuotaExceeded", "quotaExceeded"})
PASSING = frozenset({408, 429, 500, 502, 503, 504})
SIGN_IN = frozenset({"authError", "insufficientPermissions", "insufficientScopes", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"})
FULL = frozenset({"storageQuotaExceeded", "teamDriveFileLimitExceeded", "numChildrenInNonRootLimitExceeded"})
ADVICE = {
    "storageQuotaExceeded": "Make room (https://drive.google.com/drive/quota), empty the bin, or use an account with "
    "more storage; then `gpujob resume` the job. A service account has no storage at all: sign in as a person.",
    "accessNotConfigured": "Enable the Google Drive API for the project of your OAuth client: "
    "https://console.cloud.google.com/apis/library/drive.googleapis.com",
    "domainPolicy": "The administrator of this Google account does not allow apps on Drive: use another account.",
    "cannotDownloadAbusiveFile": "Google takes this file for malware and does not give it out.",
}


class Absent(Rejected):
    """There is no such file, or it belongs to another OAuth client: with ``drive.file`` the two look alike."""


class Taken(Rejected):
    """The pre-made id is in use: an earlier request, whose reply was lost, has made the file."""


class BeyondTheEnd(Rejected):
    """The range begins where the file has ended."""


class Malformed(Exception):
    """A reply that is not what the contract says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder on Drive. ``size`` in bytes; ``declared`` is the SHA-256 that its writer computed.

    ``sha256`` and ``md5`` are Drive's own checksums of what it holds; None for folders. Times are Drive's.
    """

    id: str
    name: str
    folder: bool
    parents: tuple[str, ...]
    size: int
    md5: str | None
    sha256: str | None
    declared: str | None
    key: str | None
    version: int
    created: datetime
    modified: datetime
    trashed: bool = False

    @property
    def damaged(self) -> bool:
        """Whether Drive holds something else than its writer meant to store."""
        return None not in (self.declared, self.sha256) and self.declared != self.sha256


@dataclass(frozen=True, slots=True)
class Account:
    """Whose Drive it is, and its storage in bytes; ``limit`` is None where there is none."""

    email: str
    used: int
    limit: int | None


REFUSALS = {404: Absent, 410: Absent, 409: Taken, 416: BeyondTheEnd}


def entry(document: Mapping[str, Any]) -> Entry:
    """A file resource. Raises Malformed."""
    try:
        own = document.get("appProperties", {})
        return Entry(
            id=document["id"],
            name=document["name"],
            folder=document["mimeType"] == FOLDER,
            parents=tuple(document.get("parents", ())),
            size=int(document.get("size", 0)),
            md5=document.get("md5Checksum"),
            sha256=document.get("sha256Checksum"),
            declared=own.get(DECLARED),
            key=own.get(KEY),
            version=int(document["version"]),
            created=datetime.fromisoformat(document["createdTime"]).astimezone(UTC),
            modified=datetime.fromisoformat(document["modifiedTime"]).astimezone(UTC),
            trashed=document.get("trashed", False),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"a file resource without {error}") from error


def account(document: Mapping[str, Any]) -> Account:
    """An about resource. Raises Malformed."""
    try:
        quota = document["storageQuota"]
        limit = int(quota["limit"]) if "limit" in quota else None
        return Account(document["user"]["emailAddress"], int(quota.get("usage", 0)), limit)
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(f"an about resource without {error}") from error


def first_folder(twins: Iterable[Entry]) -> list[Entry]:
    """The oldest first: it wins, as others may have put something into it already."""
    return sorted(twins, key=lambda each: (each.created, each.id))


def newest_file(twins: Iterable[Entry]) -> list[Entry]:
    """The newest first: it wins. A file has one writer, and a twin is what it wrote later without seeing the first."""
    return sorted(twins, key=lambda each: (each.modified, each.created, each.id), reverse=True)


def without_twins(entries: Iterable[Entry]) -> list[Entry]:
    """One file for each name and one folder for each key, in the order of names."""
    twins: dict[tuple[bool, str], list[Entry]] = {}
    for each in entries:
        twins.setdefault((each.folder, (each.folder and each.key) or each.name), []).append(each)
    winners = [(first_folder if folder else newest_file)(alike)[0] for (folder, _), alike in twins.items()]
    return sorted(winners, key=lambda each: (each.name, each.id))


def problem(doing: str, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
    """What a refusal means for its caller."""
    message, reasons = _told(body)
    text = f"{doing}: Google Drive says {status}: {message or 'no reason given'}"
    advice = next((ADVICE[reason] for reason in reasons if reason in ADVICE), "")
    if status == 401 or reasons & SIGN_IN:
        return AuthError(text, advice=LOGIN_ADVICE)
    if reasons & FULL:
        return Rejected(text, advice=advice)
    if status in PASSING or reasons & (MINUTE_LIMITS | DAY_LIMITS):
        return Transient(text, retry_after=_retry_after(headers) or _usual_wait(status, reasons))
    if "appNotAuthorizedToFile" in reasons:
        return Absent(text)
    if status in REFUSALS:
        return REFUSALS[status](text)
    return Rejected(text, advice=advice)


def _usual_wait(status: int, reasons: frozenset[str]) -> float | None:
    """Seconds to ask for where Google does not say how long; None leaves it to the caller's patience."""
    if reasons & DAY_LIMITS:
        return DAY_LIMIT_WAIT
    return MINUTE_LIMIT_WAIT if status == 429 or reasons & MINUTE_LIMITS else None


def _told(body: bytes) -> tuple[str, frozenset[str]]:
    """The message and the machine-readable reasons, in either of the two forms that Google uses."""
    try:
        error = json.loads(body)["error"]
        details = [*error.get("errors", ()), *error.get("details", ())]
        reasons = {str(each["reason"]) for each in details if "reason" in each}
        return str(error.get("message", "")), frozenset(reasons)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", frozenset()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
