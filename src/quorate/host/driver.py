# SPDX-License-Identifier: GPL-3.0-or-later
"""One turn of the loop: gather events, step the node once, carry out the effects.

Doors and links only append events; the first of a turn schedules it. A turn stores one batch, sends
one frame to each peer, and writes once to each client connection, so every fixed cost is paid per
turn and not per operation. With an engine that needs no sync the batch is durable at once, and the
node hears so in the same turn.

A fault in the node ends it: whatever is wrong, no promise may follow. A fault in one client's
connection ends that connection, and nobody else notices. A log line that cannot be written is lost,
and nothing else.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from quorate.config import Config
from quorate.core.node import Node
from quorate.core.topology.greeting import answer
from quorate.core.topology.layout import Layout
from quorate.core.topology.topology import Topology
from quorate.core.values.events import (
    Discovered,
    Durable,
    Effects,
    Event,
    Instant,
    LinkRefused,
    LinkRoom,
    Met,
    Note,
    PeerFrame,
    Stop,
)
from quorate.core.values.messages import Frame, Greeting
from quorate.core.values.settings import Settings
from quorate.core.values.status import Status
from quorate.host.acceptor import Acceptor
from quorate.host.journal import LinkJournal
from quorate.host.links import PeerLinks
from quorate.host.store import STATUS_AGE_MS_MAX, Sink
from quorate.host.storing import BUSY_RETRY_MS, Storing
from quorate.host.system import System, Timer
from quorate.storage.engine import Engine

if TYPE_CHECKING:
    from random import Random

WAITING_BYTES_SPARE: Final = 256 << 20
"""What may wait for the engine beside all requests in flight: what peers had sent already."""
DRAIN_MS: Final = 10_000
"""How long a stopping node waits for requests in flight."""
ROOM_BYTES: Final = 1 << 20
"""A peer that has so much or less to read is served what was put off."""
ROOM_MS: Final = 5.0
"""How often that is looked at, while anything is put off."""
LINGER_MS: Final = 200
"""How long a node that stops refuses requests on the connections that are open: several times what
a busy client takes until its next one."""
SETTLE_MS: Final = 2_000
"""How long for the engine to take what it refused, in a write stall or on a full disk."""


class StopStage(enum.Enum):
    """How far an orderly stop is."""

    RUNNING = enum.auto()
    REFUSING = enum.auto()
    """Whoever asks is told that the node stops, for LINGER_MS."""
    DRAINING = enum.auto()
    """So it is, and requests in flight are waited for, up to DRAIN_MS."""
    LEAVING = enum.auto()
    """Links end, then the engine is waited for."""


class _Seen(NamedTuple):
    """What the node looked like last."""

    made_ms: int
    layout: Layout | None
    known: int
    """Nodes that it knew."""
    status: Status


OnStep = Callable[[Sequence[Event], Effects], None]


class Driver:
    """A node with its links and its way to the disk; the `Store` of the doors.

    Raises what `Node` raises if the node cannot start. `System.end` is told once, with the reason,
    when it cannot go on: the disk failed, or an invariant did not hold. From then on nothing is
    stepped, and so nothing acknowledged. `counts` adds the counters of other parts to the status;
    `on_step` sees each step when its batch is with the engine, before anything is sent.
    """

    def __init__(
        self,
        config: Config,
        settings: Settings,
        engine: Engine,
        system: System,
        random: Random,
        *,
        waiting_bytes_spare: int = WAITING_BYTES_SPARE,
        counts: Callable[[], dict[str, int]] = dict,
        on_step: OnStep | None = None,
    ) -> None:
        self.config = config
        self.node: Final = Node(settings, engine, random, system.now())
        self._system = system
        self._counts = counts
        self._on_step = on_step
        self._events: list[Event] = []
        self._sinks: dict[Sink, None] = {}
        self._is_scheduled = self._has_failed = self._is_looking_for_room = False
        self._now: Instant | None = None
        """When the turn began; None between two."""
        self._alarm: Timer | None = None
        self._alarm_ms = 0
        self._wake_ms: int | None = 0
        """When the node is to be stepped though nothing happens."""
        self._on_stopped: Callable[[], None] | None = None
        self._stage = StopStage.RUNNING
        self._patience: Timer | None = None
        """With the stage of its stop."""
        self._log_lines_lost = 0
        self._status: _Seen | None = None
        self._supervised = supervised = Supervised(system, self._on_fault)
        self._guarded_turn: Final = supervised.guarded(self._turn)
        self._storing = Storing(
            supervised,
            engine,
            stuck_after_ms=settings.timeout_ms,
            waiting_bytes_max=settings.inflight_bytes_max + waiting_bytes_spare,
            on_durable=lambda mark: self.submit(Durable(mark)),
            on_state=self.submit,
            on_failure=self._fail,
            log=self._log,
        )
        self.journal: Final = LinkJournal(log=self._log, mono_ms=lambda: system.now().mono_ms)
        self.links: Final = PeerLinks(
            supervised,
            greeting=self.node.membership.greeting,
            on_event=self.submit,
            on_refused=lambda url, reason: self.submit(LinkRefused(url, reason)),
            on_welcome=self._welcome,
            on_twin=self._find_twin,
            random=random,
            journal=self.journal,
        )
        self.acceptor: Final = Acceptor(
            supervised,
            judge=self._judge,
            on_frames=self._on_frames,
            on_accepted=self._accepted,
            journal=self.journal,
        )

    # --- what doors call -------------------------------------------------------------------

    def start(self) -> None:
        """Begin stepping, and with it to dial the peers."""
        self.links.on_other_name = self._has_other_name
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
        """Wall-clock milliseconds; within a turn those of its beginning, for each answer asks."""
        now = self._now
        return self._system.now().wall_ms if now is None else now.wall_ms

    def status(self) -> Status:
        """A snapshot of the node, reused for STATUS_AGE_MS_MAX while its layout is the same, and
        whom it knows."""
        membership, now_ms = self.node.membership, self._system.now().mono_ms
        layout, known, kept = membership.layout, len(membership.roster.peers), self._status
        if (
            kept is not None
            and now_ms - kept.made_ms < STATUS_AGE_MS_MAX
            and (kept.layout is layout and kept.known == known)
        ):
            return kept.status
        status = self.node.status()
        counters = status.counters | self.counters() | self._counts()
        status = msgspec.structs.replace(status, counters=counters)
        self._status = _Seen(now_ms, layout, known, status)
        return status

    def counters(self) -> dict[str, int]:
        """What this and the links count, by name."""
        return self.journal.counters() | {"log_lines_lost": self._log_lines_lost}

    def topology(self) -> Topology | None:
        """Who holds what."""
        return self.node.membership.topology

    # --- the turn --------------------------------------------------------------------------

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._system.soon(self._guarded_turn)

    def _turn(self) -> None:
        if self._has_failed:
            return
        self._now = now = self._system.now()
        events = self._events
        if events or (self._wake_ms is not None and now.mono_ms >= self._wake_ms):
            self._events = []
            self._step(events, now)
        # What was answered is flushed in this very turn: only new events need another.
        self._is_scheduled = False
        if self._events:
            self._schedule()
        self._set_alarm(now)
        sinks = self._sinks
        if sinks:
            self._sinks = {}
            for sink in sinks:
                try:
                    sink.flush()
                except Exception as error:
                    sink.abort()
                    self._system.fault("connection_failed", error)
        self._now = None

    def _step(self, events: Sequence[Event], now: Instant) -> None:
        """Step the node; answer, store, log; once more for a batch that is durable at once; then
        send all that this came to, in one frame to each peer."""
        node = self.node
        effects = node.step(events, now)
        sends = effects.sends
        while self._carry_out(events, effects):
            events = [Durable(effects.mark)]
            effects = node.step(events, now)
            for peer, messages in effects.sends.items():
                sends[peer] = sends[peer] + messages if peer in sends else messages
        if self._has_failed:
            return
        self._wake_ms = effects.wake_ms
        if sends:
            epoch, clock = node.frame_header()
            for peer, messages in sends.items():
                self.links.send(peer, Frame(epoch, clock, messages))
        if node.serving.put_off and not self._is_looking_for_room:
            self._is_looking_for_room = True
            self._supervised.later(ROOM_MS, self._look_for_room)
        if self._stage is StopStage.DRAINING and not node.inflight:
            self._leave()

    def _look_for_room(self) -> None:
        """Serve peers that have read what they were sent; look again while there are others."""
        self._is_looking_for_room = False
        if self._has_failed:
            return
        peers = [peer.id for peer in self.node.serving.put_off]
        free = [peer for peer in peers if self.links.queued_bytes(peer) <= ROOM_BYTES]
        for peer in free:
            self.submit(LinkRoom(peer))
        if peers and not free:
            self._is_looking_for_room = True
            self._supervised.later(ROOM_MS, self._look_for_room)

    def _carry_out(self, events: Sequence[Event], effects: Effects) -> bool:
        """All but the sends of a step; True if its batch is durable already."""
        for waiter, result in effects.answers:
            try:
                waiter.done(result)
            except Exception as error:
                self._system.fault("answer_failed", error)
        is_durable = effects.batch is not None and self._storing.store(effects.batch, effects.mark)
        for note in effects.notes:
            self._log(note)
        if effects.peers is not None:
            self.links.set_peers(effects.peers)
        if self._on_step is not None:
            self._on_step(events, effects)
        if effects.end:
            self._fail(effects.end)
        return is_durable

    def _set_alarm(self, now: Instant) -> None:
        """Have a turn when the node wants one; an alarm set for before will set the next."""
        wake_ms = self._wake_ms
        if wake_ms is None or (self._alarm is not None and self._alarm_ms <= wake_ms):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_ms = wake_ms
        self._alarm = self._system.later(max(wake_ms - now.mono_ms, 0), self._wake)

    def _wake(self) -> None:
        self._alarm = None
        if not self._is_scheduled:
            self._schedule()

    def _log(self, note: Note) -> None:
        try:
            self._system.log(note)
        except OSError:
            self._log_lines_lost += 1

    # --- peers -----------------------------------------------------------------------------

    def _on_frames(self, peer: int, frames: list[Frame]) -> None:
        self._events += [PeerFrame(peer, frame) for frame in frames]
        if not self._is_scheduled:
            self._schedule()

    def _judge(self, theirs: Greeting) -> Greeting:
        """Our answer to a stranger's greeting."""
        reached = self.links.reached(theirs)
        membership = self.node.membership
        mark = membership.marks.of(theirs.node_id)
        return answer(membership.greeting(), theirs, reached=reached, mark=mark)

    def _accepted(self, theirs: Greeting) -> None:
        """A peer dialled us."""
        self.submit(Met(theirs))
        self.links.hurry(theirs.url)

    def _welcome(self, theirs: Greeting) -> None:
        """A peer took our link."""
        self.acceptor.keep_only(theirs)
        self.submit(Met(theirs, is_answer=True))

    def _has_other_name(self, url: str, real: str) -> bool:
        """Who was dialled at `url` calls itself `real`: go there instead, if only discovery named
        the first."""
        is_candidate = self.node.roster.is_candidate(url)
        if is_candidate:
            self.submit(Discovered([real], known_as=url))
        return is_candidate

    def _find_twin(self) -> None:
        url = self.node.settings.url
        self._fail(
            f"two nodes with one identity: another process has the URL {url} or a copy of this "
            "data directory"
        )

    # --- the end ---------------------------------------------------------------------------

    def stop(self, done: Callable[[], None]) -> None:
        """Refuse new requests, for LINGER_MS at least; wait for those in flight; end the links;
        wait until the engine has taken what that made (hints); then call `done`. Each wait has a
        stated time. A node that has failed only ends its links."""
        self._on_stopped = done
        self._stage = StopStage.REFUSING
        if self._has_failed:
            self._leave()
            return
        # Whoever is sending now is told to go elsewhere, and that nothing was written. Were its
        # connection closed at once, it could not know what became of the write on its way here.
        self.submit(Stop())
        self._patience = self._supervised.later(LINGER_MS, self._drain)

    def _drain(self) -> None:
        """Whoever asks by now was told that the node stops: wait for those in flight."""
        self._stage = StopStage.DRAINING
        self._patience = self._supervised.later(DRAIN_MS, self._leave)
        if not self.node.inflight and not self._events:
            self._leave()

    def _leave(self) -> None:
        """Nobody is in flight any more, or nobody waits for those who are."""
        if self._stage not in (StopStage.REFUSING, StopStage.DRAINING):
            return
        self._stage = StopStage.LEAVING
        if self._patience is not None:
            self._patience.cancel()
        count = self.node.inflight
        if count and not self._has_failed:
            self._log(Note("warning", "stopped_with_requests_in_flight", {"count": count}))
        self.links.close(self._on_links_closed)

    def _on_links_closed(self) -> None:
        self.acceptor.close()
        self._settle(self._system.now().mono_ms + SETTLE_MS)

    def _settle(self, until_ms: int) -> None:
        """Step the node on what it was told last, as hints come of that, and have the engine take
        all that it refused until now."""
        waiting = self._storing.waiting_bytes
        is_late = self._has_failed or self._system.now().mono_ms >= until_ms
        if (waiting or self._events) and not is_late:
            self._supervised.later(BUSY_RETRY_MS, lambda: self._settle(until_ms))
            return
        if waiting:
            self._log(Note("warning", "stopped_with_writes_waiting", {"bytes": waiting}))
        self.close()
        self._tell_stopped()

    def _tell_stopped(self) -> None:
        done, self._on_stopped = self._on_stopped, None
        if done is not None:
            done()

    def close(self) -> None:
        """End stepping. A sync may still be under way; the engine is the caller's to close."""
        self._has_failed = True
        self._wake_ms = None
        if self._alarm is not None:
            self._alarm.cancel()
        self._storing.close()

    def _fail(self, reason: str) -> None:
        if not self._has_failed:
            # A fault ends the turn that it is in.
            self._now = None
            self.close()
            self._system.end(reason)
            # Nobody in flight gets an answer any more.
            self._leave()

    def _on_fault(self, reason: str) -> None:
        """A call back raised. If that is what the stop waited for, it would wait for ever."""
        if self._on_stopped is not None:
            self._system.soon(self._tell_stopped)
        self._fail(reason)


