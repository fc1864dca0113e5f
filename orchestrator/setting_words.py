"""How settings are read and shown: each reader raises ValueError with what is possible."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from importlib import import_module

from backends.units import MICROS_PER_USD, parse_usd


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def weight(text: str) -> float | None:
    """Dollars, or None for what the priority says."""
    return None if text == "auto" else parse_usd(text) / MICROS_PER_USD


def chance(text: str) -> float | None:
    """A chance below 1, written as 0.95 or 95%, or None for what the priority says."""
    if text == "auto":
        return None
    number = text.strip().removesuffix("%")
    chance = float(number) / (100 if number != text.strip() else 1)
    if not 0 <= chance < 1:
        raise ValueError(f"{text!r} is not a chance that can be aimed at; write 0.95 or 95%")
    return chance


def shown(value: float | None) -> str:
    """What ``weight`` and ``chance`` read."""
    return "auto" if value is None else f"{value:g}"


def one_or_more(text: str) -> int:
    """A whole number above 0."""
    number = count(text)
    if number == 0:
        raise ValueError("there must be at least 1")
    return number


def address(text: str) -> str:
    """An https address; empty for ``none``."""
    if text != "none" and not text.startswith("https://"):
        raise ValueError(f"{text!r} is not an https address; write https://..., or none")
    return "" if text == "none" else text


def or_none(text: str) -> str:
    """What ``address`` reads."""
    return text or "none"


def one_of(*choices: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return parse


def default_or(parse: Callable[[str], str]) -> Callable[[str], str]:
    """A text, or empty for ``default``: whatever the backend takes of itself."""
    return lambda text: "" if text == "default" else parse(text)


def or_default(text: str) -> str:
    """What ``default_or`` reads."""
    return text or "default"


def matching(pattern: str, otherwise: str, flags: re.RegexFlag = re.ASCII) -> Callable[[str], str]:
    """A text that ``pattern`` matches whole; of any other it is said that it is ``otherwise``."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, flags):
            raise ValueError(f"{text!r} is {otherwise}")
        return text

    return parse


api = matching(
    r"https://\S+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?\S*",
    "no address for a key to be sent to; write https://..., or default",
    re.NOFLAG,
)
"""Where a key is sent to: https, or this machine."""

version = matching(
    r"\d+\.\d+",
    "not a CUDA version; write one such as 12.8, or default",
    re.NOFLAG,
)
"""A CUDA version, as ``12.8``."""

image = matching(
    r"[A-Za-z0-9][\w./:@-]{0,254}",
    "not the name of an image; write one such as runpod/base:1.0.2-ubuntu2404",
)
"""The name of a container image."""

profile = matching(
    r"[\w.@:/+=,-]{1,128}",
    "not the name of a profile; write one as it stands in ~/.aws/config",
)
"""A profile of ``~/.aws/config``."""

ami = matching(
    r"ami-[0-9a-f]+|/[\w./-]+",
    "neither an image such as ami-0abc12 nor the name of an SSM parameter",
)
"""An image of EC2, or the SSM parameter that names it."""

image_family = matching(
    r"[a-z][a-z0-9:.-]+/[a-z][a-z0-9-]+",
    "no image family; write project/family, such as ubuntu-os-cloud/ubuntu-2404-lts",
)
"""``project/family``."""

cloud_name = matching(
    r"[a-z][a-z0-9:.-]{0,62}",
    "no name that Google Cloud gives to a project or a network",
)
"""What Google Cloud can have named a project or a network."""


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them; empty for ``any``."""
    if not re.fullmatch(r"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)*", text):
        raise ValueError(f"{text!r} is not a list of names; write them with commas, such as EU-RO-1,US-TX-3, or any")
    return () if text == "any" else tuple(name.strip() for name in text.split(","))


def shown_names(value: tuple[str, ...]) -> str:
    """What ``names`` reads."""
    return ",".join(value) or "any"


def regions_in(tables: str) -> Callable[[str], tuple[str, ...]]:
    """Regions that prices are known of, by the tables of a backend; ``any`` means all of them."""

    def parse(text: str) -> tuple[str, ...]:
        known = tuple(import_module(tables).regions())
        chosen = names(text)
        if unknown := [name for name in chosen if name not in known]:
            raise ValueError(f"{unknown[0]!r} is no region that prices are known of: {', '.join(known)}")
        return chosen or known

    return parse


def network(text: str) -> str:
    """A network in CIDR notation."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no network; write one such as 203.0.113.7/32 ({error})") from None
