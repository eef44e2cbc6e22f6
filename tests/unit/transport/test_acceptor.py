# SPDX-License-Identifier: GPL-3.0-or-later
"""Incoming links fed byte by byte over real sockets (RELIABILITY 61, 62, 69, N24)."""

from __future__ import annotations

import asyncio
import marshal
import pickle
import struct
from collections.abc import Iterator

import msgspec
import pytest
from structlog.testing import capture_logs
from xxhash import xxh3_64_intdigest

from quorate.core.values.messages import Greeting
from quorate.wire.frames import MAGIC, GreetingParser, encode_frame, encode_greeting
from tests.unit.transport.conftest import Run
from tests.unit.transport.node import Node, RawPeer, frame, until, url_of

PEER_PORT = 1
GOOD = bytes(encode_frame(frame(1)))


def greeting_for(node: Node, **changes: object) -> Greeting:
    """What a good peer of `node` says, with changes."""
    peer = msgspec.structs.replace(node.greeting, url=url_of(PEER_PORT), node_id=PEER_PORT)
    return msgspec.structs.replace(peer, **changes)


def sealed(payload: bytes) -> bytes:
    length = len(payload)
    header = struct.pack(">III", length, length ^ 0xFFFFFFFF, xxh3_64_intdigest(payload) % 2**32)
    return header + payload


async def greeted(node: Node, **changes: object) -> RawPeer:
    """A raw peer that finished its handshake with `node`."""
    peer = await RawPeer.dial(node.port)
    peer.write(encode_greeting(greeting_for(node, **changes)))
    parser = GreetingParser()
    while (answer := parser.feed(await peer.reader.read(4096))) is None:
        assert not peer.reader.at_eof()
    assert answer.refusal == ""
    return peer


