"""Whether a GPU is the one that somebody means by a name."""

from __future__ import annotations

import re
from itertools import pairwise

_ANOTHER_MODEL = frozenset({"ti", "super", "laptop", "mobile", "max", "ada", "pro", "d", "mig", "nvl"})
"""Words after which a name means another chip: an RTX 4090 Laptop GPU is not an RTX 4090."""


def is_called(gpu: str, name: str) -> bool:
    """Whether ``gpu``, as a provider or driver writes it, is a ``name``, as a person writes it.

    Whole words count, so ``A100`` is not an A1000 and ``T4`` not a T4G; ``rtx4090`` and ``RTX 4090`` are the same.
    """
    has, wanted = _words(gpu), _words(name)
    joined = {a + b for a, b in pairwise(has)}
    asked = set(wanted) | {a + b for a, b in pairwise(wanted)}
    return bool(wanted) and set(wanted) <= {*has, *joined} and not (_ANOTHER_MODEL & set(has)) - asked


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
