# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection that goes on inside TLS, on both loops, however its bytes come."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest
import uvloop

from quorate.security.certificates import PEER_NAME
from quorate.security.contexts import (
    Identity,
    Standing,
    holder_context,
    make_trust,
)
from quorate.security.handshake import Handshake, SecureTransport

SECRET = bytes(32)
TRUST = make_trust(
    (SECRET,),
    cluster="quorate",
    node_id=7,
    is_for_clients=False,
)
Loops = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main)

    return run


Run = Callable[[Coroutine[Any, Any, None]], None]


class Owner(asyncio.Protocol):
    """Who takes the connection over: it echoes."""

    def __init__(self) -> None:
        self.transport: SecureTransport | None = None
        self.data = b""
        self.is_lost = False
        self.is_at_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, SecureTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.data += data
        self.transport.write(data)

    def eof_received(self) -> bool | None:
        self.is_at_end = True
        return None

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True


class Accepting(asyncio.Protocol):
    """Reads some bytes, and then has the connection go on inside TLS."""

    def __init__(self, owner: Owner, *, first_bytes: int) -> None:
        self.owner = owner
        self.head = b""
        self.first_bytes = first_bytes
        self.raw: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.raw = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.head += data
        if len(self.head) >= self.first_bytes and self.task is None:
            self.task = asyncio.get_running_loop().create_task(self.shake())

    async def shake(self) -> None:
        assert self.raw is not None
        handshake = Handshake(self.raw)
        try:
            await handshake.run(
                TRUST.server, identify=TRUST.identify, seconds=5, head=lambda: self.head
            )
        except (OSError, ssl.SSLError) as error:
            self.error = error
        else:
            handshake.give(self.owner)


class Memory:
    """A client whose bytes a test sends itself."""

    def __init__(self, port: int) -> None:
        self.came, self.sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = holder_context(SECRET, cluster="quorate")
        self.end = context.wrap_bio(self.came, self.sent, server_hostname=PEER_NAME)
        self.port = port

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def do(self, call: Callable[[], Any], *, piece: int) -> Any:
        """Make the call, with all that it sends going out in pieces of so many bytes."""
        while True:
            is_done, result = False, None
            with suppress(ssl.SSLWantReadError):
                result = call()
                is_done = True
            data = self.sent.read()
            for place in range(0, len(data), piece):
                self.writer.write(data[place : place + piece])
                await self.writer.drain()
                await asyncio.sleep(0)
            if is_done:
                return result
            received = await self.reader.read(65536)
            if not received:
                raise ConnectionResetError
            self.came.write(received)

    def close(self) -> None:
        self.writer.close()


async def serve(first_bytes: int) -> tuple[asyncio.Server, Accepting, Owner, int]:
    owner = Owner()
    accepting = Accepting(owner, first_bytes=first_bytes)
    server = await asyncio.get_running_loop().create_server(lambda: accepting, "127.0.0.1", 0)
    return server, accepting, owner, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("first_bytes", [1, 100])
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_a_hello_in_pieces_is_one(run: Run, piece: int, first_bytes: int) -> None:
    async def main() -> None:
        server, _, owner, port = await serve(first_bytes)
        client = Memory(port)
        await client.connect()
        async with asyncio.timeout(10):
            await client.do(client.end.do_handshake, piece=piece)
            await client.do(lambda: client.end.write(b"hello"), piece=piece)
            assert await client.do(lambda: client.end.read(100), piece=piece) == b"hello"
        transport = owner.transport
        assert transport is not None
        identity = transport.get_extra_info("identity")
        assert isinstance(identity, Identity)
        assert identity.standing is Standing.HOLDER
        assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert transport.get_extra_info("peername")[0] == "127.0.0.1"
        client.close()
        await until(lambda: owner.is_lost)
        assert transport.is_closing()
        server.close()

    run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_what_comes_with_the_last_of_the_handshake_is_not_lost(run: Run) -> None:
    """The client's Finished and its first request in one packet, as most send them."""

    async def main() -> None:
        server, _, owner, port = await serve(1)
        client = Memory(port)
        await client.connect()
        with suppress(ssl.SSLWantReadError):
            client.end.do_handshake()
        client.writer.write(client.sent.read())
        while True:
            client.came.write(await client.reader.read(65536))
            with suppress(ssl.SSLWantReadError):
                client.end.do_handshake()
                break
        client.end.write(b"early")
        client.writer.write(client.sent.read())
        await until(lambda: owner.data == b"early")
        client.close()
        server.close()

    run(main())


def test_a_connection_that_ends_within_fails_and_is_closed(run: Run) -> None:
    async def main() -> None:
        for sent in (b"\x16\x03\x01\x02\x00\x01", b"\x16garbage" * 20):
            server, accepting, owner, port = await serve(1)
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            await writer.drain()
            writer.close()
            await until(lambda: accepting.error is not None)  # noqa: B023
            assert accepting.raw is not None
            assert accepting.raw.is_closing()
            assert owner.transport is None
            server.close()

    run(main())


def test_a_fault_of_the_loop_tells_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such thing")

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", broken)
        raw = Mock(is_closing=lambda: False)
        with pytest.raises(RuntimeError) as raised:
            await Handshake(raw).run(TRUST.server, identify=TRUST.identify, seconds=5)
        assert "broken" in [each.name for each in raised.traceback]

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())


def test_what_waits_to_be_sent_is_all_counted(run: Run) -> None:
    """Also what waits below TLS, where the loops' own transports do not look."""

    async def main() -> None:
        server, _, owner, port = await serve(1)
        client = Memory(port)
        await client.connect()
        await client.do(client.end.do_handshake, piece=100_000)
        await until(lambda: owner.transport is not None)
        assert owner.transport is not None
        size = 32 << 20
        owner.transport.write(bytes(size))
        taken_by_kernels = 16 << 20
        assert owner.transport.get_write_buffer_size() > size - taken_by_kernels
        owner.transport.abort()
        await until(lambda: owner.is_lost)
        client.close()
        server.close()

    run(main())
