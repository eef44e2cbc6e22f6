# SPDX-License-Identifier: GPL-3.0-or-later
"""A record as an engine keeps it: a format byte, fields, and a checksum that covers its row too.

    format (1)  flags (1)  version (14)  [expires_ms (8)]  [prior (14)]  [value]  crc32 (4)

Integers are big-endian but for the checksum, which is little-endian, because CRC-32 over data
followed by its own little-endian CRC is a constant: one call checks a blob without cutting it. The
checksum begins with the row, so a record copied under another key is as damaged as a flipped bit.
Every later format keeps the first byte and this checksum: that is how a blob of a newer release is
told from a damaged one.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from zlib import crc32

from quorate.core.record import ABSENT, VERSION_BYTES, Record
from quorate.errors import Corrupt, FormatUnsupported

FORMAT: Final = 1

_TOMBSTONE: Final = 1
_EXPIRES: Final = 2
_PRIOR: Final = 4

_HEAD: Final = Struct(">BB14s")
_EXPIRY: Final = Struct(">Q")
_CHECKSUM: Final = Struct("<I")
_BLOB_BYTES_MIN: Final = _HEAD.size + _CHECKSUM.size
_VALUE_STARTS: Final = tuple(
    _HEAD.size
    + (_EXPIRY.size if flags & _EXPIRES else 0)
    + (VERSION_BYTES if flags & _PRIOR else 0)
    for flags in range(8)
)
"""Where the value begins, by flags."""
_INTACT: Final = crc32(_CHECKSUM.pack(crc32(b"")))


def encode(row: bytes, record: Record) -> bytes:
    """The bytes that an engine keeps under `row`."""
    flags = 0
    extra = b""
    value = record.value
    if value is None:
        flags = _TOMBSTONE
        value = b""
    if record.expires_ms:
        flags |= _EXPIRES
        extra = _EXPIRY.pack(record.expires_ms)
    if record.prior:
        assert len(record.prior) == VERSION_BYTES
        flags |= _PRIOR
        extra += record.prior
    # "14s" would pad a short version in silence.
    assert len(record.version) == VERSION_BYTES
    body = _HEAD.pack(FORMAT, flags, record.version) + extra + value
    return body + _CHECKSUM.pack(crc32(body, crc32(row)))


def decode(row: bytes, blob: bytes) -> Record:
    """The record kept under `row`. Corrupt if the bytes are not what `encode` made for this row,
    FormatUnsupported if a newer release made them."""
    if len(blob) < _BLOB_BYTES_MIN or crc32(blob, crc32(row)) != _INTACT:
        raise Corrupt("a stored record fails its checksum", row=row.hex())
    if blob[0] != FORMAT:
        raise FormatUnsupported(
            "a stored record is of a newer format", found=blob[0], supported=FORMAT
        )
    flags = blob[1]
    end = len(blob) - _CHECKSUM.size
    # A right checksum over a wrong shape is not decay: somebody else made these bytes.
    if flags >= len(_VALUE_STARTS) or end < _VALUE_STARTS[flags]:
        raise Corrupt("a stored record has an impossible shape", row=row.hex())
    start = _VALUE_STARTS[flags]
    expires_ms = _EXPIRY.unpack_from(blob, _HEAD.size)[0] if flags & _EXPIRES else 0
    prior = blob[start - VERSION_BYTES : start] if flags & _PRIOR else ABSENT
    value = None if flags & _TOMBSTONE else blob[start:end]
    return Record(blob[2 : _HEAD.size], value, expires_ms, prior)
