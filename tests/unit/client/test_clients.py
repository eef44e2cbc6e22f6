# SPDX-License-Identifier: GPL-3.0-or-later
"""What both clients do alike: values against the real door, failures against scripted nodes."""

from __future__ import annotations

import time

import pytest

from quorate.client import BatchDelete, BatchGet, BatchPut, KeyPage, Unreachable, Value, Written
from quorate.errors import (
    DeadlineExceeded,
    DiskFull,
    InvalidRequest,
    KeyMissing,
    NotReady,
    Outcome,
    Overloaded,
    QuorumUnreachable,
    Unavailable,
)
from tests.http_served import Served
from tests.unit.client.conftest import Connect
from tests.unit.client.scripted import (
    CUT,
    HANG,
    VERSION,
    ScriptedNode,
    dead_port,
    problem,
    reply,
    well,
)

ALL_BYTES = bytes(range(256))


def url_of(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}"


# --- against the real door ---------------------------------------------------------------------


def test_a_value_comes_back_byte_for_byte_with_the_version_it_was_written_with(
    connect: Connect, served: Served
) -> None:
    with connect(url_of(served)) as call:
        for value in (b"", ALL_BYTES, b"x" * (1 << 20)):
            written = call("put", ALL_BYTES, value)
            assert written == Written(written.version, acks=2)
            assert len(written.version) == 28
            assert call("get", ALL_BYTES) == Value(value, written.version)


@pytest.mark.parametrize("wrong", [5, 1.5, None, True])
def test_a_number_is_no_key_and_no_value(connect: Connect, served: Served, wrong: object) -> None:
    with connect(url_of(served)) as call:
        for arguments in (("put", "n", wrong), ("put", wrong, "v"), ("get", wrong)):
            with pytest.raises(TypeError, match=f"is str or bytes, not {type(wrong).__name__}"):
                call(*arguments)
    assert served.store.events == []


