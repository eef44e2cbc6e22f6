# SPDX-License-Identifier: GPL-3.0-or-later
"""What `/kv` answers, before any lane writes it."""

from __future__ import annotations

import json

import pytest

from quorate.config import Config
from quorate.core.topology.layout import first_layout
from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.doors.http.answers import (
    Promise,
    consistency,
    problem_reply,
    value_reply,
    written_reply,
)
from quorate.doors.http.problems import Refused
from quorate.errors import Overloaded
from tests.fake_store import NODES, FakeStore

VERSION = pack_version(1 << 30, 7)


@pytest.mark.parametrize("n", range(1, 6))
def test_the_word_is_never_better_than_the_quorums(n: int) -> None:
    """DESIGN, P2: two strict majorities, else any overlap, else nothing."""
    for r in range(1, n + 1):
        for w in range(1, n + 1):
            word = consistency(n=n, r=r, w=w)
            if min(r, w) > n / 2:
                assert word == b"linearizable"
            elif r + w > n:
                assert word == b"regular"
            else:
                assert word == b"eventual"


def test_the_default_word_follows_configuration_and_layout() -> None:
    assert Promise(FakeStore()).default() == b"linearizable"
    assert Promise(FakeStore(Config(nodes=NODES, r=1, w=1))).default() == b"eventual"
    assert Promise(FakeStore(Config(nodes=NODES, r=1, w=3))).default() == b"regular"
    # One copy only: any quorum is all of it.
    assert Promise(FakeStore(Config(nodes=NODES[:1]))).default() == b"linearizable"


def test_a_request_may_promise_less_than_the_default() -> None:
    promise = Promise(FakeStore())
    assert promise.of(r=1, w=0) == b"eventual"
    assert promise.of(r=0, w=3) == b"linearizable"


def test_the_word_for_a_request_follows_the_layout_too() -> None:
    """Asked for by the slow lane alone, it stayed that of the node's first layout."""
    store = FakeStore(Config(nodes=NODES))
    store._layout = first_layout(NODES[:1], replication=3)
    promise = Promise(store)
    assert promise.of(r=1, w=1) == b"linearizable"
    store._layout = first_layout(NODES, replication=3)
    assert promise.of(r=1, w=1) == b"eventual"


def test_a_value_is_answered_with_its_version() -> None:
    result = GetResult(Record(VERSION, b"v"), 2)
    reply = value_reply(result, promise=b"regular", wall_ms=0)
    assert (reply.status, reply.body) == (200, b"v")
    assert b'ETag: "%b"\r\n' % VERSION.hex().encode() in reply.lines


@pytest.mark.parametrize(
    "record", [None, Record(VERSION, None), Record(VERSION, b"v", 100)], ids=str
)
def test_nothing_alive_is_404_with_the_promise_it_was_read_under(record: Record | None) -> None:
    reply = value_reply(GetResult(record, 2), promise=b"eventual", wall_ms=100)
    assert reply.status == 404
    assert b"Quorate-Consistency: eventual\r\n" in reply.lines
    assert "outcome" not in json.loads(reply.body)


def test_a_restamped_write_says_so() -> None:
    plain = written_reply(PutResult(VERSION, 2, 3), promise=b"regular")
    assert b"Restamped" not in plain.lines
    again = written_reply(PutResult(VERSION, 2, 3, restamped=True), promise=b"regular")
    assert b"Quorate-Restamped: true\r\n" in again.lines
    assert b"Quorate-Acks: 2/3\r\n" in again.lines


def test_503_says_when_to_try_again_and_others_do_not() -> None:
    assert b"Retry-After: 1\r\n" in problem_reply(Overloaded("too much")).lines
    assert b"Retry-After" not in problem_reply(Refused(404, "x", "y")).lines


def test_the_headers_of_a_refusal_go_with_it() -> None:
    reply = problem_reply(Refused(405, "x", "y", headers={"Allow": "GET,PUT"}))
    assert reply.lines.endswith(b"Allow: GET,PUT\r\n")
