# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine of a simulated cluster: a disk, clocks, and the process that runs the node.

The disk is the memory engine with a crash: a batch is seen at once (as unsynced writes of a real
engine are), durable when its sync is over, and a crash keeps a drawn prefix of the batches that
were not. The process gives the events of a turn to one step, as the real driver does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from random import Random

from quorate.core.events import Batch, Durable, Effects, Event, Instant, Note, StorageState
from quorate.core.messages import Greeting
from quorate.core.node import Node
from quorate.core.parts import Settings
from quorate.core.record import Record
from quorate.errors import Corrupt
from quorate.storage.cached import CachedEngine
from quorate.storage.lru import Lru
from quorate.storage.memory import MemoryEngine
from tests.sim_world import GAP_MS, Span, World

EPOCH_MS = 1_700_000_000_000
"""Wall-clock time at the beginning of every world."""
TURN_MS: Span = (0.0, 0.3)
"""From an event to the step that takes it, and all that came meanwhile."""


class Disk(MemoryEngine):
    """What an engine holds, and how much of it a crash keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.damaged: set[bytes] = set()
        """Rows whose bytes fail their checksum, until they are written again."""
        self.hints_damaged = False
        """Whether hints cannot be read."""
        self._unsynced: deque[tuple[int, Batch]] = deque()
        self._durable: list[Batch] = []

    def get(self, row: bytes) -> Record | None:
        if row in self.damaged:
            raise Corrupt("a damaged record")
        return super().get(row)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        if any(start <= row < end for row in self.damaged):
            raise Corrupt("a damaged block")
        return super().scan(start, end)

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        if self.hints_damaged:
            raise Corrupt("a damaged block")
        return super().scan_hints(start, end)

    def store(self, batch: Batch, mark: int) -> None:
        """Write a batch: seen at once, durable once `synced`."""
        self.write(batch)
        self.wrote(batch, mark)

    def wrote(self, batch: Batch, mark: int) -> None:
        """A batch was written: durable once `synced`."""
        self._unsynced.append((mark, batch))
        self.damaged.difference_update([row for row, _ in batch.records])

    def synced(self, mark: int) -> None:
        """Everything up to `mark` is durable."""
        while self._unsynced and self._unsynced[0][0] <= mark:
            self._durable.append(self._unsynced.popleft()[1])

    def format(self, batch: Batch) -> None:
        """Write a batch that is durable at once."""
        self.write(batch)
        self._durable.append(batch)

    def durable_rows(self) -> set[bytes]:
        """Rows of which a power cut would leave some record."""
        return {row for batch in self._durable for row, _ in batch.records}

    def after_crash(self, random: Random) -> Disk:
        """What the next process finds: all that was durable, and a prefix of the rest."""
        kept = random.randint(0, len(self._unsynced))
        found = Disk()
        for batch in self._durable + [batch for _, batch in self._unsynced][:kept]:
            found.format(batch)
        found.damaged = set(self.damaged)
        return found


class Host:
    """A machine; `node` runs on it, or none does."""

    def __init__(
        self, world: World, settings: Settings, perform: Callable[[Host, Effects], None]
    ) -> None:
        self.world = world
        self.settings = settings
        self.disk = Disk()
        self.cache_entries = 0
        """Of the read cache in front of the disk; as of the next start."""
        self.wall_offset_ms = 0
        self.sync_ms: Span = (0.3, 3.0)
        self.notes: list[Note] = []
        self.is_paused = False
        self._perform = perform
        self._node: Node | None = None
        self._engine: Disk | CachedEngine = self.disk
        self.life = 0
        """Counts starts and crashes: what was due in an earlier life is lost."""
        self._inbox: list[Event] = []
        self._is_turn_due = False
        self._wake_ms: float | None = None
        self._synced_ms = 0.0
        self._is_disk_full = False
        self._backlog: deque[tuple[Batch, int]] = deque()

    # --- what links see --------------------------------------------------------------------

    @property
    def url(self) -> str:
        return self.settings.url

    @property
    def is_listening(self) -> bool:
        return self.is_running and not self.is_paused

    def greeting(self) -> Greeting:
        return self.node.greeting()

    def receive(self, event: Event) -> None:
        """Have the event in the next turn; lost if no node runs."""
        if self._node is not None:
            self._inbox.append(event)
            self._schedule()

    # --- life ------------------------------------------------------------------------------

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
        now = int(self.world.now)
        return Instant(now, EPOCH_MS + now + self.wall_offset_ms)

    def start(self) -> None:
        """Start a node on what the disk holds."""
        self.life += 1
        # A generator of its own: a draw here shifts no other. Seeds that are text are not salted.
        random = Random(f"{self.world.seed} {self.url} {self.life}")
        lru = Lru(entries_max=self.cache_entries, bytes_max=1 << 30)
        self._engine = CachedEngine(self.disk, lru) if self.cache_entries else self.disk
        self._node = Node(self.settings, self._engine, random, self.instant)
        self._schedule()

    def crash(self) -> None:
        """End the process at once, losing what was not durable."""
        self._node = None
        self.life += 1
        self._inbox = []
        self._is_turn_due = self.is_paused = False
        self._wake_ms = None
        self._backlog.clear()
        self.disk = self.disk.after_crash(self.world.random)

    def resume(self) -> None:
        """Go on after a pause, with all that came meanwhile."""
        self.is_paused = False
        self._schedule()

    def set_disk_full(self, is_full: bool) -> None:
        """Take no more writes; or take them again, first those that waited."""
        self._is_disk_full = is_full
        if not is_full:
            while self._backlog:
                self._store(*self._backlog.popleft())
            self.receive(StorageState())

    # --- turns -----------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            self._later(self.world.now + self.world.draw(TURN_MS), self._turn)

    def _later(self, ms: float, call: Callable[[], None]) -> None:
        """Have `call` made in this life."""
        life = self.life
        self.world.at(ms, lambda: call() if life == self.life else None)

    def _turn(self) -> None:
        self._is_turn_due = False
        if self.is_paused:
            return
        events, self._inbox = self._inbox, []
        effects = self.node.step(events, self.instant)
        if effects.batch is not None:
            self._store(effects.batch, effects.mark)
        self._wake_ms = effects.wake_ms
        if effects.wake_ms is not None:
            wake_ms = effects.wake_ms
            self._later(max(float(wake_ms), self.world.now), lambda: self._wake(wake_ms))
        self.notes += effects.notes
        self._perform(self, effects)

    def _wake(self, wake_ms: int) -> None:
        if self._wake_ms == wake_ms:
            self._schedule()

    def _store(self, batch: Batch, mark: int) -> None:
        if self._is_disk_full:
            self._backlog.append((batch, mark))
            self.receive(StorageState("disk_full", "no space left"))
            return
        self._engine.write(batch)
        self.disk.wrote(batch, mark)
        self._synced_ms = max(
            self._synced_ms + GAP_MS, self.world.now + self.world.draw(self.sync_ms)
        )
        self._later(self._synced_ms, lambda: self._synced(mark))

    def _synced(self, mark: int) -> None:
        self.disk.synced(mark)
        self.receive(Durable(mark))
