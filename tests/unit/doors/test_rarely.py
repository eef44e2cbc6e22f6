# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that anybody can cause: one at once, one for all that follow, and nothing is kept."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import cast

from quorate.doors.rarely import LoggedFacts, Rarely


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
