# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a node's batches to the simulated disk, as `runtime.storing` and `runtime.sync` go it.

Batches reach the engine in the order of their marks; one that it cannot take waits with those after
it, and the node is told to refuse writes; more waiting bytes than stated end the process. One sync
is under way at a time and covers every batch that was written before it began. A sync that takes
too long is told; one that fails ends the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from quorate.core.values.events import Batch, Durable, Event, StorageState
from quorate.errors import DiskFull, StorageBusy, StorageError
from quorate.sim.disk import Disk
from quorate.storage.cached import CachedEngine
from quorate.storage.engine import bytes_of

BUSY_RETRY_MS: Final = 5.0
FULL_RETRY_MS: Final = 250.0
"""Until a batch that the engine did not take is tried again."""


class Process(Protocol):
    """The process that stores; `machine.Machine` is the real one."""

    def receive(self, event: Event) -> None:
        """Have the event in the next turn."""

    def later(self, ms: float, call: Callable[[], None]) -> None:
        """Have `call` made in `ms`, unless the process has ended by then."""

    def end(self, reason: str) -> None:
        """End: the disk failed."""

    def draw_sync_ms(self) -> float:
        """How long the sync that begins now will take."""

    def stalled_ms(self) -> float:
        """How much longer no sync will end; 0 if the disk is not stalled."""

    def takes_sync_error(self) -> bool:
        """Whether the sync that ends now fails."""


class Storing:
    """One process's batches."""

    def __init__(
        self,
        engine: Disk | CachedEngine,
        disk: Disk,
        process: Process,
        *,
        now: Callable[[], float],
        stuck_after_ms: float,
        waiting_bytes_max: int,
    ) -> None:
        self._engine = engine
        self._disk = disk
        self._process = process
        self._now = now
        self._stuck_after_ms = stuck_after_ms
        self._waiting_bytes_max = waiting_bytes_max
        self._waiting: deque[tuple[Batch, int]] = deque()
        self._waiting_bytes = 0
        self._refusal: StorageState | None = None
        """Why the engine takes no batch; None while it does."""
        self._stuck: StorageState | None = None
        """Set while a sync takes too long."""
        self._told = StorageState()
        self._wanted = 0
        self._reached = 0
        """The mark that the sync under way will reach, or the last one reached."""
        self._began_ms: float | None = None
        """When the sync under way began; None between syncs."""
        self._syncs = 0
        self._looked = 0
        """The sync of which it is already settled when it is called stuck."""

    def store(self, batch: Batch, mark: int) -> bool:
        """Hand a batch to the engine; True if it is durable already."""
        if self._waiting:
            self._keep(batch, mark)
            return False
        try:
            self._engine.write(batch)
        except (StorageBusy, DiskFull) as error:
            if self._keep(batch, mark):
                self._try_later(error)
            return False
        except StorageError as error:
            self._process.end(f"the storage engine failed: {error}")
            return False
        return self._is_durable(mark)

    def _keep(self, batch: Batch, mark: int) -> bool:
        """Have a batch wait; the engine gets it in one with those that wait before it. False if
        that is too much, which ends the process."""
        self._waiting_bytes += bytes_of(batch)
        if self._waiting_bytes > self._waiting_bytes_max:
            told = f"more than {self._waiting_bytes_max} bytes wait for the storage engine"
            self._process.end(told)
            return False
        if self._waiting:
            before = self._waiting.pop()[0]
            records = before.records + batch.records
            batch = Batch(records, before.hints + batch.hints, before.meta + batch.meta)
        self._waiting.append((batch, mark))
        return True

    def _is_durable(self, mark: int) -> bool:
        if not self._disk.needs_sync:
            return True
        self._wanted = mark
        if self._began_ms is None:
            self._sync()
        return False

    def _try_later(self, error: StorageBusy | DiskFull) -> None:
        if self._refusal is None or self._refusal.code != error.code:
            self._refusal = StorageState(error.code, str(error))
            self._tell()
        delay_ms = FULL_RETRY_MS if isinstance(error, DiskFull) else BUSY_RETRY_MS
        self._process.later(delay_ms, self._retry)

    def _retry(self) -> None:
        while self._waiting:
            batch, mark = self._waiting[0]
            try:
                self._engine.write(batch)
            except (StorageBusy, DiskFull) as error:
                self._try_later(error)
                return
            except StorageError as error:
                self._process.end(f"the storage engine failed: {error}")
                return
            self._waiting.popleft()
            if self._is_durable(mark):
                self._process.receive(Durable(mark))
        self._waiting_bytes = 0
        self._refusal = None
        self._tell()

    # --- syncs -------------------------------------------------------------------------------

    def _sync(self) -> None:
        self._began_ms = self._now()
        self._reached = self._wanted
        self._syncs += 1
        written = self._disk.written
        self._end_in(max(self._process.draw_sync_ms(), self._process.stalled_ms()), written)

    def _end_in(self, ms: float, written: int) -> None:
        """Have the sync end in `ms`, and be called stuck before if that is too long."""
        assert self._began_ms is not None, "no sync is under way"
        stuck_in_ms = self._began_ms + self._stuck_after_ms - self._now()
        if ms > stuck_in_ms and self._looked != self._syncs:
            self._looked = self._syncs
            self._process.later(max(stuck_in_ms, 0.0), self._call_stuck)
        self._process.later(ms, partial(self._end, written))

    def _end(self, written: int) -> None:
        stalled_ms = self._process.stalled_ms()
        if stalled_ms > 0:
            self._end_in(stalled_ms, written)
            return
        self._began_ms = None
        if self._process.takes_sync_error():
            # After a failed fsync the kernel may have dropped the pages: see `runtime.sync`.
            self._process.end("the disk did not confirm a sync: input/output error")
            return
        self._disk.synced(written)
        if self._stuck is not None:
            self._stuck = None
            self._tell()
        self._process.receive(Durable(self._reached))
        if self._wanted > self._reached:
            self._sync()

    def _call_stuck(self) -> None:
        reason = f"the disk has not confirmed a sync for {self._stuck_after_ms / 1000:g} s"
        self._stuck = StorageState(StorageBusy.code, reason)
        self._tell()

    def _tell(self) -> None:
        """Let the node know of the trouble that weighs most, if that is news."""
        state = self._refusal or self._stuck or StorageState()
        if state != self._told:
            self._told = state
            self._process.receive(state)
