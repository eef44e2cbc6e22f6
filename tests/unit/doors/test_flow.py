# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a connection: every pair of state and input, and what must hold after each."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.answered import Operation, Waiting, WaitingLine
from quorate.doors.flow import (
    ARRIVING,
    CLOSED,
    CLOSING,
    ENDING,
    FREE_REPLY_BYTES,
    LEAVING,
    LINGERING,
    MOVES,
    READING,
    REFUSING,
    VALUE_BYTES_LARGE,
    WAITING,
    WRITE_BYTES_LARGE,
    Flow,
    Input,
    Limits,
    State,
)
from quorate.doors.limits import FREE_BYTES, LINGER_SECONDS, REQUEST_SECONDS, ByteBudget
from tests.unit.doors.redis.turns import ManualTimers

BUDGET_BYTES = 1000
IDLE_SECONDS = 75.0
WAYS: dict[State, tuple[Input, ...]] = {
    READING: (),
    ARRIVING: (Input.PART,),
    WAITING: (Input.FULL,),
    ENDING: (Input.END,),
    REFUSING: (Input.PART, Input.REFUSE),
    LINGERING: (Input.PART, Input.REFUSE, Input.ANSWERED),
    LEAVING: (Input.LEAVE,),
    CLOSING: (Input.LEAVE, Input.ANSWERED),
    CLOSED: (Input.LOST,),
}
"""How to come into each state."""
OPEN = [state for state in MOVES if state not in (CLOSING, CLOSED)]


class StrictTransport(asyncio.Transport):
    """Takes no call that makes no sense."""

    def __init__(self) -> None:
        super().__init__()
        self.is_paused = False
        self.closing = False
        self.aborted = False
        self.unread = 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closing, "uvloop raises on a write after close"
        self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        assert not self.closing
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None:
        assert not self.is_paused
        assert not self.closing, "uvloop raises"
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        assert not self.closing, "uvloop raises"
        self.is_paused = False


class Bench:
    """A flow and all that is around it."""

    def __init__(self, way: tuple[Input, ...] = (), *, is_choked: bool = False) -> None:
        self.timers = ManualTimers()
        self.budget = ByteBudget(BUDGET_BYTES)
        self.replies = ByteBudget(BUDGET_BYTES)
        self.limits = Limits(
            self.budget,
            self.replies,
            self.timers,
            window_first=8,
            window_max=64,
            idle_seconds=IDLE_SECONDS,
        )
        self.queue = WaitingLine()
        self.late_count = 0
        self.transport = StrictTransport()
        self.flow = Flow(self, self.queue, self.limits)
        self.flow.open(self.transport)
        for step in way:
            self.go(step)
        if is_choked:
            self.flow.choke()
        self.check()

    def late(self) -> None:
        self.late_count += 1

    def go(self, step: Input) -> None:
        """An input as the world has it: what is lost was closing."""
        if step is Input.LOST:
            self.transport.closing = True
        self.flow.go(step)

    @property
    def watched(self) -> list[str]:
        """The deadlines that run."""
        found = {"request": self.limits.deadlines, "linger": self.limits.lingering}
        return [name for name, deadlines in found.items() if self.flow in deadlines._due]

    def deadline(self) -> list[str]:
        """Those that should."""
        state, is_choked = self.flow.state, self.flow.is_choked
        if state is LINGERING:
            return ["linger"]
        is_awaited = state is ARRIVING or state is CLOSING or (is_choked and state is not CLOSED)
        return ["request"] if is_awaited else []

    def check(self) -> None:
        """The invariants. What was aborted is lost, as it is in the loop's next turn."""
        flow, transport = self.flow, self.transport
        if transport.aborted:
            self.go(Input.LOST)
        assert self.limits.idle_limit is not None
        assert self.watched == self.deadline()
        assert (flow in self.limits.idle_limit._all) == (flow.state is not CLOSED)
        assert self.budget.used == max(flow.charged_bytes - FREE_BYTES, 0)
        assert self.replies.used == flow._held_bytes >= 0
        assert 1 <= flow.window <= 64
        if flow.state is CLOSED:
            assert flow.transport is None
            assert flow.charged_bytes == flow._held_bytes == 0
        elif not transport.closing:
            assert transport.is_paused == (flow.state is WAITING)
            assert flow.state is not CLOSING
        if flow.is_choked:
            assert flow.state is not READING
            assert flow.state is not ARRIVING


