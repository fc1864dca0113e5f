"""Error rates of what was read, by jiwer: characters and words, of a page, a document, a font, all."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jiwer

_MARKS = (
    (r"<\|det\|>.*?<\|/det\|>", ""),  # where DeepSeek-OCR found a piece of text
    (r"<\|[^|]*\|>|<\uff5c[^\uff5c]*\uff5c>", ""),  # its other tags
    (r"!\[[^\]]*\]\([^)]*\)", ""),  # pictures
    (r"^#{1,6}\s+|^\s*[-*]\s+(?=\S)", ""),  # headings, lists
    (r"\*\*|__|`", ""),
)
"""Markup that a model adds, which was not printed."""
_SAME = str.maketrans(dict(zip("\u201c\u201d\u2018\u2019\u2013\u2014\u00a0", "\"\"''-- ", strict=True)))
"""Signs that are the same on paper, or a matter of taste."""


class Score(NamedTuple):
    """Errors and lengths; a rate is their quotient, and above 1 where more was made up than is there."""

    char_errors: int
    chars: int
    word_errors: int
    words: int

    @property
    def cer(self) -> float:
        """Character error rate: substitutions, deletions and insertions for each character of the text."""
        return self.char_errors / self.chars

    @property
    def wer(self) -> float:
        """Word error rate."""
        return self.word_errors / self.words


def plain(text: str) -> str:
    """``text`` without markup, its spaces and line breaks as single spaces: how lines break is no error."""
    for pattern, instead in _MARKS:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE | re.DOTALL)
    return " ".join(text.translate(_SAME).split())


def score(truth: str, read: str) -> Score:
    """How ``read`` differs from ``truth``; raises ValueError if there is no truth to compare with."""
    truth, read = plain(truth), plain(read)
    if not truth:
        raise ValueError("a page without text cannot be scored")
    chars, words = jiwer.process_characters(truth, read), jiwer.process_words(truth, read)
    return Score(
        chars.substitutions + chars.deletions + chars.insertions, len(truth),
        words.substitutions + words.deletions + words.insertions, len(truth.split()),
    )  # fmt: skip


def total(scores: Iterable[Score]) -> Score:
    """Of several pages together: errors and lengths are summed, so long pages weigh more."""
    return Score(*map(sum, zip(*scores, strict=True)))


def table(keys: Sequence[object], scores: Sequence[Score]) -> list[dict[str, Any]]:
    """A row for each different key, with its pages and rates."""
    groups: dict[object, list[Score]] = defaultdict(list)
    for key, each in zip(keys, scores, strict=True):
        groups[key].append(each)
    return [{"name": key, "pages": len(group), **rates(total(group))} for key, group in sorted(groups.items(), key=str)]


def rates(each: Score) -> dict[str, float | int]:
    """Both rates, and what they are made of."""
    return {"cer": round(each.cer, 5), "wer": round(each.wer, 5), **each._asdict()}
