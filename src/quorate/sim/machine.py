# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine of a simulated cluster: a disk, clocks, and the process that runs the node.

The process does what `runtime.driver` does: all events of a turn go to one step; its answers go to
the clients, its batch to the disk, its frames to the links; where the disk needs no sync, the
batch is durable in the same turn. A node that raises ends its process, and so does a disk that
fails a sync. A pause stalls all of it, while syncs under way end in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import msgspec

from quorate.core.node import Node
from quorate.core.parts import Settings
from quorate.core.values.events import Durable, Effects, Event, Instant, Note
from quorate.core.values.messages import Greeting
from quorate.errors import QuorateError
from quorate.sim.clock import Clock
from quorate.sim.disk import Disk
from quorate.sim.storing import Storing
from quorate.sim.trace import Journal, host_of
from quorate.sim.world import Span, World
from quorate.storage.cached import CachedEngine
from quorate.storage.lru import Lru

START_AGAIN_MS = 5_000.0
"""After which an operator tries a node again that refused to start."""
CACHE_BYTES_MAX = 1 << 16
"""Little more than one of the largest values."""
WAITING_BYTES_SPARE = 1 << 20
"""What may wait for the disk beside all requests in flight: what peers had sent already."""


class Cluster(Protocol):
    """What a machine is part of; `cluster.SimCluster` is the real one."""

    def tell(self, machine: Machine, effects: Effects) -> None:
        """Answer the clients, and keep links to the peers."""

    def on_step(self, machine: Machine, events: Sequence[Event], effects: Effects) -> None:
        """A step was taken, told, and its batch given to the disk, which may have ended the
        process."""

    def send(self, machine: Machine, node: Node, effects: Effects) -> None:
        """Send each peer its messages."""

    def on_end(self, machine: Machine, reason: str) -> None:
        """The process ended by itself."""

    def on_broken(self, machine: Machine, error: BaseException) -> None:
        """The node raised what it must not."""


class Image(NamedTuple):
    """A data directory as it was at some time."""

    disk: Disk
    node_id: int
    taken_ms: float


