"""Sizes, durations and money: what people write, and nothing lost on the way."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.units import (
    cost_micros,
    decimal_usd,
    format_about,
    format_chance,
    format_duration,
    format_size,
    format_usd,
    parse_duration,
    parse_size,
    parse_usd,
)

micros = st.integers(0, 10**15)
rates = st.integers(0, 10**12)
seconds = st.floats(0, 1e9, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("400 MB", 400 * 10**6),
        ("400MB", 400 * 10**6),
        ("1.5 GiB", 3 * 2**29),
        ("1kb", 1000),
        ("1 KiB", 1024),
        ("2 TB", 2 * 10**12),
        ("1 TiB", 2**40),
        ("0.1 GB", 10**8),
        ("0", 0),
        ("7 B", 7),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1 GB", "1 XB", "1 GB 2 MB", "1,5 GB", "1e3 MB", "nan GB", "1.GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write a number and a unit"):
        parse_size(text)


@pytest.mark.parametrize("text", ["24", " 1.5 "])
def test_a_size_without_unit_is_not_taken_for_bytes(text: str) -> None:
    with pytest.raises(ValueError, match=f"has no unit; write {text.strip()} MB or {text.strip()} GB"):
        parse_size(text)


@given(st.integers(0, 10**6), st.sampled_from(["B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]))
def test_whole_sizes_are_exact(number: int, unit: str) -> None:
    base = 1024 if "i" in unit else 1000
    assert parse_size(f"{number} {unit}") == number * base ** ("BkMGT".upper().index(unit[0].upper()))


@given(st.integers(0, 10**17))
def test_a_size_is_shown_to_three_figures(count: int) -> None:
    assert parse_size(format_size(count)) == pytest.approx(count, rel=0.0051)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (12_700_000_000, "12.7 GB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1 GB"),
        (99_950_000, "100 MB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_sizes_as_shown(count: int, text: str) -> None:
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("250ms", 0.25), ("1.5 h", 5400),
        ("1H 5M", 3900), (" 3 min 20 s ", 200), ("5min", 300),
    ],
)  # fmt: skip
def test_durations(text: str, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "90", "h", "-5m", "5 weeks", "1h-30m", ".5h", "10m10", "5 minutes", "1e3s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write a number and a unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 s"), (0.44, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"), (7500, "2 h 05 min"), (90_000, "25 h 00 min"),
    ],
)  # fmt: skip
def test_durations_as_shown(count: float, text: str) -> None:
    assert format_duration(count) == text


@given(st.floats(0, 1e7))
def test_a_duration_as_shown_can_be_written_again(count: float) -> None:
    shown = parse_duration(format_duration(count))
    assert shown == pytest.approx(count, abs=0.051 if count < 9.95 else 0.51 if count < 3599 else 30.1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", 3_000_000), ("$2.50", 2_500_000), ("0.000001", 1), (" 0.59 ", 590_000), ("1e2", 100_000_000), ("0", 0)],
)
def test_money(text: str, expected: int) -> None:
    assert parse_usd(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("three", "is not an amount of money"),
        ("", "is not an amount of money"),
        ("3 USD", "is not an amount of money"),
        ("-1", "that can be spent"),
        ("nan", "that can be spent"),
        ("Infinity", "that can be spent"),
        ("1e999999", "more than a billion dollars"),
        ("0.0000001", "finer than a millionth"),
    ],
)
def test_what_is_no_money(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_usd(text)


@given(micros)
def test_money_in_json_is_exact(amount: int) -> None:
    text = decimal_usd(amount)
    assert parse_usd(text) == amount
    assert Decimal(text) * 10**6 == amount
    assert len(text.partition(".")[2]) >= 2


@given(micros)
def test_money_is_shown_to_the_cent_or_exactly(amount: int) -> None:
    shown = parse_usd(format_usd(amount))
    assert shown == amount if amount < 10_000 else abs(shown - amount) <= 5_000


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (1, "$0.000001"), (4200, "$0.0042"), (10_000, "$0.01"), (3_000_000, "$3.00"), (2_675_001, "$2.68")],
)
def test_money_as_shown(amount: int, text: str) -> None:
    assert format_usd(amount) == text


@given(rates, seconds)
def test_a_cost_is_the_exact_price_rounded_up(rate: int, held: float) -> None:
    assert cost_micros(rate, held) == math.ceil(Fraction(rate) * Fraction(repr(held)) / 3600)


@given(rates, seconds, seconds)
def test_longer_never_costs_less(rate: int, one: float, other: float) -> None:
    short, long = sorted((one, other))
    assert cost_micros(rate, short) <= cost_micros(rate, long)


@given(rates, st.lists(st.integers(0, 10**6), max_size=5))
def test_bills_in_parts_never_come_to_less_than_one_bill(rate: int, parts: list[int]) -> None:
    whole = cost_micros(rate, sum(parts))
    assert whole <= sum(cost_micros(rate, part) for part in parts) <= whole + len(parts)


def test_a_whole_hour_costs_the_rate() -> None:
    assert cost_micros(590_001, 3600) == 590_001
    assert cost_micros(1, 0.001) == 1
    assert cost_micros(1, 0) == 0


@pytest.mark.parametrize(
    ("chance", "digits", "text"),
    [
        (0.844, 0, "84%"), (0.995, 0, ">99%"), (1.0, 0, "100%"), (0.99999, 1, ">99.9%"), (0.975, 1, "97.5%"),
        (0.0, 1, "0.0%"), (1e-9, 1, "<0.1%"), (0.004, 0, "<1%"),
    ],
)  # fmt: skip
def test_a_chance_is_never_rounded_to_certainty(chance: float, digits: int, text: str) -> None:
    assert format_chance(chance, digits) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.23, "4.2 s"), (58.6, "59 s"), (167.9, "2 min 50 s"), (2479.0, "41 min"), (7205.0, "2 h 00 min")],
)
def test_a_guess_is_not_told_to_the_second(seconds: float, text: str) -> None:
    assert format_about(seconds) == text
