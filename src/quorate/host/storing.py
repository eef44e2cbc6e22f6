# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a node's batches to the disk: in the order of their marks, with group commit.

A sync covers every batch that was written before it began, however many: under load one wait for
the disk is shared by hundreds of operations, and idle a lone one waits for one sync only. One sync
is under way at a time; what is written meanwhile is for the next.

A batch that the engine cannot take now (a write stall, a full disk) waits with those after it, and
the node is told to refuse writes, so what can wait is about what was under way. It is told the same
when a sync takes longer than a request may: what waits for that sync is answered by nobody. More
waiting bytes than stated, an engine that fails in any other way, or a failed sync end the node.

Some time after a write there is a sync though nobody waits for it, in which the engine notes how
much is durable: also when nothing was written since, and where no write needs a sync.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from quorate.core.values.events import Batch, Note, StorageState
from quorate.errors import DiskFull, StorageBusy, StorageError
from quorate.host.system import System, Timer
from quorate.storage.engine import Engine, bytes_of

BUSY_RETRY_MS: Final = 5.0
FULL_RETRY_MS: Final = 250.0
"""Until a batch that the engine did not take is tried again."""
MERGED_BYTES_MAX: Final = 1 << 20
"""A waiting batch below this takes the next one in, so that many small ones cost little."""
RETRY_BYTES_MAX: Final = 8 << 20
"""Of waiting batches that are tried in one turn of the loop; hundreds of megabytes may wait."""
CALM_MS: Final = 1_000.0
"""How long writes are taken before the log says so: stalls come in showers."""


class _WaitingBatch:
    """A batch that the engine has not taken, which later ones are merged into."""

    __slots__ = ("batch", "bytes", "mark")

    def __init__(self, batch: Batch, mark: int, size: int) -> None:
        # Lists of its own: the node still reads those that it handed out.
        self.batch = Batch(
            [*batch.records],
            [*batch.hints],
            [*batch.meta],
            [*batch.dropped_rows],
            [*batch.dropped_hints],
            [*batch.votes],
        )
        self.mark = mark
        self.bytes = size

    def take_in(self, batch: Batch, mark: int, size: int) -> int:
        """Append a later batch, and return how many bytes larger this one became. A meta entry
        replaces an earlier one of the same name: on a full disk they are written again and again,
        and would pile up."""
        names = {name for name, _ in batch.meta}
        replaced = [each for each in self.batch.meta if each[0] in names]
        if replaced:
            self.batch.meta = [each for each in self.batch.meta if each[0] not in names]
            size -= bytes_of(Batch([], [], replaced))
        self.batch.records += batch.records
        self.batch.hints += batch.hints
        self.batch.meta += batch.meta
        self.batch.votes += batch.votes
        self.mark = mark
        self.bytes += size
        return size


