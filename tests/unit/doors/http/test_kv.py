# SPDX-License-Identifier: GPL-3.0-or-later
"""What `/kv` answers, before any lane writes it."""

from __future__ import annotations

import json

import pytest

from quorate.config import Config
from quorate.core.values.events import Get, GetResult, Put, PutResult, Result, Update
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.doors.http.kv import INCREMENT, METHODS, Answers, Method, understood
from quorate.doors.http.replies import Reply
from quorate.errors import Overloaded, QuorateError, QuorumUnreachable
from tests.fake_store import NODES, FakeStore, topology_of

VERSION = pack_version(1 << 30, 7)


ABSENT = GetResult(None, 2)


def of(
    result: GetResult | PutResult | QuorateError,
    *,
    store: FakeStore | None = None,
    r: int = 0,
    w: int = 0,
    wall_ms: int = 0,
) -> Reply:
    return Answers(store or FakeStore()).of(result, r=r, w=w, wall_ms=wall_ms)


def word(store: FakeStore | None = None, *, r: int = 0, w: int = 0) -> bytes:
    """The word for the consistency of a request."""
    (line,) = [
        line
        for line in of(ABSENT, store=store, r=r, w=w).lines.split(b"\r\n")
        if line.startswith(b"Quorate-Consistency: ")
    ]
    return line.partition(b": ")[2]


@pytest.mark.parametrize("n", range(1, 6))
def test_the_word_is_never_better_than_the_quorums(n: int) -> None:
    """P2: two strict majorities, else any overlap, else nothing; named both, one, or none."""
    nodes = tuple(f"http://127.0.0.1:{8000 + index}" for index in range(n))
    store = FakeStore(Config(nodes=nodes, advertise=nodes[0], replication=n))
    for named_r in range(n + 1):
        for named_w in range(n + 1):
            r, w = named_r or n // 2 + 1, named_w or n // 2 + 1
            if min(r, w) > n / 2:
                assert word(store, r=named_r, w=named_w) == b"linearizable"
            elif r + w > n:
                assert word(store, r=named_r, w=named_w) == b"regular"
            else:
                assert word(store, r=named_r, w=named_w) == b"eventual"


class Nobody:
    def done(self, result: Result) -> None:
        raise AssertionError(result)


def event(method: Method, query: bytes, **headers: str) -> Get | Put | Update:
    """What a request asks of the store at a moment."""
    lines = {name.replace("_", "-"): [value] for name, value in headers.items()}
    asked = understood(method, query, lines)
    assert asked is not None
    return asked.event(Nobody(), b"5" if method.has_body else None, wall_ms=100_000)


def test_all_that_a_request_says_reaches_the_store() -> None:
    get = event(METHODS[b"GET"], b"key=k&r=2&timeout=3s")
    assert isinstance(get, Get)
    assert (get.key, get.r, get.timeout_ms) == (b"k", 2, 3000)
    put = event(METHODS[b"PUT"], b"key=k&w=2&timeout=3s&ttl=9")
    assert isinstance(put, Put)
    assert (put.value, put.expires_ms, put.w, put.timeout_ms) == (b"5", 109_000, 2, 3000)
    delete = event(METHODS[b"DELETE"], b"key=k&w=1&timeout=3s")
    assert isinstance(delete, Put)
    assert (delete.value, delete.w, delete.timeout_ms) == (None, 1, 3000)


@pytest.mark.parametrize(
    ("method", "query", "size"),
    [
        (METHODS[b"PUT"], b"key=k&timeout=3s&since_ms=7", 1),
        (METHODS[b"DELETE"], b"key=k&timeout=3s&since_ms=7", 0),
        (INCREMENT, b"key=k&timeout=3s&since_ms=7&by=100", 3),
    ],
)
def test_all_that_a_request_with_a_name_says_reaches_the_store(
    method: Method, query: bytes, size: int
) -> None:
    update = event(method, query, Idempotency_Key="one")
    assert isinstance(update, Update)
    assert (update.key, update.timeout_ms, update.since_ms, update.size) == (b"k", 3000, 7, size)
    assert update.request


def test_the_default_word_follows_configuration_and_layout() -> None:
    assert word() == b"linearizable"
    assert word(FakeStore(Config(nodes=NODES, r=1, w=1))) == b"eventual"
    assert word(FakeStore(Config(nodes=NODES, r=1, w=3))) == b"regular"
    # One copy only: any quorum is all of it.
    assert word(FakeStore(Config(nodes=NODES[:1]))) == b"linearizable"


def test_before_a_layout_is_known_errors_are_answered_and_none_says_how_consistent_a_key_is() -> (
    None
):
    store = FakeStore(Config(nodes=NODES, r=1))
    store._topology = None
    for r in (0, 2):
        reply = Answers(store).of(QuorumUnreachable("no layout yet"), r=r, w=0, wall_ms=0)
        assert reply.status == 503
        assert b"Quorate-Consistency" not in reply.lines


def test_a_request_may_promise_less_than_the_default() -> None:
    assert word(r=1) == b"eventual"
    assert word(w=3) == b"linearizable"


def test_the_word_for_a_request_follows_the_layout_too() -> None:
    store = FakeStore(Config(nodes=NODES))
    store._topology = topology_of(NODES[:1], 3)
    answers = Answers(store)
    before = answers.of(ABSENT, r=1, w=1, wall_ms=0)
    assert b"Quorate-Consistency: linearizable\r\n" in before.lines
    store._topology = topology_of(NODES, 3)
    after = answers.of(ABSENT, r=1, w=1, wall_ms=0)
    assert b"Quorate-Consistency: eventual\r\n" in after.lines


def test_a_value_is_answered_with_its_version() -> None:
    reply = of(GetResult(Record(VERSION, b"v"), 2))
    assert (reply.status, reply.body) == (200, b"v")
    assert b'ETag: "%b"\r\n' % VERSION.hex().encode() in reply.lines


@pytest.mark.parametrize(
    "record", [None, Record(VERSION, None), Record(VERSION, b"v", 100)], ids=str
)
def test_nothing_alive_is_404_with_the_promise_it_was_read_under(record: Record | None) -> None:
    reply = of(GetResult(record, 2), r=1, wall_ms=100)
    assert reply.status == 404
    assert b"Quorate-Consistency: eventual\r\n" in reply.lines
    assert "outcome" not in json.loads(reply.body)


def test_a_restamped_write_says_so() -> None:
    plain = of(PutResult(VERSION, 2, 3))
    assert b"Restamped" not in plain.lines
    again = of(PutResult(VERSION, 2, 3, restamped=True))
    assert b"Quorate-Restamped: true\r\n" in again.lines
    assert b"Quorate-Acks: 2/3\r\n" in again.lines
    moved = of(PutResult(VERSION, 2, 3, restamped=True, moved=True))
    assert b"Quorate-Restamped: moved\r\n" in moved.lines


def test_an_error_is_a_problem() -> None:
    reply = of(Overloaded("too much"))
    assert (reply.status, json.loads(reply.body)["code"]) == (503, "overloaded")


def test_head_is_get_without_the_body_and_only_a_put_has_a_value() -> None:
    assert [name for name, method in METHODS.items() if not method.shows_body] == [b"HEAD"]
    assert [name for name, method in METHODS.items() if method.has_body] == [b"PUT"]
    assert [name for name, method in METHODS.items() if "ttl" in method.parameters] == [b"PUT"]
