# SPDX-License-Identifier: GPL-3.0-or-later
"""One turn of the loop: gather events, step the node once, perform the effects.

Doors and links only append events; the first of a turn schedules it. A turn stores one batch, sends
one frame to each peer, and writes once to each client connection, so every fixed cost is paid per
turn and not per operation. With an engine that needs no sync the batch is durable at once, and the
node hears so in the same turn.

Batches reach the engine in the order of their marks. One that the engine cannot take now (a write
stall, a full disk) waits with those after it; meanwhile the node is told to refuse writes, so the
backlog is bounded by what was under way.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import structlog

from quorate.config import Config
from quorate.core.events import Batch, Durable, Effects, Event, Instant, Stop, StorageState
from quorate.core.layout import Layout
from quorate.core.messages import Frame
from quorate.core.node import Node
from quorate.core.status import Status
from quorate.errors import DiskFull, QuorateError, StorageBusy, StorageError
from quorate.runtime.store import Sink
from quorate.runtime.sync import Syncer
from quorate.storage.engine import Engine

RETRY_S: Final[dict[type[QuorateError], float]] = {StorageBusy: 0.005, DiskFull: 0.25}
"""Until a batch that the engine did not take is tried again."""

log = structlog.get_logger()


class Links(Protocol):
    """The outgoing links as the driver uses them; `transport.links.PeerLinks` is the real one."""

    def send(self, url: str, frame: Frame) -> None:
        """Write the frame, or drop it if there is no link."""

    def set_peers(self, urls: list[str]) -> None:
        """Keep links to exactly these."""


class Driver:
    """Drives a node on the running event loop; the `Store` of the doors.

    `on_failure` is called once, with the reason, when the node cannot go on: the disk failed, or an
    invariant did not hold. From then on nothing is stepped, and so nothing acknowledged. `counts`
    adds the counters of other parts to the status.
    """

    def __init__(
        self,
        config: Config,
        node: Node,
        engine: Engine,
        *,
        on_failure: Callable[[str], None],
        counts: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self.config = config
        self.node = node
        self._engine = engine
        self._on_failure = on_failure
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._links: Links | None = None
        self._events: list[Event] = []
        self._sinks: dict[Sink, None] = {}
        self._is_scheduled = False
        self._has_failed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._wake_ms: int | None = 0
        self._backlog: deque[tuple[Batch, int]] = deque()
        self._syncer = Syncer(engine, on_synced=self._synced, on_error=self._fail)
        self._drained: asyncio.Event | None = None

    # --- what doors and links call ---------------------------------------------------------

    def start(self, links: Links) -> None:
        """Begin stepping."""
        self._links = links
        self._schedule()

    def submit(self, event: Event) -> None:
        """Take an event into the next turn."""
        self._events.append(event)
        if not self._is_scheduled:
            self._schedule()

    def flush_soon(self, sink: Sink) -> None:
        """Have the sink flushed at the end of the turn."""
        self._sinks[sink] = None
        if not self._is_scheduled:
            self._schedule()

    def wall_ms(self) -> int:
        """Wall-clock milliseconds."""
        return time.time_ns() // 1_000_000

    def status(self) -> Status:
        """A snapshot of the node."""
        status = self.node.status()
        return msgspec.structs.replace(status, counters=status.counters | self._counts())

    def layout(self) -> Layout | None:
        """The current placement."""
        return self.node.membership.layout

    async def drain(self, timeout_s: float) -> None:
        """Refuse new requests and wait for those in flight, then for the disk."""
        self._drained = asyncio.Event()
        self.submit(Stop())
        try:
            await asyncio.wait_for(self._drained.wait(), timeout_s)
        except TimeoutError:
            log.warning("stopped_with_requests_in_flight", count=self.node.inflight)

    def close(self) -> None:
        """End stepping. The engine is the caller's to close."""
        self._has_failed = True
        if self._timer is not None:
            self._timer.cancel()
        self._syncer.close()

    # --- the turn --------------------------------------------------------------------------

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        if self._has_failed:
            return
        now = Instant(time.monotonic_ns() // 1_000_000, self.wall_ms())
        events = self._events
        if events or (self._wake_ms is not None and now.mono_ms >= self._wake_ms):
            self._events = []
            try:
                self._step(events, now)
            except Exception as error:
                # The one place that catches everything: whatever it is, no promise may follow.
                log.critical("step_failed", exc_info=True)
                self._fail(f"internal fault: {error!r}")
                return
        sinks = self._sinks
        if sinks:
            self._sinks = {}
            for sink in sinks:
                sink.flush()

    def _step(self, events: list[Event], now: Instant) -> None:
        node = self.node
        effects = node.step(events, now)
        sends = effects.sends
        self._tell(effects)
        while effects.batch is not None and self._store(effects.batch, effects.mark):
            effects = node.step([Durable(effects.mark)], now)
            for url, messages in effects.sends.items():
                sends[url] = sends[url] + messages if url in sends else messages
            self._tell(effects)
        if sends and self._links is not None:
            epoch, clock = node.frame_header()
            for url, messages in sends.items():
                self._links.send(url, Frame(epoch, clock, messages))
        self._set_timer(effects.wake_ms)
        if self._drained is not None and not node.inflight:
            self._drained.set()

    def _tell(self, effects: Effects) -> None:
        for waiter, result in effects.answers:
            waiter.done(result)
        for note in effects.notes:
            getattr(log, note.level)(note.event, **note.facts)
        if effects.peers is not None and self._links is not None:
            self._links.set_peers(effects.peers)

    def _set_timer(self, wake_ms: int | None) -> None:
        self._wake_ms = wake_ms
        if wake_ms is None or (self._timer is not None and self._timer_ms <= wake_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = wake_ms
        self._timer = self._loop.call_at(wake_ms / 1000, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if not self._is_scheduled:
            self._turn()
        if self._timer is None and self._wake_ms is not None and not self._has_failed:
            self._set_timer(self._wake_ms)

    # --- storing ---------------------------------------------------------------------------

    def _store(self, batch: Batch, mark: int) -> bool:
        """Hand a batch to the engine; True if it is durable already."""
        if self._backlog:
            self._backlog.append((batch, mark))
            return False
        try:
            self._engine.write(batch)
        except (StorageBusy, DiskFull) as error:
            self._backlog.append((batch, mark))
            self._hold_back(error)
            return False
        except StorageError as error:
            self._fail(f"the storage engine failed: {error}")
            return False
        return self._is_durable(mark)

    def _is_durable(self, mark: int) -> bool:
        if self._engine.needs_sync:
            self._syncer.sync(mark)
            return False
        return True

    def _hold_back(self, error: QuorateError) -> None:
        self.submit(StorageState(error.code, str(error)))
        log.warning("storage_refuses_writes", reason=str(error))
        self._loop.call_later(RETRY_S[type(error)], self._retry)

    def _retry(self) -> None:
        while self._backlog and not self._has_failed:
            batch, mark = self._backlog[0]
            try:
                self._engine.write(batch)
            except (StorageBusy, DiskFull) as error:
                self._loop.call_later(RETRY_S[type(error)], self._retry)
                return
            except StorageError as error:
                self._fail(f"the storage engine failed: {error}")
                return
            self._backlog.popleft()
            if self._is_durable(mark):
                self.submit(Durable(mark))
        log.info("storage_takes_writes")
        self.submit(StorageState())

    def _synced(self, mark: int) -> None:
        self.submit(Durable(mark))

    def _fail(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._on_failure(reason)