class Machine:
    """A machine; `node` runs on it, or none does."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        settings: Settings,
        cluster: Cluster,
        disk: Disk,
        *,
        name: str = "",
    ) -> None:
        self.world = world
        self.settings = settings
        self.url = settings.url
        self.name = name or host_of(settings.url)
        """As transcripts have it; its own where two machines have one URL."""
        self.disk = disk
        self.lost_disks: list[Disk] = []
        """Those that it had before, each as it was when it was lost."""
        self.image_ms = 0.0
        """When what this disk began with was stored."""
        self.clock = Clock(world, self.name)
        self.cache_entries = 0
        """Of the read cache in front of the disk; as of the next start."""
        self.lru = Lru(entries_max=0, bytes_max=0)
        """The cache of the process that runs, or ran last."""
        self.sync_ms: Span = (0.3, 3.0)
        self.turn_ms: Span = (0.0, 0.3)
        """From an event to the step that takes it, and all that came meanwhile."""
        self.notes: list[Note] = []
        self.refusal = ""
        """Why the node did not start when it was last tried."""
        self.is_paused = False
        self.life = 0
        """Counts starts and ends: what was due in an earlier life is lost."""
        self.process = 0
        """Of the node that runs, or ran last: what its versions end in."""
        self.events: Sequence[Event] = []
        """What the node was given in its last step."""
        self._journal = journal
        self._cluster = cluster
        self._random = world.generator(self.name)
        self._draw = self._random.random
        self._stalled_until_ms = 0.0
        self._has_sync_error = False
        self._node: Node | None = None
        self._storing: Storing | None = None
        self._inbox: list[Event] = []
        self._overdue: list[Callable[[], None]] = []
        """What was due in a pause."""
        self._is_turn_due = False
        self._wake_ms: int | None = None
        self._alarm_ms: float | None = None
        """When, by the world, the next wake-up is set for."""

    # --- what links see ----------------------------------------------------------------------

    @property
    def is_listening(self) -> bool:
        return self._node is not None and not self.is_paused

    def greeting(self) -> Greeting:
        return self.node.greeting()

    def receive(self, event: Event) -> None:
        """Have the event in the next turn; lost if no node runs."""
        if self._node is not None:
            self._inbox.append(event)
            if not self._is_turn_due:
                self._schedule()

    # --- life --------------------------------------------------------------------------------

    @property
    def node(self) -> Node:
        """The running node."""
        assert self._node is not None, f"{self.url} does not run"
        return self._node

    @property
    def is_running(self) -> bool:
        """Whether a node runs, paused or not."""
        return self._node is not None

    @property
    def instant(self) -> Instant:
        """Now, by the clocks of this machine."""
        return self.clock.instant

    @property
    def wall_offset_ms(self) -> int:
        """How far the wall clock was stepped."""
        return self.clock.offset_ms

    @wall_offset_ms.setter
    def wall_offset_ms(self, offset_ms: int) -> None:
        self.clock.offset_ms = offset_ms

    def start(self) -> None:
        """Start a node on what the disk holds. One that refuses, for its clock cannot be right or
        its data not be read, is tried again later, as an operator would."""
        assert self._node is None, f"{self.url} runs already"
        self.life += 1
        # Recovery writes what it finds in the log to a table of its own, and syncs that.
        self.disk.sync()
        # A seed of its own for each life: a draw here shifts no other.
        random = self.world.generator(f"{self.name} {self.life}")
        self.lru = Lru(entries_max=self.cache_entries, bytes_max=CACHE_BYTES_MAX)
        engine = CachedEngine(self.disk, self.lru) if self.cache_entries else self.disk
        try:
            node = Node(self.settings, engine, random, self.instant)
        except QuorateError as error:
            self.refusal = str(error)
            self._journal.fault(self.name, "start refused", self.refusal)
            self.later(START_AGAIN_MS, self.start)
            return
        self.refusal = ""
        self._node = node
        self.process = node.parts.process
        self._storing = Storing(
            engine,
            self.disk,
            self,
            now=lambda: self.world.now,
            stuck_after_ms=self.settings.timeout_ms,
            waiting_bytes_max=self.settings.inflight_bytes_max + WAITING_BYTES_SPARE,
        )
        self._wake_ms, self._alarm_ms = 0, None
        self._schedule()

    def crash(self, *, is_power_cut: bool = True) -> None:
        """End the process at once; a power cut loses what was not durable."""
        self._node = None
        self._storing = None
        self.life += 1
        self._inbox, self._overdue = [], []
        self._is_turn_due = self.is_paused = False
        self._wake_ms = self._alarm_ms = None
        if not is_power_cut:
            return
        loss = self.disk.crash(self._random)
        if loss.lost:
            self._journal.fault(self.name, "batches lost", f"{loss.lost}, {loss.kept} kept")
        if loss.is_torn:
            self._journal.fault(self.name, "torn batch")

    def end(self, reason: str) -> None:
        """End the process by itself; part of `storing.Process`."""
        self._journal.fault(self.name, "ended", reason)
        self.crash()
        self._cluster.on_end(self, reason)

    def pause(self) -> None:
        """Let nothing run."""
        self.is_paused = self.is_running

    def resume(self) -> None:
        """Go on after a pause, with all that came meanwhile."""
        self.is_paused = False
        overdue, self._overdue = self._overdue, []
        for call in overdue:
            self.later(0.0, call)

    # --- the disk ----------------------------------------------------------------------------

    def image(self) -> Image:
        """What a power cut would leave now; the machine goes on."""
        return Image(self.disk.image(), self.settings.node_id, self.world.now)

    def replace_disk(self, image: Image) -> None:
        """Have another disk, while nothing runs."""
        assert self._node is None, f"{self.name} runs"
        self.lost_disks.append(self.disk)
        # What a disk saw that no batch may do is still to be told.
        image.disk.lowered = self.disk.lowered
        self.disk = image.disk
        self.image_ms = image.taken_ms
        # The id of a node is its data directory's, drawn when that is made.
        self.settings = msgspec.structs.replace(self.settings, node_id=image.node_id)

    def set_disk_full(self, is_full: bool) -> None:
        """Take no more writes; or take them again, first those that waited."""
        self.disk.is_full = is_full

    def stall(self, ms: float) -> None:
        """Let no sync end for so long."""
        self._stalled_until_ms = max(self._stalled_until_ms, self.world.now + ms)

    def fail_sync(self) -> None:
        """Have the next sync that ends fail, and with it the process."""
        self._has_sync_error = True

    def draw_sync_ms(self) -> float:
        """Part of `storing.Process`."""
        return self._random.uniform(*self.sync_ms)

    def stalled_ms(self) -> float:
        """Part of `storing.Process`."""
        return max(0.0, self._stalled_until_ms - self.world.now)

    def takes_sync_error(self) -> bool:
        """Part of `storing.Process`."""
        has_error, self._has_sync_error = self._has_sync_error, False
        return has_error

    # --- turns -------------------------------------------------------------------------------

    def later(self, ms: float, call: Callable[[], None]) -> None:
        """Have `call` made in `ms`, or when a pause ends, in this life."""
        self.world.after(ms, partial(self._due, self.life, call))

    def _due(self, life: int, call: Callable[[], None]) -> None:
        if life == self.life:
            if self.is_paused:
                self._overdue.append(call)
            else:
                call()

    def _schedule(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            least_ms, most_ms = self.turn_ms
            self.later(least_ms + (most_ms - least_ms) * self._draw(), self._turn)

    def _turn(self) -> None:
        self._is_turn_due = False
        now = self.clock.instant
        events, wake_ms = self._inbox, self._wake_ms
        if events or (wake_ms is not None and now.mono_ms >= wake_ms):
            self._inbox = []
            self._step(self.node, events, now)
            wake_ms = self._wake_ms
        if wake_ms is not None and self._node is not None:
            self._set_alarm(wake_ms)

    def _step(self, node: Node, events: list[Event], now: Instant) -> None:
        effects = self._ask(node, events, now)
        if effects is None:
            return
        first = effects
        while self._carry_out(effects):
            effects = self._ask(node, [Durable(effects.mark)], now)
            if effects is None:
                return
            for url, messages in effects.sends.items():
                said = first.sends.get(url)
                first.sends[url] = messages if said is None else said + messages
        if self._node is not None:
            self._wake_ms = effects.wake_ms
            if first.sends:
                self._cluster.send(self, node, first)

    def _ask(self, node: Node, events: list[Event], now: Instant) -> Effects | None:
        """What the node makes of events; None if it breaks over them, which ends it."""
        self.events = events
        try:
            return node.step(events, now)
        except Exception as error:
            self.end(f"internal fault: {error!r}")
            self._cluster.on_broken(self, error)
            return None

    def _carry_out(self, effects: Effects) -> bool:
        """Answer, store and log; True if what was stored is durable already."""
        self._cluster.tell(self, effects)
        is_durable = False
        if effects.batch is not None:
            assert self._storing is not None, "a node that runs can store"
            is_durable = self._storing.store(effects.batch, effects.mark)
        self.notes += effects.notes
        self._cluster.on_step(self, self.events, effects)
        return is_durable

    def _set_alarm(self, wake_ms: int) -> None:
        due_ms = self.clock.due_ms(wake_ms)
        # One that is set for before will set the next.
        if self._alarm_ms is None or due_ms < self._alarm_ms:
            self._alarm_ms = due_ms
            self.later(due_ms - self.world.now, lambda: self._wake(due_ms))

    def _wake(self, due_ms: float) -> None:
        if self._alarm_ms == due_ms:
            self._alarm_ms = None
            self._schedule()
