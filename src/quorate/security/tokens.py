# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens that stand for a user until they expire: `qt1.<claims>.<tag>`.

The claims are whose it is, until when, and for which cluster; the tag is HMAC-SHA256 over all
before it. Nothing is kept of a token: whoever has the key can check it, and a new key ends all that
were signed with the old one. Its user must still be in the users file.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

PREFIX: Final = b"qt1."
TOKEN_BYTES_MAX: Final = 1024
KEY_BYTES: Final = 32


class Claims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token says."""

    user: str
    expires_ms: int
    """On the wall clock."""
    cluster: str


_decoder: Final = msgspec.json.Decoder(Claims)


def issue(claims: Claims, *, key: bytes) -> str:
    """The token that says so."""
    signed = PREFIX + _base64(msgspec.json.encode(claims))
    return (signed + b"." + _base64(_tag(signed, key))).decode()


def claims_of(token: bytes, *, key: bytes, cluster: str, wall_ms: int) -> Claims | None:
    """What a token says, if `key` signed it for this cluster and it has not expired. No key, no
    tokens."""
    if not key or len(token) > TOKEN_BYTES_MAX or not token.startswith(PREFIX):
        return None
    signed, _, tag = token.rpartition(b".")
    # Compared in its one spelling: base64 has several for the same bytes.
    if not hmac.compare_digest(_base64(_tag(signed, key)), tag):
        return None
    try:
        said = signed.removeprefix(PREFIX)
        claims = _decoder.decode(urlsafe_b64decode(said + b"=" * (-len(said) % 4)))
    except (ValueError, msgspec.DecodeError):
        return None
    is_ours = claims.cluster == cluster and claims.expires_ms > wall_ms
    return claims if is_ours else None


def _tag(signed: bytes, key: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
