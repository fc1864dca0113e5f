"""Telling a real credential by its shape, so that none is stored, shown or sent in the clear."""

from __future__ import annotations

import re

_SHAPES = {
    "a Hugging Face token": r"\bhf_(?=[A-Za-z0-9]*[A-Z0-9])[A-Za-z0-9]{10,}",
    "an API key (sk-...)": r"\bsk-(?:[a-z]+[0-9]*-)*(?=[A-Za-z0-9_]*[A-Z0-9])[A-Za-z0-9_]{16,}",
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    "a RunPod API key": r"\brpa_[A-Z0-9]{20,}",
    "a Google API key": r"\bAIza[\w-]{30,}",
    "a Slack token": r"\bxox[abprs]-[\w-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password inside a URL": r"\b[a-z]{2,10}://[^\s/:@]*:[^\s/:@$]+@",
}
_PATTERNS = {kind: re.compile(shape) for kind, shape in _SHAPES.items()}


def credential_kind(text: str) -> str | None:
    """What kind of credential ``text`` seems to contain, in words; None if it contains none."""
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.search(text)), None)
