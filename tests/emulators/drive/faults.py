"""What goes wrong at Drive, on demand."""

from __future__ import annotations

from tests.emulators.faultrules import ALWAYS, FaultRules

FILES, UPLOADS, TOKEN = "/drive/v3/files", "/upload/drive/v3/files", "/token"


class Faults(FaultRules):
    """All rules. Filters: ``method``; ``path`` ("/drive/v3/files" with what is below it)."""

    # --- any request ---

    def server_errors(
        self, times: int = 1, status: int = 503, method: str | None = None, path: str | None = None
    ) -> None:
        """5xx before anything is done."""
        where = {"method": method, "path": path}
        self._add("reply", times, where, status=status, reason="backendError", message="Backend Error", wait=None)

    def rate_limited(
        self,
        times: int = 1,
        status: int = 403,
        reason: str = "userRateLimitExceeded",
        retry_after: int | None = None,
        method: str | None = None,
        path: str | None = None,
    ) -> None:
        """Refused whatever the quota says: 403 in its several kinds, or 429."""
        self._add(
            "reply", times, {"method": method, "path": path}, status=status, reason=reason,
            message="Rate Limit Exceeded", wait=retry_after,
        )  # fmt: skip

    def lost_reply(self, times: int = 1, method: str | None = "POST", path: str | None = UPLOADS) -> None:
        """The request is carried out, then the connection ends: by default a file exists, and its maker does not know.

        httplib2 sends a request again by itself when that happens to it the first time.
        """
        self._add("lost", times, {"method": method, "path": path})

    # --- lists, reads ---

    def list_lag(self, seconds: float, times: int = ALWAYS) -> None:
        """A new file is missing from lists for so long; asked for by its id it is there."""
        self._add("list lag", times, {}, seconds=seconds)

    def changes_lag(self, seconds: float, times: int = ALWAYS) -> None:
        """A change comes into the feed so much later."""
        self._add("changes lag", times, {}, seconds=seconds)

    def stale_reads(self, seconds: float, times: int = ALWAYS, content_only: bool = False) -> None:
        """After an update the file reads as it was before for so long; ``content_only``: under its new checksum."""
        self._add("stale", times, {}, seconds=seconds, content_only=content_only)

    # --- content ---

    def corrupt_uploads(self, times: int = 1) -> None:
        """One byte is stored wrongly, and the checksums are those of what is stored."""
        self._add("corrupt upload", times, {})

    def corrupt_downloads(self, times: int = 1) -> None:
        """One byte arrives wrongly."""
        self._add("corrupt download", times, {})

    def cut_downloads(self, times: int = 1) -> None:
        """The connection ends in the middle of a body."""
        self._add("cut download", times, {})

    def broken_chunks(self, times: int = 1, status: int = 503) -> None:
        """Half of a chunk of a resumable upload is stored, then 5xx."""
        self._add("broken chunk", times, {}, status=status)

    def lost_sessions(self, times: int = 1) -> None:
        """The session of a resumable upload is gone at its next chunk: 404."""
        self._add("lost session", times, {})

    def storage_full(self, times: int = ALWAYS) -> None:
        """Nothing more can be stored, whatever the quota says."""
        self._add("storage full", times, {})

    # --- who may ---

    def consent_refused(self, times: int = 1) -> None:
        """The person presses Cancel on the consent page."""
        self._add("consent refused", times, {})
