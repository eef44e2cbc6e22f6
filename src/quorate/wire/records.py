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

from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT, VERSION_BYTES
from quorate.errors import Corrupt, FormatUnsupported

FORMAT: Final = 1

_TOMBSTONE: Final = 1
_EXPIRES: Final = 2
_PRIOR: Final = 4

_STARTS: Final = tuple(bytes((FORMAT, flags)) for flags in range(8))
_HEAD_BYTES: Final = 2 + VERSION_BYTES
_EXPIRY: Final = Struct(">Q")
_CHECKSUM_BYTES: Final = 4
_BLOB_BYTES_MIN: Final = _HEAD_BYTES + _CHECKSUM_BYTES
_VALUE_STARTS: Final = tuple(
    _HEAD_BYTES
    + (_EXPIRY.size if flags & _EXPIRES else 0)
    + (VERSION_BYTES if flags & _PRIOR else 0)
    for flags in range(8)
)
"""Where the value begins, by flags."""
_INTACT: Final = crc32(crc32(b"").to_bytes(4, "little"))


def encode(row: bytes, record: Record) -> bytes:
    """The bytes that an engine keeps under `row`."""
    version, value, prior = record.version, record.value, record.prior
    assert len(version) == VERSION_BYTES
    flags = 0
    expiry = b""
    if value is None:
        flags = _TOMBSTONE
        value = b""
    if record.expires_ms:
        flags |= _EXPIRES
        expiry = _EXPIRY.pack(record.expires_ms)
    if prior:
        assert len(prior) == VERSION_BYTES
        flags |= _PRIOR
    body = b"".join((_STARTS[flags], version, expiry, prior, value))
    return body + crc32(body, crc32(row)).to_bytes(4, "little")


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
    end = len(blob) - _CHECKSUM_BYTES
    # A right checksum over a wrong shape is not decay: somebody else made these bytes.
    if flags >= len(_VALUE_STARTS) or end < _VALUE_STARTS[flags]:
        raise Corrupt("a stored record has an impossible shape", row=row.hex())
    start = _VALUE_STARTS[flags]
    expires_ms = _EXPIRY.unpack_from(blob, _HEAD_BYTES)[0] if flags & _EXPIRES else 0
    prior = blob[start - VERSION_BYTES : start] if flags & _PRIOR else ABSENT
    value = None if flags & _TOMBSTONE else blob[start:end]
    return Record(blob[2:_HEAD_BYTES], value, expires_ms, prior)
