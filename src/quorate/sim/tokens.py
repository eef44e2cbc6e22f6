# SPDX-License-Identifier: GPL-3.0-or-later
"""What values look like: lists of tokens, one of each operation that a value is of.

A token says who wrote it, as which of that client's operations, in which attempt, and to which
key, under a checksum. So a value that nobody wrote, or that turns up under another key, shows in a
single read; and so does a read-modify-write that took effect twice, or was lost. A token also
counts: an increment has one more than the token before it, all others have the same.
"""

from __future__ import annotations

from binascii import crc32
from functools import lru_cache
from typing import Final, NamedTuple

_SUM_BYTES: Final = 8
"""A CRC32 in hexadecimal: values stay readable in transcripts."""
_PARTS: Final = 6
_REMEMBERED: Final = 10_000

Name = tuple[int, int, int]
"""Of an operation: its client, its number there, and its attempt."""


class Token(NamedTuple):
    """What one operation left of itself in a value."""

    client: int
    serial: int
    attempt: int
    key: bytes
    counted: int

    @property
    def name(self) -> Name:
        """Who wrote it."""
        return self.client, self.serial, self.attempt


def token_of(name: Name, key: bytes, *, count: int = 0, size: int = 0) -> bytes:
    """The token of an operation, padded to `size` bytes."""
    content = b"%d|%d|%d|%s|%d|" % (*name, key.hex().encode(), count)
    return _summed(content + b"." * (size - len(content) - _SUM_BYTES))


def behind(value: bytes | None, name: Name, key: bytes, *, counts: int = 0) -> bytes:
    """A value with one more token."""
    if value is None:
        return token_of(name, key, count=counts)
    return b"%s,%s" % (value, token_of(name, key, count=count_of(value) + counts))


@lru_cache(_REMEMBERED)
def tokens_of(value: bytes) -> tuple[Token, ...] | None:
    """The tokens of a value, in order; None if nobody made it."""
    found = [_parsed(each) for each in value.split(b",")]
    tokens = tuple(each for each in found if each is not None)
    return tokens if len(tokens) == len(found) else None


def last_of(value: bytes | None) -> Name | None:
    """Who put the last token of a value; None if nobody made it."""
    tokens = None if value is None else tokens_of(value)
    return tokens[-1].name if tokens else None


def count_of(value: bytes) -> int:
    """How far a value counts; 0 if nobody made it."""
    tokens = tokens_of(value)
    return tokens[-1].counted if tokens else 0


def _parsed(token: bytes) -> Token | None:
    content, found = token[:-_SUM_BYTES], token[-_SUM_BYTES:]
    if _summed(content)[-_SUM_BYTES:] != found:
        return None
    parts = content.split(b"|", _PARTS - 1)
    if len(parts) != _PARTS:
        return None
    client, serial, attempt, key, count, _ = parts
    return Token(int(client), int(serial), int(attempt), bytes.fromhex(key.decode()), int(count))


def _summed(content: bytes) -> bytes:
    return content + b"%08x" % crc32(content)
