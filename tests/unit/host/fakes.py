# SPDX-License-Identifier: GPL-3.0-or-later
"""An operating system that does what the test says, and nothing by itself.

`VirtualSystem` keeps its time in a heap of timers, ends a sync when it is told to, and writes down
who is dialled and what is logged. So a test can say what happens before what, to the millisecond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Any

from quorate.core.values.events import Batch, Instant, Note, Result
from quorate.core.values.slots import key_of
from quorate.host.system import Channel, Connection, Dialled, Proof
from quorate.sim.clock import EPOCH_MS
from quorate.storage.memory import MemoryEngine

Done = Callable[[BaseException | None], None]


class VirtualTimer:
    """A call at a time. (`host.system.Timer`)"""

    def __init__(self, due_ms: float, serial: int, call: Callable[[], None]) -> None:
        self.due_ms = due_ms
        self.serial = serial
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def __lt__(self, other: VirtualTimer) -> bool:
        return (self.due_ms, self.serial) < (other.due_ms, other.serial)


class VirtualDial:
    """A connection that was asked for. (`host.system.Timer`)"""

    def __init__(self, url: str, connection: Dialled) -> None:
        self.url = url
        self.connection = connection
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class VirtualSystem:
    """`host.system.System`. What happened in which order is in `story`."""

    def __init__(self, story: list[str] | None = None) -> None:
        self.story: list[str] = [] if story is None else story
        self.ms = 1_000.0
        self.early_ms = 0.0
        """By how much timers come too early, as those of a loop may, if they are that long."""
        self.is_last_first = False
        """Whether, of the calls to make soon, the one that was asked for last is made first: which
        comes first is not promised."""
        self.notes: list[Note] = []
        """The log."""
        self.is_log_broken = False
        self.lines_lost = 0
        self.faults: list[tuple[str, Exception]] = []
        self.ends: list[str] = []
        self.dials: list[VirtualDial] = []
        self.tuned: list[Channel] = []
        self.proven = Proof()
        """What the other end of each connection proves."""
        self.syncs = 0
        """Begun so far."""
        self._syncing: Done | None = None
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[VirtualTimer] = []
        self.timers = 0
        """Set so far."""

    # --- the verbs ---------------------------------------------------------------------------

    def now(self) -> Instant:
        return Instant(int(self.ms), EPOCH_MS + int(self.ms))

    def soon(self, call: Callable[[], None], /) -> None:
        self._soon.append(call)

    def later(self, ms: float, call: Callable[[], None]) -> VirtualTimer:
        assert ms >= 0, "a timer for what is past"
        self.timers += 1
        early_ms = self.early_ms if ms > self.early_ms else 0.0
        timer = VirtualTimer(self.ms + ms - early_ms, self.timers, call)
        heappush(self._timers, timer)
        return timer

    def sync(self, done: Done, /) -> None:
        assert self._syncing is None, "one sync at a time"
        self.syncs += 1
        self._syncing = done

    def dial(self, url: str, connection: Dialled) -> VirtualDial:
        dial = VirtualDial(url, connection)
        self.dials.append(dial)
        return dial

    def proof(self, channel: Channel) -> Proof:
        del channel
        return self.proven

    def tune(self, channel: Channel) -> None:
        self.tuned.append(channel)

    def log(self, note: Note) -> None:
        if self.is_log_broken:
            self.lines_lost += 1
            raise OSError("nobody reads the log")
        self.notes.append(note)

    def fault(self, what: str, error: Exception) -> None:
        self.story.append(f"fault {what}")
        self.faults.append((what, error))

    def end(self, reason: str, /) -> None:
        self.story.append("end")
        self.ends.append(reason)

    # --- what a test makes of it ---------------------------------------------------------------

    def turn(self) -> None:
        """Make the calls that are to be made soon, and those that these ask for."""
        while self._soon:
            call = self._soon.pop() if self.is_last_first else self._soon.popleft()
            call()

    def run(self, ms: float) -> None:
        """Let time pass: each timer is made at its time, and after it what it wants soon."""
        end_ms = self.ms + ms
        self.turn()
        while self._timers and self._timers[0].due_ms <= end_ms:
            timer = heappop(self._timers)
            self.ms = timer.due_ms
            if not timer.is_cancelled:
                timer.call()
                self.turn()
        self.ms = end_ms

    @property
    def calls(self) -> int:
        """To be made soon."""
        return len(self._soon)

    @property
    def due_ms(self) -> list[float]:
        """When timers are due, in order, from now; those that were cancelled are not."""
        return [each.due_ms - self.ms for each in sorted(self._timers) if not each.is_cancelled]

    @property
    def is_syncing(self) -> bool:
        """Whether a sync is under way."""
        return self._syncing is not None

    def end_sync(self, error: BaseException | None = None) -> None:
        """End the sync under way, and let the node hear of it."""
        done, self._syncing = self._syncing, None
        assert done is not None, "no sync is under way"
        self.soon(partial(done, error))
        self.turn()

    def end_syncs(self) -> None:
        """End the sync under way and those that follow from it."""
        while self._syncing is not None:
            self.end_sync()

    @property
    def events(self) -> list[str]:
        """Of the lines in the log."""
        return [note.event for note in self.notes]


class FakeChannel:
    """The sending side of a connection, which is there from now on. (`host.system.Channel`)

    What is written has left when the test says so (`lose`).
    """

    def __init__(self, system: VirtualSystem, connection: Connection, name: str) -> None:
        self.name = name
        self.written: list[bytes] = []
        self.is_closed = False
        self.is_aborted = False
        self.is_gone_on_close = False
        """Whether nothing is left to be sent then."""
        self.is_broken_in = ""
        self.queued_bytes = 0
        """What the other end has not read."""
        self._system = system
        self._connection = connection
        self._is_lost = False
        connection.connection_made(self)

    def write(self, data: bytes) -> None:
        assert not self.is_closing(), "a closed channel is not written to"
        self._system.story.append(f"send {self.name}")
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.queued_bytes

    def is_closing(self) -> bool:
        return self.is_closed or self._is_lost

    def close(self) -> None:
        self._break("close")
        if not self.is_closed:
            self._system.story.append(f"close {self.name}")
        self.is_closed = True
        if self.is_gone_on_close:
            self._system.soon(self.lose)

    def abort(self) -> None:
        self._break("abort")
        self.is_closed = self.is_aborted = True
        self._system.soon(self.lose)

    def get_extra_info(self, name: str) -> Any:
        return (self.name, 1) if name == "peername" else None

    def lose(self) -> None:
        """All that was written has left, or the connection is broken: it is gone."""
        if not self._is_lost:
            self._is_lost = True
            self._connection.connection_lost(None)

    def _break(self, where: str) -> None:
        if self.is_broken_in == where:
            raise RuntimeError(f"broken in {where}")


class FakeEngine(MemoryEngine):
    """Refuses writes with `refusal` while that is set."""

    def __init__(self, story: list[str] | None = None, *, needs_sync: bool = True) -> None:
        super().__init__()
        self.needs_sync = needs_sync
        self.story: list[str] = [] if story is None else story
        self.refusal: Exception | None = None
        self.writes_left = 0
        """How many writes it still takes before it refuses."""
        self.keys: list[bytes] = []
        """Of the records written, in order."""
        self.writes = 0
        self.on_write: Callable[[], None] = lambda: None
        self.syncs = 0
        self.notes = 0
        self.sync_error: Exception | None = None

    def note_next(self) -> None:
        self.notes += 1

    def write(self, batch: Batch) -> None:
        if self.refusal is not None:
            if not self.writes_left:
                raise self.refusal
            self.writes_left -= 1
        self.writes += 1
        self.keys += [key_of(row) for row, _ in batch.records]
        self.story.append("write")
        self.on_write()
        super().write(batch)

    def sync(self) -> None:
        self.syncs += 1
        if self.sync_error is not None:
            raise self.sync_error


class FakeClient:
    """A waiter and a sink in one; raises from either if told to."""

    def __init__(self, story: list[str], name: str = "client") -> None:
        self.story = story
        self.name = name
        self.answers: list[Result] = []
        self.is_broken_in: str = ""
        self.is_aborted = False

    def done(self, result: Result) -> None:
        self.story.append(f"done {self.name}")
        self._break("done")
        self.answers.append(result)

    def flush(self) -> None:
        self.story.append(f"flush {self.name}")
        self._break("flush")

    def abort(self) -> None:
        self.is_aborted = True

    def _break(self, where: str) -> None:
        if self.is_broken_in == where:
            raise RuntimeError(f"broken in {where}")
