# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands a node's batches to the engine in the order of their marks, and tells how the engine fares.

A batch that the engine cannot take now (a write stall, a full disk) waits with those after it, and
the node is told to refuse writes, so what can wait is about what was under way. It is told the same
when the disk does not confirm a sync in time: what waits for that sync is answered by nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

import structlog

from quorate.core.values.events import Batch, StorageState
from quorate.errors import DiskFull, StorageBusy, StorageError
from quorate.runtime.sync import Syncer
from quorate.storage.engine import Engine, bytes_of

BUSY_RETRY_S: Final = 0.005
FULL_RETRY_S: Final = 0.25
"""Until a batch that the engine did not take is tried again."""
MERGED_BYTES_MAX: Final = 1 << 20
"""A waiting batch below this takes the next one in, so that many small ones cost little."""
CALM_S: Final = 1.0
"""How long writes are taken before the log says so: stalls come in showers."""

log = structlog.get_logger()


class Owner(Protocol):
    """Who owns the batches; `runtime.driver.Driver` is the real one."""

    def on_durable(self, mark: int) -> None:
        """Everything up to `mark` survives what its durability promises."""

    def on_storage_state(self, state: StorageState) -> None:
        """Writes are refused from now on, for another reason, or taken again."""

    def on_storage_failed(self, reason: str) -> None:
        """The node must stop. Nothing more is reported."""


class _Waiting:
    """A batch that the engine has not taken, which later ones are merged into."""

    def __init__(self, batch: Batch, mark: int, size: int) -> None:
        # Lists of its own: the node still reads those that it handed out.
        self.batch = Batch([*batch.records], [*batch.hints], [*batch.meta])
        self.mark = mark
        self.bytes = size

    def take_in(self, batch: Batch, mark: int, size: int) -> None:
        self.batch.records += batch.records
        self.batch.hints += batch.hints
        self.batch.meta += batch.meta
        self.mark = mark
        self.bytes += size


class Storing:
    """The way of batches to the disk."""

    def __init__(
        self, engine: Engine, owner: Owner, *, stuck_after_s: float, waiting_bytes_max: int
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._stuck_after_s = stuck_after_s
        self._waiting_bytes_max = waiting_bytes_max
        self._loop = asyncio.get_running_loop()
        self._syncer = Syncer(engine, self, stuck_after_s=stuck_after_s)
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._refusal: StorageState | None = None
        """Why the engine takes no batch; None while it does."""
        self._stuck: StorageState | None = None
        """Set while a sync takes too long."""
        self._told = StorageState()
        self._logged = ""
        """The code of the trouble that the log tells of last."""
        self._retrying: asyncio.TimerHandle | None = None
        self._calming: asyncio.TimerHandle | None = None
        self._is_closed = False

    def store(self, batch: Batch, mark: int) -> bool:
        """Hand a batch to the engine; True if it is durable already."""
        if self._waiting:
            self._keep(batch, mark)
            return False
        try:
            self._engine.write(batch)
        except (StorageBusy, DiskFull) as error:
            self._keep(batch, mark)
            self._try_later(error)
            return False
        except StorageError as error:
            self._fail(f"the storage engine failed: {error}")
            return False
        return self._is_durable(mark)

    @property
    def waiting_bytes(self) -> int:
        """Of batches that the engine has not taken."""
        return self._waiting_bytes

    def close(self) -> None:
        """Store and report nothing more."""
        self._is_closed = True
        self._syncer.close()
        for timer in (self._retrying, self._calming):
            if timer is not None:
                timer.cancel()

    def _is_durable(self, mark: int) -> bool:
        if self._engine.needs_sync:
            self._syncer.sync(mark)
            return False
        return True

    def _fail(self, reason: str) -> None:
        self.close()
        self._owner.on_storage_failed(reason)

    # --- batches that wait -----------------------------------------------------------------

    def _keep(self, batch: Batch, mark: int) -> None:
        size = bytes_of(batch)
        self._waiting_bytes += size
        if self._waiting_bytes > self._waiting_bytes_max:
            self._fail(f"more than {self._waiting_bytes_max} bytes wait for the storage engine")
        elif self._waiting and self._waiting[-1].bytes < MERGED_BYTES_MAX:
            self._waiting[-1].take_in(batch, mark, size)
        else:
            self._waiting.append(_Waiting(batch, mark, size))

    def _try_later(self, error: StorageBusy | DiskFull) -> None:
        if self._is_closed:
            return
        if self._refusal is None or self._refusal.code != error.code:
            self._refusal = StorageState(error.code, str(error))
            self._tell()
        delay_s = BUSY_RETRY_S
        if isinstance(error, DiskFull):
            delay_s = FULL_RETRY_S
            # It is there that the engine gets over it.
            self._syncer.sync_once()
        self._retrying = self._loop.call_later(delay_s, self._retry)

    def _retry(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            try:
                self._engine.write(first.batch)
            except (StorageBusy, DiskFull) as error:
                self._try_later(error)
                return
            except Exception as error:
                # In a timer: nobody else would end the node for it.
                reason = error if isinstance(error, StorageError) else repr(error)
                self._fail(f"the storage engine failed: {reason}")
                return
            self._waiting.popleft()
            self._waiting_bytes -= first.bytes
            if self._is_durable(first.mark):
                self._owner.on_durable(first.mark)
        self._refusal = None
        self._tell()

    # --- what the syncer says --------------------------------------------------------------

    def on_synced(self, mark: int) -> None:
        """Part of `sync.Listener`."""
        self._owner.on_durable(mark)

    def on_stuck(self, *, is_stuck: bool) -> None:
        """Part of `sync.Listener`."""
        self._stuck = None
        if is_stuck:
            reason = f"the disk has not confirmed a sync for {self._stuck_after_s:g} s"
            self._stuck = StorageState(StorageBusy.code, reason)
        self._tell()

    def on_sync_error(self, reason: str) -> None:
        """Part of `sync.Listener`."""
        self._fail(reason)

    # --- telling ---------------------------------------------------------------------------

    def _tell(self) -> None:
        """Let the node know of the trouble that weighs most, if that is news."""
        state = self._refusal or self._stuck or StorageState()
        if state == self._told:
            return
        self._told = state
        self._owner.on_storage_state(state)
        if self._calming is not None:
            self._calming.cancel()
            self._calming = None
        if not state.code:
            self._calming = self._loop.call_later(CALM_S, self._log_calm)
        elif state.code != self._logged:
            self._logged = state.code
            log.warning("storage_refuses_writes", reason=state.reason)

    def _log_calm(self) -> None:
        self._logged = ""
        log.info("storage_takes_writes")
