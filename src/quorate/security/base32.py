# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes as a line that people copy: a prefix that says what it is, and base32 in small letters."""

from __future__ import annotations

import base64
import binascii


def to_line(prefix: str, data: bytes) -> str:
    """The line of some bytes."""
    return prefix + base64.b32encode(data).decode().rstrip("=").lower()


def from_line(line: str, *, prefix: str, characters: int, kind: str) -> bytes:
    """The bytes of a line of so many characters behind the prefix. ValueError, which says what is
    wrong with `kind` ("a secret") and does not repeat it.

    The last character may have bits that mean nothing: compare with `to_line` who must have them.
    """
    if not line.startswith(prefix):
        raise ValueError(f"{kind} begins with {prefix}, and this does not")
    body = line.removeprefix(prefix)
    if len(body) != characters:
        raise ValueError(
            f"{kind} has {characters} characters behind {prefix}, and this has {len(body)}: copy"
            " the whole line"
        )
    try:
        return base64.b32decode(body.encode() + b"=" * (-characters % 8), casefold=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(
            f"{kind} has letters and the digits 2 to 7 alone, and this has others: copy it anew"
        ) from None
