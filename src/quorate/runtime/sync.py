# SPDX-License-Identifier: GPL-3.0-or-later
"""Group commit: one thread syncs the engine, over and over, while batches gather for the next time.

A sync covers every batch that was written before it began, however many: under load one wait for
the disk is shared by hundreds of operations, and idle a lone one waits for one sync only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from quorate.errors import StorageError
from quorate.storage.engine import Engine


class Syncer:
    """Reports marks as they become durable. A failed sync is final: nothing more is reported."""

    def __init__(
        self,
        engine: Engine,
        *,
        on_synced: Callable[[int], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._on_synced = on_synced
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sync")
        self._wanted = 0
        self._syncing = 0
        """The mark that the sync under way will reach; 0 between syncs."""

    def sync(self, mark: int) -> None:
        """Make everything written so far, up to `mark`, durable."""
        self._wanted = mark
        if not self._syncing:
            self._begin()

    def close(self) -> None:
        """Wait for the sync under way; begin no other."""
        self._thread.shutdown(wait=True)

    def _begin(self) -> None:
        self._syncing = self._wanted
        future = self._loop.run_in_executor(self._thread, self._engine.sync)
        future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[None]) -> None:
        mark, self._syncing = self._syncing, 0
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            # After a failed fsync the kernel may have dropped the pages: trying again would
            # report success for data that is gone (Rebello et al., "Can applications recover
            # from fsync failures?", 2020).
            reason = error if isinstance(error, StorageError) else repr(error)
            self._on_error(f"the disk did not confirm a sync: {reason}")
            return
        self._on_synced(mark)
        if self._wanted > mark:
            self._begin()