# --- the table -----------------------------------------------------------------------------------


def test_the_table_has_every_state_and_from_each_the_end_can_be_reached() -> None:
    assert set(WAYS) == set(MOVES)
    for state, row in MOVES.items():
        assert set(row.values()) <= set(MOVES)
        assert state is CLOSED or row[Input.LOST] is CLOSED
    assert MOVES[CLOSED] == {}


def test_what_is_no_longer_looked_at_never_is_again() -> None:
    """A connection that leaves or refuses takes no command that comes behind."""
    for state, row in MOVES.items():
        if not state.takes:
            assert not any(after.takes for after in row.values()), state


@pytest.mark.parametrize(
    ("state", "is_choked", "step"), list(product(MOVES, (False, True), Input)), ids=str
)
def test_every_state_goes_with_every_input_where_the_table_says(
    state: State, is_choked: bool, step: Input
) -> None:
    bench = Bench(WAYS[state], is_choked=is_choked)
    before = bench.flow.state
    assert before is (WAITING if is_choked and state in (READING, ARRIVING) else state)
    bench.go(step)
    after = MOVES[before].get(step, before)
    if is_choked and after in (READING, ARRIVING):
        after = WAITING
    assert bench.flow.state is after
    bench.check()


@pytest.mark.parametrize("state", [READING, ARRIVING, WAITING, ENDING], ids=str)
def test_a_connection_is_given_away_reading(state: State) -> None:
    bench = Bench(WAYS[state])
    assert bench.flow.give_away() is bench.transport
    assert not bench.transport.is_paused
    assert not bench.transport.closing
    bench.check()


# --- deadlines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "is_choked"), list(product(OPEN, (False, True))), ids=str)
def test_every_state_that_waits_for_the_client_ends_by_itself(
    state: State, is_choked: bool
) -> None:
    """Others wait for the node's own answers, which have deadlines in the core."""
    bench = Bench(WAYS[state], is_choked=is_choked)
    begun = bench.flow.state
    waits = is_choked or begun in (READING, ARRIVING, LINGERING)
    bench.timers.advance(LINGER_SECONDS)
    assert (bench.flow.state is not begun) == (begun is LINGERING)
    bench.timers.advance(max(REQUEST_SECONDS, IDLE_SECONDS * 4 / 3))
    assert (bench.flow.state is not begun or bench.transport.aborted) == waits
    bench.check()


@pytest.mark.parametrize("state", OPEN, ids=str)
def test_limits_that_are_closed_leave_no_timer(state: State) -> None:
    """The loop would wait for it at the node's end."""
    bench = Bench(WAYS[state])
    assert bench.timers.count
    bench.limits.close()
    assert bench.timers.count == 0


def test_a_request_that_never_comes_whole_is_told_to_the_door_once() -> None:
    bench = Bench(WAYS[ARRIVING])
    bench.timers.advance(REQUEST_SECONDS / 2)
    bench.go(Input.PROGRESS)
    bench.timers.advance(REQUEST_SECONDS / 2)
    assert bench.late_count == 0
    bench.go(Input.PART)
    bench.timers.advance(REQUEST_SECONDS / 2)
    assert bench.late_count == 1
    assert bench.flow.state is ENDING


def test_a_client_that_takes_its_answers_slowly_stays_and_one_that_takes_none_goes() -> None:
    bench = Bench()
    bench.flow.write(b"x" * 100)
    bench.flow.choke()
    for _ in range(5):
        bench.timers.advance(REQUEST_SECONDS - 1)
        bench.flow.write(b"y")
        bench.transport.unread -= 1
        bench.timers.advance(1)
    assert not bench.transport.aborted
    bench.flow.write(b"z")
    bench.timers.advance(REQUEST_SECONDS)
    assert bench.transport.aborted


def holding(bench: Bench, size: int) -> None:
    """Let the client of `bench` take nothing of a reply that uses `size` bytes of the budget."""
    assert bench.flow.has_room(FREE_REPLY_BYTES + size)
    bench.flow.reply_bytes += FREE_REPLY_BYTES + size
    bench.flow.write(b"x" * (FREE_REPLY_BYTES + size))
    bench.flow.choke()
    assert bench.replies.used == size


