# SPDX-License-Identifier: GPL-3.0-or-later
"""The one thread beside the loop: it waits for the disk, and tells the loop when that has synced.

An executor would cost more than the rest of a turn for each sync, and would have the process wait
for one that never ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

Done = Callable[[BaseException | None], None]


class SyncThread:
    """Calls `sync`, which blocks, when asked to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sync: Callable[[], None]) -> None:
        self._loop = loop
        self._sync = sync
        self._asked: SimpleQueue[Done | None] = SimpleQueue()
        Thread(target=self._run, name="sync", daemon=True).start()

    def ask(self, done: Done) -> None:
        """Sync, then call `done` on the loop with what went wrong, if anything."""
        self._asked.put(done)

    def close(self) -> None:
        """End the thread once what it was asked is done, which may be never."""
        self._asked.put(None)

    def _run(self) -> None:
        while (done := self._asked.get()) is not None:
            error: BaseException | None = None
            try:
                self._sync()
            except BaseException as failure:
                error = failure
            # The loop may have ended while the disk took its time: nobody to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(done, error)
