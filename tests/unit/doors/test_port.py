# SPDX-License-Identifier: GPL-3.0-or-later
"""One port: the first bytes decide, and the number of connections never drifts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from quorate.doors import port as listener_module
from quorate.doors.access import ANYBODY, NOBODY
from quorate.doors.guests import Guests
from quorate.doors.port import RESERVE, Listener, Speech, recognise

HTTP_STARTS = [
    b"GET / HTTP/1.1\r\n",
    b"GET /kv?key=a",
    b"GET http://host/kv",
    b"GET https://host/kv",
    b"HEAD /",
    b"PUT /kv",
    b"PUT no-path",
    b"DELETE /",
    b"POST / HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"PATCH /",
    b"TRACE /",
    b"CONNECT host:22 HTTP/1.1",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
RESP_STARTS = [
    b"*1\r\n$4\r\nPING\r\n",
    b"PING\r\n",
    b"GET key\r\n",
    b"GET hello\r\n",
    b"GET httpx\r\n",
    b"GET *\r\n",
    b"GET * HTTP/1.1\r\n",
    b"GET *x\r\n",
    b"get /kv HTTP/1.1\r\n",
    b"QUIT\r\n",
    b"PUTX a\r\n",
    b"SET /kv v\r\n",
    b"\r\n",
    b"\x00\x01",
    b"\xff",
    b"A" * 1000,
]


@pytest.mark.parametrize("head", HTTP_STARTS)
def test_a_method_and_a_path_are_http(head: bytes) -> None:
    assert recognise(head) is Speech.HTTP


@pytest.mark.parametrize("head", RESP_STARTS)
def test_whatever_is_nothing_else_is_resp(head: bytes) -> None:
    """Also a lower-case method."""
    assert recognise(head) is Speech.RESP


def test_the_magic_is_a_peer_and_a_handshake_is_tls() -> None:
    assert recognise(b"QRT1\x00\x00") is Speech.PEER
    assert recognise(b"\x16\x03\x01") is Speech.TLS


@pytest.mark.parametrize("head", [*HTTP_STARTS, *RESP_STARTS, b"QRT1x", b"\x16\x03\x01"])
def test_pieces_decide_the_same_within_twelve_bytes(head: bytes) -> None:
    final = recognise(head)
    decisions = [recognise(head[:size]) for size in range(len(head) + 1)]
    assert {decision for decision in decisions if decision is not None} == {final}
    assert decisions.index(final) <= 12


# --- connections ---------------------------------------------------------------------------------


class FakeTransport(asyncio.Transport):
    """Remembers what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.closing = False
        self.aborted = False
        self.protocol: asyncio.BaseProtocol | None = None

    def get_extra_info(self, name: str, default: object = None) -> object:
        assert name in ("socket", "peername")
        return default

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Recorder(asyncio.Protocol):
    """A door that keeps what it was given."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self.transport is None
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data


def build(*, connections_max: int = 10, **more: Any) -> Listener:
    return Listener(
        http=Recorder, resp=Recorder, peer=Recorder, connections_max=connections_max, **more
    )


def connect(listener: Listener) -> tuple[FakeTransport, asyncio.Protocol]:
    transport, protocol = FakeTransport(), listener()
    protocol.connection_made(transport)
    return transport, protocol


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_door_gets_every_byte_of_its_connection_once() -> None:
    async def main() -> None:
        listener = build()
        transport, newcomer = connect(listener)
        for piece in (b"G", b"ET", b" ", b"/kv"):
            assert transport.protocol is None
            newcomer.data_received(piece)
        door = cast(Recorder, transport.protocol)
        assert door.data == b"GET /kv"
        assert door.transport is transport
        listener.close()

    asyncio.run(main())


def test_tls_is_dropped_without_a_word_while_nobody_speaks_it() -> None:
    async def main() -> None:
        listener = build()
        transport, newcomer = connect(listener)
        newcomer.data_received(b"\x16\x03\x01\x02\x00")
        assert transport.aborted
        assert transport.written == b""
        assert listener.connections == 0
        listener.close()

    asyncio.run(main())


def test_where_there_is_no_room_who_has_not_logged_in_gives_way_and_nobody_else() -> None:
    async def main() -> None:
        guests = Guests()
        listener = build(connections_max=3, guests=guests)
        opened = [connect(listener) for _ in range(3)]
        for _, newcomer in opened:
            newcomer.data_received(b"PING\r\n")
        user, stranger, other = (transport for transport, _ in opened)
        for each in (stranger, other):
            guests.judge(each, NOBODY)
        late, newcomer = connect(listener)
        newcomer.data_received(b"PING\r\n")
        assert late.protocol is not None
        assert [each.aborted for each in (user, stranger, other)] == [False, True, False]
        # Whoever logs in meanwhile stays.
        guests.judge(other, ANYBODY)
        guests.judge(late, ANYBODY)
        surplus, newcomer = connect(listener)
        newcomer.data_received(b"PING\r\n")
        assert surplus.protocol is None
        assert not any(each.closing for each in (user, other, late))
        assert (listener.connections, listener.refused) == (3, 2)
        listener.close()

    asyncio.run(main())


def test_a_guest_that_is_gone_is_forgotten() -> None:
    async def main() -> None:
        guests = Guests()
        listener = build(guests=guests)
        transport, newcomer = connect(listener)
        newcomer.data_received(b"PING\r\n")
        guests.judge(transport, NOBODY)
        transport.closing = True
        assert listener.connections == 0
        assert len(guests) == 0
        listener.close()

    asyncio.run(main())


def test_a_connection_that_cannot_be_ended_ends_no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "UNDECIDED_SECONDS", 0.0)
    monkeypatch.setattr(listener_module, "_SWEEP_SECONDS", 0.001)
    faults: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        listener = build()
        (broken, _), (other, _) = connect(listener), connect(listener)
        monkeypatch.setattr(broken, "abort", lambda: 1 / 0)
        await until(lambda: other.aborted)
        listener.close()

    asyncio.run(main())
    assert [type(each) for each in faults] == [ZeroDivisionError]


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"PING\r\n", b"-ERR max number of clients reached\r\n"),
        (b"GET /kv?key=k", b"HTTP/1.1 503 Service Unavailable\r\n"),
    ],
)
def test_clients_over_the_maximum_are_told_so_and_closed(head: bytes, answer: bytes) -> None:

    async def main() -> None:
        listener = build(connections_max=3)
        clients = [connect(listener) for _ in range(3)]
        for _, newcomer in clients:
            newcomer.data_received(head)
        surplus, newcomer = connect(listener)
        assert surplus.written == b""
        newcomer.data_received(head)
        assert surplus.closing
        assert not surplus.aborted
        assert surplus.written.startswith(answer)
        assert surplus.protocol is None
        assert (listener.connections, listener.accepted, listener.refused) == (3, 4, 1)
        clients[1][0].closing = True
        again, newcomer = connect(listener)
        newcomer.data_received(head)
        assert again.protocol is not None
        listener.close()

    asyncio.run(main())


def test_idle_clients_cannot_lock_a_peer_out() -> None:
    """All places taken by clients or by who says nothing: a write outage once a peer restarts."""

    async def main() -> None:
        listener = build(connections_max=3)
        for _ in range(3):
            connect(listener)[1].data_received(b"PING\r\n")
        silent = [connect(listener)[0] for _ in range(RESERVE + 10)]
        peer, newcomer = connect(listener)
        newcomer.data_received(b"QRT1")
        assert peer.protocol is not None
        assert not peer.closing
        assert [each.aborted for each in silent] == [True] * 11 + [False] * (RESERVE - 1)
        assert (listener.connections, listener.refused) == (3 + RESERVE, 11)
        listener.close()

    asyncio.run(main())


def test_who_gave_way_is_not_served_by_what_it_said_too_late() -> None:
    async def main() -> None:
        listener = build(connections_max=1)
        slow, newcomer = connect(listener)
        for _ in range(RESERVE + 1):
            connect(listener)
        assert slow.aborted
        newcomer.data_received(b"PING\r\n")
        assert slow.protocol is None
        assert listener.connections == RESERVE + 1
        listener.close()

    asyncio.run(main())


def test_peers_take_no_place_of_clients() -> None:
    """Nor of other peers: they are bounded by who takes them over."""

    async def main() -> None:
        listener = build(connections_max=3)
        for _ in range(10 * RESERVE):
            connect(listener)[1].data_received(b"QRT1")
        clients = [connect(listener) for _ in range(3)]
        for _, newcomer in clients:
            newcomer.data_received(b"PING\r\n")
        assert all(transport.protocol is not None for transport, _ in clients)
        assert (listener.connections, listener.refused) == (10 * RESERVE + 3, 0)
        listener.close()

    asyncio.run(main())


def test_a_closing_connection_counts_while_it_has_bytes_to_send() -> None:
    async def main() -> None:
        listener = build()
        transport, newcomer = connect(listener)
        newcomer.data_received(b"PING\r\n")
        transport.unsent = 5
        transport.close()
        assert listener.connections == 1
        transport.unsent = 0
        assert listener.connections == 0
        listener.close()

    asyncio.run(main())


def test_no_way_to_end_leaks_a_connection() -> None:
    """Each of 1,000 connections ends before, at, or after its hand-over."""

    async def main() -> None:
        listener = build(connections_max=5)
        for turn in range(1000):
            transport, newcomer = connect(listener)
            if turn % 3:
                newcomer.data_received(b"PING\r\n" if turn % 2 else b"GET /")
            if turn % 5:
                transport.close()
            else:
                transport.abort()
        assert (listener.connections, listener.refused) == (0, 0)
        listener.close()

    asyncio.run(main())


def test_who_says_nothing_decisive_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "UNDECIDED_SECONDS", 0.02)
    monkeypatch.setattr(listener_module, "_SWEEP_SECONDS", 0.01)

    async def main() -> None:
        listener = build()
        silent, _ = connect(listener)
        hesitant, newcomer = connect(listener)
        newcomer.data_received(b"GE")
        decided, other = connect(listener)
        other.data_received(b"PING\r\n")
        await until(lambda: silent.aborted and hesitant.aborted)
        assert not decided.aborted
        assert listener.connections == 1
        listener.close()

    asyncio.run(main())


def test_who_is_slow_to_say_what_it_is_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "_SWEEP_SECONDS", 0.0)

    async def main() -> None:
        listener = build()
        slow, newcomer = connect(listener)
        first = listener._sweeping
        await until(lambda: listener._sweeping is not first)
        assert not slow.aborted
        newcomer.data_received(b"PING\r\n")
        assert slow.protocol is not None
        listener.close()

    asyncio.run(main())


def test_the_port_looks_again_only_while_somebody_is_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener_module, "_SWEEP_SECONDS", 0.0)

    async def main() -> None:
        listener = build()
        for _ in range(2):
            transport, _ = connect(listener)
            assert listener._sweeping is not None
            transport.close()
            await until(lambda: listener._sweeping is None)
        connect(listener)
        due = listener._sweeping
        assert due is not None
        listener.close()
        assert due.cancelled(), "nothing is left of a port that was closed"

    asyncio.run(main())


def test_close_ends_every_connection_gently() -> None:
    async def main() -> None:
        listener = build()
        transports = [connect(listener)[0] for _ in range(3)]
        listener.close()
        assert all(each.closing and not each.aborted for each in transports)

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel's to do, on Linux")
def test_a_client_that_never_reads_is_the_kernels_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "STALL_SECONDS", 1)

    async def main() -> None:
        listener = build()
        server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
        reader = socket.create_connection(server.sockets[0].getsockname())
        reader.sendall(b"PING\r\n")
        await until(lambda: bool(listener._clients))
        (transport,) = listener._clients
        await until(lambda: isinstance(transport.get_protocol(), Recorder))
        ours = transport.get_extra_info("socket")
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), "who is gone is found out"
        transport.write(b"x" * 20_000_000)
        async with asyncio.timeout(8):
            while listener.connections:
                await asyncio.sleep(0.05)
        reader.close()
        server.close()
        listener.close()

    asyncio.run(main())


# --- TLS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answer"),
    [(b"PING\r\n", b"-ERR this port takes TLS alone"), (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 400 ")],
)
def test_plain_clients_are_told_in_their_own_words_where_tls_is_required(
    sent: bytes, answer: bytes
) -> None:
    async def main() -> None:
        listener = Listener(
            http=Recorder, resp=Recorder, peer=Recorder, connections_max=10, is_plain_refused=True
        )
        transport, newcomer = connect(listener)
        newcomer.data_received(sent)
        assert transport.written.startswith(answer)
        assert transport.closing
        assert not transport.aborted
        assert transport.protocol is None
        assert (listener.refused_plain, listener.connections) == (1, 0)

    asyncio.run(main())


def test_who_begins_tls_where_there_is_none_is_told_of_and_counted() -> None:
    async def main() -> None:
        told: list[str] = []
        listener = build(on_tls_refused=told.append)
        transport, newcomer = connect(listener)
        newcomer.data_received(b"\x16\x03\x01")
        assert transport.aborted
        assert transport.written == b""
        assert (told, listener.refused_tls, listener.refused) == ([""], 1, 0)

    asyncio.run(main())


def test_a_plain_peer_is_for_its_own_door_to_refuse() -> None:
    async def main() -> None:
        listener = Listener(
            http=Recorder, resp=Recorder, peer=Recorder, connections_max=10, is_plain_refused=True
        )
        transport, newcomer = connect(listener)
        newcomer.data_received(b"QRT1")
        assert isinstance(transport.protocol, Recorder)
        assert transport.written == b""

    asyncio.run(main())