class Supervised:
    """A system of which every call back that raises ends the node: whatever is wrong then, no
    promise may follow. (What a connection raises costs that connection, and is the loop's to see.)
    """

    def __init__(self, system: System, on_fault: Callable[[str], None]) -> None:
        self._system = system
        self._on_fault = on_fault
        self.now: Final = system.now
        self.dial: Final = system.dial
        self.proof: Final = system.proof
        self.tune: Final = system.tune
        self.log: Final = system.log
        self.fault: Final = system.fault
        self.end: Final = system.end

    def soon(self, call: Callable[[], None], /) -> None:
        """Part of `System`."""
        self._system.soon(self.guarded(call))

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        """Part of `System`."""
        return self._system.later(ms, self.guarded(call))

    def sync(self, done: Callable[[BaseException | None], None], /) -> None:
        """Part of `System`."""

        def tell(error: BaseException | None) -> None:
            try:
                done(error)
            except Exception as fault:
                self._fail(fault)

        self._system.sync(tell)

    def guarded(self, call: Callable[[], None]) -> Callable[[], None]:
        """The call, made so that a fault in it ends the node."""

        def make() -> None:
            try:
                call()
            except Exception as fault:
                self._fail(fault)

        return make

    def _fail(self, fault: Exception) -> None:
        # First the end, then the telling: the log may be what is broken.
        self._on_fault(f"internal fault: {fault!r}")
        self._system.fault("internal_fault", fault)
