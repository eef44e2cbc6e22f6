# SPDX-License-Identifier: GPL-3.0-or-later
"""The port inside TLS, on both loops: who comes in, and what strangers send before that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
import uvloop

from quorate.doors import port as listener_module
from quorate.doors.handshakes import ADDRESS_MAX, Handshakes
from quorate.doors.port import HELLO_BYTES_MAX, Listener, Speech
from quorate.security.certificates import PEER_NAME
from quorate.security.contexts import Standing, holder_context, make_trust
from quorate.wire.http import ResponseParser
from tests.uncollected import uncollected
from tests.unit.doors.test_port import FakeTransport

SECRET = bytes(32)
TRUST = make_trust(
    (SECRET,),
    cluster="quorate",
    node_id=7,
    is_for_clients=False,
)
CLIENT = holder_context(SECRET, cluster="quorate")
LONG_BYTES = 16 << 20
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on the loop, which must have no fault to tell."""

    async def watched(main: Coroutine[Any, Any, None]) -> None:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))
        await main
        assert faults == []

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(watched(main))

    return run


class Echo(asyncio.Protocol):
    """A door that says everything again."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        identity = self.transport.get_extra_info("identity")
        assert identity.standing is Standing.HOLDER
        self.transport.write(data)


class Farewell(Echo):
    """A door that answers at length and closes at once."""

    ended: ClassVar[list[Farewell]] = []

    def data_received(self, data: bytes) -> None:
        self.transport.write(data[:1] * LONG_BYTES)
        self.transport.close()
        assert self.transport.is_closing()

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.append(self)


class Port:
    """A listening port, and what its handshakes failed of."""

    def __init__(self, door: type[Echo] = Echo) -> None:
        self.failures: list[tuple[str, Exception, bool]] = []
        self.handshakes = Handshakes(lambda: TRUST, lambda *failure: self.failures.append(failure))
        self.listener = Listener(
            http=door, resp=door, peer=door, connections_max=10_000, handshakes=self.handshakes
        )
        self.port = 0


@asynccontextmanager
async def listening(door: type[Echo] = Echo) -> AsyncIterator[Port]:
    port = Port(door)
    server = await asyncio.get_running_loop().create_server(port.listener, "127.0.0.1", 0)
    port.port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(60):
            yield port
    finally:
        port.listener.close()
        server.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def ask(port: Port, data: bytes) -> bytes:
    """What is answered inside TLS; empty if the connection ends."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port.port, ssl=CLIENT, server_hostname=PEER_NAME
    )
    writer.write(data)
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read(65536)
    writer.close()
    return answer


def test_a_client_is_given_to_its_door_inside_and_tls_within_tls_to_none(run: Run) -> None:
    async def main() -> None:
        async with listening() as port:
            for data in (b"PING\r\n", b"GET /kv?key=a HTTP/1.1\r\n", b"QRT1"):
                assert await ask(port, data) == data
            assert await ask(port, b"\x16\x03\x01") == b""
            await until(lambda: port.listener.connections == 0)
            assert (port.handshakes.done, port.handshakes.failed) == (4, 0)

    run(main())


def test_whatever_strangers_send_ends_their_connection_and_nothing_else(run: Run) -> None:
    sent = ssl.MemoryBIO()
    end = CLIENT.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=PEER_NAME)
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    hello = sent.read()
    chance = random.Random(1)

    def drawn() -> bytes:
        data = bytearray(hello)
        for _ in range(chance.choice((0, 1, 3, 30))):
            data[chance.randrange(1, len(data))] = chance.randrange(256)
        cut = data[: chance.randrange(1, len(data) + 1)] if chance.random() < 0.5 else data
        return bytes(cut) + chance.randbytes(chance.choice((0, 5, 500)))

    async def stranger(port: Port) -> None:
        data = drawn()
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        with contextlib.suppress(ConnectionError):
            cut = chance.randrange(len(data))
            writer.write(data[:cut])
            await writer.drain()
            writer.write(data[cut:])
            if chance.random() < 0.5:
                writer.close()
            else:
                writer.write_eof()
                await reader.read()
        writer.close()

    async def main() -> None:
        async with listening() as port:
            for _ in range(20):
                await asyncio.gather(*(stranger(port) for _ in range(20)))
            await until(lambda: port.listener.connections == 0)
            assert port.handshakes.done == 0
            assert await ask(port, b"PING\r\n") == b"PING\r\n"

    run(main())


