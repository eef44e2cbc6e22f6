# SPDX-License-Identifier: GPL-3.0-or-later
"""Links on real sockets and both loops: what only a kernel and a loop can show.

All that links decide is tested in virtual time (`tests/unit/host`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from random import Random
from typing import cast

import msgspec
import pytest

from quorate.core.topology.greeting import ITSELF
from quorate.core.values.events import LinkDown, LinkUp
from quorate.core.values.messages import Frame
from quorate.wire.frames import MAGIC, GreetingParser, encode_frame
from tests.ports import free_port
from tests.unit.conftest import Run
from tests.unit.host.wires import AtOnce, Never, big, frame
from tests.unit.runtime.fakes import until
from tests.unit.runtime.linked import Node, RawPeer, deaf_peer, url_of

GOOD = encode_frame(frame(1))


def queued_bytes(node: Node, url: str) -> int:
    """What was sent to `url` and the operating system has not taken yet."""
    connection = node.links.links[url]._connection
    return 0 if connection is None else connection.channel.get_write_buffer_size()


def test_two_nodes_link_both_ways_and_frames_keep_their_order(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as one, Node(free_port()) as two:
            one.links.set_peers([two.url])
            two.links.set_peers([one.url])
            await until(lambda: one.is_up(two.url) and two.is_up(one.url))
            for number in range(500):
                one.links.send(two.port, frame(number))
                two.links.send(one.port, frame(-number))
            await until(lambda: len(two.frames) == len(one.frames) == 500)
            assert two.numbers() == list(range(500))
            assert one.numbers() == [-number for number in range(500)]
            assert one.journal.bytes_sent == two.journal.bytes_received

    run(main())


def test_a_link_comes_back_each_time_its_peer_does_and_up_and_down_alternate(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port(), random=AtOnce()) as one, Node(free_port()) as two:
            one.links.set_peers([two.url])
            for number in range(5):
                await until(lambda: one.is_up(two.url), "LinkUp")
                one.links.send(two.port, frame(number))
                await until(lambda: two.frames, "frame")
                two.frames.clear()
                await two.stop_listening()
                await until(lambda: not one.is_up(two.url), "LinkDown")
                await two.listen()
            await until(lambda: one.is_up(two.url))
            kinds = [type(event) for event in one.events]
            assert kinds == [LinkUp, LinkDown] * 5 + [LinkUp]

    run(main())


def test_a_peer_that_never_reads_costs_its_link_and_bounded_memory(run: Run) -> None:
    async def main() -> None:
        port = free_port()
        bound = 4 << 20
        large = Frame(1, 1, [big(1)])
        one = Node(free_port(), random=Never())
        one.links.outbox_bytes_max = bound
        async with one, deaf_peer(port, one.answer(port)):
            one.links.set_peers([url_of(port)])
            await until(lambda: one.is_up(url_of(port)))
            highest = 0
            while not one.journal.links_overflowed:
                one.links.send(port, large)
                highest = max(highest, queued_bytes(one, url_of(port)))
                # More than the sockets' buffers and the bound together: it must have ended.
                assert one.journal.frames_sent < 64
                await asyncio.sleep(0)
            assert bound < highest <= bound + len(encode_frame(large))
            for _ in range(10):
                one.links.send(port, large)
            assert one.journal.links_overflowed == 1
            await until(lambda: not one.is_up(url_of(port)), "LinkDown")

    run(main())


def test_a_peer_that_never_reads_does_not_slow_another(run: Run) -> None:
    async def main() -> None:
        port = free_port()
        one = Node(free_port())
        async with one, Node(free_port()) as two, deaf_peer(port, one.answer(port)):
            one.links.set_peers([url_of(port), two.url])
            await until(lambda: one.is_up(url_of(port)) and one.is_up(two.url))
            for number in range(10):
                one.links.send(port, Frame(1, 1, [big(1)]))
                one.links.send(two.port, frame(number))
            await until(lambda: two.numbers() == list(range(10)))
            assert queued_bytes(one, two.url) == 0
            assert queued_bytes(one, url_of(port)) > 0

    run(main())


def test_a_peer_that_does_not_finish_its_greeting_is_given_up_and_tried_again(run: Run) -> None:
    async def main() -> None:
        port = free_port()
        async with Node(free_port(), haste=100) as one:
            async with deaf_peer(port, one.answer(port)[:20]) as connections:
                one.links.set_peers([url_of(port)])
                await until(lambda: len(connections) >= 3)
            assert one.events == []

    run(main())


def test_a_port_that_does_not_answer_the_dial_is_given_up(run: Run) -> None:
    async def main() -> None:
        port = free_port()
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(0)
            # The backlog is full: the kernel lets further dials hang.
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            random = AtOnce()
            async with Node(free_port(), random=random, haste=40) as one:
                one.links.set_peers([url_of(port)])
                await until(lambda: len(random.ceilings) >= 3)
                assert one.events == []

    run(main())


def test_a_dial_that_is_given_up_at_any_moment_leaves_no_connection(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as one, Node(free_port()) as two:
            for count in range(30):
                one.links.set_peers([two.url])
                for _ in range(count % 10):
                    await asyncio.sleep(0)
                one.links.set_peers([])
            await until(lambda: not one.links._retired)
            await until(lambda: not two.acceptor._connections)
            one.links.set_peers([two.url])
            await until(lambda: one.is_up(two.url))
            assert len(two.acceptor._connections) == 1

    run(main())


@pytest.mark.parametrize(
    "url", ["", "http://127.0.0.1", "http://127.0.0.1:99999", "http://a\0b:80", "http://a..b:80"]
)
def test_a_url_without_an_address_is_just_never_reached(run: Run, url: str) -> None:
    async def main() -> None:
        random = AtOnce()
        async with Node(free_port(), random=random) as one, Node(free_port()) as two:
            one.links.set_peers([url, two.url])
            await until(lambda: len(random.ceilings) >= 3 and one.is_up(two.url))

    run(main())


def test_an_address_where_no_peer_may_be_is_told_as_a_refusal_of_ours(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port(), random=AtOnce()) as one:
            one.links.set_peers(["http://0.0.0.0:1"])
            await until(lambda: one.journal.handshakes_refused >= 3)
            (note,) = one.notes
            assert (note.event, note.facts["by"]) == ("link_refused", "us")
            assert "0.0.0.0" in str(note.facts["reason"])

    run(main())


def test_a_port_where_something_else_answers_is_reported_and_tried_again(run: Run) -> None:
    async def main() -> None:
        port = free_port()
        async with Node(free_port(), random=AtOnce()) as one:
            one.links.set_peers([url_of(port)])
            async with deaf_peer(port, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
                await until(lambda: one.journal.protocol_errors >= 5)
            assert one.notes[0].event == "peer_broke_protocol"
            assert one.events == []

    run(main())


def test_bytes_from_the_acceptor_after_its_greeting_cost_the_link(run: Run) -> None:
    async def main() -> None:
        port = free_port()
        async with Node(free_port(), random=Never()) as one:
            async with deaf_peer(port, one.answer(port)) as connections:
                one.links.set_peers([url_of(port)])
                await until(lambda: one.is_up(url_of(port)))
                connections[0].transport.write(GOOD)
                await until(lambda: not one.is_up(url_of(port)), "LinkDown")
                assert one.journal.protocol_errors == 1
            ups = len(one.events)
            async with deaf_peer(port, one.answer(port) + GOOD):
                one.links.hurry(url_of(port))
                await until(lambda: one.journal.protocol_errors == 2)
            assert len(one.events) == ups

    run(main())


def test_close_lets_what_was_sent_leave(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as one, Node(free_port()) as two:
            one.links.set_peers([two.url])
            two.links.set_peers([one.url])
            await until(lambda: one.is_up(two.url) and two.is_up(one.url))
            (connection,) = two.acceptor._connections
            incoming = cast(asyncio.Transport, connection._channel)
            incoming.pause_reading()
            for _ in range(3):
                one.links.send(two.port, Frame(1, 1, [big(8)]))
            closing = asyncio.create_task(one.close_links())
            await until(lambda: not one.is_up(two.url))
            assert not closing.done()
            incoming.resume_reading()
            await closing
            await until(lambda: len(two.frames) == 3)
            assert one.events[-1] == LinkDown(two.port)

    run(main())


def test_close_does_not_wait_for_a_peer_that_never_reads(run: Run) -> None:
    async def main() -> None:
        port = free_port()
        async with Node(free_port(), haste=20) as one, deaf_peer(port, one.answer(port)):
            one.links.set_peers([url_of(port)])
            await until(lambda: one.is_up(url_of(port)))
            for _ in range(3):
                one.links.send(port, Frame(1, 1, [big(8)]))
            await asyncio.wait_for(one.close_links(), 5)

    run(main())


def test_a_fault_of_our_own_in_a_link_is_heard_by_the_loop_and_costs_the_connection(
    run: Run,
) -> None:
    async def main() -> None:
        heard: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

        async with Node(free_port()) as one, Node(free_port()) as two:
            one.is_broken = True
            one.links.set_peers([two.url])
            await until(lambda: len(heard) >= 2, "a second try")
            assert isinstance(heard[0]["exception"], ZeroDivisionError)
            assert one.events == []

    run(main())


# --- incoming ----------------------------------------------------------------------------------


def test_a_greeting_and_frames_in_single_bytes_are_understood(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as node:
            peer = await RawPeer.dial(node.port)
            for byte in node.answer(1) + GOOD + GOOD:
                peer.writer.write(bytes([byte]))
                await asyncio.sleep(0)
            await until(lambda: node.frames == [(1, frame(1))] * 2)
            await peer.close()

    run(main())


def test_a_connection_handed_over_with_its_first_bytes_is_served(run: Run) -> None:
    class Sniffer(asyncio.Protocol):
        def __init__(self, node: Node) -> None:
            self.node = node

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            # uvloop's transports are of no class of asyncio's.
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            assert data.startswith(MAGIC)
            connection = self.node.acceptor.connection()
            self.transport.set_protocol(cast(asyncio.Protocol, connection))
            connection.connection_made(self.transport)
            connection.data_received(data)

    async def main() -> None:
        node = Node(free_port())
        await node.listen(lambda: Sniffer(node))
        peer = await RawPeer.dial(node.port, node.answer(1) + GOOD)
        await until(lambda: node.numbers() == [1])
        peer.writer.write(GOOD)
        await until(lambda: node.numbers() == [1, 1])
        await peer.close()
        await until(lambda: not node.acceptor._connections)
        await node.stop_listening()
        node.system.close()

    run(main())


def test_a_broken_frame_ends_the_link_at_once_and_no_other(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as node:
            other, peer = await RawPeer.greet(node, 2), await RawPeer.greet(node, 1)
            peer.writer.write(GOOD)
            await until(lambda: node.numbers() == [1])
            peer.writer.write(GOOD[:-1] + bytes([GOOD[-1] ^ 1]) + GOOD)
            assert await peer.read_all() == b""
            assert node.journal.protocol_errors == 1
            assert node.numbers() == [1]
            other.writer.write(encode_frame(frame(2)))
            await until(lambda: node.numbers() == [1, 2], "the other peer's frame")
            await other.close()
            await peer.close()

    run(main())


def test_a_frame_cut_by_the_end_of_the_connection_is_never_delivered(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as node:
            for cut in range(1, len(GOOD)):
                peer = await RawPeer.greet(node, 1)
                peer.writer.write(GOOD + GOOD[:cut])
                await until(lambda: node.frames)
                node.frames.clear()
                await peer.close()
                await until(lambda: not node.acceptor._connections)
            assert node.frames == []
            assert node.journal.protocol_errors == 0

    run(main())


@pytest.mark.parametrize("data", [GOOD, b"GET / HTTP/1.1\r\n\r\n"], ids=["frame", "http"])
def test_a_stranger_who_does_not_greet_is_dropped_without_an_answer(run: Run, data: bytes) -> None:
    async def main() -> None:
        async with Node(free_port()) as node:
            peer = await RawPeer.dial(node.port, data)
            assert await peer.read_all() == b""
            assert node.journal.protocol_errors == 1
            assert node.notes[0].facts["peer"] == "127.0.0.1"
            await peer.close()

    run(main())


@pytest.mark.parametrize("said", [b"", MAGIC, b"QR"])
def test_a_stranger_who_stays_silent_is_dropped_at_the_deadline(run: Run, said: bytes) -> None:
    async def main() -> None:
        async with Node(free_port(), haste=50) as node:
            peers = [await RawPeer.dial(node.port, said) for _ in range(50)]
            assert [await peer.read_all() for peer in peers] == [b""] * 50
            assert not node.acceptor._connections
            for peer in peers:
                await peer.close()

    run(main())


def test_a_refused_peer_is_told_why_and_its_frames_are_not_read(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as node:
            # Its own URL.
            peer = await RawPeer.dial(node.port, node.answer(node.port) + GOOD)
            answer = GreetingParser().feed(await peer.read_all())
            assert answer is not None
            assert answer.refusal == ITSELF
            assert node.frames == []
            await until(lambda: not node.acceptor._connections)
            await peer.close()

    run(main())


def test_a_newer_link_of_a_peer_ends_the_older_which_may_be_half_open(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as node:
            older, newer = await RawPeer.greet(node, 1), await RawPeer.greet(node, 1)
            assert await older.read_all() == b""
            newer.writer.write(GOOD)
            await until(lambda: node.numbers() == [1])
            assert len(node.acceptor._connections) == 1
            await newer.close()
            await until(lambda: not node.acceptor._by_peer)
            await older.close()

    run(main())


def test_close_ends_every_incoming_link(run: Run) -> None:
    async def main() -> None:
        async with Node(free_port()) as node:
            peers = [await RawPeer.greet(node, port) for port in range(1, 6)]
            node.acceptor.close()
            assert [await peer.read_all() for peer in peers] == [b""] * 5
            await until(lambda: not node.acceptor._connections)
            for peer in peers:
                await peer.close()

    run(main())


def test_who_takes_the_place_of_another_process_is_refused_only_until_that_is_noticed(
    run: Run,
) -> None:
    async def main() -> None:
        async with Node(free_port()) as one:
            before = Node(free_port())
            async with before:
                one.links.set_peers([before.url])
                await until(lambda: one.is_up(before.url))
            after = Node(before.port, random=Random(1))
            after.greeting = msgspec.structs.replace(after.greeting, process=99)
            async with after:
                after.links.set_peers([one.url])
                await until(lambda: after.is_up(one.url) and one.is_up(after.url))
                await until(lambda: one.links.links[after.url].process == 99)

    run(main())
