# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as bodies: what is encoded comes back, and nothing else comes in."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.record import EXPIRES_MS_MAX, WINNERS_MAX, Record
from quorate.core.values.versions import pack_version, successor
from quorate.doors.http.internal import OVERHEAD_BYTES_MAX, decode_record, encode_record
from quorate.errors import InvalidRequest, ValueTooLarge

STAMPED = st.builds(
    Record,
    version=st.builds(pack_version, st.integers(2**20, 2**64 - 1), st.integers(0, 2**48 - 1)),
    value=st.none() | st.binary(max_size=100),
    expires_ms=st.integers(0, 2**63 - 1),
    prior=st.just(b"") | st.builds(pack_version, st.integers(0, 2**20 - 1), st.just(1)),
)
RECORDS = STAMPED | st.builds(
    lambda record, number: Record(
        successor(record.version, 7),
        record.value,
        record.expires_ms,
        successor(record.version, 3),
        ((4, number), (6, number)),
    ),
    STAMPED,
    st.integers(0, 2**64 - 1),
)


@given(key=st.binary(min_size=1, max_size=1024), record=RECORDS)
def test_a_record_comes_back(key: bytes, record: Record) -> None:
    body = encode_record(key, record)
    assert decode_record(body, value_bytes_max=100) == (key, record)
    assert len(body) - len(record.value or b"") <= OVERHEAD_BYTES_MAX


@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_record(body, value_bytes_max=100)


@given(record=RECORDS, position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_gives_another_valid_record(
    record: Record, position: int, bit: int
) -> None:
    body = bytearray(encode_record(b"key", record))
    body[position % len(body)] ^= 1 << bit
    try:
        key, found = decode_record(bytes(body), value_bytes_max=100)
    except InvalidRequest:
        return
    # Not byte for byte: an integer may now be written longer than it needs to be.
    assert decode_record(encode_record(key, found), value_bytes_max=100) == (key, found)


def test_a_value_over_the_limit_is_refused() -> None:
    body = encode_record(b"k", Record(pack_version(1, 1), b"12345"))
    assert decode_record(body, value_bytes_max=5)
    with pytest.raises(ValueTooLarge):
        decode_record(body, value_bytes_max=4)


def test_a_record_that_was_stamped_is_what_the_first_release_takes() -> None:
    body = encode_record(b"k", Record(pack_version(9, 1), b"v", 7, pack_version(8, 1)))
    fields = [1, b"k", pack_version(9, 1), b"v", 7, pack_version(8, 1)]
    assert body == msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    ("version", "winners"),
    [
        (bytes(14), []),
        (bytes(22), []),
        (b"v" * 15, []),
        (b"v" * 14, [(1, 1)]),
        (b"v" * 14 + bytes(8), []),
        (successor(b"v" * 14, 2), [(2, 1)]),
        (successor(b"v" * 14, 2), [(1, -1)]),
        (successor(b"v" * 14, 2), [(-1, 1)]),
        (successor(b"v" * 14, 2), [(1, 1)] * 98),
        (successor(b"v" * 14, 2), [(1, 1)] * 300),
        (successor(b"v" * 14, 2), [(1, 1), (0, 1)]),
    ],
)
def test_a_version_or_winners_that_cannot_be_are_refused(
    version: bytes, winners: list[tuple[int, int]]
) -> None:
    body = msgspec.msgpack.encode([1, b"k", version, b"v", 0, b"", winners])
    with pytest.raises(InvalidRequest):
        decode_record(body, value_bytes_max=100)


def test_the_longest_key_and_all_winners_are_within_the_overhead() -> None:
    winners = ((2**64 - 2, 2**64 - 1),) * WINNERS_MAX
    version = successor(b"v" * 14, 2**64 - 1)
    record = Record(version, b"", EXPIRES_MS_MAX, successor(b"p" * 14), winners)
    body = encode_record(b"k" * 1024, record)
    assert len(body) <= OVERHEAD_BYTES_MAX
    assert decode_record(body, value_bytes_max=100) == (b"k" * 1024, record)
