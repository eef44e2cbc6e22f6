# SPDX-License-Identifier: GPL-3.0-or-later
"""Group commit: one thread syncs the engine, over and over, while batches gather for the next time.

A sync covers every batch that was written before it began, however many: under load one wait for
the disk is shared by hundreds of operations, and idle a lone one waits for one sync only.
"""

from __future__ import annotations

import asyncio
import contextlib
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from quorate.errors import StorageError
from quorate.storage.engine import Engine


class Listener(Protocol):
    """Who is told, on the event loop."""

    def on_synced(self, mark: int) -> None:
        """Everything up to `mark` is durable."""

    def on_stuck(self, *, is_stuck: bool) -> None:
        """A sync has been under way for too long; or has ended after all."""

    def on_sync_error(self, reason: str) -> None:
        """A sync failed. Final: nothing more is reported."""


class Syncer:
    """Reports marks as they become durable."""

    def __init__(self, engine: Engine, listener: Listener, *, stuck_after_s: float) -> None:
        self._engine = engine
        self._listener = listener
        self._stuck_after_s = stuck_after_s
        self._loop = asyncio.get_running_loop()
        self._asked: SimpleQueue[bool] = SimpleQueue()
        """True asks the thread for a sync, False to end. An executor would cost more than the rest
        of a turn for each, and would have the process wait for a sync that never ends."""
        Thread(target=self._run, name="sync", daemon=True).start()
        self._wanted = 0
        self._reached = 0
        """The mark that the sync under way will reach, or the last one reached."""
        self._is_news = False
        """Whether that is more than was durable before."""
        self._began: float | None = None
        """When the sync under way began; None between syncs."""
        self._watch: asyncio.TimerHandle | None = None
        self._is_stuck = False
        self._is_closed = False

    def sync(self, mark: int) -> None:
        """Make everything written so far, up to `mark`, durable."""
        self._wanted = mark
        self.sync_once()

    def sync_once(self) -> None:
        """Sync now, whether or not a mark waits for it, unless a sync is under way."""
        if self._began is None and not self._is_closed:
            self._begin()

    def close(self) -> None:
        """Begin no other sync, and report no more. The one under way may go on for ever."""
        self._is_closed = True
        if self._watch is not None:
            self._watch.cancel()
        self._asked.put(False)

    def _begin(self) -> None:
        self._began = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(self._stuck_after_s, self._look)
        self._is_news = self._wanted > self._reached
        self._reached = self._wanted
        self._asked.put(True)

    def _run(self) -> None:
        """The thread."""
        while self._asked.get():
            error: BaseException | None = None
            try:
                self._engine.sync()
            except BaseException as failure:
                error = failure
            # The loop may have ended while the disk took its time: nobody to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._done, error)

    def _done(self, error: BaseException | None) -> None:
        if self._is_closed:
            return
        self._began = None
        if error is not None:
            # After a failed fsync the kernel may have dropped the pages: trying again would
            # report success for data that is gone (Rebello et al., "Can applications recover
            # from fsync failures?", 2020).
            self.close()
            reason = error if isinstance(error, StorageError) else repr(error)
            self._listener.on_sync_error(f"the disk did not confirm a sync: {reason}")
            return
        if self._is_stuck:
            self._is_stuck = False
            self._listener.on_stuck(is_stuck=False)
        if self._is_news:
            self._listener.on_synced(self._reached)
        if self._wanted > self._reached:
            self.sync_once()

    def _look(self) -> None:
        """Whether the sync under way is stuck: one timer for many syncs, as most take no time."""
        self._watch = None
        if self._began is None:
            return
        left = self._began + self._stuck_after_s - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        elif not self._is_stuck:
            self._is_stuck = True
            self._listener.on_stuck(is_stuck=True)
