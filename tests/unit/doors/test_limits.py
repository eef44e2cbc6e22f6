# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of time: one timer for all connections, not one for each."""

from __future__ import annotations

import asyncio

from quorate.doors.limits import (
    FREE_BYTES,
    PROGRESS_BYTES,
    BodyPace,
    ByteBudget,
    Deadlines,
    IdleLimit,
)


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
        deadlines = Deadlines(asyncio.get_running_loop(), 0.03)
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
        deadlines = Deadlines(asyncio.get_running_loop(), 0.05)
        early, late = Watched(log, "early"), Watched(log, "late")
        deadlines.watch(late)
        deadlines.watch(early)
        deadlines.watch(late)
        await until_logged(log, 2)
        assert log == ["early", "late"]

    asyncio.run(main())


def test_a_timer_runs_only_while_something_is_watched() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop(), 0.001)
        log: list[str] = []
        deadlines.watch(Watched(log, "x"))
        await until_logged(log, 1)
        assert deadlines._timer is None
        deadlines.watch(Watched(log, "y"))
        deadlines.close()
        assert deadlines._timer is None

    asyncio.run(main())


class Broken(Watched):
    """Raises when it is given up on."""

    def expired(self) -> None:
        super().expired()
        raise ValueError(self.name)


def test_one_that_raises_costs_the_others_no_deadline() -> None:
    faults: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        log: list[str] = []
        deadlines = Deadlines(loop, 0.01)
        deadlines.watch(Broken(log, "broken"))
        deadlines.watch(Watched(log, "behind it"))
        await until_logged(log, 2)
        deadlines.watch(Watched(log, "later"))
        await until_logged(log, 3)
        assert log == ["broken", "behind it", "later"]

    asyncio.run(main())
    assert [str(each) for each in faults] == ["broken"]


class Connection:
    """Counts how often it was told that it is silent."""

    def __init__(self) -> None:
        self.silent_sweeps = 0
        self.idled_count = 0

    def idled(self) -> None:
        self.idled_count += 1


def test_who_is_silent_is_told_and_who_speaks_or_left_is_not() -> None:
    async def main() -> None:
        limit = IdleLimit(asyncio.get_running_loop(), 0.03)
        silent, talking, gone = Connection(), Connection(), Connection()
        for each in (silent, talking, gone):
            limit.add(each)
        limit.discard(gone)
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(5):
            while not silent.idled_count:
                talking.silent_sweeps = 0
                await asyncio.sleep(0.001)
        assert asyncio.get_running_loop().time() - started >= 0.03
        assert talking.idled_count == gone.idled_count == 0
        limit.close()

    asyncio.run(main())


class BrokenConnection(Connection):
    """Raises when it is told."""

    def idled(self) -> None:
        super().idled()
        raise ValueError


def test_one_that_raises_ends_no_sweeps() -> None:
    faults: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        limit, broken, silent = IdleLimit(loop, 0.003), BrokenConnection(), Connection()
        limit.add(broken)
        async with asyncio.timeout(5):
            while not broken.idled_count:
                await asyncio.sleep(0.001)
            limit.discard(broken)
            limit.add(silent)
            while not silent.idled_count:
                await asyncio.sleep(0.001)
        limit.close()

    asyncio.run(main())
    assert len(faults) == 1


def test_sweeps_run_only_while_there_are_connections() -> None:
    async def main() -> None:
        limit = IdleLimit(asyncio.get_running_loop(), 0.003)
        connection = Connection()
        limit.add(connection)
        limit.discard(connection)
        async with asyncio.timeout(5):
            while is_sweeping(limit):
                await asyncio.sleep(0.001)
        limit.add(connection)
        assert is_sweeping(limit)
        limit.close()
        assert not is_sweeping(limit)

    asyncio.run(main())


def is_sweeping(limit: IdleLimit) -> bool:
    return limit._timer is not None


def test_the_budget_is_exact() -> None:
    budget = ByteBudget(10)
    assert budget.take(10)
    assert not budget.take(1)
    budget.give_back(4)
    assert not budget.take(5)
    assert budget.take(4)
    assert budget.used == 10


def test_what_is_small_costs_the_budget_nothing() -> None:
    budget = ByteBudget(10)
    assert budget.charge(FREE_BYTES + 10, before=0)
    assert budget.charge(FREE_BYTES, before=0)
    assert not budget.charge(FREE_BYTES + 1, before=FREE_BYTES)
    assert budget.charge(FREE_BYTES + 4, before=FREE_BYTES + 10)
    assert budget.used == 4
    assert budget.charge(0, before=FREE_BYTES + 4)
    assert budget.used == 0


def test_a_body_earns_time_by_a_stretch_of_it_and_by_a_tenth_while_others_find_no_room() -> None:
    budget = ByteBudget(0)
    assert not budget.take(1)
    pace = BodyPace(budget)
    assert not pace.earns(PROGRESS_BYTES - 1)
    size = 20 * PROGRESS_BYTES
    assert pace.earns(size)
    assert not pace.earns(size + PROGRESS_BYTES - 1)
    assert not budget.take(1)
    assert not pace.earns(size + PROGRESS_BYTES)
    assert not pace.earns(size + 2 * PROGRESS_BYTES)
    size += 3 * PROGRESS_BYTES
    assert pace.earns(size)
    assert pace.earns(size + PROGRESS_BYTES)
