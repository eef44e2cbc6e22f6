# SPDX-License-Identifier: GPL-3.0-or-later
"""A record as an engine keeps it: its body, and a checksum that covers its row too.

    body (`core.values.record`)  crc32 (4)

The checksum is little-endian, because CRC-32 over data followed by its own little-endian CRC is a
constant: one call checks a blob without cutting it. The checksum begins with the row, so a record
copied under another key is as damaged as a flipped bit. Every later format keeps it: that is how a
blob of a newer release is told from a damaged one. What was voted of a row has a format of its own
(`core.votes`), and the same checksum.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from quorate.core.values.record import FORMAT, LINKED_FORMAT, Record, record_of
from quorate.errors import Corrupt, FormatUnsupported

_CHECKSUM_BYTES: Final = 4
_INTACT: Final = crc32(crc32(b"").to_bytes(4, "little"))
_crc32: Final = crc32
"""By a name of ours that cannot change, which the compiled module need not look up."""


def encode(row: bytes, record: Record) -> bytes:
    """The bytes that an engine keeps under `row`."""
    return seal(row, record.body)


def decode(row: bytes, blob: bytes) -> Record:
    """The record kept under `row`. Corrupt if the bytes are not what `encode` made for this row,
    FormatUnsupported if a newer release made them."""
    if len(blob) <= _CHECKSUM_BYTES or _crc32(blob, _crc32(row)) != _INTACT:
        raise Corrupt("a stored record fails its checksum", row=row.hex())
    if blob[0] != FORMAT and blob[0] != LINKED_FORMAT:
        raise FormatUnsupported(
            "a stored record is of a newer format", found=blob[0], supported=LINKED_FORMAT
        )
    try:
        return record_of(blob[:-_CHECKSUM_BYTES])
    except ValueError:
        # A right checksum over a wrong shape is not decay: somebody else made these bytes.
        raise Corrupt("a stored record has an impossible shape", row=row.hex()) from None


def seal(row: bytes, body: bytes) -> bytes:
    """The body with its checksum behind it."""
    return body + _crc32(body, _crc32(row)).to_bytes(_CHECKSUM_BYTES, "little")


def open_votes(row: bytes, blob: bytes) -> bytes:
    """The body that was sealed, of what was voted on a row. Corrupt if it is not that."""
    body = sound_votes(row, blob)
    if not body:
        raise Corrupt("stored votes fail their checksum", row=row.hex())
    return body


def sound_votes(row: bytes, blob: bytes) -> bytes:
    """The same; empty if it is not that."""
    if len(blob) <= _CHECKSUM_BYTES or _crc32(blob, _crc32(row)) != _INTACT:
        return b""
    return blob[:-_CHECKSUM_BYTES]
