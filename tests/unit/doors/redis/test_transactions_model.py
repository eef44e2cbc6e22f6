# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactions beside the same commands one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.doors.redis.test_transactions import Line, run
from tests.unit.doors.redis.turns import Client

KEYS = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(-12, 12)
WORDS = st.sampled_from([b"", b"7", b"-1", b"2.5", b"text", b"9223372036854775807"])
EXPIRY = st.sampled_from([(), ("EX", 3), ("PX", 0), ("PXAT", 5), ("KEEPTTL",)])
CONDITION = st.sampled_from([(), ("NX",), ("XX",), ("GET",), ("NX", "GET"), ("NX", "XX")])


def line(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Line]:
    return st.tuples(*arguments).map(lambda given: (name, "k", *given))


LINES = st.one_of(
    *(line(name) for name in ("GET", "DEL", "EXISTS", "TYPE", "STRLEN", "TTL", "PERSIST")),
    *(line(name) for name in ("INCR", "DECR", "GETDEL", "BITCOUNT", "TOUCH", "MGET", "PTTL")),
    *(line(name, NUMBERS) for name in ("INCRBY", "DECRBY", "EXPIRE", "PEXPIREAT", "GETBIT")),
    *(line(name, WORDS) for name in ("SETNX", "GETSET", "APPEND", "INCRBYFLOAT", "MSET", "MSETNX")),
    line("SETRANGE", NUMBERS, WORDS),
    line("GETRANGE", NUMBERS, NUMBERS),
    line("SETBIT", NUMBERS, st.sampled_from(["0", "1", "2"])),
    line("EXPIRE", NUMBERS, st.sampled_from(["NX", "XX", "GT", "LT"])),
    line("SETEX", NUMBERS, WORDS),
    st.tuples(WORDS, EXPIRY, CONDITION).map(lambda it: ("SET", "k", it[0], *it[1], *it[2])),
    EXPIRY.map(lambda it: ("GETEX", "k", *it)),
)


@settings(max_examples=500)
@given(old=st.none() | WORDS, expires=st.sampled_from([0, 2**42]), lines=st.lists(LINES))
def test_a_transaction_answers_and_leaves_what_its_commands_would_one_by_one(
    old: bytes | None, expires: int, lines: list[Line]
) -> None:
    together, apart = Client(), Client()
    for client in (together, apart):
        client.store.fill(b"k", old, expires_ms=expires)
    assert run(together, *lines) == [apart.ask(*each) for each in lines]
    assert together.ask("GET", "k") == apart.ask("GET", "k")
    assert together.ask("PEXPIRETIME", "k") == apart.ask("PEXPIRETIME", "k")
    assert sum(hasattr(each, "edit") for each in together.store.events) <= 1


BLIND = st.one_of(
    *(st.tuples(st.just(name), KEYS, WORDS) for name in ("SET", "MSET")),
    st.tuples(st.just("MSET"), KEYS, WORDS, KEYS, WORDS),
    *(st.tuples(st.just(name), KEYS, KEYS) for name in ("DEL", "UNLINK", "MGET", "EXISTS")),
    *(st.tuples(st.just(name), KEYS) for name in ("GET", "INCR", "GETDEL", "STRLEN")),
    st.tuples(st.just("SETEX"), KEYS, NUMBERS, WORDS),
    st.tuples(st.just("EXPIRE"), KEYS, NUMBERS),
)


@given(lines=st.lists(BLIND, min_size=1, max_size=6))
@settings(max_examples=500)
def test_a_transaction_on_several_keys_does_the_same_or_nothing(lines: list[Line]) -> None:
    together, apart = Client(), Client()
    for client in (together, apart):
        client.store.fill(b"a", b"7")
        client.store.fill(b"b", b"text", expires_ms=2**42)
    before = dict(together.store.records)
    replies = run(together, *lines)
    if isinstance(replies, str):
        assert replies.startswith("CROSSKEY ")
        assert together.store.records == before
        return
    assert replies == [apart.ask(*each) for each in lines]
    for key in ("a", "b", "c"):
        assert together.ask("GET", key) == apart.ask("GET", key)
        assert together.ask("PEXPIRETIME", key) == apart.ask("PEXPIRETIME", key)
