"""What the user may set about Colab, what must be agreed to, and where access to Drive comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from backends.base import Credential
from backends.channels.drive_replies import TOKEN_NAME

NAME = "colab"
ACCEPT_COMMAND = "gpujob colab terms --accept"

CREDENTIAL = Credential(
    name=TOKEN_NAME,
    title="access to your Google Drive",
    made_at="your browser, with an OAuth client of type Desktop from https://console.cloud.google.com/auth/clients",
    rights="The scope drive.file: only files that gpujob itself makes. It sees nothing else of your Drive.",
)

TERMS_AS_OF = "2026-11-20"
TERMS = (
    (
        "Google forbids on every Colab runtime: file hosting and web services that are not part of interactive work, "
        "torrents, mining, attacks, password cracking, deep fakes, and getting around limits with several accounts."
    ),
    (
        "Without a paid balance of compute units it also forbids remote control such as SSH shells and remote "
        "desktops, going around the notebook mainly by way of a web interface, and workers of distributed computing. "
        "A free runtime may be cut at any moment, without warning."
    ),
    (
        "gpujob's notebook is started by you, in your browser, and takes your own jobs one after the other while you "
        "are there. Whether Google sees it so is Google's to say: https://research.google.com/colaboratory/faq.html"
    ),
)
"""What the free tier forbids; from Colab's FAQ, as of TERMS_AS_OF."""

Plan: TypeAlias = Literal["free", "pro", "payg"]
Road: TypeAlias = Literal["auto", "notebook", "command"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under ``colab.`` (docs/colab.md). Durations in seconds; ``api`` empty means Google.

    ``credential`` gives the token each time it is needed, or None: it is never kept in an object. ``road`` is how
    runtimes are had: by a notebook that a person opens, or by Google's command line, which ``command`` starts.
    """

    credential: Callable[[], str | None]
    plan: Plan = "free"
    uses: int = 1
    weekly_hours: int = 15
    wait: float = 600.0
    patience: float = 3600.0
    poll: float = 2.0
    api: str = ""
    road: Road = "auto"
    command: str = "colab"

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Settings:
        """From the mapping that an opener gets; ``credential`` in it looks a name up."""
        find: Callable[[str], str | None] = settings.get("credential", os.environ.get)
        named = {name: settings[name] for name in cls.__dataclass_fields__ if name in settings and name != "credential"}
        return cls(credential=lambda: find(TOKEN_NAME), **named)
