# SPDX-License-Identifier: GPL-3.0-or-later
"""Records on disk: what was stored comes back, and damaged bytes never do."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.record import (
    FORMAT,
    LINKED_FORMAT,
    Record,
    decode_stored,
    encode_stored,
    open_votes,
    seal,
    sound_votes,
    winners_of,
)
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version, successor
from quorate.errors import Corrupt, FormatUnsupported
from tests.unit.storage.samples import RECORD, ROW

KEY_ROW = row_of(b"key")
SAMPLES = [
    Record(pack_version(2**40, 7), b"value"),
    Record(pack_version(2**40, 7), b""),
    Record(pack_version(2**40, 7), None),
    Record(pack_version(2**63, 2**48 - 1), bytes(range(256)), 1_800_000_000_000, b"p" * 14),
    Record(pack_version(1, 1), None, 2**64 - 1, b"p" * 14),
    Record(successor(pack_version(2**40, 7)), b"value", winners=((0, 2**64 - 1),)),
    Record(
        successor(b"v" * 14, 2**64 - 1),
        bytes(range(256)),
        1_800_000_000_000,
        successor(b"p" * 14),
        tuple((2**64 - 1 - place, place) for place in range(6, 0, -1)),
    ),
    Record(successor(b"v" * 14), None),
    Record(pack_version(2**40, 7), b"stamped above a link", 5, successor(b"p" * 14, 7)),
]


def sealed(row: bytes, body: bytes) -> bytes:
    return body + crc32(row + body).to_bytes(4, "little")


@given(ROW, RECORD)
def test_what_was_encoded_is_decoded(row: bytes, record: Record) -> None:
    assert decode_stored(row, encode_stored(row, record)) == record


@given(RECORD)
def test_who_won_is_a_record_of_the_same_version_and_winners_alone(record: Record) -> None:
    expected = Record(record.version, None, winners=record.winners)
    for each in (record, decode_stored(KEY_ROW, encode_stored(KEY_ROW, record))):
        found = winners_of(each)
        assert found == expected
        assert (found.body, found.size) == (expected.body, 0)
        assert each == record


def test_an_empty_value_is_not_a_tombstone() -> None:
    version = pack_version(1, 1)
    empty, deleted = (encode_stored(KEY_ROW, Record(version, value)) for value in (b"", None))
    assert empty != deleted
    assert decode_stored(KEY_ROW, empty).value == b""


def test_the_bytes_of_a_record_stay_what_released_nodes_wrote() -> None:
    full = Record(pack_version(0x0102030405060708, 0x0A0B0C0D0E0F), b"v", 0x11, b"P" * 14)
    body = bytes.fromhex("0106" + "0102030405060708" + "0a0b0c0d0e0f" + "0000000000000011")
    body += b"P" * 14 + b"v"
    assert encode_stored(KEY_ROW, full) == sealed(KEY_ROW, body)


def test_what_has_a_link_is_of_the_second_format() -> None:
    version = successor(pack_version(0x0102030405060708, 0x0A0B0C0D0E0F), 0x1112131415161718)
    winners = ((0x1112131415161717, 0x33),)
    full = Record(version, b"v", 0x11, successor(b"P" * 14, 0x22), winners)
    body = bytes.fromhex("021e" + "0102030405060708" + "0a0b0c0d0e0f")
    body += bytes.fromhex("0000000000000011") + b"P" * 14
    body += bytes.fromhex("1112131415161718" + "01" + "1112131415161717" + "0000000000000033")
    body += bytes.fromhex("0000000000000022") + b"v"
    assert encode_stored(KEY_ROW, full) == sealed(KEY_ROW, body)
    assert encode_stored(KEY_ROW, Record(version, None)) == sealed(
        KEY_ROW, bytes.fromhex("0209") + version + b"\0"
    )
    assert encode_stored(KEY_ROW, Record(b"v" * 14, b"", 0, successor(b"P" * 14))) == sealed(
        KEY_ROW, bytes.fromhex("0214") + b"v" * 14 + successor(b"P" * 14)
    )


@pytest.mark.parametrize("record", SAMPLES)
def test_every_flipped_bit_is_corrupt(record: Record) -> None:
    blob = encode_stored(KEY_ROW, record)
    for bit in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt):
            decode_stored(KEY_ROW, bytes(damaged))


@pytest.mark.parametrize("record", SAMPLES)
def test_a_record_cut_anywhere_is_corrupt(record: Record) -> None:
    blob = encode_stored(KEY_ROW, record)
    for length in range(len(blob)):
        with pytest.raises(Corrupt):
            decode_stored(KEY_ROW, blob[:length])


@given(ROW, ROW, RECORD)
def test_a_record_under_another_row_is_corrupt(row: bytes, other: bytes, record: Record) -> None:
    if row != other:
        with pytest.raises(Corrupt) as caught:
            decode_stored(other, encode_stored(row, record))
        assert caught.value.facts == {"row": other.hex()}


@given(st.integers(LINKED_FORMAT + 1, 255), st.binary(min_size=15, max_size=60))
def test_a_newer_format_is_told_from_damage(number: int, rest: bytes) -> None:
    with pytest.raises(FormatUnsupported) as caught:
        decode_stored(KEY_ROW, sealed(KEY_ROW, bytes([number]) + rest))
    assert caught.value.facts == {"found": number, "supported": LINKED_FORMAT}


@given(st.sampled_from([FORMAT, LINKED_FORMAT]), st.integers(0, 40), st.binary(max_size=90))
def test_a_right_checksum_over_anything_else_is_a_record_or_corrupt(
    number: int, flags: int, rest: bytes
) -> None:
    try:
        found = decode_stored(KEY_ROW, sealed(KEY_ROW, bytes([number, flags]) + rest))
    except Corrupt:
        return
    assert len(found.version) in {14, 22}
    assert len(found.prior) in {0, 14, 22}


@pytest.mark.parametrize("record", SAMPLES)
def test_a_record_cut_behind_a_right_checksum_is_a_record_or_corrupt(record: Record) -> None:
    blob = encode_stored(KEY_ROW, record)
    for length in range(2, len(blob) - 4):
        try:
            found = decode_stored(KEY_ROW, sealed(KEY_ROW, blob[:length]))
        except Corrupt:
            continue
        assert (found.version, found.prior) == (record.version, record.prior)
        assert found.winners == record.winners


# --- votes ---------------------------------------------------------------------------------------


@given(ROW, st.binary(min_size=1, max_size=60))
def test_what_was_sealed_of_votes_is_opened(row: bytes, body: bytes) -> None:
    assert open_votes(row, seal(row, body)) == sound_votes(row, seal(row, body)) == body


def test_damaged_votes_and_those_of_another_row_are_corrupt() -> None:
    blob = seal(KEY_ROW, b"votes")
    for bit in range(len(blob) * 8):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt):
            open_votes(KEY_ROW, bytes(damaged))
        assert sound_votes(KEY_ROW, bytes(damaged)) == b""
    for length in range(len(blob)):
        with pytest.raises(Corrupt):
            open_votes(KEY_ROW, blob[:length])
    with pytest.raises(Corrupt) as caught:
        open_votes(row_of(b"other"), blob)
    assert caught.value.facts == {"row": row_of(b"other").hex()}
