# SPDX-License-Identifier: GPL-3.0-or-later
"""One turn of the loop: gather events, step the node once, perform the effects.

Doors and links only append events; the first of a turn schedules it. A turn stores one batch, sends
one frame to each peer, and writes once to each client connection, so every fixed cost is paid per
turn and not per operation. With an engine that needs no sync the batch is durable at once, and the
node hears so in the same turn.

A fault in the node ends it: whatever is wrong, no promise may follow. A fault in one client's
connection ends that connection, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import structlog

from quorate.config import Config
from quorate.core.node import Node
from quorate.core.topology.layout import Layout
from quorate.core.values.events import (
    Durable,
    Effects,
    Event,
    Instant,
    PeerFrame,
    Stop,
    StorageState,
)
from quorate.core.values.messages import Frame
from quorate.core.values.status import Status
from quorate.runtime.store import Sink
from quorate.runtime.storing import BUSY_RETRY_S, Storing
from quorate.storage.engine import Engine

WAITING_BYTES_SPARE: Final = 256 << 20
"""What may wait for the engine beside all requests in flight: what peers had sent already."""

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
        self._storing = Storing(
            engine,
            self,
            stuck_after_s=config.timeout_ms / 1000,
            waiting_bytes_max=config.inflight_bytes_max + WAITING_BYTES_SPARE,
        )
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

    def on_frames(self, url: str, frames: list[Frame]) -> None:
        """Take a peer's frames into the next turn."""
        self._events += [PeerFrame(url, frame) for frame in frames]
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
        """Refuse new requests and wait for those in flight."""
        self._drained = asyncio.Event()
        self.submit(Stop())
        try:
            await asyncio.wait_for(self._drained.wait(), timeout_s)
        except TimeoutError:
            log.warning("stopped_with_requests_in_flight", count=self.node.inflight)

    async def settle(self, timeout_s: float) -> None:
        """Step once more, on what was told last, and wait until the engine has taken all batches:
        hints that the end of the links made may be in them."""
        await asyncio.sleep(0)
        end = self._loop.time() + timeout_s
        while self._storing.waiting_bytes and not self._has_failed and self._loop.time() < end:
            await asyncio.sleep(BUSY_RETRY_S)
        if self._storing.waiting_bytes:
            log.warning("stopped_with_writes_waiting", bytes=self._storing.waiting_bytes)

    def close(self) -> None:
        """End stepping. A sync may still be under way; the engine is the caller's to close."""
        self._has_failed = True
        if self._timer is not None:
            self._timer.cancel()
        self._storing.close()

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
                self._fail(f"internal fault: {error!r}")
                log.critical("step_failed", exc_info=True)
                return
        sinks = self._sinks
        if sinks:
            self._sinks = {}
            for sink in sinks:
                try:
                    sink.flush()
                except Exception:
                    sink.abort()
                    log.exception("connection_failed")

    def _step(self, events: list[Event], now: Instant) -> None:
        node = self.node
        effects = node.step(events, now)
        sends = effects.sends
        self._tell(effects)
        while effects.batch is not None and self._storing.store(effects.batch, effects.mark):
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
            try:
                waiter.done(result)
            except Exception:
                log.exception("answer_failed")
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

    # --- what becomes of batches -----------------------------------------------------------

    def on_durable(self, mark: int) -> None:
        """Part of `storing.Owner`."""
        self.submit(Durable(mark))

    def on_storage_state(self, state: StorageState) -> None:
        """Part of `storing.Owner`."""
        self.submit(state)

    def on_storage_failed(self, reason: str) -> None:
        """Part of `storing.Owner`."""
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._storing.close()
            self._on_failure(reason)
            if self._drained is not None:
                # Nobody in flight gets an answer any more.
                self._drained.set()
