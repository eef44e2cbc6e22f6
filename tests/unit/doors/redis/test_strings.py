# SPDX-License-Identifier: GPL-3.0-or-later
"""GET, SET and their kin."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Put
from quorate.doors.redis.session import WINDOW_FIRST
from quorate.doors.redis.strings import MGET_BYTES_MAX
from quorate.errors import Outcome, QuorumUnreachable
from tests.unit.doors.redis.turns import Client

INT64_MAX = 2**63 - 1
NO_W = QuorumUnreachable("too few replicas", outcome=Outcome.NOT_APPLIED, needed=2, live=1)


def last_put(client: Client) -> Put:
    put = client.written[-1]
    assert isinstance(put, Put)
    return put


def test_set_then_get_gives_the_value_back(client: Client) -> None:
    assert client.ask("SET", "k", "v") == b"OK"
    assert client.ask("GET", "k") == b"v"
    assert client.ask("GET", "other") is None


@pytest.mark.parametrize(
    "value",
    [b"", b"x", bytes(range(256)), b"\r\n", b"\xed\xa0\x80", "😀e\u0301".encode(), b"\0" * 70_000],
)
def test_values_and_keys_of_any_bytes_go_through_unchanged(client: Client, value: bytes) -> None:
    key = b"k" + value[:500]
    assert client.ask("SET", key, value) == b"OK"
    assert client.ask("GET", key) == value
    assert client.ask("MGET", key) == [value]


def test_expired_records_and_tombstones_are_not_there(client: Client) -> None:
    now = client.store.wall_ms()
    client.store.fill(b"dead", None)
    client.store.fill(b"old", b"v", expires_ms=now)
    client.store.fill(b"new", b"v", expires_ms=now + 1)
    assert client.ask("MGET", "dead", "old", "new", "never") == [None, None, b"v", None]
    assert [client.ask("GET", key) for key in ("dead", "old", "new")] == [None, None, b"v"]
    assert client.ask("STRLEN", "old") == 0


# --- SET's options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "after_ms"),
    [
        (("EX", 10), 10_000),
        (("px", 1500), 1500),
        (("EX", 9_000_000_000), 9_000_000_000_000),
    ],
)
def test_a_relative_expiry_counts_from_now(
    client: Client, options: tuple[str, int], after_ms: int
) -> None:
    assert client.ask("SET", "k", "v", *options) == b"OK"
    assert last_put(client).expires_ms == client.store.wall_ms() + after_ms


def test_an_absolute_expiry_is_taken_as_it_is(client: Client) -> None:
    client.ask("SET", "k", "v", "EXAT", 2_000_000_000)
    assert last_put(client).expires_ms == 2_000_000_000_000
    client.ask("SET", "k", "v", "PXAT", 2_000_000_000_123)
    assert last_put(client).expires_ms == 2_000_000_000_123
    assert client.ask("SET", "k", "v", "PXAT", 1) == b"OK"
    assert client.ask("GET", "k") is None


@pytest.mark.parametrize(
    ("unit", "amount"),
    [
        *((unit, amount) for unit in ("EX", "PX", "EXAT", "PXAT") for amount in (0, -1)),
        ("EX", INT64_MAX),
        ("EX", INT64_MAX // 1000),
        ("PX", INT64_MAX),
        ("EXAT", INT64_MAX),
    ],
)
def test_an_expiry_that_cannot_be_is_refused(client: Client, unit: str, amount: int) -> None:
    assert client.ask("SET", "k", "v", unit, amount) == "ERR invalid expire time in 'set' command"
    assert client.written == []


@pytest.mark.parametrize("amount", ["1.5", "abc", "", " 1", "1e3", "9223372036854775808"])
def test_an_expiry_that_is_no_integer_is_refused(client: Client, amount: str) -> None:
    assert client.ask("SET", "k", "v", "EX", amount) == (
        "ERR value is not an integer or out of range"
    )


@pytest.mark.parametrize(
    "options",
    [
        ("EX", 1, "PX", 1),
        ("EX", 1, "KEEPTTL"),
        ("NX", "XX"),
        ("EX",),
        ("FOO",),
        ("GET", "EX"),
        ("PERSIST",),
    ],
)
def test_options_that_do_not_go_together_are_a_syntax_error(
    client: Client, options: tuple[str | int, ...]
) -> None:
    assert client.ask("SET", "k", "v", *options) == "ERR syntax error"
    assert client.written == []


def test_set_get_returns_the_old_value_and_drops_the_expiry(client: Client) -> None:
    client.store.fill(b"k", b"old", expires_ms=client.store.wall_ms() + 5)
    assert client.ask("SET", "k", "new", "GET") == b"old"
    assert last_put(client) == Put(last_put(client).waiter, b"k", b"new")
    assert client.ask("SET", "other", "new", "GET") is None


def test_set_keepttl_keeps_the_expiry_and_is_an_ordinary_write(client: Client) -> None:
    expires = client.store.wall_ms() + 5000
    client.store.fill(b"k", b"old", expires_ms=expires)
    assert client.ask("SET", "k", "new", "KEEPTTL", "GET") == b"old"
    assert (last_put(client).expires_ms, last_put(client).derived_from) == (expires, None)
    assert client.ask("SET", "fresh", "v", "KEEPTTL") == b"OK"
    assert last_put(client).expires_ms == 0


def test_setex_and_psetex_set_value_and_expiry(client: Client) -> None:
    now = client.store.wall_ms()
    assert client.ask("SETEX", "k", 10, "v") == b"OK"
    assert (last_put(client).value, last_put(client).expires_ms) == (b"v", now + 10_000)
    assert client.ask("PSETEX", "k", 10, "v") == b"OK"
    assert last_put(client).expires_ms == now + 10
    assert client.ask("SETEX", "k", 0, "v") == "ERR invalid expire time in 'setex' command"
    assert client.ask("PSETEX", "k", -1, "v") == "ERR invalid expire time in 'psetex' command"
    assert client.ask("SETEX", "k", "x", "v") == "ERR value is not an integer or out of range"


# --- reads that write ----------------------------------------------------------------------------


def test_getdel_deletes_what_it_read_and_nothing_newer(client: Client) -> None:
    record = client.store.fill(b"k", b"v")
    client.send(["GETDEL", "k"])
    client.store.turn()
    client.store.fill(b"k", b"newer")
    assert client.replies() == [b"v"]
    assert (last_put(client).value, last_put(client).derived_from) == (None, record.version)
    assert client.ask("GET", "k") == b"newer"
    assert client.ask("GETDEL", "k") == b"newer"
    assert client.ask("GETDEL", "k") is None


def test_getex_changes_the_expiry_of_what_it_read(client: Client) -> None:
    record = client.store.fill(b"k", b"v")
    now = client.store.wall_ms()
    assert client.ask("GETEX", "k") == b"v"
    assert client.written == []
    assert client.ask("GETEX", "k", "EX", 10) == b"v"
    put = last_put(client)
    assert (put.value, put.expires_ms, put.derived_from) == (b"v", now + 10_000, record.version)
    assert client.ask("GETEX", "k", "PERSIST") == b"v"
    assert last_put(client).expires_ms == 0
    count = len(client.written)
    assert client.ask("GETEX", "k", "PERSIST") == b"v"
    assert len(client.written) == count
    assert client.ask("GETEX", "k", "PXAT", 1) == b"v"
    assert client.ask("GETEX", "k", "EX", 10) is None


def test_getex_refuses_what_redis_refuses(client: Client) -> None:
    assert client.ask("GETEX", "k", "EX", 0) == "ERR invalid expire time in 'getex' command"
    assert client.ask("GETEX", "k", "EX", 1, "PERSIST") == "ERR syntax error"
    assert client.ask("GETEX", "k", "KEEPTTL") == "ERR syntax error"


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


# --- many keys -----------------------------------------------------------------------------------


def test_mget_answers_in_the_order_of_its_keys_some_at_a_time(client: Client) -> None:
    keys = [f"k{i}" for i in range(3 * WINDOW_FIRST)]
    for key in keys[::2]:
        client.store.fill(key.encode(), key.encode())
    client.send(["MGET", *keys])
    assert len(client.store.events) == WINDOW_FIRST
    expected = [key.encode() if i % 2 == 0 else None for i, key in enumerate(keys)]
    assert client.replies() == [expected]


def test_mget_of_one_large_value_many_times_is_refused_before_it_fills_the_memory(
    client: Client,
) -> None:
    client.store.fill(b"k", b"v" * (8 << 20))
    reply = client.ask("MGET", *["k"] * 1000)
    assert reply == f"ERR the values are over {MGET_BYTES_MAX} bytes together"
    assert len(client.store.events) <= 2 * WINDOW_FIRST


def test_mset_sets_every_key_and_of_a_key_given_twice_the_last(client: Client) -> None:
    assert client.ask("MSET", "a", "1", "b", "2", "a", "3") == b"OK"
    assert client.ask("MGET", "a", "b") == [b"3", b"2"]


def test_mset_with_an_odd_argument_is_refused(client: Client) -> None:
    assert client.ask("MSET", "a", "1", "b") == ("ERR wrong number of arguments for 'mset' command")
    assert client.store.events == []


def test_an_mset_that_failed_halfway_says_that_its_outcome_is_unknown(client: Client) -> None:
    client.store.fail_next = [NO_W]
    assert client.ask("MSET", "a", "1", "b", "2") == (
        "NOREPLICAS too few replicas (outcome=unknown needed=2 live=1)"
    )
    client.store.fail_next = [NO_W, NO_W]
    assert client.ask("MSET", "a", "1", "b", "2") == (
        "NOREPLICAS too few replicas (outcome=not_applied needed=2 live=1)"
    )


def test_a_failed_read_of_many_starts_no_more(client: Client) -> None:
    client.store.failure = QuorumUnreachable("too few replicas")
    assert client.ask("MGET", *[f"k{i}" for i in range(1000)]) == "NOREPLICAS too few replicas"
    assert len(client.store.events) == WINDOW_FIRST
