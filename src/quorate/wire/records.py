# SPDX-License-Identifier: GPL-3.0-or-later
"""A record as an engine keeps it: a format byte, fields, and a checksum that covers its row too.

    format (1)  flags (1)  version (14)  [expires_ms (8)]  [prior (14)]  [value]  crc32 (4)

A record whose version or prior has a link is of a second format, and has behind the prior

    [link of the version (8)  count (1)  count x (link (8), number (8))]  [link of the prior (8)]

where the counted are its winners. Format 2 has no other records, so format 1 is what it always was.

Integers are big-endian but for the checksum, which is little-endian, because CRC-32 over data
followed by its own little-endian CRC is a constant: one call checks a blob without cutting it. The
checksum begins with the row, so a record copied under another key is as damaged as a flipped bit.
Every later format keeps the first byte and this checksum: that is how a blob of a newer release is
told from a damaged one. What was voted of a row has a format of its own (`core.votes`), and the
same checksum.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from zlib import crc32

from quorate.core.values.record import Record
from quorate.core.values.versions import (
    ABSENT,
    LINK_BYTES,
    LINKED_BYTES,
    RECORD_LENGTHS,
    VERSION_BYTES,
)
from quorate.errors import Corrupt, FormatUnsupported

FORMAT: Final = 1
LINKED_FORMAT: Final = 2

_TOMBSTONE: Final = 1
_EXPIRES: Final = 2
_PRIOR: Final = 4
_LINKED: Final = 8
_LINKED_PRIOR: Final = 16
_FLAGS_END: Final = 32
_PLAIN_FLAGS: Final = 7

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
_WINNER: Final = Struct(">QQ")
_INTACT: Final = crc32(crc32(b"").to_bytes(4, "little"))


def encode(row: bytes, record: Record) -> bytes:
    """The bytes that an engine keeps under `row`."""
    version, value, prior = record.version, record.value, record.prior
    if len(version) != VERSION_BYTES:
        return _encode_linked(row, record)
    flags = 0
    expiry = b""
    if value is None:
        flags = _TOMBSTONE
        value = b""
    if record.expires_ms:
        flags |= _EXPIRES
        expiry = _EXPIRY.pack(record.expires_ms)
    if prior:
        if len(prior) != VERSION_BYTES:
            return _encode_linked(row, record)
        flags |= _PRIOR
    # As `seal` does it, without the call.
    body = b"".join((_STARTS[flags], version, expiry, prior, value))
    return body + crc32(body, crc32(row)).to_bytes(4, "little")


def _encode_linked(row: bytes, record: Record) -> bytes:
    version, prior, value = record.version, record.prior, record.value
    assert len(version) in RECORD_LENGTHS
    assert not prior or len(prior) in RECORD_LENGTHS
    flags = 0
    parts = [version[:VERSION_BYTES]]
    if value is None:
        flags |= _TOMBSTONE
    if record.expires_ms:
        flags |= _EXPIRES
        parts.append(_EXPIRY.pack(record.expires_ms))
    if prior:
        flags |= _PRIOR
        parts.append(prior[:VERSION_BYTES])
    if len(version) == LINKED_BYTES:
        flags |= _LINKED
        parts += (version[VERSION_BYTES:], bytes((len(record.winners),)))
        parts += [_WINNER.pack(*winner) for winner in record.winners]
    if len(prior) == LINKED_BYTES:
        flags |= _LINKED_PRIOR
        parts.append(prior[VERSION_BYTES:])
    return seal(row, b"".join((bytes((LINKED_FORMAT, flags)), *parts, value or b"")))


def decode(row: bytes, blob: bytes) -> Record:
    """The record kept under `row`. Corrupt if the bytes are not what `encode` made for this row,
    FormatUnsupported if a newer release made them."""
    if len(blob) < _BLOB_BYTES_MIN or crc32(blob, crc32(row)) != _INTACT:
        raise Corrupt("a stored record fails its checksum", row=row.hex())
    if blob[0] != FORMAT:
        return _decode_linked(row, blob)
    flags = blob[1]
    end = len(blob) - _CHECKSUM_BYTES
    # A right checksum over a wrong shape is not decay: somebody else made these bytes.
    if flags >= len(_VALUE_STARTS) or end < _VALUE_STARTS[flags]:
        raise _misshapen(row)
    start = _VALUE_STARTS[flags]
    expires_ms = _EXPIRY.unpack_from(blob, _HEAD_BYTES)[0] if flags & _EXPIRES else 0
    prior = blob[start - VERSION_BYTES : start] if flags & _PRIOR else ABSENT
    value = None if flags & _TOMBSTONE else blob[start:end]
    return Record(blob[2:_HEAD_BYTES], value, expires_ms, prior)


def _decode_linked(row: bytes, blob: bytes) -> Record:
    """What has a link. Its checksum is right."""
    if blob[0] != LINKED_FORMAT:
        raise FormatUnsupported(
            "a stored record is of a newer format", found=blob[0], supported=LINKED_FORMAT
        )
    flags = blob[1]
    end = len(blob) - _CHECKSUM_BYTES
    start = _VALUE_STARTS[flags & _PLAIN_FLAGS]
    has_place = flags & _PRIOR or not flags & _LINKED_PRIOR
    if not (_LINKED <= flags < _FLAGS_END and has_place and start <= end):
        raise _misshapen(row)
    version = blob[2:_HEAD_BYTES]
    expires_ms = _EXPIRY.unpack_from(blob, _HEAD_BYTES)[0] if flags & _EXPIRES else 0
    prior = blob[start - VERSION_BYTES : start] if flags & _PRIOR else ABSENT
    winners: tuple[tuple[int, int], ...] = ()
    if flags & _LINKED:
        counted = start + LINK_BYTES
        version += blob[start:counted]
        start = counted + 1 + blob[min(counted, end)] * _WINNER.size
        if start > end:
            raise _misshapen(row)
        winners = tuple(
            [(link, number) for link, number in _WINNER.iter_unpack(blob[counted + 1 : start])]
        )
    if flags & _LINKED_PRIOR:
        prior += blob[start : start + LINK_BYTES]
        start += LINK_BYTES
        if start > end:
            raise _misshapen(row)
    value = None if flags & _TOMBSTONE else blob[start:end]
    return Record(version, value, expires_ms, prior, winners)


def _misshapen(row: bytes) -> Corrupt:
    return Corrupt("a stored record has an impossible shape", row=row.hex())


def seal(row: bytes, body: bytes) -> bytes:
    """The body with its checksum behind it."""
    return body + crc32(body, crc32(row)).to_bytes(_CHECKSUM_BYTES, "little")


def open_votes(row: bytes, blob: bytes) -> bytes:
    """The body that was sealed, of what was voted on a row. Corrupt if it is not that."""
    body = sound_votes(row, blob)
    if not body:
        raise Corrupt("stored votes fail their checksum", row=row.hex())
    return body


def sound_votes(row: bytes, blob: bytes) -> bytes:
    """The same; empty if it is not that."""
    if len(blob) <= _CHECKSUM_BYTES or crc32(blob, crc32(row)) != _INTACT:
        return b""
    return blob[:-_CHECKSUM_BYTES]
