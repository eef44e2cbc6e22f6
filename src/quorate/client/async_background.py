# SPDX-License-Identifier: GPL-3.0-or-later
"""Work beside the caller's, as a task: the names of `blocking_background`, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class AsyncBackground:
    """One piece of work at a time, which looks up from it whenever it pauses."""

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin."""

        async def run() -> None:
            await work()

        self._over.clear()
        self._task = asyncio.create_task(run())

    async def pause(self, seconds: float) -> bool:
        """Wait. Whether it is to end, which is known at once."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Have it end, and wait until it has."""
        self._over.set()
        if self._task is not None:
            await self._task
            self._task = None
