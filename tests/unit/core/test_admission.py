# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits on entry, parking and deadlines (P7, I26)."""

from __future__ import annotations

from random import Random
from weakref import WeakSet

import pytest

from quorate.core.turn import ANSWERED_BYTES_MAX, ANSWERED_MAX, Begun, Requests, Turn, size_of
from quorate.core.values.events import Get, GetResult, Put, Result
from quorate.errors import DeadlineExceeded, Outcome, Overloaded, QuorumUnreachable

pytestmark = pytest.mark.plain
"""A compiled class has no subclasses in Python."""

RESULT = GetResult(None, 1)


class Asker:
    """A waiter; results go through the turn here, not to it."""

    def done(self, result: Result) -> None:
        raise AssertionError(f"told {result} directly")


class Op(Begun):
    def expired(self) -> Result:
        return DeadlineExceeded("too late")


@pytest.fixture
def turn() -> Turn:
    return Turn()


@pytest.fixture
def requests(turn: Turn) -> Requests:
    return Requests(turn=turn, count_max=3, bytes_max=100)


def _begin(requests: Requests, timeout_ms: int, *, size: int = 0) -> Op:
    requests.admit(size)
    operation = Op(Asker(), size)
    requests.watch(operation, timeout_ms)
    return operation


def test_one_request_over_the_maximum_is_shed_and_surely_not_applied(
    requests: Requests, turn: Turn
) -> None:
    for _ in range(3):
        requests.admit(1)
    with pytest.raises(Overloaded) as caught:
        requests.admit(1)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert turn.counters["requests_shed"] == 1
    requests.answer(Asker(), RESULT, 1)
    requests.admit(1)
    assert (requests.count, requests.bytes) == (3, 3)


def test_one_byte_over_the_maximum_is_shed(requests: Requests) -> None:
    requests.admit(60)
    with pytest.raises(Overloaded):
        requests.admit(41)
    requests.admit(40)
    assert (requests.count, requests.bytes) == (2, 100)


def test_a_request_is_answered_once(requests: Requests, turn: Turn) -> None:
    operation = _begin(requests, 10)
    requests.end(operation, RESULT)
    requests.end(operation, RESULT)
    turn.mono_ms = 20
    turn.ring()
    assert [result for _, result in turn.answers] == [RESULT]
    assert requests.count == 0


def test_requests_expire_in_order_and_the_next_deadline_wakes_the_node(
    requests: Requests, turn: Turn
) -> None:
    for timeout_ms in (30, 10, 20):
        _begin(requests, timeout_ms)
    assert turn.wake_ms() == 10
    turn.begin(20, 0, stamp_max=0)
    turn.ring()
    assert len(turn.answers) == 2
    assert turn.counters["failed_deadline_exceeded"] == 2
    assert turn.wake_ms() == 30


def test_no_request_expires_early_or_more_than_a_32nd_late() -> None:
    random = Random(1)
    turn = Turn()
    requests = Requests(turn=turn, count_max=10_000, bytes_max=0)
    due: dict[Op, tuple[int, int]] = {}
    for _ in range(2_000):
        timeout_ms = random.choice((1, 7, 100, random.randrange(1, 10_000)))
        operation = _begin(requests, timeout_ms)
        due[operation] = (turn.mono_ms + timeout_ms, timeout_ms)
    while due:
        wake_ms = turn.wake_ms()
        assert wake_ms is not None
        turn.begin(wake_ms, 0, stamp_max=0)
        turn.ring()
        for operation in [each for each in list(due) if each.waiter is None]:
            deadline_ms, timeout_ms = due.pop(operation)
            assert deadline_ms <= turn.mono_ms <= deadline_ms + timeout_ms / 32
        assert all(deadline_ms * 33 / 32 >= turn.mono_ms for deadline_ms, _ in due.values())


