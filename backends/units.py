"""Sizes, durations, chances and money: exact integers inside, words people write outside.

Bytes and micro-dollars are ``int`` everywhere in the program. ``GB`` is decimal (10^9) and
``GiB`` is binary (2^30), as the IEC defines them. Money never passes through a float.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

MICROS_PER_USD = 1_000_000

_DECIMAL = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|d|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MOST_USD = 10**9
_UP = Context(prec=60, rounding=ROUND_CEILING)


def parse_size(text: str) -> int:
    """Bytes in ``"400 MB"`` (decimal) or ``"1.5 GiB"`` (binary); only zero needs no unit. Raises ValueError."""
    match = _SIZE.match(text)
    factor = _DECIMAL.get(match[2].upper(), _BINARY.get(match[2].upper())) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size; write a number and a unit, such as 400 MB or 1.5 GiB")
    if not match[2] and Decimal(match[1]):
        raise ValueError(f"{text!r} has no unit; write {match[1]} MB or {match[1]} GB")
    return int(Decimal(match[1]) * factor)


def format_size(count: int) -> str:
    """``count`` bytes as people read it, in decimal units: ``"400 MB"``, ``"12.7 GB"``."""
    if count < 1000:
        return f"{count} B"
    for exponent, unit in enumerate(("kB", "MB", "GB", "TB"), start=1):
        value = count / 1000**exponent
        if value < 999.5 or unit == "TB":
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"
    raise AssertionError("the loop returns at TB")


def parse_duration(text: str) -> float:
    """Seconds in ``"90s"``, ``"10m"``, ``"2h"``, ``"1h30m"``, ``"3 min 20 s"``. Raises ValueError with advice."""
    compact = text.strip().lower()
    parts = _DURATION_PART.findall(compact)
    if not parts or _DURATION_PART.sub("", compact).strip():
        raise ValueError(f"{text!r} is not a duration; write a number and a unit, such as 90s, 10m, 2h or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """``seconds`` as people read it: ``"0.4 s"``, ``"42 s"``, ``"3 min 20 s"``, ``"2 h 05 min"``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_about(seconds: float) -> str:
    """``seconds`` that nobody knows to the second: to ten of them from a minute, to the minute from ten."""
    step = 1 if seconds < 60 else 10 if seconds < 600 else 60
    return format_duration(seconds if step == 1 else round(seconds / step) * step)


def format_chance(chance: float, digits: int = 0) -> str:
    """A probability as people read it, never rounded to certainty: ``"84%"``, ``">99%"``, ``"<0.1%"``."""
    text, edge = f"{chance:.{digits}%}", Decimal(10) ** -digits
    if chance < 1 and text == f"{1:.{digits}%}":
        return f">{100 - edge}%"
    if chance > 0 and text == f"{0:.{digits}%}":
        return f"<{edge}%"
    return text


def parse_usd(text: str) -> int:
    """Micro-dollars in ``"3"``, ``"0.59"`` or ``"$2.50"``. Raises ValueError with advice."""
    try:
        value = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount of money; write dollars, such as 3 or 0.50") from None
    if not value.is_finite() or value < 0:
        raise ValueError(f"{text!r} is not an amount of money that can be spent; write dollars, such as 3 or 0.50")
    if value > _MOST_USD:
        raise ValueError(f"{text!r} is more than a billion dollars; write dollars, such as 3 or 0.50")
    micros = value * MICROS_PER_USD
    if micros != micros.to_integral_value():
        raise ValueError(f"{text!r} is finer than a millionth of a dollar")
    return int(micros)


def decimal_usd(micros: int) -> str:
    """Micro-dollars as an exact decimal string for JSON: ``"3.00"``, ``"0.012345"``."""
    text = f"{Decimal(micros) / MICROS_PER_USD:.6f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def format_usd(micros: int) -> str:
    """Micro-dollars as people read it: ``"$3.00"``, and more digits only below a cent: ``"$0.0042"``."""
    if micros == 0 or abs(micros) >= 10_000:
        return f"${Decimal(micros) / MICROS_PER_USD:.2f}"
    return f"${Decimal(micros) / MICROS_PER_USD:.6f}".rstrip("0")


def cost_micros(micros_per_hour: int, seconds: float) -> int:
    """Price of ``seconds`` at a rate in micro-dollars per hour, rounded up: a bill is never understated."""
    exact = _UP.divide(_UP.multiply(Decimal(micros_per_hour), Decimal(repr(seconds))), Decimal(3600))
    return int(exact.to_integral_value(rounding=ROUND_CEILING))
