# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine of a simulated cluster: a disk, clocks, connections, and the process that runs there.

It is `host.system.System` on virtual time: the turn, the way to the disk and the links above it are
`host`'s own, as in the field. A pause stalls the process, while its kernel goes on: syncs end, and
what arrives waits. A node that raises what it must not ends its process, and so does a disk that
fails a sync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

import msgspec

from quorate.config import Config
from quorate.core.node import CEILING_META, Node
from quorate.core.topology.layout import unmet_id
from quorate.core.values.events import Effects, Event, Instant, Note
from quorate.core.values.record import Record
from quorate.core.values.settings import Settings
from quorate.errors import QuorateError, StorageError
from quorate.host.acceptor import Incoming
from quorate.host.driver import DRAIN_MS, Driver
from quorate.host.links import OUTBOX_BYTES_MAX
from quorate.host.system import Channel, Dialled, Proof, Timer
from quorate.sim.clock import Clock
from quorate.sim.disk import Disk
from quorate.sim.network import Socket
from quorate.sim.trace import Recorder, host_of
from quorate.sim.world import Span, World
from quorate.storage.cached import CachedEngine, Lru

START_AGAIN_MS = 5_000.0
"""After which an operator tries a node again that refused to start."""
REOPEN_MS: Span = (20.0, 500.0)
"""How long a database takes to be closed and opened."""
CACHE_BYTES_MAX = 1 << 16
"""A cache that holds little more than one of the largest values, so that it has to drop some."""
WAITING_BYTES_SPARE = 1 << 20
"""What may wait for the disk beside all requests in flight: what peers had sent already."""
_CONFIG: Final = Config()
"""The driver wants one for the doors, of which there are none here."""


class Cluster(Protocol):
    """What a machine is part of; `cluster.SimCluster` is the real one."""

    def dial(self, machine: Machine, url: str, connection: Dialled) -> Timer:
        """Have the machine ask whoever is at the URL for a connection."""

    def on_step(self, machine: Machine, events: Sequence[Event], effects: Effects) -> None:
        """A step was taken, told, and its batch given to the disk, which may have ended the
        process; nothing was sent yet."""

    def on_broken(self, machine: Machine, error: BaseException) -> None:
        """The process raised what it must not."""


class Image(NamedTuple):
    """A data directory as it was at some time."""

    disk: Disk
    node_id: int
    taken_ms: float


class _DueCall:
    """A call that is due at a time, in one life of a process (`host.system.Timer`)."""

    __slots__ = ("_life", "_machine", "call")

    def __init__(self, machine: Machine, call: Callable[[], None]) -> None:
        self._machine = machine
        self._life = machine.life
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None

    def make(self) -> None:
        """Make it: at once, or after the pause if the process is paused. Not if the process has
        ended since; nor if it had ended before it asked, as a step that ends it still finishes."""
        machine = self._machine
        if self.call is None or machine.life != self._life or not machine.is_running:
            return
        if machine.is_paused:
            machine.overdue.append(self)
        else:
            self.call()


