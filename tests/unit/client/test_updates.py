# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes that depend on what is there, by both clients; and what happens when an answer is lost."""

from __future__ import annotations

import re
import socket

import pytest

from quorate.client import BatchGet, Incremented, Unreachable
from quorate.core.values.events import Put, Update
from quorate.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    Outcome,
    PeerProtocolError,
    PreconditionFailed,
)
from tests.http_served import Served
from tests.unit.client.conftest import Connect
from tests.unit.client.scripted import (
    CUT,
    HANG,
    VERSION,
    Answer,
    Request,
    ScriptedNode,
    dead_port,
    problem,
    reply,
    well,
)
from tests.unit.client.test_clients import url_of

LATER = VERSION + "0000000000000001"
REPEATED = reply(200, b"7", Quorate_Version=LATER, Quorate_Repeated="true")


def script(*answers: bytes) -> Answer:
    """Give these answers, the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def name_of(request: Request) -> bytes:
    found = re.search(rb"Idempotency-Key: ([0-9a-f]{32})\r\n", request.head)
    assert found is not None
    return found[1]


# --- against the real door ----------------------------------------------------------------------


def test_a_put_or_delete_under_a_condition_says_what_is_there_instead(
    connect: Connect, served: Served
) -> None:
    with connect(url_of(served)) as call:
        first = call("put", "key", "a", if_absent=True)
        second = call("put", "key", "b", ttl=60, if_version=first.version)
        assert (len(second.version), second.acks) == (44, 2)
        assert second.version > first.version
        for name, given, condition in (
            ("put", ("key", "c"), {"if_version": first.version}),
            ("put", ("key", "c"), {"if_absent": True}),
            ("delete", ("key",), {"if_version": first.version}),
            ("compare_and_set", ("key", first.version, "c"), {}),
            ("compare_and_set", ("key", None, "c"), {}),
        ):
            with pytest.raises(PreconditionFailed) as failed:
                call(name, *given, **condition)
            assert failed.value.version == second.version
            assert failed.value.outcome is Outcome.NOT_APPLIED
        assert call("get", "key") == (b"b", second.version, None)
        third = call("compare_and_set", "key", second.version, "c", ttl=5, timeout=1.5)
        call("delete", "key", if_version=third.version)
        with pytest.raises(PreconditionFailed) as failed:
            call("delete", "key", if_version=third.version)
        assert failed.value.version == ""
        assert call("compare_and_set", "key", None, "d").acks == 2
        quoted = f'"{call("get", "key").version}"'
        assert call("put", "key", "e", if_version=quoted).acks == 2
    assert served.store.records[b"key"].expires_ms == 0


def test_a_write_without_a_condition_stays_a_plain_one(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call:
        call("put", "key", "a")
        call("delete", "key")
    assert [type(event) for event in served.store.events] == [Put, Put]


@pytest.mark.parametrize(
    "condition",
    [
        *({"if_version": wrong} for wrong in ("", "07", "*", VERSION.upper()[:-1] + "G")),
        {"if_version": f'{VERSION}"\r\nX: y'},
        {"if_version": VERSION, "if_absent": True},
    ],
)
def test_what_is_no_version_is_never_sent(
    connect: Connect, served: Served, condition: dict[str, object]
) -> None:
    with connect(url_of(served)) as call:
        with pytest.raises(InvalidRequest, match="for one version, of 28 or 44") as failed:
            call("put", "key", "v", **condition)
        assert failed.value.outcome is Outcome.NOT_APPLIED
    assert served.store.events == []


def test_fewer_than_a_majority_is_refused_with_a_condition(
    connect: Connect, served: Served
) -> None:
    with connect(url_of(served)) as call:
        with pytest.raises(InvalidRequest, match="always needs a majority"):
            call("put", "key", "v", w=1, if_absent=True)
        assert call("get", "key") is None


def test_an_increment_counts_from_0_in_any_steps(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call:
        first = call("increment", "n")
        assert first == Incremented(1, first.version, 2)
        assert call("increment", "n", -42, timeout=1.5).value == -41
        call("increment", "new", ttl=60)
        assert served.store.records[b"new"].expires_ms == served.store.now_ms + 60_000
        call("put", "n", "nan")
        with pytest.raises(Conflict, match="not an integer") as failed:
            call("increment", "n")
        assert failed.value.outcome is Outcome.NOT_APPLIED
        with pytest.raises(InvalidRequest, match="64 bits"):
            call("increment", "n", 1 << 63)
    names = {event.request for event in served.store.events if isinstance(event, Update)}
    assert len(names) == 4, "each has a name of its own"


def test_an_update_makes_a_value_of_the_one_before(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call:
        call("update", "key", lambda old: (old or b"") + b"x")
        written = call("update", "key", lambda old: (old or b"") + b"x", ttl=60)
        assert call("get", "key") == (b"xx", written.version, None)
        assert served.store.records[b"key"].expires_ms == served.store.now_ms + 60_000
        assert call("update", "key", lambda _: None) is None
        assert call("get", "key").version == written.version


def test_an_update_that_another_write_beats_is_made_anew(connect: Connect, served: Served) -> None:
    seen: list[bytes | None] = []

    def change(old: bytes | None) -> bytes:
        seen.append(old)
        if len(seen) < 3:
            served.call(lambda: served.store.fill(b"key", b"%d" % len(seen)))
        return b"done"

    with connect(url_of(served)) as call:
        call("update", "key", change)
        assert call("get", "key").value == b"done"
    assert seen == [None, b"1", b"2"]


def test_an_update_that_is_always_beaten_ends_with_its_time(
    connect: Connect, served: Served
) -> None:
    def change(_: bytes | None) -> bytes:
        served.call(lambda: served.store.fill(b"key", b"other"))
        return b"mine"

    with connect(url_of(served), timeout=0.2) as call:
        with pytest.raises(PreconditionFailed):
            call("update", "key", change)
        assert call("get", "key").value == b"other"


# --- lost answers -------------------------------------------------------------------------------


def test_an_increment_whose_answer_is_lost_is_asked_for_again_and_not_added_twice(
    connect: Connect,
) -> None:
    with ScriptedNode(script(CUT, REPEATED)) as node, connect(node.url) as call:
        assert call("increment", "n", 7) == Incremented(7, LATER, 0)
        first, second = node.requests
    assert (first.method, first.target) == ("POST", "/incr?key=n&by=7")
    # By what it is by the node's clock, which says nothing of the time.
    assert second.target == "/incr?key=n&by=7&since_ms=1"
    assert name_of(first) == name_of(second)


def test_what_it_came_to_is_none_where_others_added_since(connect: Connect) -> None:
    late = reply(200, Quorate_Version=LATER, Quorate_Repeated="true")
    with ScriptedNode(script(CUT, late)) as node, connect(node.url) as call:
        assert call("increment", "n") == Incremented(None, LATER, 0)


@pytest.mark.parametrize(
    ("name", "given", "condition", "refusal"),
    [
        ("increment", ("n",), {}, problem(409, "conflict", outcome="unknown")),
        ("put", ("k", "v"), {"if_absent": True}, problem(409, "conflict", outcome="unknown")),
        ("put", ("k", "v"), {"if_version": VERSION}, problem(412, "precondition_failed")),
        ("delete", ("k",), {"if_version": VERSION}, problem(412, "precondition_failed")),
    ],
)
def test_what_is_not_remembered_stays_unknown(
    connect: Connect,
    name: str,
    given: tuple[str, ...],
    condition: dict[str, object],
    refusal: bytes,
) -> None:
    """Another version is there: it may be this write's, or be built on it, or have beaten it."""
    with ScriptedNode(script(CUT, refusal)) as node, connect(node.url) as call:
        with pytest.raises(Unreachable) as failed:
            call(name, *given, **condition)
        assert failed.value.outcome is Outcome.UNKNOWN
        assert isinstance(failed.value.__cause__, Conflict)
        assert len(node.requests) == 2
        assert name_of(node.requests[0]) == name_of(node.requests[1])
        assert ("since_ms" in node.requests[1].target) is ("if_version" not in condition)