@pytest.mark.parametrize("way", [(), (Input.LEAVE, Input.ANSWERED)])
@pytest.mark.parametrize(
    ("taken", "is_short", "stays"),
    [(1, False, True), (99, True, False), (100, True, True), (0, False, False)],
)
def test_who_takes_less_than_a_tenth_of_its_share_stays_while_nobody_is_in_need(
    taken: int, is_short: bool, stays: bool, way: tuple[Input, ...]
) -> None:
    bench = Bench()
    bench.replies.take(BUDGET_BYTES + 1)  # Before the time begins.
    holding(bench, BUDGET_BYTES)
    for step in way:
        bench.go(step)
    bench.timers.advance(REQUEST_SECONDS / 2)
    if is_short:
        assert not bench.replies.take(1)
    bench.transport.unread -= taken
    bench.timers.advance(REQUEST_SECONDS / 2)
    assert bench.transport.aborted is not stays
    bench.check()
    assert bench.replies.used == (BUDGET_BYTES - taken if stays else 0)


@pytest.mark.parametrize(
    ("taken", "is_short", "stays"),
    [(1, False, True), (99, True, False), (100, True, True), (0, False, False)],
)
def test_who_holds_half_a_request_and_takes_its_answers_too_slowly_goes_if_others_need_the_room(
    taken: int, is_short: bool, stays: bool
) -> None:
    bench = Bench()
    bench.budget.take(BUDGET_BYTES + 1)  # Before the time begins.
    bench.go(Input.PART)
    assert bench.flow.charge(FREE_BYTES + BUDGET_BYTES)
    holding(bench, 0)
    bench.timers.advance(REQUEST_SECONDS / 2)
    if is_short:
        assert not bench.budget.take(1)
    bench.transport.unread -= taken
    bench.timers.advance(REQUEST_SECONDS / 2)
    assert bench.transport.aborted is not stays
    bench.check()
    assert bench.budget.used == (BUDGET_BYTES if stays else 0)


def test_who_holds_nothing_of_what_others_need_may_be_slow() -> None:
    bench = Bench()
    holding(bench, 0)
    assert not bench.replies.take(BUDGET_BYTES + 1)
    bench.transport.unread -= 1
    bench.timers.advance(REQUEST_SECONDS)
    assert not bench.transport.aborted


def test_a_refused_client_that_sends_no_more_is_not_lingered_for() -> None:
    bench = Bench(WAYS[REFUSING])
    bench.go(Input.END)
    bench.go(Input.ANSWERED)
    assert bench.flow.state is CLOSING


@pytest.mark.parametrize("is_choked", [True, False])
@pytest.mark.parametrize("state", [LINGERING, CLOSING], ids=str)
def test_taking_some_answers_or_none_earns_no_more_time_to_end(
    state: State, is_choked: bool
) -> None:
    bench = Bench(WAYS[state], is_choked=is_choked)
    seconds = LINGER_SECONDS if state is LINGERING else REQUEST_SECONDS
    bench.timers.advance(seconds - 1)
    (bench.flow.unchoke if is_choked else bench.flow.choke)()
    bench.timers.advance(1)
    assert bench.transport.closing
    assert bench.transport.aborted == (state is CLOSING)


def test_a_new_connection_may_be_silent_for_the_whole_time() -> None:
    bench = Bench()
    bench.timers.advance(IDLE_SECONDS)
    assert bench.flow.state is READING
    bench.timers.advance(IDLE_SECONDS / 3)
    assert bench.flow.state is not READING


def test_a_client_that_waits_for_answers_is_not_idle() -> None:
    bench = Bench()
    Waiting(bench.queue, Operation("get", None), came_ns=0)
    bench.timers.advance(IDLE_SECONDS * 3)
    assert bench.flow.state is READING
    bench.queue.clear()
    bench.timers.advance(IDLE_SECONDS)
    assert bench.flow.state is CLOSING


# --- windows and budgets -------------------------------------------------------------------------


def test_the_window_follows_the_size_of_answers() -> None:
    flow = Bench().flow
    sizes = (1, 1, 1, 1, WRITE_BYTES_LARGE + 1, 1)
    windows = []
    for size in sizes:
        flow.write(b"x" * size)
        windows.append(flow.window)
    assert windows == [16, 32, 64, 64, 16, 32]
    flow.saw_large = True
    flow.write(b"x" * VALUE_BYTES_LARGE)
    assert (flow.window, flow.saw_large) == (1, False)