def test_answered_requests_are_not_kept_behind_one_that_waits(turn: Turn) -> None:
    """I26: else each would keep its value until the slow one is over."""
    requests = Requests(turn=turn, count_max=10, bytes_max=0)
    alive: WeakSet[Op] = WeakSet()
    alive.add(_begin(requests, 5_000))
    for _ in range(1_000):
        operation = _begin(requests, 5_000)
        alive.add(operation)
        requests.end(operation, RESULT)
        assert len(alive) <= ANSWERED_MAX + 2 * 2 + 1
    turn.mono_ms = 5_000
    turn.ring()
    assert requests.count == 0


def test_of_large_ones_fewer_are_kept_behind_one_that_waits(turn: Turn) -> None:
    """I26: sixty of 16 MiB would be a gigabyte that is charged to nobody."""
    size = 4 << 20
    requests = Requests(turn=turn, count_max=10, bytes_max=10 * size)
    alive: WeakSet[Op] = WeakSet()
    alive.add(_begin(requests, 5_000, size=size))
    for _ in range(ANSWERED_MAX // 2):
        operation = _begin(requests, 5_000, size=size)
        alive.add(operation)
        requests.end(operation, RESULT)
        assert sum(each.size for each in alive) <= ANSWERED_BYTES_MAX + 5 * size
    assert requests.bytes == size


def test_a_parked_request_keeps_its_deadline_when_it_is_parked_again(
    requests: Requests, turn: Turn
) -> None:
    event = Put(Asker(), b"k", b"v")
    requests.admit(size_of(event))
    requests.park(event, QuorumUnreachable("first"), wait_ms=100, again=None)
    turn.begin(60, 0, stamp_max=0)
    (parked,) = requests.unpark()
    assert not requests.has_parked
    requests.park(event, QuorumUnreachable("again"), wait_ms=100, again=parked)
    assert turn.wake_ms() == 100
    turn.begin(100, 0, stamp_max=0)
    turn.ring()
    ((_, error),) = turn.answers
    assert isinstance(error, QuorumUnreachable)
    assert error.detail == "again", "the reason is the latest"
    assert (requests.count, requests.bytes) == (0, 0)


def test_each_is_refused_at_its_own_time_whatever_else_is_due(turn: Turn) -> None:
    """Requests that were parked with different waits, among others that expire."""
    requests = Requests(turn=turn, count_max=100, bytes_max=100)
    parked: dict[str, int] = {}
    begins = {0: 100, 20: 100, 30: 15, 44: 60, 45: 5, 70: 200}
    for now_ms in range(300):
        turn.begin(now_ms, 0, stamp_max=0)
        turn.ring()
        over = [error.detail for _, error in turn.answers if isinstance(error, QuorumUnreachable)]
        assert over == [name for name, due_ms in parked.items() if due_ms == now_ms]
        _begin(requests, 3)
        if now_ms in begins:
            event, wait_ms = Get(Asker(), b"k"), begins[now_ms]
            requests.admit(0)
            requests.park(event, QuorumUnreachable(str(now_ms)), wait_ms=wait_ms, again=None)
            parked[str(now_ms)] = now_ms + wait_ms
    assert turn.counters["failed_quorum_unreachable"] == len(parked)
    assert not requests.has_parked


def test_parked_requests_of_one_wait_keep_their_order(requests: Requests) -> None:
    events = [Get(Asker(), b"%d" % n) for n in range(3)]
    for event in events:
        requests.park(event, QuorumUnreachable("x"), wait_ms=500, again=None)
    for parked in requests.unpark():
        requests.park(parked.event, parked.error, wait_ms=500, again=parked)
    assert [parked.event for parked in requests.unpark()] == events


@pytest.mark.parametrize(("value", "size"), [(None, 0), (b"", 0), (b"abc", 3)])
def test_a_write_counts_with_its_value(value: bytes | None, size: int) -> None:
    assert size_of(Put(Asker(), b"key", value)) == size
    assert size_of(Get(Asker(), b"key")) == 0
