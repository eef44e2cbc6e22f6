# SPDX-License-Identifier: GPL-3.0-or-later
"""APPEND, GETRANGE, SETRANGE and their kin, and bits."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.doors.redis.turns import Client, three_nodes

INT64_MAX = 2**63 - 1
NO_OFFSET = "ERR bit offset is not an integer or out of range"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, -1, b"This is"),
        (-(2**63), INT64_MAX, b"This is"),
        (INT64_MAX, INT64_MAX, b""),
        (0, 3, b"This"),
        (-3, -1, b" is"),
        (-3, -4, b""),
        (-50, -100, b""),
        (5, 2, b""),
        (3, 100, b"s is"),
        (0, -100, b"T"),
        (-100, -50, b"T"),
        (1, -100, b""),
    ],
)
def test_getrange_takes_any_bounds(client: Client, start: int, end: int, expected: bytes) -> None:
    client.store.fill(b"k", b"This is")
    assert client.ask("GETRANGE", "k", start, end) == expected
    assert client.ask("SUBSTR", "k", start, end) == expected
    assert client.ask("GETRANGE", "none", start, end) == b""


def test_strlen_counts_bytes(client: Client) -> None:
    client.store.fill(b"k", "é".encode())
    assert client.ask("STRLEN", "k") == 2
    assert client.ask("STRLEN", "none") == 0


@pytest.mark.parametrize("command", ["SETRANGE k 1 x", "SETBIT k 0 1", "APPEND k x"])
def test_a_changed_piece_leaves_the_expiry_as_it_is(client: Client, command: str) -> None:
    expires = client.store.wall_ms() + 5000
    client.store.fill(b"k", b"v", expires_ms=expires)
    client.ask(*command.split())
    assert client.ask("PEXPIRETIME", "k") == expires


def test_append_grows_a_value_and_keeps_its_expiry(client: Client) -> None:
    assert client.ask("APPEND", "k", "Hello") == 5
    client.ask("EXPIRE", "k", 10)
    assert client.ask("APPEND", "k", " World") == 11
    assert (client.ask("GET", "k"), client.ask("TTL", "k")) == (b"Hello World", 10)
    record = client.store.records[b"k"]
    assert client.ask("APPEND", "k", "") == 11
    assert client.store.records[b"k"] is record
    assert client.ask("APPEND", "empty", "") == 0
    assert client.ask("EXISTS", "empty") == 1


@pytest.mark.parametrize(
    ("value", "offset", "piece", "expected"),
    [
        (b"Hello World", 6, b"Redis", b"Hello Redis"),
        (None, 3, b"x", b"\0\0\0x"),
        (b"ab", 1, b"XYZ", b"aXYZ"),
        (b"abcdef", 2, b"X", b"abXdef"),
        (b"ab", 4, b"X", b"ab\0\0X"),
        (b"ab", 9, b"", b"ab"),
        (None, 9, b"", None),
    ],
)
def test_setrange_overwrites_and_pads(
    client: Client, value: bytes | None, offset: int, piece: bytes, expected: bytes | None
) -> None:
    if value is not None:
        client.store.fill(b"k", value)
    assert client.ask("SETRANGE", "k", offset, piece) == len(expected or b"")
    assert client.ask("GET", "k") == expected


def test_a_value_that_would_be_too_long_is_refused_before_it_is_made() -> None:
    client = Client(three_nodes(value_bytes_max=1 << 20))
    client.store.fill(b"k", b"v")
    tracemalloc.start()
    for offset in (536_870_912, INT64_MAX, 1 << 20):
        assert client.ask("SETRANGE", "k", offset, "v") == (
            "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
            f" (outcome=not_applied bytes={offset + 1} bytes_max=1048576)"
        )
    assert client.ask("SETBIT", "k", 8 << 20, 1) == NO_OFFSET
    assert client.ask("SETBIT", "k", 4_294_967_295, 1) == NO_OFFSET
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert client.ask("APPEND", "k", b"v" * (1 << 20)).startswith("ERR string exceeds maximum")
    assert client.ask("GET", "k") == b"v"
    assert client.ask("SETRANGE", "k", (1 << 20) - 1, "v") == 1 << 20


def test_an_offset_below_zero_is_refused(client: Client) -> None:
    assert client.ask("SETRANGE", "k", -1, "v") == "ERR offset is out of range"
    for command in (["GETBIT", "k", -1], ["SETBIT", "k", -1, 1], ["GETBIT", "k", "a"]):
        assert client.ask(*command) == NO_OFFSET
    for bit in ("2", "a", "-1", "01"):
        assert client.ask("SETBIT", "k", 0, bit) == "ERR bit is not an integer or out of range"


def test_setbit_answers_what_the_bit_was_and_grows_the_value(client: Client) -> None:
    assert client.ask("SETBIT", "k", 7, 1) == 0
    assert client.ask("SETBIT", "k", 7, 0) == 1
    assert client.ask("GET", "k") == b"\0"
    assert client.ask("SETBIT", "k", 16, 1) == 0
    assert client.ask("GET", "k") == b"\0\0\x80"
    assert [client.ask("GETBIT", "k", at) for at in (7, 16, 17, 10_000)] == [0, 1, 0, 0]
    assert client.ask("SETBIT", "far", 23, 0) == 0
    assert client.ask("GET", "far") == b"\0\0\0"


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ((), 26),
        ((0, 0), 4),
        ((1, 1), 6),
        ((0, -1), 26),
        ((1, 1, "BYTE"), 6),
        ((5, 30, "BIT"), 17),
        ((0, 0, "bit"), 0),
        ((-1, -1, "BIT"), 0),
        ((-2, -1), 7),
        ((3, 1), 0),
        ((-1, -2), 0),
        ((100, 200), 0),
        ((-100, 0), 4),
    ],
)
def test_bitcount_counts_in_bytes_or_bits(
    client: Client, arguments: tuple[str | int, ...], count: int
) -> None:
    client.store.fill(b"k", b"foobar")
    assert client.ask("BITCOUNT", "k", *arguments) == count
    assert client.ask("BITCOUNT", "none", *arguments) == 0


def test_bitcount_refuses_what_redis_refuses(client: Client) -> None:
    for arguments in ((1,), (0, 1, "FOO"), (0, 1, "BIT", 1)):
        assert client.ask("BITCOUNT", "k", *arguments) == "ERR syntax error"
    assert client.ask("BITCOUNT", "k", "a", 1) == "ERR value is not an integer or out of range"


@given(
    value=st.binary(max_size=12),
    start=st.integers(-120, 120),
    end=st.integers(-120, 120),
    unit=st.sampled_from(["BYTE", "BIT"]),
)
def test_bitcount_is_the_count_of_ones_in_what_getrange_would_give(
    value: bytes, start: int, end: int, unit: str
) -> None:
    client = Client()
    client.store.fill(b"k", value)
    bits = "".join(f"{byte:08b}" for byte in value)
    each = 8 if unit == "BYTE" else 1
    units = [bits[at : at + each] for at in range(0, len(bits), each)]
    first = max(start + len(units), 0) if start < 0 else start
    last = max(end + len(units), 0) if end < 0 else end
    expected = "".join(units[first : last + 1]).count("1")
    if start < 0 and end < 0 and start > end:
        expected = 0
    assert client.ask("BITCOUNT", "k", start, end, unit) == expected