def test_text_means_its_utf8_bytes(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call:
        call("put", "clé", "größe")
        assert call("get", "clé".encode()).value == "größe".encode()


def test_missing_is_none_and_deleted_is_missing(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call:
        assert call("get", "absent") is None
        call("put", "key", "value")
        assert call("delete", "key").acks == 2
        assert call("get", "key") is None


def test_options_reach_the_node(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call:
        call("put", "key", "value", w=3, ttl=60, timeout=1.5)
        call("get", "key", r=3, timeout=0.25)
    put, get = served.store.events
    assert (put.w, put.timeout_ms) == (3, 1500)  # type: ignore[union-attr]
    assert put.expires_ms == served.store.now_ms + 60_000  # type: ignore[union-attr]
    assert (get.r, get.timeout_ms) == (3, 250)  # type: ignore[union-attr]


def test_a_scan_pages_through_all_keys_that_have_the_prefix(
    connect: Connect, served: Served
) -> None:
    names = [f"user:{number}".encode() for number in range(5)] + [b"user:\xff"]
    for key in (*names, b"other"):
        served.store.fill(key, b"x")
    with connect(url_of(served)) as call:
        first = call("page", "user:", limit=2)
        assert isinstance(first, KeyPage)
        assert (len(first.keys), first.complete) == (2, True)
        second = call("page", b"user:", limit=100, cursor=first.cursor)
        assert sorted(first.keys + second.keys) == sorted(names)
        assert sorted(call("scan", "user:")) == sorted(names)


def test_a_batch_answers_each_operation_for_itself(connect: Connect, served: Served) -> None:
    served.store.fill(b"old", ALL_BYTES)
    operations = [
        BatchPut("new", b"\xff", ttl=5),
        BatchGet("old"),
        BatchGet("absent"),
        BatchDelete("old"),
    ]
    with connect(url_of(served)) as call:
        put, old, absent, deleted = call("batch", operations)
        assert isinstance(put, Written)
        assert isinstance(old, Value)
        assert old.value == ALL_BYTES
        assert absent is None
        assert isinstance(deleted, Written)
        too_many = call("batch", [BatchGet("new"), BatchPut("new", "x")], r=9, w=3)
    assert isinstance(too_many[0], InvalidRequest)
    assert isinstance(too_many[1], Written)


@pytest.mark.parametrize(
    "error",
    [
        QuorumUnreachable("too few", outcome=Outcome.NOT_APPLIED, needed=2, live=1),
        DeadlineExceeded("late", outcome=Outcome.UNKNOWN, needed=2, acked=1),
        Overloaded("busy", outcome=Outcome.NOT_APPLIED),
        DiskFull("full", outcome=Outcome.UNKNOWN),
    ],
    ids=lambda error: error.code,
)
def test_an_error_arrives_as_the_class_outcome_and_facts_that_the_node_raised(
    connect: Connect, served: Served, error: Unavailable
) -> None:
    served.store.failure = error
    with connect(url_of(served)) as call, pytest.raises(type(error)) as raised:
        call("put", "key", "value")
    assert raised.value.outcome is error.outcome
    assert raised.value.facts == error.facts
    assert raised.value.detail == error.detail


def test_a_refused_request_was_not_applied(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call, pytest.raises(InvalidRequest) as raised:
        call("put", "key", "value", w=9)
    assert raised.value.outcome is Outcome.NOT_APPLIED


def test_an_empty_key_is_refused_before_anything_is_sent(connect: Connect) -> None:
    with dead_port() as url, connect(url) as call, pytest.raises(KeyMissing):
        call("put", b"", "value")


def test_one_connection_serves_call_after_call(connect: Connect) -> None:
    with ScriptedNode() as node, connect(node.url) as call:
        for _ in range(5):
            call("put", "key", "value")
            call("get", "key")
        assert node.connections == 1
        head = node.requests[1].head
        assert head == b"GET /kv?key=key HTTP/1.1\r\nHost: %b\r\n\r\n" % node.url[7:].encode()


# --- nodes that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["refuses", "hangs"])
def test_a_first_node_that_is_dead_costs_less_than_two_seconds(connect: Connect, bad: str) -> None:
    with (
        dead_port() as refusing,
        ScriptedNode(pings=lambda _: HANG) as hanging,
        ScriptedNode() as node,
    ):
        first = refusing if bad == "refuses" else hanging.url
        with connect([first, node.url]) as call:
            begun = time.monotonic()
            assert call("put", "key", "value").acks == 2
            assert call("get", "key").value == b"value"
            assert time.monotonic() - begun < 2
        assert hanging.requests == []
        assert [request.method for request in node.requests] == ["PUT", "GET"]


def test_a_single_dead_node_is_unreachable_and_a_write_surely_not_applied(
    connect: Connect,
) -> None:
    with dead_port() as url, connect(url) as call:
        with pytest.raises(Unreachable, match="Connection refused") as raised:
            call("put", "key", "value")
        assert raised.value.outcome is Outcome.NOT_APPLIED
        with pytest.raises(Unreachable) as raised:
            call("get", "key")
        assert raised.value.outcome is None


def test_the_node_that_answered_last_is_asked_first(connect: Connect) -> None:
    with dead_port() as dead, ScriptedNode() as one, ScriptedNode() as two:
        with connect([dead, one.url, two.url]) as call:
            for _ in range(3):
                call("get", "key")
        assert (len(one.requests), len(two.requests)) == (3, 0)


def test_a_write_whose_connection_broke_after_sending_is_unknown_and_not_sent_again(
    connect: Connect,
) -> None:
    with (
        ScriptedNode(lambda _: CUT) as bad,
        ScriptedNode() as good,
        connect([bad.url, good.url]) as call,
    ):
        with pytest.raises(Unreachable, match="connection closed before the answer") as raised:
            call("put", "key", "value")
        assert raised.value.outcome is Outcome.UNKNOWN
        assert (len(bad.requests), len(good.requests)) == (1, 0)
        assert call("get", "key").value == b"value", "the next call goes to the other node"


@pytest.mark.parametrize("bad", [CUT, b"+OK\r\n\r\n\r\n"], ids=["cut", "nonsense"])
def test_a_read_that_gets_no_answer_is_read_elsewhere(connect: Connect, bad: bytes) -> None:
    with ScriptedNode(lambda _: bad) as first, ScriptedNode() as second:
        with connect([first.url, second.url]) as call:
            assert call("get", "key").value == b"value"
        assert (len(first.requests), len(second.requests)) == (1, 1)


def test_half_an_answer_is_none(connect: Connect) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    with ScriptedNode(lambda _: half) as node, connect(node.url, timeout=0.3) as call:
        with pytest.raises(Unreachable, match="no answer in time"):
            call("get", "key")
        assert len(node.requests) == 1


def test_a_connection_that_the_node_closed_while_idle_is_opened_again_for_reads_and_writes(
    connect: Connect,
) -> None:
    with ScriptedNode() as node, connect(node.url) as call:
        for method, *given in (("get", "key"), ("put", "key", "value"), ("get", "key")):
            call(method, *given)
            node.drop()
        assert call("put", "key", "value").acks == 2
        assert [request.connection for request in node.requests] == [0, 1, 2, 3]


def test_a_read_on_a_kept_connection_that_breaks_is_read_again_on_a_new_one(
    connect: Connect,
) -> None:
    with ScriptedNode(
        lambda r: CUT if r.connection == 0 and len(node.requests) > 1 else well(r)
    ) as node:
        with connect(node.url) as call:
            call("get", "key")
            assert call("get", "key").value == b"value"
        assert [request.connection for request in node.requests] == [0, 0, 1]


def test_a_write_on_a_kept_connection_that_breaks_is_unknown(connect: Connect) -> None:
    with ScriptedNode(lambda r: CUT if len(node.requests) > 1 else well(r)) as node:
        with connect(node.url) as call:
            call("get", "key")
            with pytest.raises(Unreachable) as raised:
                call("put", "key", "value")
        assert raised.value.outcome is Outcome.UNKNOWN
        assert len(node.requests) == 2


def test_a_node_that_says_close_is_connected_to_again(connect: Connect) -> None:
    with ScriptedNode(
        lambda _: reply(200, b"ok", Connection="close", Quorate_Version=VERSION)
    ) as node:
        with connect(node.url) as call:
            call("put", "a", "1")
            call("put", "b", "2")
        assert node.connections == 2


def test_time_over_ends_the_call_and_drops_the_connection(connect: Connect) -> None:
    with ScriptedNode(lambda r: HANG if "slow" in r.target else well(r)) as node:
        with connect(node.url, timeout=0.3) as call:
            with pytest.raises(Unreachable, match="no answer in time") as raised:
                call("put", "slow", "value")
            assert raised.value.outcome is Outcome.UNKNOWN
            assert call("get", "key").value == b"value"
        assert [request.connection for request in node.requests] == [0, 1]


def test_a_node_that_is_not_ready_is_passed_over(connect: Connect) -> None:
    starting = problem(503, "not_ready", outcome="not_applied")
    with ScriptedNode(lambda _: starting) as first, ScriptedNode() as second:
        with connect([first.url, second.url]) as call:
            assert call("put", "key", "value").acks == 2
        assert (len(first.requests), len(second.requests)) == (1, 1)
        with connect(first.url) as call, pytest.raises(NotReady):
            call("get", "key")


def test_when_no_other_node_answers_the_refusal_is_what_is_told(connect: Connect) -> None:
    with (
        ScriptedNode(lambda _: problem(503, "not_ready")) as starting,
        dead_port() as dead,
        connect([starting.url, dead]) as call,
        pytest.raises(NotReady),
    ):
        call("get", "key")


def test_a_node_cut_off_from_its_replicas_is_passed_over_and_not_kept(connect: Connect) -> None:
    refusal = problem(503, "quorum_unreachable", outcome="not_applied", needed=2, live=1)
    with (
        ScriptedNode(lambda _: refusal) as cut_off,
        ScriptedNode() as healthy,
        connect([cut_off.url, healthy.url]) as call,
    ):
        call("put", "key", "value")
        call("put", "key", "value")
        assert len([request for request in cut_off.requests if request.method == "PUT"]) == 1


def test_when_every_node_refuses_the_last_refusal_is_told(connect: Connect) -> None:
    refusal = problem(503, "quorum_unreachable", outcome="not_applied", needed=2, live=1)
    with (
        ScriptedNode(lambda _: refusal) as first,
        ScriptedNode(lambda _: refusal) as second,
        connect([first.url, second.url]) as call,
        pytest.raises(QuorumUnreachable) as raised,
    ):
        call("put", "key", "value")
    assert raised.value.facts == {"needed": 2, "live": 1}


def test_a_write_that_may_have_happened_is_not_tried_elsewhere(connect: Connect) -> None:
    unknown = problem(503, "deadline_exceeded", outcome="unknown")
    with (
        ScriptedNode(lambda _: unknown) as first,
        ScriptedNode() as second,
        connect([first.url, second.url]) as call,
        pytest.raises(DeadlineExceeded),
    ):
        call("put", "key", "value")
    assert [request for request in second.requests if request.method == "PUT"] == []


@pytest.mark.parametrize("answer", [reply(404, b"nginx"), problem(404, "no_such_path")])
def test_not_found_by_anything_but_a_node_is_an_error_and_never_a_missing_key(
    connect: Connect, answer: bytes
) -> None:
    with (
        ScriptedNode(lambda _: answer) as node,
        connect(node.url) as call,
        pytest.raises(InvalidRequest),
    ):
        call("get", "key")


def test_keys_that_may_be_missing_are_told_after_those_that_were_found(connect: Connect) -> None:
    pages = [
        b'{"keys": ["a", {"base64": "/w=="}], "cursor": "x", "complete": false}',
        b'{"keys": ["b"], "cursor": null, "complete": true}',
    ]
    with ScriptedNode(lambda r: reply(200, pages["cursor" in r.target])) as node:
        with (
            connect(node.url) as call,
            pytest.raises(QuorumUnreachable, match="keys may be missing"),
        ):
            call("scan")
        assert len(node.requests) == 2


@pytest.mark.parametrize(
    "nodes",
    ["", [], "nonsense", "ftp://a:1", ["http://a:1", "b c"], ["a:1", "a..b:2"], f"{'a' * 64}:1"],
)
def test_a_client_of_no_node_or_nonsense_is_refused_at_once(connect: Connect, nodes: str) -> None:
    with pytest.raises(InvalidRequest), connect(nodes):
        pass