class Machine:
    """A machine; `node` runs on it, or none does."""

    def __init__(
        self,
        world: World,
        recorder: Recorder,
        settings: Settings,
        cluster: Cluster,
        disk: Disk,
        *,
        name: str = "",
    ) -> None:
        self.world = world
        self.settings = settings
        self.ids = [settings.node_id]
        self.url = settings.url
        self.name = name or host_of(settings.url)
        """As transcripts have it; its own where two machines have one URL."""
        self.disk = disk
        self.lost_disks: list[Disk] = []
        """Those that it had before, each as it was when it was lost."""
        self.clock = Clock(world, self.name)
        self.cache_entries = 0
        """Of the read cache in front of the disk; as of the next start."""
        self.lru = Lru(entries_max=0, bytes_max=0)
        """The cache of the process that runs, or ran last."""
        self.sync_ms: Span = (0.3, 3.0)
        self.turn_ms: Span = (0.0, 0.3)
        """How long an event waits for the step that takes it, with all that came meanwhile."""
        self.notes: list[Note] = []
        """The log of all its processes."""
        self.is_log_broken = False
        """Whether no line can be written: its disk is full, or its reader gone."""
        self.is_paused = self.is_silent = False
        self.paused_ms = self.resumed_ms = -1.0
        """When it was paused last, and when it went on last: what was due waits for that."""
        self.is_deaf = False
        """Whether the process reads nothing from its connections, though it does all else."""
        self.lacks_files = False
        """Whether there are no file descriptors for new connections."""
        self.life = 0
        """Counts starts and ends: what was due in an earlier life is lost."""
        self.process = 0
        """Of the node that runs, or ran last: what its versions end in."""
        self.ceiling = 0
        """Of its clock, as it found it when it started."""
        self.events: Sequence[Event] = []
        """What the node was given in its last step."""
        self.outbox_bytes_max = OUTBOX_BYTES_MAX
        self.sockets: dict[Socket, None] = {}
        self.overdue: list[_DueCall] = []
        """What was due in a pause."""
        self._recorder = recorder
        self._cluster = cluster
        self._random = world.generator(self.name)
        self._stalled_until_ms = 0.0
        self.has_sync_error = False
        self._sync_began_ms: float | None = None
        """Of the sync under way; None between syncs."""
        self.is_stopping = False
        """Whether the process was told to end, and has not yet."""
        self._driver: Driver | None = None

    # --- what connections see (`network.End`) ------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a node runs, paused or not."""
        return self._driver is not None

    @property
    def is_reading(self) -> bool:
        return self._driver is not None and not self.is_paused and not self.is_deaf

    @property
    def can_accept(self) -> bool:
        return self.is_reading and not self.lacks_files

    def incoming(self) -> Incoming:
        return self.driver.acceptor.connection()

    def names(self) -> tuple[int, int]:
        """What layouts may call it: the id of its disk, and until that is bound, its URL."""
        return self.settings.node_id, unmet_id(self.url)

    # --- life --------------------------------------------------------------------------------

    @property
    def driver(self) -> Driver:
        """What drives the running node."""
        assert self._driver is not None, f"{self.name} does not run"
        return self._driver

    @property
    def node(self) -> Node:
        """The running node."""
        return self.driver.node

    def receive(self, event: Event) -> None:
        """Have the event in the next turn; lost if no node runs."""
        if self._driver is not None:
            self._driver.submit(event)

    def start(self) -> None:
        """Start a node on what the disk holds. If it refuses, as its clock cannot be right or its
        data cannot be read, this is tried again later, as an operator would."""
        assert self._driver is None, f"{self.name} runs already"
        self._recorder.name(self.ids[-1], self.name)
        self.ceiling = int.from_bytes(self.disk.get_meta(CEILING_META) or b"", "big")
        self.life += 1
        self.is_silent = self.is_stopping = False
        self._sync_began_ms = None
        # Recovery writes what it finds in the log to a table of its own, and syncs that.
        self.disk.recover()
        self.lru = Lru(entries_max=self.cache_entries, bytes_max=CACHE_BYTES_MAX)
        engine = CachedEngine(self.disk, self.lru) if self.cache_entries else self.disk
        try:
            driver = Driver(
                _CONFIG,
                self.settings,
                engine,
                self,
                # A seed of its own for each life: a draw here shifts no other.
                self.world.generator(f"{self.name} {self.life}"),
                waiting_bytes_spare=WAITING_BYTES_SPARE,
                on_step=self._on_step,
            )
        except QuorateError as error:
            self._recorder.fault(self.name, "start refused", str(error))
            self.world.after(START_AGAIN_MS, partial(self._start_again, self.life))
            return
        self._driver = driver
        self.process = driver.node.parts.process
        driver.links.outbox_bytes_max = self.outbox_bytes_max
        driver.start()

    def _start_again(self, life: int) -> None:
        """Try again, unless it was started or killed meanwhile."""
        if life == self.life:
            self.start()

    def stop(self) -> None:
        """End the process as an operator does (SIGTERM): it takes its time, and loses nothing."""
        self._recorder.fault(self.name, "stop")
        if self._driver is not None and not self.is_stopping:
            self.is_stopping = True
            self._driver.stop(partial(self._stopped, self.world.now))

    def _stopped(self, told_ms: float) -> None:
        inflight = self.node.inflight
        if inflight and (self.world.now - told_ms) * self.clock.rate < DRAIN_MS - 1:
            left = AssertionError(f"{inflight} requests in flight when an orderly stop is over")
            self._cluster.on_broken(self, left)
        self.disk.sync()
        self.crash(is_power_cut=False)

    def crash(self, *, is_power_cut: bool = True, is_silent: bool = False) -> None:
        """End the process at once; a power cut loses what was not durable. Peers are told by their
        connections; if `is_silent` only after a long time without any sign."""
        self._driver = None
        self.life += 1
        self.overdue = []
        self.is_paused = False
        self.is_silent = is_silent
        for socket in list(self.sockets):
            socket.die(is_silent=is_silent)
        if not is_power_cut:
            return
        loss = self.disk.crash(self._random)
        if loss.lost:
            self._recorder.fault(self.name, "batches lost", f"{loss.lost}, {loss.kept} kept")
        if loss.is_torn:
            self._recorder.fault(self.name, "torn batch")

    def limit_outboxes(self, bytes_max: int) -> None:
        """Give up links on which more than so many bytes wait."""
        self.outbox_bytes_max = bytes_max
        if self._driver is not None:
            self._driver.links.outbox_bytes_max = bytes_max

    def pause(self) -> None:
        """Let nothing run."""
        self.is_paused = self.is_running
        self.paused_ms = self.world.now

    def resume(self) -> None:
        """Go on after a pause, with all that came meanwhile."""
        self.is_paused = False
        self.resumed_ms = self.world.now
        overdue, self.overdue = self.overdue, []
        for call in overdue:
            self.world.after(0.0, call.make)
        self.later(0.0, self.read)

    def read(self) -> None:
        """Read what waits in the kernel, and accept the connections that wait there."""
        for socket in list(self.sockets):
            socket.read()

    def _on_step(self, events: Sequence[Event], effects: Effects) -> None:
        self.events = events
        self._cluster.on_step(self, events, effects)

    # --- the disk ----------------------------------------------------------------------------

    def image(self) -> Image:
        """What a power cut would leave now; the machine goes on."""
        return Image(self.disk.image(), self.settings.node_id, self.world.now)

    def replace_disk(self, image: Image) -> None:
        """Have another disk, while nothing runs."""
        assert self._driver is None, f"{self.name} runs"
        self.lost_disks.append(self.disk)
        # What a disk saw that no batch may do is still to be told.
        image.disk.lowered = self.disk.lowered
        self.disk = image.disk
        # The id of a node is its data directory's, drawn when that is made.
        self.settings = msgspec.structs.replace(self.settings, node_id=image.node_id)
        self.ids.append(image.node_id)

    def stall(self, ms: float) -> None:
        """Let no sync end for so long."""
        self._recorder.fault(self.name, "stall", f"of {ms:.0f} ms")
        self._stalled_until_ms = max(self._stalled_until_ms, self.world.now + ms)

    def go_on(self) -> None:
        """Let syncs end again."""
        self._stalled_until_ms = 0.0

    def hangs_for_ms(self) -> float:
        """How long the sync under way has taken by now, by the clock of this machine."""
        if self._sync_began_ms is None:
            return 0.0
        return (self.world.now - self._sync_began_ms) * self.clock.rate

    def fail_sync(self) -> None:
        """Have the next sync that ends fail, and with it the process."""
        self._recorder.fault(self.name, "sync error")
        self.has_sync_error = True

    def latest(self, row: bytes) -> Record | None:
        """The record that a write of the running node must beat. For checkers: meets no fault."""
        disk = self.disk
        faults = disk.is_unreadable, disk.is_read_lost
        disk.is_unreadable, disk.is_read_lost = False, None
        try:
            return self.node.parts.replica.latest(row)
        finally:
            disk.is_unreadable, disk.is_read_lost = faults

    # --- the operating system (`host.system.System`) -----------------------------------------

    def now(self) -> Instant:
        return self.clock.instant

    def soon(self, call: Callable[[], None]) -> None:
        least_ms, most_ms = self.turn_ms
        ms = least_ms + (most_ms - least_ms) * self._random.random()
        self.world.after(ms, _DueCall(self, call).make)

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        timer = _DueCall(self, call)
        self.world.after(ms / self.clock.rate, timer.make)
        return timer

    def sync(self, done: Callable[[BaseException | None], None]) -> None:
        self._sync_began_ms = self.world.now
        written = self.disk.begin_sync()
        span_ms = REOPEN_MS if self.disk.is_unreadable else self.sync_ms
        ms = max(self._random.uniform(*span_ms), self._stalled_ms())
        self.world.after(ms, partial(self._end_sync, self.life, written, done))

    def _end_sync(
        self, life: int, written: int, done: Callable[[BaseException | None], None]
    ) -> None:
        """The kernel has synced: a pause of the process does not hold that up."""
        if life != self.life:
            return
        stalled_ms = self._stalled_ms()
        if stalled_ms > 0:
            self.world.after(stalled_ms, partial(self._end_sync, life, written, done))
            return
        error = StorageError("input/output error") if self.has_sync_error else None
        self.has_sync_error = False
        self._sync_began_ms = None
        if error is None:
            self.disk.end_sync(written)
        self.later(0.0, partial(done, error))

    def _stalled_ms(self) -> float:
        return max(0.0, self._stalled_until_ms - self.world.now)

    def dial(self, url: str, connection: Dialled) -> Timer:
        if self.lacks_files:
            return self.later(0.0, partial(connection.dial_failed, ""))
        return self._cluster.dial(self, url, connection)

    def proof(self, _channel: Channel) -> Proof:
        """Nothing is to be proved: links are as they are without a secret."""
        return Proof()

    def tune(self, channel: Channel) -> None:
        """Kernels here always do what `network.SILENCE_MS` says."""

    def log(self, note: Note) -> None:
        if self.is_log_broken:
            raise OSError("nobody reads the log")
        self.notes.append(note)

    def fault(self, what: str, error: Exception) -> None:
        del what
        self._cluster.on_broken(self, error)

    def end(self, reason: str) -> None:
        self._recorder.fault(self.name, "ended", reason)
        self.crash()


def machine_of(machines: Iterable[Machine], peer: int) -> Machine:
    """The machine that nodes call, or once called, so."""
    return next(each for each in machines if peer in each.ids or peer == unmet_id(each.url))


def newest_garbage(machines: Iterable[Machine], row: bytes) -> Record | None:
    """The newest tombstone of a row that any disk, lost ones too, ever dropped as garbage. A judge
    counts a replica that holds nothing as one that holds this tombstone: it was dropped below a
    horizon, where no older record can come back, be it here or where the copy was moved to."""
    disks = [disk for each in machines for disk in (*each.lost_disks, each.disk)]
    dropped = [disk.garbage[row] for disk in disks if row in disk.garbage]
    return max(dropped, key=attrgetter("version"), default=None)