class Storing:
    """The batches of one node.

    `on_durable` is told up to which mark all batches are durable, `on_state` whether the engine
    takes writes, and `on_failure`, once, that the node must end; after that nothing more is told.
    """

    def __init__(
        self,
        system: System,
        engine: Engine,
        *,
        stuck_after_ms: float,
        waiting_bytes_max: int,
        on_durable: Callable[[int], None],
        on_state: Callable[[StorageState], None],
        on_failure: Callable[[str], None],
        log: Callable[[Note], None],
    ) -> None:
        self._system = system
        self._engine = engine
        self._stuck_after_ms = stuck_after_ms
        self._waiting_bytes_max = waiting_bytes_max
        self._on_durable = on_durable
        self._on_state = on_state
        self._on_failure = on_failure
        self._log = log
        self._is_closed = False
        self._waiting: deque[_WaitingBatch] = deque()
        self.waiting_bytes = 0
        """Of batches that the engine has not taken."""
        self._refusal: StorageState | None = None
        """Why the engine takes no batch; None while it does."""
        self._wanted = 0
        """The mark of the last batch that the engine took and that a sync must cover."""
        self._reached = 0
        """The mark that the sync under way will reach, or the last one reached."""
        self._durable = 0
        """The mark that `on_durable` was told last of a sync."""
        self._began_ms: int | None = None
        """When the sync under way began; None between syncs."""
        self._watch: Timer | None = None
        """Looks whether a sync is stuck: one timer for many syncs, as most take no time."""
        self._stuck: StorageState | None = None
        """Set while a sync takes too long."""
        self._told = StorageState()
        self._logged = ""
        """The code of the trouble that the log tells of last."""
        self._noting: Timer | None = None
        """Set while something was written that is not noted."""
        self._is_note_due = False
        self._retrying: Timer | None = None
        self._calming: Timer | None = None

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

    def close(self) -> None:
        """Store and tell nothing more. A sync may still be under way, and go on for ever."""
        self._is_closed = True
        for timer in (self._retrying, self._calming, self._watch, self._noting):
            if timer is not None:
                timer.cancel()

    def _is_durable(self, mark: int) -> bool:
        if self._noting is None and self._engine.note_ms:
            self._noting = self._system.later(self._engine.note_ms, self._note)
        if not self._engine.needs_sync:
            return True
        self._wanted = mark
        self._sync()
        return False

    def _fail(self, reason: str) -> None:
        self.close()
        self._on_failure(reason)

    # --- batches that wait -----------------------------------------------------------------

    def _keep(self, batch: Batch, mark: int) -> None:
        size = bytes_of(batch)
        # What a batch drops was there before it, so one that drops is not merged into another.
        is_apart = not self._waiting or bool(batch.dropped_rows or batch.dropped_hints)
        if not is_apart and self._waiting[-1].bytes < MERGED_BYTES_MAX:
            size = self._waiting[-1].take_in(batch, mark, size)
        else:
            self._waiting.append(_WaitingBatch(batch, mark, size))
        self.waiting_bytes += size
        if self.waiting_bytes > self._waiting_bytes_max:
            self._fail(f"more than {self._waiting_bytes_max} bytes wait for the storage engine")

    def _try_later(self, error: StorageBusy | DiskFull) -> None:
        if self._is_closed:
            return
        if self._refusal is None or self._refusal.code != error.code:
            self._refusal = StorageState(error.code, str(error))
            self._tell()
        delay_ms = BUSY_RETRY_MS
        if isinstance(error, DiskFull):
            delay_ms = FULL_RETRY_MS
            # It is in a sync that the engine gets over it.
            self._sync()
        self._retrying = self._system.later(delay_ms, self._retry)

    def _retry(self) -> None:
        enough = self.waiting_bytes - RETRY_BYTES_MAX
        while self._waiting:
            if self.waiting_bytes <= enough:
                self._retrying = self._system.later(0, self._retry)
                return
            first = self._waiting[0]
            try:
                self._engine.write(first.batch)
            except (StorageBusy, DiskFull) as error:
                self._try_later(error)
                return
            except StorageError as error:
                self._fail(f"the storage engine failed: {error}")
                return
            self._waiting.popleft()
            self.waiting_bytes -= first.bytes
            if self._is_durable(first.mark):
                self._on_durable(first.mark)
        self._refusal = None
        self._tell()

    # --- syncs -----------------------------------------------------------------------------

    def _sync(self) -> None:
        """Begin a sync of all that was written so far, unless one is under way."""
        if self._began_ms is not None or self._is_closed:
            return
        if self._is_note_due:
            self._is_note_due = False
            self._engine.note_next()
        self._began_ms = self._system.now().mono_ms
        if self._watch is None and self._engine.needs_sync:
            self._watch = self._system.later(self._stuck_after_ms, self._look)
        self._reached = self._wanted
        self._system.sync(self._synced)

    def _synced(self, error: BaseException | None) -> None:
        if self._is_closed:
            return
        self._began_ms = None
        if error is not None:
            # After a failed fsync the kernel may have dropped the pages: trying again would
            # report success for data that is gone (Rebello et al., "Can applications recover
            # from fsync failures?", 2020).
            reason = error if isinstance(error, StorageError) else repr(error)
            self._fail(f"the disk did not confirm a sync: {reason}")
            return
        if self._stuck is not None:
            self._stuck = None
            self._tell()
        if self._reached > self._durable:
            self._durable = self._reached
            self._on_durable(self._reached)
        if self._wanted > self._reached or self._is_note_due:
            self._sync()

    def _note(self) -> None:
        self._noting = None
        self._is_note_due = True
        self._sync()

    def _look(self) -> None:
        self._watch = None
        if self._began_ms is None:
            return
        left_ms = self._began_ms + self._stuck_after_ms - self._system.now().mono_ms
        if left_ms > 0:
            self._watch = self._system.later(left_ms, self._look)
        else:
            reason = f"the disk has not confirmed a sync for {self._stuck_after_ms / 1000:g} s"
            self._stuck = StorageState(StorageBusy.code, reason)
            self._tell()

    # --- telling ---------------------------------------------------------------------------

    def _tell(self) -> None:
        """Let the node know of the trouble that weighs most, if that is news."""
        state = self._refusal or self._stuck or StorageState()
        if state == self._told:
            return
        self._told = state
        self._on_state(state)
        if self._calming is not None:
            self._calming.cancel()
        if not state.code:
            self._calming = self._system.later(CALM_MS, self._log_calm)
        elif state.code != self._logged:
            self._logged = state.code
            self._log(Note("warning", "storage_refuses_writes", {"reason": state.reason}))

    def _log_calm(self) -> None:
        self._logged = ""
        self._log(Note("info", "storage_takes_writes", {}))
