# SPDX-License-Identifier: GPL-3.0-or-later
"""Deadlines share one timer, and bytes of unfinished bodies are counted back."""

from __future__ import annotations

import asyncio

from quorate.doors.http.limits import BodyBudget, Deadlines


class Watched:
    """Remembers when it was given up on."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    def expired(self) -> None:
        self.log.append(self.name)


async def until_logged(log: list[str], count: int) -> None:
    async with asyncio.timeout(5):
        while len(log) < count:
            await asyncio.sleep(0.001)


def test_only_what_is_still_watched_expires_and_in_order() -> None:
    async def main() -> None:
        log: list[str] = []
        deadlines = Deadlines(0.03)
        first, second, third = (Watched(log, name) for name in ("first", "second", "third"))
        for each in (first, second, third):
            deadlines.watch(each)
        deadlines.forget(second)
        await until_logged(log, 2)
        assert log == ["first", "third"]

    asyncio.run(main())


def test_watching_again_starts_again() -> None:
    async def main() -> None:
        log: list[str] = []
        deadlines = Deadlines(0.05)
        early, late = Watched(log, "early"), Watched(log, "late")
        deadlines.watch(late)
        deadlines.watch(early)
        deadlines.watch(late)
        await until_logged(log, 2)
        assert log == ["early", "late"]

    asyncio.run(main())


def test_a_timer_runs_only_while_something_is_watched() -> None:
    async def main() -> None:
        deadlines = Deadlines(0.001)
        log: list[str] = []
        deadlines.watch(Watched(log, "x"))
        await until_logged(log, 1)
        assert deadlines._timer is None
        deadlines.watch(Watched(log, "y"))
        deadlines.close()
        assert deadlines._timer is None

    asyncio.run(main())


def test_the_budget_is_exact() -> None:
    budget = BodyBudget(10)
    assert budget.take(10)
    assert not budget.take(1)
    budget.give_back(4)
    assert not budget.take(5)
    assert budget.take(4)
    assert budget.used == 10
