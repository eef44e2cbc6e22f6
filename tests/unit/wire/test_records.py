# SPDX-License-Identifier: GPL-3.0-or-later
"""Records on disk: what was stored comes back, and damaged bytes never do."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version
from quorate.errors import Corrupt, FormatUnsupported
from quorate.wire.records import FORMAT, decode, encode
from tests.unit.storage.samples import RECORD, ROW

KEY_ROW = row_of(b"key")
SAMPLES = [
    Record(pack_version(2**40, 7), b"value"),
    Record(pack_version(2**40, 7), b""),
    Record(pack_version(2**40, 7), None),
    Record(pack_version(2**63, 2**48 - 1), bytes(range(256)), 1_800_000_000_000, b"p" * 14),
    Record(pack_version(1, 1), None, 2**64 - 1, b"p" * 14),
]


def sealed(row: bytes, body: bytes) -> bytes:
    return body + crc32(row + body).to_bytes(4, "little")


@given(ROW, RECORD)
def test_what_was_encoded_is_decoded(row: bytes, record: Record) -> None:
    assert decode(row, encode(row, record)) == record


def test_an_empty_value_is_not_a_tombstone() -> None:
    version = pack_version(1, 1)
    assert encode(KEY_ROW, Record(version, b"")) != encode(KEY_ROW, Record(version, None))
    assert decode(KEY_ROW, encode(KEY_ROW, Record(version, b""))).value == b""


def test_the_bytes_of_a_record_stay_what_released_nodes_wrote() -> None:
    full = Record(pack_version(0x0102030405060708, 0x0A0B0C0D0E0F), b"v", 0x11, b"P" * 14)
    body = bytes.fromhex("0106" + "0102030405060708" + "0a0b0c0d0e0f" + "0000000000000011")
    body += b"P" * 14 + b"v"
    assert encode(KEY_ROW, full) == sealed(KEY_ROW, body)


@pytest.mark.parametrize("record", SAMPLES)
def test_every_flipped_bit_is_corrupt(record: Record) -> None:
    blob = encode(KEY_ROW, record)
    for bit in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt):
            decode(KEY_ROW, bytes(damaged))


@pytest.mark.parametrize("record", SAMPLES)
def test_a_record_cut_anywhere_is_corrupt(record: Record) -> None:
    blob = encode(KEY_ROW, record)
    for length in range(len(blob)):
        with pytest.raises(Corrupt):
            decode(KEY_ROW, blob[:length])


@given(ROW, ROW, RECORD)
def test_a_record_under_another_row_is_corrupt(row: bytes, other: bytes, record: Record) -> None:
    if row != other:
        with pytest.raises(Corrupt) as caught:
            decode(other, encode(row, record))
        assert caught.value.facts == {"row": other.hex()}


@given(st.integers(FORMAT + 1, 255), st.binary(min_size=15, max_size=60))
def test_a_newer_format_is_told_from_damage(number: int, rest: bytes) -> None:
    with pytest.raises(FormatUnsupported) as caught:
        decode(KEY_ROW, sealed(KEY_ROW, bytes([number]) + rest))
    assert caught.value.facts == {"found": number, "supported": FORMAT}


@given(st.binary(max_size=60))
def test_a_right_checksum_over_anything_else_is_a_record_or_corrupt(rest: bytes) -> None:
    try:
        found = decode(KEY_ROW, sealed(KEY_ROW, bytes([FORMAT]) + rest))
    except Corrupt:
        return
    assert len(found.version) == 14
    assert len(found.prior) in {0, 14}
