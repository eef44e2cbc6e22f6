# SPDX-License-Identifier: GPL-3.0-or-later
"""INCR and its kin."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.redis.counters import format_float, parse_float
from tests.unit.doors.redis.turns import Client

INT64_MAX = 2**63 - 1
NO_INTEGER = "ERR value is not an integer or out of range"
NO_FLOAT = "ERR value is not a valid float"
INFINITE = "ERR increment would produce NaN or Infinity"


def test_counters_count_from_nothing(client: Client) -> None:
    assert client.ask("INCR", "k") == 1
    assert client.ask("INCRBY", "k", 41) == 42
    assert client.ask("DECR", "k") == 41
    assert client.ask("DECRBY", "k", 50) == -9
    assert client.ask("DECRBY", "k", -9) == 0
    assert client.ask("GET", "k") == b"0"
    assert client.ask("DECR", "other") == -1


def test_a_counter_keeps_its_expiry(client: Client) -> None:
    expires = client.store.wall_ms() + 5000
    client.store.fill(b"k", b"7", expires_ms=expires)
    assert client.ask("INCR", "k") == 8
    assert client.ask("INCRBYFLOAT", "k", "0.5") == b"8.5"
    assert client.ask("PEXPIRETIME", "k") == expires
    client.store.fill(b"k", b"7", expires_ms=client.store.wall_ms())
    assert client.ask("INCR", "k") == 1
    assert client.ask("TTL", "k") == -1


@pytest.mark.parametrize(
    "value", [b"", b" 1", b"1 ", b"+1", b"01", b"1.0", b"a", b"9" * 19, b"\xff"]
)
def test_what_is_no_integer_is_not_counted_and_stays(client: Client, value: bytes) -> None:
    record = client.store.fill(b"k", value)
    for command in (["INCR", "k"], ["DECRBY", "k", 5]):
        assert client.ask(*command) == NO_INTEGER
    assert client.store.records[b"k"] is record
    assert client.ask("INCRBY", "other", value) == NO_INTEGER
    assert b"other" not in client.store.records


@pytest.mark.parametrize(
    ("value", "command"),
    [
        (INT64_MAX, ("INCR", "k")),
        (-INT64_MAX - 1, ("DECR", "k")),
        (1, ("INCRBY", "k", INT64_MAX)),
        (-2, ("INCRBY", "k", -INT64_MAX)),
        (-2, ("DECRBY", "k", INT64_MAX)),
    ],
)
def test_a_counter_that_would_overflow_is_refused_and_stays(
    client: Client, value: int, command: tuple[str | int, ...]
) -> None:
    record = client.store.fill(b"k", b"%d" % value)
    assert client.ask(*command) == "ERR increment or decrement would overflow"
    assert client.store.records[b"k"] is record


def test_an_amount_that_has_no_opposite_is_refused(client: Client) -> None:
    assert client.ask("DECRBY", "k", -INT64_MAX - 1) == "ERR decrement would overflow"
    assert client.ask("INCRBY", "k", INT64_MAX) == INT64_MAX
    assert client.ask("DECRBY", "k", INT64_MAX) == 0


@pytest.mark.parametrize(
    ("value", "amount", "total"),
    [
        (b"10.50", "0.1", b"10.6"),
        (b"5.0e3", "2.0e2", b"5200"),
        (b"3", "-3", b"0"),
        (b"-1", "1.0", b"0"),
        (b"1", "-1.1", b"-0.1"),
        (b"0.1", "0.2", b"0.3"),
        (b".5", "1.", b"1.5"),
        (b"1e20", "1", b"100000000000000000001"),
        (b"0", "1e-17", b"0.00000000000000001"),
        (b"0", "-1e-18", b"0"),
        (b"+1", "+1", b"2"),
        (b"17179869184", "1.5", b"17179869185.5"),
    ],
)
def test_a_sum_is_written_as_redis_writes_it(
    client: Client, value: bytes, amount: str, total: bytes
) -> None:
    client.store.fill(b"k", value)
    assert client.ask("INCRBYFLOAT", "k", amount) == total
    assert client.ask("GET", "k") == total


@pytest.mark.parametrize(
    "text",
    [
        *("", " 1", "1 ", "a", "1_0", "1e", "e1", "--1", "0x10", "nan", "NaN", "1,5", "\u0661"),
        *("1e4933", "-1e99999", "1e-4960", "1e999999999", "1e9999999999", "1" * 5120),
    ],
)
def test_what_is_no_float_is_refused(client: Client, text: str) -> None:
    assert client.ask("INCRBYFLOAT", "k", text) == NO_FLOAT
    record = client.store.fill(b"k", text.encode())
    assert client.ask("INCRBYFLOAT", "k", "1") == NO_FLOAT
    assert client.store.records[b"k"] is record


@pytest.mark.parametrize("text", ["inf", "-Infinity", "+INF"])
def test_infinity_is_not_added(client: Client, text: str) -> None:
    assert client.ask("INCRBYFLOAT", "k", text) == INFINITE
    client.store.fill(b"k", text.encode())
    assert client.ask("INCRBYFLOAT", "k", text) == INFINITE


def test_a_float_that_would_overflow_is_refused(client: Client) -> None:
    record = client.store.fill(b"k", b"1e4932")
    assert client.ask("INCRBYFLOAT", "k", "1e4932") == INFINITE
    assert client.store.records[b"k"] is record
    total = client.ask("INCRBYFLOAT", "k", "-1e-4000")
    assert total == b"1" + b"0" * 4932


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_what_is_written_is_read_back_within_17_places(number: Decimal) -> None:
    parsed = parse_float(str(number).encode())
    if parsed is not None:
        written = format_float(parsed)
        again = parse_float(written)
        assert again is not None
        assert format_float(again) == written
        with localcontext(prec=200):
            assert abs(again - parsed) <= Decimal("5e-18")
