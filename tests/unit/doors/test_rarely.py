# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that anybody can cause: one at once, one for all that follow, and nothing is kept."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import cast

from quorate.doors.rarely import SOURCES_MAX, LoggedFacts, Rarely


class Later:
    """Timers that a test lets run out."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], object]] = []

    def time(self) -> float:
        return 0.0

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        del delay
        self.callbacks.append(callback)
        return cast(asyncio.TimerHandle, None)

    def run_out(self) -> None:
        callbacks, self.callbacks = self.callbacks, []
        for each in callbacks:
            each()


class Body:
    """What a request had, and the frames of what failed refer to."""


def test_the_first_is_told_at_once_and_then_the_last_with_how_many_more_there_were() -> None:
    timers, told = Later(), list[LoggedFacts]()
    rarely = Rarely(timers, told.append)
    for number in range(4):
        rarely.tell({"number": number})
    assert told == [{"number": 0, "held_back": 0}]
    timers.run_out()
    timers.run_out()
    assert told[1:] == [{"number": 3, "held_back": 2}]
    assert timers.callbacks == []
    rarely.tell({"number": 4})
    assert told[2:] == [{"number": 4, "held_back": 0}]


def test_who_floods_hides_no_other_source() -> None:
    timers, told = Later(), list[LoggedFacts]()
    rarely = Rarely(timers, told.append)
    for second in range(4):
        for _ in range(1000):
            rarely.tell({"from": "a"}, source="a")
        if second == 1:
            rarely.tell({"from": "b"}, source="b")
        assert len(told) == second + 1, "a line a second"
        timers.run_out()
    assert [(line["from"], line["held_back"]) for line in told] == [
        ("a", 0),
        ("a", 998),
        ("a", 999),
        ("b", 0),
        ("a", 1999),
    ]


def test_sources_beyond_the_most_that_are_remembered_share_a_line() -> None:
    timers, told = Later(), list[LoggedFacts]()
    rarely = Rarely(timers, told.append)
    for number in range(SOURCES_MAX + 11):
        for _ in range(2):
            rarely.tell({"number": number}, source=str(number))
    while timers.callbacks:
        timers.run_out()
    alone = [(number, 1) for number in range(1, SOURCES_MAX)]
    assert [(line["number"], line["held_back"]) for line in told] == [
        (0, 0),
        (0, 0),
        *alone,
        (SOURCES_MAX + 10, 21),
    ]


def test_what_was_told_is_not_kept() -> None:
    """Else the last fault that a request met would keep its body as long as the node runs."""
    timers, told = Later(), list[object]()
    rarely = Rarely(timers, lambda facts: told.append(facts["held_back"]))
    rarely.tell({"exc_info": Body()})
    body = Body()
    kept = weakref.ref(body)
    rarely.tell({"exc_info": body})
    del body
    gc.collect()
    assert kept() is not None
    timers.run_out()
    gc.collect()
    assert (told, kept()) == ([0, 0], None)
