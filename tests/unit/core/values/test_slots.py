# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots are Redis Cluster's, rows keep a partition's keys together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.slots import (
    PARTITION_COUNT,
    SLOT_COUNT,
    SLOTS_PER_PARTITION,
    key_of,
    partition_bounds,
    partition_of,
    row_of,
    slot_of,
)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"foo", 12182),
        (b"bar", 5061),
        (b"hello", 866),
        (b"somekey", 11058),
        (b"foo{hash_tag}", 2515),
        (b"bar{hash_tag}", 2515),
        (b"123456789", 0x31C3),
        (b"", 0),
    ],
)
def test_a_slot_is_the_one_that_redis_computes(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"}{tag}", b"tag"),
    ],
)
def test_only_the_first_hash_tag_is_hashed(key: bytes, hashed: bytes) -> None:
    assert slot_of(key) == slot_of(hashed)


@pytest.mark.parametrize("key", [b"foo{}{bar}", b"foo{bar", b"foo}bar{", b"{}", b"{"])
def test_an_empty_or_open_hash_tag_is_none(key: bytes) -> None:
    assert slot_of(key) == _crc16(key) % SLOT_COUNT


def _crc16(data: bytes) -> int:
    """CRC16 XMODEM, bit by bit."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ (0x1021 if crc & 0x8000 else 0)
            crc &= 0xFFFF
    return crc


def _slow_slot(key: bytes) -> int:
    head, brace, rest = key.partition(b"{")
    del head
    tag, close, _ = rest.partition(b"}")
    return _crc16(tag if brace and close and tag else key) % SLOT_COUNT


_KEYS = st.one_of(st.binary(max_size=40), st.text("{}ab", max_size=8).map(str.encode))


@given(_KEYS)
def test_slots_agree_with_a_slow_model(key: bytes) -> None:
    assert slot_of(key) == _slow_slot(key)


@given(st.binary(min_size=1, max_size=40))
def test_a_row_tells_its_key_and_partition_and_lies_in_its_bounds(key: bytes) -> None:
    row = row_of(key)
    first, past = partition_bounds(partition_of(row))
    assert key_of(row) == key
    assert partition_of(row) == slot_of(key) // SLOTS_PER_PARTITION < PARTITION_COUNT
    assert first <= row < past


@given(st.binary(min_size=1), st.binary(min_size=1))
def test_rows_of_one_partition_are_in_the_order_of_their_keys(one: bytes, other: bytes) -> None:
    rows = row_of(b"{t}" + one), row_of(b"{t}" + other)
    assert (rows[0] < rows[1]) == (one < other)
