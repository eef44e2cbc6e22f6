# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast lane on a make-believe transport, for its tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from quorate.config import Config
from quorate.doors.answered import Answered
from quorate.doors.http.fast import FastConnection
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.http.kv import Answers
from quorate.doors.http.lane import FastLane
from quorate.doors.limits import ByteBudget, Closable, Deadlines, Timers
from quorate.doors.principals import Principals
from tests.fake_store import NODES, FakeStore
from tests.principals import open_principals

GET = b"GET /kv?key=k HTTP/1.1\r\nHost: h\r\n\r\n"
VALUE_BYTES_MAX = 1 << 20


class FakeTransport(asyncio.Transport):
    """Remembers what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_reading_paused = False
        self.closing = False
        self.aborted = False
        self.protocol: asyncio.BaseProtocol | None = None

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closing, "uvloop raises on a write after close"
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert not self.is_reading_paused
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        assert self.is_reading_paused
        self.is_reading_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Aiohttp(asyncio.Protocol):
    """Stands for the full service."""

    def __init__(self) -> None:
        self.data = b""
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.data += data


class CountingDeadlines(Deadlines):
    """Counts how often a time was started."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop(), 30.0)
        self.watched = 0

    def watch(self, what: Closable) -> None:
        self.watched += 1
        super().watch(what)


class Bench:
    """A connection of the fast lane with everything around it."""

    def __init__(
        self,
        *,
        budget_bytes: int = 64 << 20,
        make_principals: Callable[[Timers], Principals] | None = None,
    ) -> None:
        self.store = FakeStore(
            Config(nodes=NODES, advertise=NODES[0], value_bytes_max=VALUE_BYTES_MAX)
        )
        self.taken_over: list[Aiohttp] = []
        principals = (make_principals or open_principals)(asyncio.get_running_loop())
        self.lane = FastLane(
            self.store,
            Answers(self.store),
            full_service=self._full_service,
            hosts=HostPolicy(principals, is_on_loopback=True, own_url="http://h:8000"),
            principals=principals,
            bodies=ByteBudget(budget_bytes),
            answered=Answered("http"),
            replies=ByteBudget(budget_bytes),
        )
        self.transport = FakeTransport()
        self.connection = FastConnection(self.lane)
        self.connection.connection_made(self.transport)

    def _full_service(self) -> Aiohttp:
        self.taken_over.append(Aiohttp())
        return self.taken_over[-1]

    def send(self, data: bytes) -> None:
        """Deliver bytes, as long as anyone reads."""
        assert not self.transport.is_reading_paused
        if self.transport.protocol is None:
            self.connection.data_received(data)
        else:
            assert isinstance(self.transport.protocol, asyncio.Protocol)
            self.transport.protocol.data_received(data)

    @property
    def out(self) -> bytes:
        return b"".join(self.transport.written)

    async def turn(self) -> None:
        """Let the store answer what it has."""
        for _ in range(3):
            await asyncio.sleep(0)


def run(test: Callable[[Bench], Awaitable[None]], **given: Any) -> None:
    """Run a test on a bench of its own."""

    async def main() -> None:
        bench = Bench(**given)
        await test(bench)
        bench.lane.close()

    asyncio.run(main())


def head(line: bytes, *headers: bytes) -> bytes:
    """The bytes of a request's head."""
    return b"".join(each + b"\r\n" for each in (line, *headers)) + b"\r\n"
