# SPDX-License-Identifier: GPL-3.0-or-later
"""A listening port over a store, in a thread of its own, and a client that sends exact bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, Self, TypeVar

import uvloop

from quorate.core.values.status import Probe
from quorate.doors.http.door import HttpDoor
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.limits import Budgets, ByteBudget, Timers
from quorate.doors.port import Listener
from quorate.doors.principals import Principals
from tests.fake_store import FakeStore
from tests.principals import open_principals

WAIT_SECONDS = 10.0
SECRET = b"s" * 32
"""Of the cluster that the door is of."""
_HOST = b"Host: localhost\r\n"
Value = TypeVar("Value")


class Echo(asyncio.Protocol):
    """Stands for a door that the tests of HTTP do not need."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class Served:
    """The HTTP door over `store`, listening on loopback until the `with` ends."""

    def __init__(
        self,
        store: FakeStore,
        *,
        loop: str = "asyncio",
        is_on_loopback: bool = True,
        told: frozenset[str] = frozenset(),
        connections_max: int = 1000,
        make_principals: Callable[[Timers], Principals] = open_principals,
    ) -> None:
        self.store = store
        self._loop = uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
        self.principals = make_principals(self._loop)
        self.http = HttpDoor(
            store,
            budgets=Budgets(
                ByteBudget(store.config.inflight_bytes_max),
                ByteBudget(store.config.reply_bytes_max),
            ),
            hosts=HostPolicy(
                self.principals,
                is_on_loopback=is_on_loopback,
                own_url=store.status().url,
                told=told,
            ),
            probe=_reached,
            secrets=lambda: (SECRET,),
            principals=self.principals,
        )
        self.listener = Listener(
            http=lambda: self.http.connection(),
            resp=Echo,
            peer=Echo,
            connections_max=connections_max,
        )
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(WAIT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(WAIT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def reset(self) -> None:
        """Make the store as new."""
        self.call(self.store.reset)

    def call(self, function: Callable[[], Value]) -> Value:
        """The result of `function` called on the loop's thread."""
        future: Future[Value] = Future()
        self._loop.call_soon_threadsafe(lambda: future.set_result(function()))
        return future.result(WAIT_SECONDS)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, asked on the loop's thread; fails when it does not come true."""
        asyncio.run_coroutine_threadsafe(_until(condition), self._loop).result(WAIT_SECONDS)

    def client(self) -> Client:
        """A new connection."""
        return Client(self.port)

    async def _start(self) -> None:
        await self.http.start()
        self._server = await self._loop.create_server(self.listener, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.listener.close()
        await self.http.stop()
        await _until(lambda: self.listener.connections == 0 and len(asyncio.all_tasks()) == 1)


async def _reached(url: str) -> Probe:
    """As if the member were there."""
    return Probe(
        url=url,
        addresses=["127.0.0.1"],
        stage="",
        fault="",
        round_trip_ms=0.5,
        seen="127.0.0.1",
        wall_ms=1,
    )


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS - 1):
        while not condition():
            await asyncio.sleep(0.005)


class Response(NamedTuple):
    """One answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A connection that sends what it is told and reads one answer at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Write `data` as it is."""
        self.socket.sendall(data)

    def ask(self, data: bytes) -> Response:
        """Write a request and read its answer."""
        self.send(data)
        return self.receive(is_head=data.startswith(b"HEAD "))

    def receive(self, *, is_head: bool = False) -> Response:
        """Read one answer. AssertionError if it is not one, or lacks what each must have."""
        first = self._file.readline()
        # aiohttp answers in the version that it was asked in, even to refuse it.
        assert first.startswith(b"HTTP/"), f"no answer but {first!r}"
        headers: dict[str, str] = {}
        while line := self._file.readline().rstrip(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        status = int(first[9:12])
        if status == 100:
            return Response(status, headers, b"")
        assert headers.get("cache-control") == "no-store"
        assert "server" not in headers
        if is_head or status == 304:
            return Response(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, self._chunks())
        return Response(status, headers, self._file.read(int(headers["content-length"])))

    def rest(self) -> bytes:
        """Whatever comes until the other side closes; nothing after a reset."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return body


def get(client: Client, target: str, *, headers: bytes = b"", method: str = "GET") -> Response:
    """The answer to a request without a body."""
    return client.ask(f"{method} {target} HTTP/1.1\r\n".encode() + _HOST + headers + b"\r\n")


def post(client: Client, target: str, body: bytes, *, headers: bytes = b"") -> Response:
    """The answer to a POST of `body`."""
    length = b"Content-Length: %d\r\n" % len(body)
    return client.ask(
        f"POST {target} HTTP/1.1\r\n".encode() + _HOST + headers + length + b"\r\n" + body
    )