def test_what_does_not_fit_the_budget_changes_nothing() -> None:
    bench = Bench()
    assert bench.flow.charge(FREE_BYTES + BUDGET_BYTES)
    assert not bench.flow.charge(FREE_BYTES + BUDGET_BYTES + 1)
    assert bench.budget.used == BUDGET_BYTES
    assert bench.flow.charge(FREE_BYTES + 1)
    assert bench.budget.used == 1


def test_a_connection_has_something_free_and_no_more_than_the_budget_beyond_it() -> None:
    bench = Bench()
    flow = bench.flow
    assert flow.has_room(FREE_REPLY_BYTES)
    flow.reply_bytes += FREE_REPLY_BYTES
    assert bench.replies.used == 0
    assert flow.has_room(BUDGET_BYTES)
    assert not flow.has_room(BUDGET_BYTES + 1)
    assert (bench.replies.used, bench.replies.refused) == (BUDGET_BYTES, 1)
    flow.reply_bytes += BUDGET_BYTES
    flow.write(b"x" * flow.reply_bytes)
    assert bench.replies.used == BUDGET_BYTES
    bench.transport.unread -= 400
    flow.choke()
    assert flow.has_room(400)
    assert not flow.has_room(401)
    flow.unchoke()
    assert bench.replies.used == BUDGET_BYTES - 400
    bench.go(Input.LOST)
    assert bench.replies.used == 0
    assert not flow.has_room(FREE_REPLY_BYTES + 1)


# --- anything in any order -----------------------------------------------------------------------


class Charge(NamedTuple):
    """The half request is so large now."""

    byte_count: int


class Keep(NamedTuple):
    """A reply is to wait in the queue."""

    size: int


class Write(NamedTuple):
    """An answer leaves."""

    size: int


class Pass(NamedTuple):
    """Time passes."""

    seconds: float


class Take(NamedTuple):
    """The client takes half of its answers."""


class Choke(NamedTuple):
    """The transport says whether the client takes them at all."""

    is_on: bool


Step = Input | Charge | Keep | Write | Pass | Take | Choke
STEPS = st.lists(
    st.sampled_from(Input)
    | st.builds(Charge, st.integers(0, 2 * BUDGET_BYTES).map(FREE_BYTES.__add__) | st.just(1))
    | st.builds(Keep, st.sampled_from([1, BUDGET_BYTES, FREE_REPLY_BYTES]))
    | st.builds(Write, st.sampled_from([1, BUDGET_BYTES, 2 * FREE_REPLY_BYTES]))
    | st.builds(Pass, st.sampled_from([0.5, LINGER_SECONDS, 20.0, REQUEST_SECONDS, IDLE_SECONDS]))
    | st.just(Take())
    | st.builds(Choke, st.booleans()),
    max_size=40,
)


def do(bench: Bench, step: Step) -> None:
    flow = bench.flow
    match step:
        case Charge(byte_count):
            if flow.state is not CLOSED:
                flow.charge(byte_count)
        case Keep(size):
            if flow.has_room(size):
                flow.reply_bytes += size
        case Write(size):
            flow.write(b"x" * min(size, flow.reply_bytes))
        case Pass(seconds):
            bench.timers.advance(seconds)
        case Take():
            bench.transport.unread //= 2
        case Choke(is_on):
            if flow.state is not CLOSED and flow.is_choked is not is_on:
                (flow.choke if is_on else flow.unchoke)()
        case Input():
            bench.go(step)


@given(STEPS)
def test_the_invariants_hold_whatever_happens_and_nothing_is_left_in_the_end(
    steps: list[Step],
) -> None:
    bench = Bench()
    taken = True
    for step in steps:
        do(bench, step)
        bench.check()
        assert taken or not bench.flow.state.takes, "nothing is looked at after leaving"
        taken = bench.flow.state.takes
    bench.go(Input.LOST)
    bench.check()
    assert bench.flow.state is CLOSED
    assert bench.budget.used == bench.replies.used == 0
    before = bench.late_count
    bench.timers.advance(10 * IDLE_SECONDS)
    assert bench.late_count == before
