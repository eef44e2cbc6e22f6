# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that take a large answer of the full service slowly, or not at all."""

from __future__ import annotations

import pytest

from quorate.doors.http.context import Context
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.http.kv import Answers
from quorate.doors.http.lately import Lasting, Lately
from quorate.doors.http.leaving import Leaving
from quorate.doors.http.pace import CopyPace
from quorate.doors.http.plans import Plans
from quorate.doors.http.probing import unable
from quorate.doors.limits import REQUEST_SECONDS, ByteBudget, Deadlines
from tests.fake_store import NODES, FakeStore
from tests.principals import open_principals
from tests.unit.doors.redis.turns import FakeTransport, ManualTimers

SIZE = 1000
BEFORE = 50


class Bench:
    """An answer of SIZE bytes, behind BEFORE others, in a budget that has room for it alone."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.replies = ByteBudget(SIZE)
        self.transport = FakeTransport()
        self.transport.unread = BEFORE
        taking = Deadlines(self.timers, REQUEST_SECONDS)
        store = FakeStore()
        principals = open_principals(self.timers)
        hosts = HostPolicy(principals, is_on_loopback=True, own_url=NODES[0])
        context = Context(
            store=store,
            answers=Answers(store),
            bodies=ByteBudget(0),
            replies=self.replies,
            taking=taking,
            hosts=hosts,
            answered=(),
            numbers=dict,
            plans=Plans(),
            pace=CopyPace(),
            lately=Lasting(Lately(), Lately()),
            probe=unable,
            secrets=tuple,
            principals=principals,
        )
        assert self.replies.take(SIZE)
        self.leaving = Leaving(self.transport, SIZE, SIZE, context)
        self.transport.unread += SIZE


@pytest.mark.parametrize(
    ("taken", "is_short", "stays"),
    [(1, False, True), (99, True, False), (100, True, True), (0, False, False), (0, True, False)],
)
def test_who_takes_less_than_a_tenth_stays_while_nobody_is_in_need(
    taken: int, is_short: bool, stays: bool
) -> None:
    bench = Bench()
    bench.timers.advance(REQUEST_SECONDS - 1)
    if is_short:
        assert not bench.replies.take(1)
    bench.transport.unread -= taken
    bench.timers.advance(1)
    assert bench.transport.aborted is not stays
    bench.leaving.end()
    assert bench.replies.used == 0
    bench.timers.advance(REQUEST_SECONDS)
    assert bench.transport.aborted is not stays


def test_what_was_taken_is_given_back_while_the_rest_is_on_its_way() -> None:
    bench = Bench()
    for left in (SIZE, SIZE // 2, SIZE // 4):
        bench.transport.unread = left
        bench.timers.advance(REQUEST_SECONDS)
        assert bench.replies.used == left
    bench.timers.advance(REQUEST_SECONDS)
    assert bench.transport.aborted
    bench.leaving.end()
    assert bench.replies.used == 0
