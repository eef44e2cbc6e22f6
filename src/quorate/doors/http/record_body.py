# SPDX-License-Identifier: GPL-3.0-or-later
"""One record with its key as a body of `/internal/replicate` and `/internal/get`.

A msgpack array: format (1), key, version, value or nil, expiry in milliseconds, prior. What one
node's `get` returns, another's `replicate` takes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT, VERSION_BYTES
from quorate.doors.http.query import checked_key, checked_value
from quorate.errors import InvalidRequest

RECORD_TYPE: Final = "application/vnd.quorate.record"
FORMAT: Final = 1
OVERHEAD_BYTES_MAX: Final = 2048
"""What a body is longer than its value, at most: the key and a few dozen bytes."""
_EXPIRES_MS_MAX: Final = (1 << 63) - 1


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    key: bytes
    version: bytes
    value: bytes | None
    expires_ms: int
    prior: bytes


_decoder: Final = msgspec.msgpack.Decoder(_Body)


def encode_record(key: bytes, record: Record) -> bytes:
    """The body for a record."""
    return msgspec.msgpack.encode(
        _Body(FORMAT, key, record.version, record.value, record.expires_ms, record.prior)
    )


def decode_record(body: bytes, *, value_bytes_max: int) -> tuple[bytes, Record]:
    """Key and record of a body, every field checked. InvalidRequest."""
    try:
        found = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise InvalidRequest(f"not a record: {fault}") from None
    if found.format != FORMAT:
        raise InvalidRequest("a record of another format", found=found.format, supported=FORMAT)
    if len(found.version) != VERSION_BYTES or not any(found.version):
        raise InvalidRequest("a record's version has 14 bytes and is not zero")
    if found.prior != ABSENT and (len(found.prior) != VERSION_BYTES):
        raise InvalidRequest("a record's prior version has 14 bytes, or none")
    if found.prior >= found.version:
        raise InvalidRequest("a record's prior version is below its own")
    if not 0 <= found.expires_ms <= _EXPIRES_MS_MAX:
        raise InvalidRequest("a record's expiry is out of range")
    if found.value is not None:
        checked_value(found.value, bytes_max=value_bytes_max)
    return checked_key(found.key), Record(found.version, found.value, found.expires_ms, found.prior)
