"""Asks AWS by boto3: one call, one request. Never waits, never asks twice, and never sees a key itself.

An upload is the exception: it is many requests, and one that fails must not lose the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import ProgressCallbackInvoker, TransferConfig, create_transfer_manager
from botocore import exceptions
from botocore.config import Config

from backends.aws.replies import page_of, problem
from backends.aws.requests import Ask
from backends.aws.settings import HOW_TO_SIGN_IN
from backends.aws.stage_requests import PART_BYTES, S3
from backends.base import AuthError, BackendError, Lost, Rejected, Transient
from backends.rented.calls import Malformed

T = TypeVar("T")

CONNECT_SECONDS, REPLY_SECONDS = 10.0, 30.0
MOST_PAGES = 100

PART_TRIES = 5
PART_SECONDS = 120.0
"""For what moves files: over a slow line it takes long until the next bytes can be sent, or a part is answered."""

_CONFIGS: dict[str, dict[str, Any]] = {
    S3: {"signature_version": "s3v4", "s3": {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"}}
}
"""Signed addresses must name the region: the endpoint for all regions sends whoever asks it for a new bucket elsewhere,
where the signature is not good."""

_UNSENT = (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError, exceptions.ProxyConnectionError)
_SIGN_IN = (
    exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError,
    exceptions.ProfileNotFound, exceptions.TokenRetrievalError, exceptions.SSOError, exceptions.NoAuthTokenError,
)  # fmt: skip


class Client:
    """One session, shared by threads; boto3 finds the credentials, as every AWS tool does, and keeps them."""

    def __init__(self, profile: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._profile = profile or None
        self._clock = clock
        self._lock = Lock()
        self._session: Any = None
        self._services: dict[tuple[str, str, int], Any] = {}
        self._provider_time: tuple[datetime, float] | None = None

    def call(self, ask: Ask) -> Mapping[str, Any]:
        """The reply. Raises Transient for what may pass, Lost where an instance may have been made though no good reply
        came, NoCapacity, Rejected or AuthError for a refusal.
        """
        reply = self.call_unless(ask, frozenset())
        assert reply is not None
        return reply

    def call_unless(self, ask: Ask, codes: Collection[str]) -> Mapping[str, Any] | None:
        """The same; None where AWS refuses with one of ``codes``."""
        try:
            reply: Mapping[str, Any] = getattr(self._service(ask), ask.operation)(**ask.params)
        except exceptions.ClientError as error:
            self._learn(error.response)
            if (error.response.get("Error") or {}).get("Code") in codes:
                return None
            raise _refusal(ask, error.response) from None
        except (exceptions.BotoCoreError, exceptions.HTTPClientError) as error:
            raise _failure(ask, error) from error
        self._learn(reply)
        return reply

    def read(self, ask: Ask, parse: Callable[[Mapping[str, Any]], T]) -> T:
        """What ``parse`` makes of the reply; one out of contract is Transient, or Lost after renting."""
        reply = self.call(ask)
        try:
            return parse(reply)
        except (Malformed, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            words = f"{ask.doing}: AWS's reply makes no sense: {error}"
            raise (Lost if ask.rents else Transient)(words) from error

    def pages(self, ask: Callable[[str], Ask], parse: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
        """What ``parse`` makes of each page of a list; ``ask`` gets the token of the page."""
        page = ""
        for _ in range(MOST_PAGES):
            wanted, after = ask(page), ""

            def read(reply: Mapping[str, Any]) -> T:
                nonlocal after
                after = page_of(reply)
                return parse(reply)

            yield self.read(wanted, read)
            if not after:
                return
            page = after
        raise Transient(f"{ask('').doing}: the list has no end")

    def upload(self, ask: Ask, file: Path, told: Callable[[int], object]) -> None:
        """Put a file's content where ``ask`` says, in parts; ``told`` hears of bytes sent (fewer than 0 where they are
        sent again), and ends the upload by what it raises. Raises OSError where the file cannot be read.
        """
        to = dict(ask.params)
        stopped: list[BaseException] = []

        def counted(bytes_transferred: int) -> None:
            try:
                told(bytes_transferred)
            except BaseException as why:
                stopped.append(why)  # boto3 will tell of a broken connection
                raise

        # One part after the other: the line is the user's own, and `told` is called by our own thread.
        config = TransferConfig(PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False,
                                preferred_transfer_client="classic")  # fmt: skip
        at = to.pop("Bucket"), to.pop("Key"), to
        try:
            service = self._service(ask, tries=PART_TRIES)
            with file.open("rb") as content, create_transfer_manager(service, config) as manager:
                manager.upload(content, *at, subscribers=[ProgressCallbackInvoker(counted)]).result()
        except exceptions.ClientError as error:
            raise _refusal(ask, error.response) from None
        except (exceptions.BotoCoreError, exceptions.HTTPClientError) as error:
            if stopped:
                raise stopped[0] from None
            raise _failure(ask, error) from error

    def signed(self, ask: Ask, seconds: int) -> str:
        """An address at which whoever knows it may do for so long what ``ask`` says: a secret. Asks nothing of AWS."""
        service = self._service(ask)
        try:
            return str(service.generate_presigned_url(ask.operation, dict(ask.params), ExpiresIn=seconds))
        except exceptions.BotoCoreError as error:
            raise _failure(ask, error) from error

    def now(self) -> datetime | None:
        """AWS's clock, carried on by ours that nobody can set; None before the first reply."""
        if self._provider_time is None:
            return None
        date, seen = self._provider_time
        return date + timedelta(seconds=self._clock() - seen)

    def _service(self, ask: Ask, tries: int = 1) -> Any:
        with self._lock:  # a session makes its clients one at a time; clients may be shared
            if self._session is None:
                self._session = boto3.Session(profile_name=self._profile)
            wanted = (ask.service, ask.region, tries)
            if wanted not in self._services:
                moves = tries > 1
                config = Config(
                    connect_timeout=PART_SECONDS if moves else CONNECT_SECONDS,
                    read_timeout=PART_SECONDS if moves else REPLY_SECONDS,
                    retries={"total_max_attempts": tries},
                    user_agent_extra="gpujob",
                    **_CONFIGS.get(ask.service, {}),
                )
                self._services[wanted] = self._session.client(ask.service, region_name=ask.region, config=config)
            return self._services[wanted]

    def _learn(self, reply: Mapping[str, Any]) -> None:
        headers = (reply.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
        try:
            self._provider_time = (parsedate_to_datetime(headers["date"]).astimezone(UTC), self._clock())
        except (KeyError, ValueError):
            return


def _refusal(ask: Ask, response: Mapping[str, Any]) -> BackendError:
    error = response.get("Error") or {}
    status = int((response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0)
    return problem(ask, status, str(error.get("Code") or ""), str(error.get("Message") or ""))


def _failure(ask: Ask, error: Exception) -> BackendError:
    """What went wrong between us and AWS, before, while or after it was asked."""
    words = f"{ask.doing}: {error}"
    if isinstance(error, _SIGN_IN):
        return AuthError(f"AWS needs credentials, and there are none that work: {error}", advice=f"{HOW_TO_SIGN_IN}.")
    if isinstance(error, exceptions.ParamValidationError):
        return Rejected(words)
    if isinstance(error, _UNSENT):
        return Transient(f"{ask.doing}: AWS cannot be reached: {error}")
    return Lost(words) if ask.rents else Transient(words)
