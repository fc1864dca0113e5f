"""Answers that refuse, as RFC 9457 problem documents, and the provider's own words for having no machine."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

NO_INSTANCES = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again."
)
NO_DISK = "There are no longer any instances available with enough disk space."
NO_FREE_GPUS = "There are not enough free GPUs on the host machine to start this pod."
NO_RESOURCES = "this machine does not have the resources to deploy this pod"
NOTHING_TO_TERMINATE = "pod not found to terminate"
POD_NOT_FOUND = "pod not found"
LOW_BALANCE = "Your account balance is too low to deploy this pod. Please add funds."
SPEND_LIMIT = "This pod would exceed your account's spend limit."


class Problem(Exception):
    """The request is refused with ``status``; ``errors`` lists what validation found."""

    def __init__(
        self, status: int, detail: str, *, errors: list[str] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def document(self) -> dict[str, Any]:
        """The body."""
        document: dict[str, Any] = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return document | {"errors": self.errors} if self.errors else document


class Gateway(Exception):
    """Something in front of the provider answers with a page of its own."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
