"""Whether a GPU is the one that somebody means by a name."""

from __future__ import annotations

import re

_ANOTHER_MODEL = ("ti", "super", "laptop", "mobile", "max", "ada", "pro", "mig")
"""Words that make another GPU of a name: an RTX 4090 Laptop GPU is not an RTX 4090."""

_MAKERS = frozenset({"nvidia", "geforce", "tesla", "quadro"})
"""Words that drivers write before a model's name and providers do not."""


def is_called(gpu: str, name: str) -> bool:
    """Whether ``gpu``, as a provider or driver writes it, is a ``name``, as a person writes it.

    Whole words count, so ``A100`` is not an A1000 and ``T4`` not a T4G; ``rtx4090``, ``RTX 4090`` and ``GeForce RTX
    4090`` are the same.
    """
    has, named = _words(gpu), _words(name)
    wanted = [word for word in named if word not in _MAKERS] or named
    runs = {"".join(has[start:end]) for end in range(1, len(has) + 1) for start in range(end)}
    another = any(word in has and word not in "".join(wanted) for word in _ANOTHER_MODEL)
    return bool(wanted) and set(wanted) <= runs and not another


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
