# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of a node: who is expired when, and what is kept of those that were answered."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.turn import ANSWERED_MAX, Begun, Requests, Turn
from quorate.core.values.events import Put, PutResult, Result
from quorate.core.values.versions import VERSION_MIN
from quorate.errors import DeadlineExceeded, NotReady, QuorumUnreachable

pytestmark = pytest.mark.plain
"""Requests of a test's own cannot be made of compiled ones."""

TIMEOUTS = (10, 20, 5_000, 5_001)
"""The last two share a queue: they differ by less than queues do."""
DONE = PutResult(VERSION_MIN, 2, 3)


class Question(Begun):
    """One that can be waited for, and followed until it is forgotten."""

    def __init__(self, timeout_ms: int) -> None:
        super().__init__(self, 0)
        self.timeout_ms = timeout_ms

    def done(self, result: Result) -> None:
        raise AssertionError(result)

    def expired(self) -> Result:
        return DeadlineExceeded("too late")


class Stage:
    """Requests, and a clock."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.requests = Requests(turn=self.turn, count_max=10_000, bytes_max=1 << 30)
        self.step(0)

    def begin(self, timeout_ms: int) -> Question:
        question = Question(timeout_ms)
        self.requests.admit(0)
        self.requests.watch(question, timeout_ms)
        return question

    def answer(self, question: Question) -> None:
        self.requests.end(question, DONE)

    def step(self, ms: int) -> list[Question]:
        """Whose time is over so many milliseconds later."""
        self.turn.begin(self.turn.mono_ms + ms, 0, stamp_max=0)
        self.turn.ring()
        told = [waiter for waiter, _ in self.turn.answers]
        assert all(isinstance(each, Question) for each in told)
        return [each for each in told if isinstance(each, Question)]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(("begin", "answer", "step")), st.integers(0, 12)), max_size=60
)


@given(ACTIONS)
def test_each_request_expires_at_its_time_unless_it_was_answered(
    actions: list[tuple[str, int]],
) -> None:
    stage, waiting = Stage(), list[Question]()
    for action, number in actions:
        if action == "begin":
            waiting.append(stage.begin(TIMEOUTS[number % len(TIMEOUTS)]))
        elif action == "answer" and waiting:
            stage.answer(waiting.pop(number % len(waiting)))
        elif action == "step":
            expired = stage.step(number)
            now = stage.turn.mono_ms
            # One behind another of its queue is late by what their timeouts differ at most.
            due = [each for each in waiting if each.deadline_ms <= now - 1]
            assert set(due) <= set(expired)
            assert all(each in waiting and each.deadline_ms <= now for each in expired)
            waiting = [each for each in waiting if each not in expired]
        assert set(stage.requests.under_way()) == set(waiting)
        assert stage.requests.count == len(waiting)


def test_what_is_parked_again_for_another_reason_is_refused_when_it_was_to_be() -> None:
    stage = Stage()
    question = Question(1_000)
    event = Put(question, b"k", b"v")
    stage.requests.admit(1)
    stage.requests.park(event, NotReady("no layout"), wait_ms=100, again=None)
    stage.step(60)
    (parked,) = stage.requests.unpark()
    last = QuorumUnreachable("too few")
    stage.requests.park(event, last, wait_ms=100, again=parked)
    assert stage.step(39) == []
    assert stage.step(1) == [question]
    assert stage.turn.answers == [(question, last)]


def test_who_still_has_an_answered_request_does_not_have_all_that_began_after_it() -> None:
    stage = Stage()
    first = stage.begin(5_000)
    later = [stage.begin(5_000) for _ in range(10)]
    for each in (first, *later):
        stage.answer(each)
    stage.begin(5_000)
    stage.turn.answers.clear()
    forgotten = [weakref.ref(each) for each in later]
    del each, later
    gc.collect()
    assert first.waiter is None, "it is still there"
    assert [ref() for ref in forgotten] == [None] * 10


def test_behind_one_that_waits_long_few_are_kept_that_were_answered() -> None:
    stage = Stage()
    stage.begin(5_000)
    answered = list[weakref.ref[Question]]()
    for _ in range(10 * ANSWERED_MAX):
        question = stage.begin(5_000)
        stage.answer(question)
        answered.append(weakref.ref(question))
    stage.turn.answers.clear()
    del question
    gc.collect()
    assert len([ref for ref in answered if ref() is not None]) <= ANSWERED_MAX + 5
