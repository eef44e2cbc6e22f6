# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection over fakes, one turn at a time, with a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from quorate.config import Config
from quorate.core.topology.topology import Topology
from quorate.core.values.events import Event, Get, Put, Result, Scan, ScanResult, Update
from quorate.doors.limits import ByteBudget
from quorate.doors.port import Speaker
from quorate.doors.principals import Principals
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.session import RespDoor
from quorate.wire import resp
from tests.fake_store import NODES, FakeStore
from tests.principals import open_principals

TURNS_MAX = 10_000
BUDGET_BYTES = 64 << 20


class TurnStore(FakeStore):
    """Takes its turns when told, and does what a cluster may: reads see what was there before the
    turn's writes or, `reads_last`, after all of them; and results come in reverse."""

    def __init__(self, config: Config | None = None) -> None:
        self.turns = 0
        self.reads_last = False
        self.complete = True
        """What scans say of their coverage."""
        self.fail_next: list[Result] = []
        """What the next writes end with."""
        self.fail_keys: dict[bytes, Result] = {}
        """What reads of some keys end with."""
        self.hold_keys: set[bytes] = set()
        """Keys whose requests are not answered."""
        self.keeps_last = False
        """Whether the newest request stays under way as long as there is another."""
        self.dead_pages = 0
        """How many pages still have deleted keys alone."""
        super().__init__(config)

    @property
    def is_idle(self) -> bool:
        """Whether a turn would do nothing."""
        return not self._sinks and all(map(self._is_held_back, self._pending))

    def turn(self) -> None:
        """Answer what was submitted before, then flush."""
        self.turns += 1
        assert self.turns < TURNS_MAX
        batch = [event for event in self._pending if not self._is_held_back(event)]
        self._pending = deque(filter(self._is_held_back, self._pending))
        if self.keeps_last and len(batch) > 1:
            self._pending.append(batch.pop())
        reads = [event for event in batch if isinstance(event, Get | Scan)]
        results = {id(event): self._answer(event) for event in reads}
        for event in batch:
            if id(event) not in results:
                results[id(event)] = (
                    self.fail_next.pop(0) if self.fail_next else self._answer(event)
                )
        for event in reversed(batch):
            cast(Any, event).waiter.done(self.failure or results[id(event)])
        sinks = list(self._sinks)
        self._sinks.clear()
        for sink in sinks:
            sink.flush()

    def _is_held_back(self, event: Event) -> bool:
        return isinstance(event, Get | Put | Update) and event.key in self.hold_keys

    def _get(self, event: Get) -> Result:
        return self.fail_keys.get(event.key) or super()._get(event)

    def topology(self) -> Topology | None:
        return super().topology() if self.has_layout else None

    def _schedule(self) -> None:
        """Nothing happens until `turn`."""

    def _scan(self, event: Any) -> Result:
        if self.dead_pages:
            self.dead_pages -= 1
            return ScanResult([], (event.cursor or b"\0\0") + b"\0", True)
        result = super()._scan(event)
        assert isinstance(result, ScanResult)
        return ScanResult(result.rows, result.cursor, self.complete)


class ManualTimers:
    """A loop's clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, _Timer]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        timer = _Timer(callback)
        self._due.append((self.now + delay, timer))
        return cast(asyncio.TimerHandle, timer)

    def advance(self, seconds: float) -> None:
        """Let time pass and call what comes due."""
        end = self.now + seconds
        while due := sorted((at, i) for i, (at, _) in enumerate(self._due) if at <= end):
            self.now, timer = self._due.pop(due[0][1])
            timer.fire()
        self.now = end

    @property
    def count(self) -> int:
        """Timers that are set."""
        return sum(not timer.is_cancelled for _, timer in self._due)


class _Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def fire(self) -> None:
        if not self.is_cancelled:
            self._callback()


class FakeTransport(asyncio.Transport):
    """Keeps what is written. `unread`: bytes that the client does not take."""

    HIGH_WATER = 64 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.protocol: Speaker | None = None
        self.is_stuck = False
        self.unread = 0
        self.aborted = False
        self._closing = False
        self._reading = True
        self._is_paused = False

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, name: str, default: object = None) -> object:  # noqa: ARG002
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("::1", 8000, 0, 0)}.get(name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closing, "uvloop raises here"
        assert data
        self.writes.append(bytes(data))
        if self.is_stuck:
            self.unread += len(data)
            if self.unread > self.HIGH_WATER and not self._is_paused:
                self._is_paused = True
                assert self.protocol is not None
                self.protocol.pause_writing()

    def take(self, count: int) -> None:
        """The client reads some of what is waiting."""
        self.unread -= count
        if self._is_paused and self.unread <= self.HIGH_WATER // 4:
            self._is_paused = False
            assert self.protocol is not None
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self.aborted = self._closing = True

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True


class Client:
    """One client of a door over a TurnStore."""

    def __init__(
        self,
        store: TurnStore | None = None,
        door: RespDoor | None = None,
        principals: Principals | None = None,
    ) -> None:
        self.store = store or TurnStore()
        self.timers = ManualTimers()
        self.bodies = ByteBudget(BUDGET_BYTES)
        self.replies_budget = ByteBudget(BUDGET_BYTES)
        self.door = door or RespDoor(
            self.store,
            self.bodies,
            self.replies_budget,
            principals=principals or open_principals(self.timers),
            timers=self.timers,
        )
        self.transport = FakeTransport()
        self.connection = RespConnection(self.store, self.door)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)
        self._reader = hiredis.Reader()
        self._read = 0

    def send(self, *commands: Sequence[bytes | str | int]) -> None:
        """Commands in one piece."""
        self.feed(b"".join(map(encode, commands)))

    def feed(self, data: bytes) -> None:
        """Exact bytes."""
        self.connection.data_received(data)

    def settle(self) -> None:
        """Take turns until there is nothing to do."""
        while not self.store.is_idle:
            self.store.turn()

    def replies(self) -> list[Any]:
        """Everything answered since this was asked, after settling."""
        self.settle()
        return self.answered()

    def answered(self) -> list[Any]:
        """Everything answered so far since this was asked."""
        for data in self.transport.writes[self._read :]:
            self._reader.feed(data)
        self._read = len(self.transport.writes)
        found = []
        while (reply := self._reader.gets()) is not False:
            found.append(reply)
        return found

    def ask(self, *command: bytes | str | int) -> Any:
        """The one reply to a command; an error reply is returned as its text."""
        self.send(list(command))
        replies = self.replies()
        assert len(replies) == 1, f"{len(replies)} replies"
        return plain(replies[0])

    def ask_raw(self, *command: bytes | str | int) -> bytes:
        """The exact bytes of the answer."""
        before = len(self.transport.writes)
        self.ask(*command)
        return b"".join(self.transport.writes[before:])

    @property
    def written(self) -> list[Event]:
        """The writes that the store was given."""
        return [event for event in self.store.events if not isinstance(event, Get | Scan)]


def encode(command: Sequence[bytes | str | int]) -> bytes:
    """A command as clients send it."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return resp.array([resp.bulk(word) for word in words])


def plain(reply: Any) -> Any:
    """The reply, error replies as text."""
    return str(reply) if isinstance(reply, hiredis.ReplyError) else reply


def three_nodes(**settings: Any) -> TurnStore:
    """A store whose configuration differs in `settings`."""
    return TurnStore(Config(nodes=NODES, advertise=NODES[0], **settings))
