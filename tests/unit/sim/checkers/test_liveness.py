# SPDX-License-Identifier: GPL-3.0-or-later
"""Once faults are over, everything succeeds in time (I24, I25)."""

from __future__ import annotations

from typing import Any

from quorate.errors import Conflict, Outcome, QuorumUnreachable
from quorate.sim.checkers import liveness
from quorate.sim.history import ClientOperation, Kind
from quorate.sim.layouts import Holders
from tests.unit.sim.checkers.told import evidence, history, of_get, of_put, of_update


def _check(op: ClientOperation, **changes: Any) -> list[str]:
    facts = evidence(**{"healthy_from_ms": 100.0, "answer_within_ms": 50.0, **changes})
    return [each.invariant for each in liveness.check(history(op), facts)]


def _failed(op: ClientOperation) -> ClientOperation:
    op.result = QuorumUnreachable("")
    return op


def _unanswered(op: ClientOperation) -> ClientOperation:
    op.result = op.done_ms = None
    return op


def test_a_request_that_succeeds_in_time_is_fine() -> None:
    assert _check(of_put(b"v", 100, 149)) == []
    assert _check(of_get(None, 100, 149)) == []


def test_one_that_comes_late_fails_or_is_not_answered_is_found() -> None:
    for op in (of_put, of_get):
        assert _check(op(b"v", 100, 151)) == ["I24"]
        assert _check(_failed(op(b"v", 100, 101))) == ["I25"]
        assert _check(_unanswered(op(b"v", 100, 0))) == ["I24"]


def test_before_that_anything_may_happen() -> None:
    assert _check(_failed(of_put(b"v", 99, 101))) == []
    assert _check(_unanswered(of_put(b"v", 99, 0))) == []


def test_with_too_few_live_replicas_a_request_may_fail_but_is_answered() -> None:
    dead = frozenset({1, 2})
    assert _check(_failed(of_put(b"v", 100, 200)), dead=dead) == []
    assert _check(_unanswered(of_put(b"v", 100, 0)), dead=dead) == ["I24"]
    assert _check(_failed(of_put(b"v", 100, 101, w=1)), dead=dead) == ["I25"]
    assert _check(_failed(of_get(b"v", 100, 101, r=1)), dead=dead) == ["I25"]


def _moves_to(*ids: int) -> Any:
    """The key's three copies are to be these, as every coordinator knows."""
    return {"had": lambda _: [[Holders((0, 1, 2)), Holders(ids, frozenset(ids) - {0, 1, 2})]]}


def test_while_a_node_is_silent_each_row_needs_a_quorum_of_the_others() -> None:
    for op in (of_put, of_get):
        for away in ({"dead": frozenset({3})}, {"paused_ms": {3: (90.0, 120.0)}}):
            assert _check(_failed(op(b"v", 100, 110)), **away, **_moves_to(1, 3)) == []
            assert _check(op(b"v", 100, 151), **away, **_moves_to(1, 3)) == []
            assert _check(_unanswered(op(b"v", 100, 0)), **away, **_moves_to(1, 3)) == ["I24"]
            assert _check(_failed(op(b"v", 100, 110)), **away, **_moves_to(1, 2, 3)) == ["I25"]
            assert _check(_failed(op(b"v", 100, 110)), **away) == ["I25"]


def test_one_that_was_silent_before_or_after_is_asked_as_any_other() -> None:
    for span in ((80.0, 100.0), (111.0, 150.0), (-1.0, -1.0)):
        told = _check(_failed(of_put(b"v", 100, 110)), paused_ms={3: span}, **_moves_to(1, 3))
        assert told == ["I25"], span
    for span in ((80.0, 101.0), (110.0, 150.0)):
        told = _check(_failed(of_put(b"v", 100, 110)), paused_ms={3: span}, **_moves_to(1, 3))
        assert told == [], span


