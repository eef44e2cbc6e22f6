# SPDX-License-Identifier: GPL-3.0-or-later
"""GET, SET and their kin."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.values.events import Edited, Put, Update
from quorate.core.values.versions import successor
from quorate.doors.redis.session import WINDOW_FIRST
from quorate.doors.redis.strings import MGET_BYTES_MAX
from quorate.errors import Outcome, QuorumUnreachable
from tests.unit.doors.redis.turns import Client, three_nodes

INT64_MAX = 2**63 - 1
NO_W = QuorumUnreachable("too few replicas", outcome=Outcome.NOT_APPLIED, needed=2, live=1)


def last_put(client: Client) -> Put:
    put = client.written[-1]
    assert isinstance(put, Put)
    return put


def expiry(client: Client, key: bytes = b"k") -> int:
    return client.store.records[key].expires_ms


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
    assert (client.ask("GET", "k"), expiry(client)) == (b"new", 0)
    assert client.ask("SET", "other", "new", "GET") is None


def test_set_keepttl_keeps_the_expiry(client: Client) -> None:
    expires = client.store.wall_ms() + 5000
    client.store.fill(b"k", b"old", expires_ms=expires)
    assert client.ask("SET", "k", "new", "KEEPTTL", "GET") == b"old"
    assert expiry(client) == expires
    assert client.ask("SET", "fresh", "v", "KEEPTTL") == b"OK"
    assert expiry(client, b"fresh") == 0


@pytest.mark.parametrize(
    ("old", "options", "reply", "new"),
    [
        (None, ("NX",), b"OK", b"new"),
        (b"old", ("NX",), None, b"old"),
        (None, ("XX",), None, None),
        (b"old", ("xx",), b"OK", b"new"),
        (None, ("NX", "GET"), None, b"new"),
        (b"old", ("NX", "GET"), b"old", b"old"),
        (None, ("GET", "XX"), None, None),
        (b"old", ("XX", "GET"), b"old", b"new"),
    ],
)
def test_set_on_a_condition_and_with_get_answers_as_redis_does(
    client: Client, old: bytes | None, options: tuple[str, ...], *, reply: Any, new: Any
) -> None:
    now = client.store.wall_ms()
    expected = {(): 0, ("EX", 10): now + 10_000, ("PXAT", 2**42): 2**42}
    expected[("KEEPTTL",)] = 0 if old is None else now + 77
    for words, expires in expected.items():
        client.store.fill(b"k", old, expires_ms=now + 77)
        assert client.ask("SET", "k", "new", *options, *words) == reply
        assert client.ask("GET", "k") == new
        assert client.ask("PEXPIRETIME", "k") == (
            -2 if new is None else now + 77 if new == b"old" else expires or -1
        )


def test_what_expired_is_absent_for_conditions(client: Client) -> None:
    client.store.fill(b"k", b"old", expires_ms=client.store.wall_ms())
    assert client.ask("SET", "k", "v", "XX") is None
    assert client.ask("SET", "k", "v", "NX") == b"OK"
    assert client.ask("SETNX", "k", "w") == 0


def test_setnx_and_getset(client: Client) -> None:
    assert client.ask("SETNX", "k", "1") == 1
    assert client.ask("SETNX", "k", "2") == 0
    client.ask("EXPIRE", "k", 10)
    assert client.ask("GETSET", "k", "3") == b"1"
    assert (client.ask("GET", "k"), client.ask("TTL", "k")) == (b"3", -1)
    assert client.ask("GETSET", "none", "v") is None


def test_msetnx_is_of_one_key_and_of_several_refused(client: Client) -> None:
    assert client.ask("MSETNX", "k", "1") == 1
    assert client.ask("MSETNX", "k", "2", "k", "3") == 0
    assert client.ask("MSETNX", "other", "2", "other", "3") == 1
    assert (client.ask("GET", "k"), client.ask("GET", "other")) == (b"1", b"3")
    count = len(client.store.events)
    assert client.ask("MSETNX", "a", "1", "b", "2") == (
        "CROSSKEY MSETNX takes one key here: several are not written as one step"
        " (outcome=not_applied)"
    )
    assert client.ask("MSETNX", "a", "1", "b") == (
        "ERR wrong number of arguments for 'msetnx' command"
    )
    assert len(client.store.events) == count


@pytest.mark.parametrize("outcome", Outcome)
def test_a_read_modify_write_that_failed_says_what_became_of_it(
    client: Client, outcome: Outcome
) -> None:
    error = QuorumUnreachable("too few replicas", outcome=outcome)
    for command in (["INCR", "k"], ["SET", "k", "v", "NX"], ["GETDEL", "k"], ["EXPIRE", "k", 1]):
        client.store.fail_next = [error]
        assert client.ask(*command) == f"NOREPLICAS too few replicas (outcome={outcome.value})"


@pytest.mark.parametrize(
    "command", [("SET", "k", "", "NX"), ("GETSET", "k", ""), ("SETNX", "k", "")]
)
def test_a_value_over_the_limit_is_refused_also_on_a_condition(command: tuple[str, ...]) -> None:
    client = Client(three_nodes(value_bytes_max=1 << 20))
    value = b"v" * ((1 << 20) + 1)
    words = [value if word == "" else word for word in command]
    assert client.ask(*words) == (
        "ERR the value is too large (outcome=not_applied bytes=1048577 bytes_max=1048576)"
    )
    assert client.store.records == {}


@pytest.mark.parametrize("command", ["SET k {} NX", "MSETNX k {}", "SETNX k {}", "APPEND k {}"])
def test_admission_counts_what_a_read_modify_write_brings(client: Client, command: str) -> None:
    client.ask(*command.format("v" * 5000).split())
    (update,) = client.store.events
    assert isinstance(update, Update)
    assert 5000 <= update.size < 5100


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


def test_getdel_gives_the_value_once(client: Client) -> None:
    client.store.fill(b"k", b"v")
    assert client.ask("GETDEL", "k") == b"v"
    assert client.store.records[b"k"].value is None
    assert client.ask("GETDEL", "k") is None


def test_an_edit_gives_the_same_again_for_the_record_that_it_is_asked_about(client: Client) -> None:
    """A proposal that another beat asks it anew, and the answer is that of the one that won."""
    client.send(["GETSET", "k", "mine"])
    (update,) = client.written
    assert isinstance(update, Update)
    for value in (b"a", b"bb"):
        assert update.edit(client.store.fill(b"k", value)) == Edited(b"mine")
    assert client.replies() == [b"bb"]


def test_getex_changes_the_expiry_of_what_it_read(client: Client) -> None:
    record = client.store.fill(b"k", b"v")
    now = client.store.wall_ms()
    assert client.ask("GETEX", "k") == b"v"
    assert client.written == []
    assert client.ask("GETEX", "k", "EX", 10) == b"v"
    assert expiry(client) == now + 10_000
    assert client.store.records[b"k"].version == successor(record.version)
    assert client.ask("GETEX", "k", "PERSIST") == b"v"
    assert expiry(client) == 0
    record = client.store.records[b"k"]
    assert client.ask("GETEX", "k", "PERSIST") == b"v"
    assert client.store.records[b"k"] is record
    assert client.ask("GETEX", "k", "PXAT", 1) == b"v"
    assert client.ask("GETEX", "k", "EX", 10) is None


def test_getex_refuses_what_redis_refuses(client: Client) -> None:
    assert client.ask("GETEX", "k", "EX", 0) == "ERR invalid expire time in 'getex' command"
    assert client.ask("GETEX", "k", "EX", 1, "PERSIST") == "ERR syntax error"
    assert client.ask("GETEX", "k", "KEEPTTL") == "ERR syntax error"


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
