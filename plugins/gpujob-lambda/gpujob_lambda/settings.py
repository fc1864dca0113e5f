"""What the user may set about Lambda Cloud, and where its key comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backends.addresses import checked_address
from backends.base import AuthError, Credential
from backends.rented.contacts import SSH_PORT
from backends.settings import Setting, shown_yes_or_no, yes_or_no
from backends.units import format_duration, parse_duration

NAME = "lambda"
API = "https://cloud.lambda.ai/api/v1"
API_VARIABLE = "LAMBDA_API_BASE_URL"
CONSOLE = "https://cloud.lambda.ai/instances"

KEY_NAME = "LAMBDA_API_KEY"
SETUP_COMMAND = "gpujob backends setup lambda"
ACCEPT_COMMAND = "gpujob config set lambda.accept_no_end yes"

CREDENTIAL = Credential(
    name=KEY_NAME,
    title="API key of Lambda Cloud",
    made_at="https://cloud.lambda.ai/api-keys/cloud-api",
    rights="Lambda has one kind of key, which may do everything; it never leaves this computer. The account's own SSH "
    "keys and machines are never touched.",
)

LIST_LAG_SECONDS = 90.0
"""From asking for a machine until a list must show it: 30 s in which its reply may come, and a minute more. How far
Lambda's lists lag is not documented."""

PACE_SECONDS = 1.0
"""Lambda's own limit (docs.lambda.ai/public-cloud/cloud-api, 2026-11)."""


def _regions(text: str) -> tuple[str, ...]:
    names = () if text == "any" else tuple(name.strip() for name in text.split(","))
    if not all(name and name.replace("-", "").isalnum() for name in names):
        raise ValueError(
            f"{text!r} is not a list of regions; write them with commas, such as us-east-1,us-west-1, or any"
        )
    return names


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"{text!r} is no port; write a number up to 65535")
    return int(text)


SETTINGS: Mapping[str, Setting] = {
    "accept_no_end": Setting(
        "whether machines may be rented that nothing ends if this computer dies: Lambda bills them until somebody does",
        "no",
        yes_or_no,
        shown_yes_or_no,
    ),
    "regions": Setting(
        "only in these regions, such as us-east-1,us-west-1; or any",
        "any",
        _regions,
        lambda names: ",".join(names) or "any",
    ),
    "list_lag": Setting(
        "how long a machine whose reply was lost may be missing from Lambda's list",
        "90s",
        parse_duration,
        format_duration,
    ),
    "pace": Setting(
        "the least time between two requests: Lambda takes one a second", "1s", parse_duration, format_duration
    ),
    "ssh_port": Setting("the port of machines' SSH server", str(SSH_PORT), _port),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under ``lambda.`` (docs/lambda.md). ``credential`` gives the API key each time it is needed, or
    None: a key is never kept in an object.
    """

    credential: Callable[[], str | None]
    api: str = API
    accept_no_end: bool = False
    regions: tuple[str, ...] = ()
    list_lag: float = LIST_LAG_SECONDS
    pace: float = PACE_SECONDS
    ssh_port: int = SSH_PORT

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Settings:
        """From the mapping that an opener gets; ``credential`` in it looks a name up. Raises Rejected."""
        find: Callable[[str], str | None] = settings.get("credential", os.environ.get)
        api = checked_address(os.environ.get(API_VARIABLE) or API, "Lambda's API", f"Unset {API_VARIABLE}.")
        declared = {name: settings[name] for name in SETTINGS if name in settings}
        return cls(credential=lambda: find(KEY_NAME), api=api, **declared)

    def key(self) -> str:
        """The API key. Raises AuthError with the command that sets it up."""
        if key := self.credential():
            return key
        raise AuthError(
            "Lambda Cloud needs an API key, and there is none",
            advice=f"Run `{SETUP_COMMAND}`, or set {KEY_NAME} in this terminal.",
        )
