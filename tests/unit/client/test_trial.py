# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's decisions without any I/O: where to go next, and when to stop."""

from __future__ import annotations

import pytest

from quorate.client.calls import Call, TlsFailed, Unreachable
from quorate.client.trial import Endpoint, Lost, NodeOrder, Trial, endpoints_of
from quorate.errors import Outcome
from quorate.wire.http import Response

READ = Call("GET", "/kv?key=k")
WRITE = Call("PUT", "/kv?key=k", b"v", is_write=True)
BEFORE = Lost("refused", was_sent=False)
AFTER = Lost("reset", was_sent=True)
KEPT = Lost("reset", was_sent=True, was_kept=True)
TLS = Lost("certificate verify failed", was_sent=False, is_tls=True)


@pytest.fixture
def nodes() -> NodeOrder:
    return NodeOrder(endpoints_of("http://a:1,http://b:2,http://c:3"))


def test_nodes_come_from_a_list_or_a_text_each_once() -> None:
    assert endpoints_of(["http://A:1/", " a:1", "[::1]:2"]) == endpoints_of("a:1,http://[::1]:2")
    assert endpoints_of("[::1]:2") == [Endpoint("http://[::1]:2", "::1", 2)]


def test_a_request_names_the_node_as_its_url_does() -> None:
    (endpoint,) = endpoints_of("[::1]:2")
    assert endpoint.request(READ) == b"GET /kv?key=k HTTP/1.1\r\nHost: [::1]:2\r\n\r\n"


@pytest.mark.parametrize(("call", "lost"), [(READ, BEFORE), (READ, AFTER), (WRITE, BEFORE)])
def test_what_surely_did_nothing_is_tried_on_every_node_in_turn(
    nodes: NodeOrder, call: Call, lost: Lost
) -> None:
    trial = Trial(call, nodes)
    for endpoint in nodes.order():
        assert trial.next() == endpoint
        trial.lost(endpoint, lost, is_late=False)
    with pytest.raises(Unreachable) as raised:
        trial.next()
    assert raised.value.outcome is (Outcome.NOT_APPLIED if call.is_write else None)
    assert all(endpoint.url in str(raised.value) for endpoint in nodes.endpoints)


@pytest.mark.parametrize("lost", [AFTER, KEPT])
def test_a_write_that_may_have_happened_is_never_sent_again(nodes: NodeOrder, lost: Lost) -> None:
    trial = Trial(WRITE, nodes)
    endpoint = trial.next()
    with pytest.raises(Unreachable) as raised:
        trial.lost(endpoint, lost, is_late=False)
    assert raised.value.outcome is Outcome.UNKNOWN


def test_a_read_on_a_kept_connection_is_tried_again_on_the_same_node(nodes: NodeOrder) -> None:
    trial = Trial(READ, nodes)
    endpoint = trial.next()
    trial.lost(endpoint, KEPT, is_late=False)
    assert trial.next() == endpoint


def test_tls_is_what_is_wrong_only_if_nothing_else_is(nodes: NodeOrder) -> None:
    for faults, kind in (((TLS, BEFORE, TLS), Unreachable), ((TLS, TLS, TLS), TlsFailed)):
        trial = Trial(READ, nodes)
        for fault in faults:
            trial.lost(trial.next(), fault, is_late=False)
        with pytest.raises(Unreachable) as raised:
            trial.next()
        assert type(raised.value) is kind


@pytest.mark.parametrize("status", [500, 502, 504])
def test_only_who_cannot_serve_now_is_passed_over(nodes: NodeOrder, status: int) -> None:
    trial = Trial(READ, nodes)
    endpoint, failed = trial.next(), Response(status, {}, keeps_alive=True)
    assert trial.answer(endpoint, failed) is failed
    unable = Response(503, {}, keeps_alive=True)
    assert trial.answer(trial.next(), unable) is None


def test_what_a_node_refused_is_told_though_another_never_answered(nodes: NodeOrder) -> None:
    """Else only the silence of the second is told, and the reason for both is lost."""
    refused = Response(503, {"content-type": "application/problem+json"}, keeps_alive=True)
    refused.body = b'{"code":"quorum_unreachable","detail":"too few","outcome":"not_applied"}'
    trial = Trial(WRITE, nodes)
    assert trial.answer(trial.next(), refused) is None
    with pytest.raises(Unreachable) as raised:
        trial.lost(trial.next(), AFTER, is_late=True)
    assert str(raised.value) == "no answer from http://a:1: too few; http://b:2: reset"
    assert raised.value.outcome is Outcome.UNKNOWN


def test_late_means_no_further_node(nodes: NodeOrder) -> None:
    trial = Trial(READ, nodes)
    endpoint = trial.next()
    with pytest.raises(Unreachable, match=r"http://a:1: refused\Z"):
        trial.lost(endpoint, BEFORE, is_late=True)


def test_the_first_node_is_the_one_that_answered_last(nodes: NodeOrder) -> None:
    a, b, c = nodes.endpoints
    nodes.answered(b)
    assert nodes.order() == [b, c, a]
    nodes.failed(a)
    assert nodes.order() == [b, c, a]
    nodes.failed(b)
    assert nodes.order() == [c, a, b]


def test_a_node_must_prove_itself_until_it_answered_and_again_after_it_failed(
    nodes: NodeOrder,
) -> None:
    a, b, _ = nodes.endpoints
    assert nodes.needs_proof(a)
    nodes.answered(a)
    assert not nodes.needs_proof(a)
    assert nodes.needs_proof(b)
    nodes.failed(a)
    assert nodes.needs_proof(a)


def test_a_lone_node_has_nothing_to_prove() -> None:
    lone = NodeOrder(endpoints_of("a:1"))
    assert not lone.needs_proof(lone.endpoints[0])


def test_any_answer_but_not_ready_ends_the_trial(nodes: NodeOrder) -> None:
    trial = Trial(WRITE, nodes)
    endpoint = trial.next()
    refused = Response(503, {}, keeps_alive=True)
    assert trial.answer(endpoint, refused) is refused