def test_a_greeting_and_frames_in_single_bytes_are_understood(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as node:
            peer = await RawPeer.dial(node.port)
            for byte in encode_greeting(greeting_for(node)) + GOOD + GOOD:
                peer.write(bytes([byte]))
                await asyncio.sleep(0)
            await until(lambda: node.frames == [(url_of(PEER_PORT), frame(1))] * 2)
            assert node.journal.counters()["frames_received"] == 2
            await peer.close()

    run(main())


def test_a_connection_handed_over_with_its_first_bytes_is_served(
    run: Run, ports: Iterator[int]
) -> None:
    class Sniffer(asyncio.Protocol):
        def __init__(self, node: Node) -> None:
            self.node = node

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert data.startswith(MAGIC)
            protocol = self.node.acceptor.connection()
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
            protocol.data_received(data)

    async def main() -> None:
        node = Node(next(ports))
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Sniffer(node), "127.0.0.1", node.port)
        peer = await RawPeer.dial(node.port)
        peer.write(encode_greeting(greeting_for(node)) + GOOD)
        await until(lambda: node.numbers() == [1])
        peer.write(GOOD)
        await until(lambda: node.numbers() == [1, 1])
        await peer.close()
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack(">III", 0, 0xFFFFFFFF, 0),
        struct.pack(">III", 0xFFFFFFFF, 0, 0),
        GOOD[:-1] + bytes([GOOD[-1] ^ 1]),
        sealed(msgspec.msgpack.encode([1, 1, [[99, 1]]])),
        sealed(msgspec.msgpack.encode([1, 1, [[8, "one"]]])),
        sealed(msgspec.msgpack.encode([1, 1, [[3, 1, [b""], []]]])),
        sealed(pickle.dumps({})),
        marshal.dumps({"hostile": 1, "bytes": 2}),
    ],
    ids=["length 0", "4 GB", "checksum", "tag", "type", "row", "pickle", "marshal"],
)
def test_a_broken_frame_ends_the_link_at_once_and_nothing_of_it_is_delivered(
    run: Run, ports: Iterator[int], bad: bytes
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as node:
            other = await greeted(node, url=url_of(2), node_id=2)
            peer = await greeted(node)
            peer.write(GOOD)
            await until(lambda: node.numbers() == [1])
            with capture_logs() as logs:
                peer.write(bad + GOOD)
                assert await peer.read_all() == b""
            assert [line["peer"] for line in logs] == [url_of(PEER_PORT)]
            assert node.journal.protocol_errors == 1
            assert node.numbers() == [1]
            other.write(bytes(encode_frame(frame(2))))
            await until(lambda: node.numbers() == [1, 2], "the other peer's frame")
            await other.close()
            await peer.close()

    run(main())


def test_a_frame_cut_by_the_end_of_the_connection_is_never_delivered(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as node:
            for cut in range(1, len(GOOD)):
                peer = await greeted(node)
                peer.write(GOOD + GOOD[:cut])
                await until(lambda: node.frames)
                node.frames.clear()
                await peer.close()
                await until(lambda: not node.acceptor._connections)
            assert node.frames == []
            # A kill in the middle of a write is a fault of nobody.
            assert node.journal.protocol_errors == 0

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        b"GET / HTTP/1.1\r\n\r\n",
        MAGIC + struct.pack(">III", 2**31, 2**31 ^ 0xFFFFFFFF, 0),
        MAGIC + sealed(b"\x90"),
        pickle.dumps([1]),
    ],
    ids=["frame", "http", "2 GB", "empty", "pickle"],
)
def test_a_stranger_who_does_not_greet_is_dropped_without_an_answer(
    run: Run, ports: Iterator[int], data: bytes
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as node:
            peer = await RawPeer.dial(node.port)
            with capture_logs() as logs:
                peer.write(data)
                assert await peer.read_all() == b""
            assert node.journal.protocol_errors == 1
            assert logs[0]["peer"] == "127.0.0.1"
            await peer.close()

    run(main())


@pytest.mark.parametrize("said", [b"", MAGIC, b"QR"])
def test_a_stranger_who_stays_silent_is_dropped_at_the_deadline(
    run: Run, ports: Iterator[int], said: bytes
) -> None:
    async def main() -> None:
        async with Node(next(ports), handshake_s=0.1) as node:
            peers = [await RawPeer.dial(node.port) for _ in range(50)]
            for peer in peers:
                peer.write(said)
            assert [await peer.read_all() for peer in peers] == [b""] * 50
            assert not node.acceptor._connections
            for peer in peers:
                await peer.close()

    run(main())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster": "other"}, "cluster name differs: ours 'c', theirs 'other'"),
        ({"protocol": 9}, "protocol version differs: ours 1, theirs 9"),
        ({"url": ""}, "URL has 0 characters"),
        ({"epoch": 2}, "layout differs: ours epoch 1"),
    ],
    ids=["cluster", "protocol", "url", "epoch"],
)
def test_a_refused_peer_is_told_why_and_its_frames_are_not_read(
    run: Run, ports: Iterator[int], changes: dict[str, object], reason: str
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as node:
            peer = await RawPeer.dial(node.port)
            peer.write(encode_greeting(greeting_for(node, **changes)) + GOOD)
            answer = GreetingParser().feed(await peer.read_all())
            assert answer is not None
            assert answer.url == node.url
            assert reason in answer.refusal
            assert node.frames == []
            assert node.journal.handshakes_refused == 1
            await until(lambda: not node.acceptor._connections)
            await peer.close()

    run(main())


def test_a_newer_link_of_a_peer_ends_the_older_which_may_be_half_open(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as node:
            older = await greeted(node)
            newer = await greeted(node)
            assert await older.read_all() == b""
            newer.write(GOOD)
            await until(lambda: node.numbers() == [1])
            assert len(node.acceptor._connections) == 1
            await newer.close()
            await until(lambda: not node.acceptor._by_url)
            await older.close()

    run(main())


def test_close_ends_every_incoming_link(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        async with Node(next(ports)) as node:
            peers = [await greeted(node, url=url_of(n), node_id=n) for n in range(1, 6)]
            node.acceptor.close()
            assert [await peer.read_all() for peer in peers] == [b""] * 5
            await until(lambda: not node.acceptor._connections)
            for peer in peers:
                await peer.close()

    run(main())
