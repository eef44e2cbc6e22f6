# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done again and again goes on whatever comes of one time, and faults are told once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from quorate import recurring
from quorate.recurring import Recurring

LONG_S = 1_000.0


class Work:
    """Counts how often it was done; what `plan` has for a time is raised, or waited for."""

    def __init__(self, *plan: float | Exception) -> None:
        self.times = 0
        self._plan = list(plan)

    async def __call__(self) -> float:
        self.times += 1
        await asyncio.sleep(0)
        step = self._plan.pop(0) if self._plan else 0.0
        if isinstance(step, Exception):
            raise step
        return step


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_fault_is_told_once_until_it_goes_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "FIRST_S", 0.0)
    odd = ValueError("odd")
    work = Work(odd, odd, odd, 0.0, odd, odd)

    async def main() -> None:
        done = Recurring("watch", work)
        done.start()
        await until(lambda: work.times > 10)
        await done.close()

    with capture_logs() as lines:
        asyncio.run(main())
    told = [(line["event"], line["work"], line["reason"], line["log_level"]) for line in lines]
    assert told == [("background_failed", "watch", "ValueError('odd')", "error")] * 2
    assert lines[0]["exc_info"] is odd


def test_after_faults_it_is_tried_later_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    timeout = asyncio.timeout

    def note(seconds: float | None) -> asyncio.Timeout:
        waits.append(seconds)
        return timeout(0)

    work = Work(*[OSError()] * 9, 5.0, OSError())

    async def main() -> None:
        done = Recurring("watch", work)
        done.start()
        while work.times < 12:
            await asyncio.sleep(0)
        await done.close()

    monkeypatch.setattr("quorate.recurring.asyncio.timeout", note)
    with capture_logs():
        asyncio.run(main())
    assert waits[:11] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 5, 1]


def test_who_hurries_it_has_it_done_at_once_and_once_more_if_it_is_being_done() -> None:
    work = Work(LONG_S, LONG_S, LONG_S)

    async def main() -> None:
        done = Recurring("watch", work)
        done.start()
        await until(lambda: work.times == 1)
        done.hurry()
        await until(lambda: work.times == 2)
        # It is being done now: its step is behind a turn of the loop.
        done.hurry()
        await until(lambda: work.times == 3)
        await done.close()

    asyncio.run(main())
    assert work.times == 3


def test_it_ends_when_it_is_closed_and_may_be_closed_before_it_began() -> None:
    work = Work()

    async def main() -> None:
        await Recurring("watch", work).close()
        done = Recurring("watch", work)
        done.start()
        await until(lambda: work.times > 0)
        await done.close()
        times = work.times
        for _ in range(10):
            await asyncio.sleep(0)
        assert work.times == times

    asyncio.run(main())


def test_work_that_takes_its_cancellation_for_an_answer_is_not_done_again_and_holds_up_no_end() -> (
    None
):
    """`asyncio.wait_for` does until Python 3.12, where what it waits for is there just then."""
    asked = 0

    async def work() -> float:
        nonlocal asked
        asked += 1
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG_S)
        return LONG_S if asked == 1 else 0.0

    async def main() -> None:
        done = Recurring("watch", work)
        done.start()
        await until(lambda: asked == 1)
        async with asyncio.timeout(10):
            await done.close()

    asyncio.run(main())
    assert asked == 1