def test_another_node_is_asked_what_became_of_it(connect: Connect) -> None:
    def killed(_: Request) -> bytes:
        first.drop()
        return CUT

    with (
        ScriptedNode(killed) as first,
        ScriptedNode(script(REPEATED)) as second,
        connect([first.url, second.url]) as call,
    ):
        assert call("increment", "n").value == 7
        assert [each.target for each in second.requests] == ["/incr?key=n&by=1&since_ms=1"]


def test_it_says_since_when_it_is_under_way_by_a_nodes_clock(connect: Connect) -> None:
    """Not by its own, which may be wrong: however long it takes on its way, it says the truth."""
    clock = lambda _: reply(200, b"ok", Date="Tue, 14 Nov 2023 22:13:20 GMT")  # noqa: E731
    with ScriptedNode(script(CUT, REPEATED), pings=clock) as node, connect(node.url) as call:
        call("increment", "n")
        since_ms = int(node.requests[1].target.rpartition("since_ms=")[2])
    assert 1_700_000_000_000 - 10_000 < since_ms <= 1_700_000_000_000


def test_an_unknown_outcome_is_asked_about_until_the_time_is_over(connect: Connect) -> None:
    late = problem(503, "deadline_exceeded", outcome="unknown")
    with ScriptedNode(script(late)) as node, connect(node.url, timeout=0.3) as call:
        with pytest.raises(DeadlineExceeded) as failed:
            call("increment", "n")
        assert failed.value.outcome is Outcome.UNKNOWN
        assert len(node.requests) > 1
        node.requests.clear()
        with pytest.raises(DeadlineExceeded):
            call("put", "k", "v")
        assert len(node.requests) == 1, "a plain put is not sent again"
    with ScriptedNode(lambda _: HANG) as node, connect(node.url) as call:
        with pytest.raises(Unreachable) as lost:
            call("increment", "n", timeout=0.1)
        assert lost.value.outcome is Outcome.UNKNOWN
        assert len(node.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(409, "conflict", outcome="not_applied"), Conflict),
        (problem(503, "deadline_exceeded", outcome="not_applied"), DeadlineExceeded),
        (reply(200, b"ok"), PeerProtocolError),
        (reply(200, b"x", Quorate_Version=VERSION), PeerProtocolError),
    ],
)
def test_what_is_known_is_not_asked_again(
    connect: Connect, answer: bytes, kind: type[Exception]
) -> None:
    with ScriptedNode(script(answer)) as node, connect(node.url) as call:
        with pytest.raises(kind):
            call("increment", "n")
        assert len(node.requests) == 1