@pytest.mark.parametrize("pieces", [1, 2, 200])
def test_who_says_more_than_a_hello_before_its_turn_is_gone(pieces: int) -> None:
    """The line is as long as there are connections, and what they say is kept."""
    data = b"\x16\x03\x01" + bytes(HELLO_BYTES_MAX)
    size = -(-len(data) // pieces)

    async def main() -> None:
        handshakes = Handshakes(lambda: TRUST, lambda *_: None)
        listener = Listener(
            http=Echo, resp=Echo, peer=Echo, connections_max=10, handshakes=handshakes
        )
        transport, newcomer = FakeTransport(), listener()
        newcomer.connection_made(transport)
        for at in range(0, len(data), size):
            assert not transport.aborted
            newcomer.data_received(data[at : at + size])
        assert transport.aborted
        newcomer.connection_lost(None)
        listener.close()
        await asyncio.sleep(0.05)
        assert not handshakes._tasks

    asyncio.run(main())


def test_hundreds_that_stall_keep_nobody_out(run: Run) -> None:
    """All of one address, the very one of who comes after them."""

    async def main() -> None:
        async with listening() as port:
            stalled = []
            for _ in range(5 * ADDRESS_MAX):
                _, writer = await asyncio.open_connection("127.0.0.1", port.port)
                writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                stalled.append(writer)
            for _ in range(3):
                assert await ask(port, b"PING\r\n") == b"PING\r\n"
            for writer in stalled:
                writer.close()
            await until(lambda: port.listener.connections == 0)
            assert port.handshakes.done == 3

    run(main())


def test_a_port_that_closes_amid_handshakes_begins_no_more_of_them(run: Run) -> None:
    async def main() -> None:
        async with listening() as port:
            stalled = []
            for _ in range(2 * ADDRESS_MAX):
                _, writer = await asyncio.open_connection("127.0.0.1", port.port)
                writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                stalled.append(writer)
            await until(lambda: len(port.handshakes._tasks) == ADDRESS_MAX)
            port.listener.close()
            await until(lambda: not port.handshakes._tasks and not port.listener.connections)
            await asyncio.sleep(0.05)
            assert port.handshakes.failed >= ADDRESS_MAX
            for writer in stalled:
                writer.close()

    run(main())


def test_who_reads_slowly_gets_all_that_was_written_before_the_close(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorate.security.handshake.SHUTDOWN_SECONDS", 0.05)

    async def main() -> None:
        async with listening(Farewell) as port:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port.port, ssl=CLIENT, server_hostname=PEER_NAME
            )
            writer.write(b"PING\r\n")
            heard = len(await reader.readexactly(1))
            # Far longer than a goodbye may take.
            await asyncio.sleep(0.5)
            while piece := await reader.read(1 << 20):
                heard += len(piece)
            writer.close()
            assert heard == LONG_BYTES
            await until(lambda: port.listener.connections == 0)

    run(main())


def test_a_door_hears_of_who_leaves_before_all_is_sent(run: Run) -> None:
    async def main() -> None:
        Farewell.ended.clear()
        async with listening(Farewell) as port:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port.port, ssl=CLIENT, server_hostname=PEER_NAME
            )
            writer.write(b"PING\r\n")
            await reader.readexactly(1)
            writer.write(b"more")
            assert Farewell.ended == []
            writer.transport.abort()
            await until(lambda: port.listener.connections == 0 and len(Farewell.ended) == 1)

    run(main())


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_handshake_that_failed_is_freed_without_the_collector(run: Run, is_cut: bool) -> None:
    """Each holds some 200 kB, and a flood fails hundreds before the collector comes."""

    async def main() -> None:
        async with listening() as port:
            writers = []
            for _ in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", port.port)
                writer.write(b"\x16\x03\x01\x02\x00\x01" if is_cut else b"\x16garbage" * 20)
                writers.append(writer)
            if is_cut:
                await until(lambda: shaking() == len(writers))
            else:
                await until(lambda: port.handshakes.failed == len(writers))
            for writer in writers:
                writer.close()
            await until(lambda: port.handshakes.failed == len(writers))
            port.failures.clear()
            async with asyncio.timeout(5):
                await until(lambda: not shaking())

    with uncollected(ssl.SSLObject) as shaking:
        run(main())


@pytest.mark.parametrize(
    ("said", "status", "code", "again"),
    [
        (listener_module._TOO_MANY, 503, "overloaded", "1"),
        (listener_module._PLAIN_REFUSED, 400, "tls_required", None),
    ],
)
def test_what_the_port_itself_says_in_http_is_a_whole_answer_that_nobody_keeps(
    said: dict[Speech, bytes], status: int, code: str, again: str | None
) -> None:
    answer = ResponseParser().feed(said[Speech.HTTP])
    assert answer is not None
    assert (answer.status, answer.keeps_alive) == (status, False)
    assert json.loads(answer.body)["code"] == code
    headers = answer.headers
    assert headers["content-type"] == "application/problem+json"
    assert (headers["cache-control"], headers.get("retry-after")) == ("no-store", again)
