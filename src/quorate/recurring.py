# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node does beside its turns, again and again: look at files, look for other nodes.

A fault in it costs that one time. It is logged, once until it goes well again, and what failed is
tried again, later each time. So none of it ever ends without a word, nor by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0
"""The first wait after a fault, and the last; each is twice the one before."""

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()


class Recurring:
    """One thing that is done again and again, from `start` until `close`."""

    def __init__(self, name: str, work: Callable[[], Awaitable[float]]) -> None:
        """`work` does it once, and says in how many seconds it is to be done again. `name` is what
        the log calls it."""
        self._name = name
        self._work = work
        self._hurried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        """Beside the cancellation of the task, which `work` may have swallowed."""

    def start(self) -> None:
        """Begin, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def hurry(self) -> None:
        """Do it now; once more if it is being done."""
        self._hurried.set()

    async def close(self) -> None:
        """Do it no more, and wait until what was begun is given up."""
        self._is_closed = True
        self.hurry()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        backoff_s = FIRST_S
        is_told = False
        while not self._is_closed:
            self._hurried.clear()
            try:
                wait_s = await self._work()
                backoff_s, is_told = FIRST_S, False
            except Exception as error:
                wait_s, backoff_s = backoff_s, min(backoff_s * 2, LONGEST_S)
                if not is_told:
                    fault = {"reason": repr(error), "exc_info": error}
                    _log.error("background_failed", work=self._name, **fault)
                is_told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hurried.wait()