def _told(op: ClientOperation, *others: ClientOperation, **changes: Any) -> list[str]:
    """Of a failed put, or read, with W = R = 1, while two nodes are dead."""
    facts = evidence(
        healthy_from_ms=100.0,
        answer_within_ms=50.0,
        set_w=1,
        set_r=1,
        **{"dead": frozenset({1, 2}), **changes},
    )
    return [each.invariant for each in liveness.check(history(_failed(op), *others), facts)]


def test_of_puts_at_once_one_may_fail_where_no_majority_is_left_to_vote() -> None:
    """It has to be moved: its W was a majority when it began, and there are more copies since. A
    read, and a put that meets no other, need no vote."""
    grown = [[Holders((0,))], [Holders((0,)), Holders((0, 1, 2), frozenset({1, 2}))]]
    put, met, later = of_put(b"v", 100, 110), of_put(b"w", 105, 115), of_put(b"w", 111, 115)
    assert _told(put, met, had=lambda _: grown) == []
    assert _told(put, later, had=lambda _: grown) == ["I25"]
    assert _told(put, of_get(b"v", 105, 115), had=lambda _: grown) == ["I25"]
    assert _told(of_get(b"v", 100, 110), met, had=lambda _: grown) == ["I25"]
    assert _told(put, met, had=lambda _: grown, dead=frozenset({2})) == ["I25"]


def test_a_put_whose_w_never_was_a_majority_is_not_moved_and_may_not_fail() -> None:
    put, met = of_put(b"v", 100, 110), of_put(b"w", 105, 115)
    assert _told(put, met) == ["I25"]
    assert _told(put, met, dead=frozenset({3}), **_moves_to(1, 3)) == ["I25"]


def test_what_a_dead_node_was_asked_is_not_judged() -> None:
    assert _check(_unanswered(of_put(b"v", 100, 0)), dead=frozenset({0})) == []


def test_between_faults_nothing_fails_but_by_its_own_deadline() -> None:
    calm = {"healthy_from_ms": 1_000.0, "calm_ms": [(10.0, 100.0), (200.0, 300.0)]}

    def judged(asked_ms: float, done_ms: float, *, timeout_ms: int = 500) -> list[str]:
        op = _failed(of_put(b"v", asked_ms, done_ms))
        op.timeout_ms = timeout_ms
        return _check(op, **calm)

    assert judged(10, 99) == judged(200, 299) == ["I25"]
    assert judged(9, 99) == judged(10, 100) == judged(150, 250) == []
    assert judged(210, 260, timeout_ms=50) == []
    assert judged(210, 258, timeout_ms=50) == ["I25"]
    assert _check(of_put(b"v", 10, 99), **calm) == []


def test_one_dead_replica_stands_in_nobodys_way() -> None:
    assert _check(_failed(of_put(b"v", 100, 101)), dead=frozenset({2})) == ["I25"]
    assert _check(_failed(of_put(b"v", 100, 101, w=3)), dead=frozenset({2})) == []


def test_an_attempt_after_the_first_may_find_that_too_much_was_written_since() -> None:
    """By others, before its answer; the first attempt, and who was not asked before, may not."""
    facts = evidence(calm_ms=[(10.0, 100.0)])

    def told(attempt: int, *others: ClientOperation) -> list[str]:
        op = of_update(Kind.APPEND, 20, 30)
        op.attempt, op.request, op.timeout_ms = attempt, 7, 100
        op.result = Conflict("too much was written", outcome=Outcome.UNKNOWN)
        return [each.invariant for each in liveness.check(history(op, *others), facts)]

    own = of_update(Kind.APPEND, 12, 15)
    own.request = 7
    assert told(1, of_put(b"v", 16, 18)) == []
    assert told(0, of_put(b"v", 16, 18)) == ["I25"]
    assert told(1, own) == ["I25"]
    assert told(1, of_put(b"v", 31, 33)) == ["I25"]
    assert told(1, of_get(b"v", 16, 18)) == ["I25"]