def test_where_nobody_answers_nothing_was_done(connect: Connect) -> None:
    with dead_port() as url, connect(url) as call:
        for write in (("increment", "n"), ("compare_and_set", "k", None, "v")):
            with pytest.raises(Unreachable) as failed:
                call(*write)
            assert failed.value.outcome is Outcome.NOT_APPLIED


def test_a_node_that_is_gone_for_good_leaves_it_unknown(connect: Connect) -> None:
    """What failed first counts: later tries, which nothing was sent of, say nothing about it."""

    def last(_: Request) -> bytes:
        node._listener.shutdown(socket.SHUT_RDWR)
        return CUT

    with ScriptedNode(last) as node, connect(node.url, timeout=0.3) as call:
        with pytest.raises(Unreachable) as failed:
            call("increment", "n")
        assert failed.value.outcome is Outcome.UNKNOWN
        assert len(node.requests) == 1


def test_reads_have_no_name_and_no_condition(connect: Connect) -> None:
    with ScriptedNode(well) as node, connect(node.url) as call:
        call("get", "k")
        assert node.requests[0].head.count(b"\r\n") == 3


def test_calls_for_keys_keep_connections_that_stay_in_the_fast_lane(connect: Connect) -> None:
    """Anything else leads its connection out of the lane, for good."""
    with ScriptedNode(well) as node, connect(node.url) as call:
        for _ in range(2):
            call("get", "k", r=1)
            call("put", "k", "v", w=2)
            call("put", "k", "v", if_version=VERSION)
            call("put", "k", "v", ttl=60)
            with pytest.raises(PeerProtocolError):
                call("batch", [BatchGet("k")])
        used = [request.connection for request in node.requests]
        assert used == [0, 0, 0, 0, 1] * 2
