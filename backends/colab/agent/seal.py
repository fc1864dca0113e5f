"""Secrets of jobs on their way through Drive: only who holds the same token can open them.

The standard library has no cipher, so one is made of its HMAC: SHA-256 in counter mode, then a tag over all of it
(encrypt-then-MAC). The key comes from the refresh token, which both ends have and Drive does not store.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets

NONCE_BYTES, TAG_BYTES = 16, 32


class NotOurs(Exception):
    """Sealed with another token, or changed on its way."""


def seal(values: dict[str, str], refresh_token: str, about: str) -> str:
    """``values`` as hexadecimal text that tells nothing but its length; ``about`` says what it is good for."""
    plain, nonce = json.dumps(values).encode(), secrets.token_bytes(NONCE_BYTES)
    hidden = _xor(plain, _key(refresh_token, "cipher"), nonce)
    return (nonce + hidden + _tag(refresh_token, nonce + hidden, about)).hex()


def unseal(text: str, refresh_token: str, about: str) -> dict[str, str]:
    """What :func:`seal` was given. Raises NotOurs."""
    data = bytes.fromhex(text)
    body, tag = data[:-TAG_BYTES], data[-TAG_BYTES:]
    if not hmac.compare_digest(tag, _tag(refresh_token, body, about)):
        raise NotOurs("its secrets were sealed with another token than this notebook has")
    nonce, hidden = body[:NONCE_BYTES], body[NONCE_BYTES:]
    return dict(json.loads(_xor(hidden, _key(refresh_token, "cipher"), nonce)))


def _key(refresh_token: str, use: str) -> bytes:
    return hmac.digest(refresh_token.encode(), b"gpujob mailbox " + use.encode(), hashlib.sha256)


def _tag(refresh_token: str, body: bytes, about: str) -> bytes:
    return hmac.digest(_key(refresh_token, "tag"), len(body).to_bytes(8, "big") + body + about.encode(), hashlib.sha256)


def _xor(data: bytes, key: bytes, nonce: bytes) -> bytes:
    blocks = (hmac.digest(key, nonce + n.to_bytes(8, "big"), hashlib.sha256) for n in range(-(-len(data) // 32)))
    return bytes(a ^ b for a, b in zip(data, b"".join(blocks), strict=False))
