"""What the user may set about RunPod, and where its key comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from backends.addresses import checked_address
from backends.base import AuthError, Credential

API = "https://api.runpod.io"
API_VARIABLE = "RUNPOD_API_BASE_URL"
"""The variable that RunPod's own package reads, so that one setting moves every road at once."""

KEY_NAME = "RUNPOD_API_KEY"
SETUP_COMMAND = "gpujob backends setup runpod"

Road: TypeAlias = Literal["rest", "sdk"]

CREDENTIAL = Credential(
    name=KEY_NAME,
    title="API key of RunPod",
    made_at="https://console.runpod.io/user/settings, API Keys",
    rights="Restricted, with read and write access to pods (REST v2). Reading billing shows what was charged, GraphQL "
    "read access shows the balance; nothing else is used. The account's SSH keys are never touched.",
)

GB = 10**9

LIST_LAG_SECONDS = 90.0
"""From asking for a pod until a list must show it: 30 s in which its reply may come, and a minute more. How far lists
lag is not documented."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under ``runpod.`` (docs/runpod.md). Sizes in bytes, times in seconds; empty means whatever RunPod
    chooses.

    ``credential`` gives the API key each time it is needed, or None: a key is never kept in an object.
    """

    credential: Callable[[], str | None]
    api: str = API
    client: Road = "rest"
    clouds: tuple[str, ...] = ("secure", "community")
    spot: bool = False
    data_centers: tuple[str, ...] = ()
    min_cuda: str = ""
    min_ram_per_gpu: int = 0
    image: str = ""
    cpu_image: str = ""
    disk_bytes: int = 30 * GB
    list_lag: float = LIST_LAG_SECONDS

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Settings:
        """From the mapping that an opener gets; ``credential`` in it looks a name up. Raises Rejected."""
        find: Callable[[str], str | None] = settings.get("credential", os.environ.get)
        cloud = settings.get("cloud", "all")
        return cls(
            credential=lambda: find(KEY_NAME),
            api=_api(os.environ.get(API_VARIABLE) or settings.get("api") or API),
            client=settings.get("client", "rest"),
            clouds=("secure", "community") if cloud == "all" else (cloud,),
            spot=settings.get("spot", False),
            data_centers=tuple(settings.get("data_centers", ())),
            min_cuda=settings.get("min_cuda", ""),
            min_ram_per_gpu=settings.get("min_ram_per_gpu", 0),
            image=settings.get("image", ""),
            cpu_image=settings.get("cpu_image", ""),
            disk_bytes=settings.get("disk", 30 * GB),
            list_lag=settings.get("list_lag", LIST_LAG_SECONDS),
        )

    def key(self) -> str:
        """The API key. Raises AuthError with the command that sets it up."""
        if key := self.credential():
            return key
        raise AuthError(
            "RunPod needs an API key, and there is none",
            advice=f"Run `{SETUP_COMMAND}`, or set {KEY_NAME} in this terminal.",
        )


def _api(address: str) -> str:
    return checked_address(
        address, "the RunPod API", f"Unset {API_VARIABLE} or `gpujob config set runpod.api default`."
    )
