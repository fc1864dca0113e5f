"""Refusals in the form in which Google's APIs give them."""

from __future__ import annotations

import json
from typing import Any


class ApiError(Exception):
    """Refused with ``status``; ``reason`` is the machine's word for it."""

    def __init__(
        self, status: int, reason: str, message: str, *, domain: str = "global", location: str = "",
        kind: str = "parameter", headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        detail = {"message": message, "domain": domain, "reason": reason}
        if location:
            detail |= {"location": location, "locationType": kind}
        self.document: dict[str, Any] = {"error": {"code": status, "message": message, "errors": [detail]}}

    @property
    def body(self) -> bytes:
        """The JSON."""
        return json.dumps(self.document).encode()


def not_found(file_id: str) -> ApiError:
    """No such file, or none that this client may see: the two look alike."""
    return ApiError(404, "notFound", f"File not found: {file_id}.", location="fileId")


def invalid(name: str, message: str = "Invalid Value") -> ApiError:
    """A parameter that cannot be understood."""
    return ApiError(400, "invalid", message, location=name)


def storage_full(service_account: bool = False) -> ApiError:
    """403 like a rate limit, but waiting does not help."""
    message = "The user's Drive storage quota has been exceeded."
    if service_account:
        message = "Service Accounts do not have storage quota. Leverage shared drives, or use OAuth delegation instead."
    return ApiError(403, "storageQuotaExceeded", message, domain="usageLimits" if not service_account else "global")


def rate_limit(status: int = 403, reason: str = "userRateLimitExceeded") -> ApiError:
    """Too much in this minute."""
    message = "Rate Limit Exceeded" if status == 429 else "User Rate Limit Exceeded"
    return ApiError(status, reason, message, domain="usageLimits")
