# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters that lost an increment, or have one too many, are found."""

from __future__ import annotations

from quorate.core.values.events import GetResult, UpdateResult
from quorate.core.values.record import Record
from quorate.errors import DeadlineExceeded, Outcome
from quorate.sim.checkers import counters
from quorate.sim.history import ClientOperation, Kind
from quorate.sim.tokens import behind
from tests.unit.sim.checkers.told import KEY, evidence, history, left, linked, of_get, of_update


def _counted(count: int) -> Record:
    value = None
    for number in range(count):
        value = behind(value, (number + 1, 0, 0), KEY, counts=1)
    return linked(value, count)


def _increment(number: int, asked_ms: float) -> ClientOperation:
    before = _counted(number - 1) if number > 1 else None
    return of_update(
        *(Kind.INCREMENT, asked_ms, asked_ms + 1),
        client=number,
        before=before,
        after=_counted(number),
    )


def _read(count: int, asked_ms: float) -> ClientOperation:
    read = of_get(None, asked_ms, asked_ms + 1)
    read.result = GetResult(_counted(count) if count else None, 2)
    return read


def _check(*operations: ClientOperation, left_count: int | None = None) -> int:
    facts = evidence() if left_count is None else left(_counted(left_count))
    return len(list(counters.check(history(*operations), facts)))


def test_a_counter_counts_what_was_counted() -> None:
    counts = _increment(1, 0), _increment(2, 2)
    assert _check(*counts, _read(2, 4), left_count=2) == 0
    assert [_check(*counts, _read(count, 4)) for count in (0, 1, 2, 3)] == [1, 1, 0, 1]
    assert [_check(*counts, left_count=count) for count in (1, 2, 3)] == [1, 0, 1]
    assert [_check(*counts, _read(count, 1.5)) for count in (0, 1, 2, 3)] == [1, 0, 0, 1]


def test_an_update_counts_from_what_was_over_before_it_began() -> None:
    lost = of_update(Kind.INCREMENT, 2, 3, client=2, after=_counted(1))
    assert _check(_increment(1, 0), lost) == 1


def test_one_that_nobody_knows_of_may_count_or_not() -> None:
    unknown = _increment(2, 2)
    for unknown.result in (None, DeadlineExceeded("", outcome=Outcome.UNKNOWN)):
        assert [_check(_increment(1, 0), unknown, left_count=n) for n in (1, 2, 3)] == [0, 0, 1]
    unknown.result = DeadlineExceeded("", outcome=Outcome.NOT_APPLIED)
    assert [_check(_increment(1, 0), unknown, left_count=n) for n in (1, 2)] == [0, 1]


def test_of_the_attempts_of_a_request_one_counts() -> None:
    first, again = _increment(1, 0), _increment(1, 2)
    first.request = again.request = 9
    first.result, again.attempt = None, 1
    again.result = UpdateResult(None, _counted(1), 0, 3, is_repeated=True)
    assert [_check(first, again, left_count=count) for count in (0, 1)] == [1, 0]


def test_a_key_to_which_something_else_was_done_is_not_judged() -> None:
    append = of_update(Kind.APPEND, 5, 6, after=_counted(1))
    assert _check(_increment(1, 0), append, left_count=3) == 0
