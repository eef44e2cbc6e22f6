# SPDX-License-Identifier: GPL-3.0-or-later
"""Outgoing links over real loopback sockets (RELIABILITY N5, N11, 62; issue item 4)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Iterator

import msgspec
import pytest
from structlog.testing import capture_logs

import quorate.transport.links as links_module
from quorate.config import KEY_BYTES_MAX, VALUE_BYTES_MOST
from quorate.core.values.events import LinkDown, LinkUp
from quorate.core.values.messages import Frame, Greeting, Message, Mutate, Pong
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.transport.links import PeerLinks
from quorate.wire.frames import FRAME_BYTES_MAX, encode_frame, encode_greeting
from tests.unit.transport.conftest import Run
from tests.unit.transport.deaf import raw_peer
from tests.unit.transport.node import Node, frame, until, url_of


class AtOnce(random.Random):
    """No wait between tries; remembers the ceilings that it was given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ceilings: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.ceilings.append(b)
        return a


class Never(random.Random):
    """Nobody tries again without being hurried."""

    def __init__(self) -> None:
        super().__init__(1)
        self.tries = 0

    def uniform(self, a: float, b: float) -> float:
        self.tries += 1
        return a + b + 1e9


def greeting_of(node: Node, port: int) -> bytes:
    """A good answer to `node` from the peer at `port`."""
    return encode_greeting(msgspec.structs.replace(node.greeting, url=url_of(port), node_id=port))


def big(mebibytes: int) -> Mutate:
    record = Record(b"v" * 14, bytes(mebibytes << 20))
    return Mutate(1, [(row_of(b"k"), record)])


def test_two_nodes_link_both_ways_and_frames_keep_their_order(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one, Node(next(ports)) as two:
            one.links.set_peers([two.url])
            two.links.set_peers([one.url])
            await until(lambda: one.is_up(two.url) and two.is_up(one.url))
            for number in range(500):
                one.links.send(two.url, frame(number))
                two.links.send(one.url, frame(-number))
            await until(lambda: len(two.frames) == len(one.frames) == 500)
            assert two.numbers() == list(range(500))
            assert one.numbers() == [-number for number in range(500)]
            assert {url for url, _ in two.frames} == {one.url}
            assert one.journal.counters()["frames_sent"] == 500
            assert one.journal.bytes_sent == two.journal.bytes_received

    run(main())


def test_the_welcome_with_its_layout_comes_before_the_link_is_up(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one, Node(next(ports), layout_hash=b"") as two:
            one.greeting = msgspec.structs.replace(one.greeting, layout=b"table")
            told: list[str] = []
            two.links = PeerLinks(
                greeting=lambda: two.greeting,
                on_event=lambda event: told.append(f"{type(event).__name__} {event.peer}"),
                on_welcome=lambda theirs: told.append(theirs.layout.decode()),
                on_twin=two._note_twin,
                rng=random.Random(1),
                journal=two.journal,
            )
            two.links.set_peers([one.url])
            await until(lambda: told)
            assert told == ["table", f"LinkUp {one.url}"]

    run(main())


def test_a_frame_without_a_link_is_dropped_and_counted(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one:
            absent = url_of(next(ports))
            one.links.send(absent, frame(1))
            one.links.set_peers([absent])
            one.links.send(absent, frame(2))
            assert one.journal.counters()["frames_dropped"] == 2
            assert one.links.queued_bytes(absent) == 0

    run(main())


def test_a_link_comes_back_each_time_its_peer_does_and_up_and_down_alternate(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports), rng=AtOnce()) as one, Node(next(ports)) as two:
            one.links.set_peers([two.url])
            for number in range(5):
                await until(lambda: one.is_up(two.url), "LinkUp")
                one.links.send(two.url, frame(number))
                await until(lambda: two.frames, "frame")
                two.frames.clear()
                await two.stop_listening()
                await until(lambda: not one.is_up(two.url), "LinkDown")
                await two.listen()
            await until(lambda: one.is_up(two.url))
            kinds = [type(event) for event in one.events]
            assert kinds == [LinkUp, LinkDown] * 5 + [LinkUp]

    run(main())


def test_a_peer_that_dials_us_is_dialled_back_without_waiting(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        never = Never()
        async with Node(next(ports), rng=never) as one:
            two = Node(next(ports))
            one.links.set_peers([two.url])
            await until(lambda: never.tries, "the first try to fail")
            async with two:
                two.links.set_peers([one.url])
                await until(lambda: one.is_up(two.url))

    run(main())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster": "other"}, "cluster name differs"),
        ({"protocol": 2}, "protocol version differs"),
        ({"layout_hash": b"i" * 16}, "layout differs"),
        ({"node_id": 77}, "two nodes with one identity"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_mismatch_is_refused_and_logged_once_by_both_over_many_tries(
    run: Run, ports: Iterator[int], change: dict[str, object], reason: str
) -> None:
    async def main() -> None:
        async with Node(next(ports), rng=AtOnce()) as one, Node(next(ports), node_id=77) as two:
            one.greeting = msgspec.structs.replace(one.greeting, **change)
            one.links.set_peers([two.url])
            with capture_logs() as logs:
                await until(lambda: one.journal.handshakes_refused >= 20)
            assert one.events == []
            assert two.frames == []
            # A greeting of another protocol is read no further than its number.
            known_as = "127.0.0.1" if "protocol" in change else one.url
            assert {(line["by"], line["peer"]) for line in logs} == {
                ("us", known_as),
                ("them", two.url),
            }
            assert len(logs) == 2
            assert all(reason in line["reason"] for line in logs)

    run(main())


def test_a_mismatch_that_is_mended_ends_in_a_link(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        wrong = Node(next(ports), cluster="wrong", rng=AtOnce())
        async with wrong as one, Node(next(ports)) as two:
            one.links.set_peers([two.url])
            await until(lambda: one.journal.handshakes_refused >= 3)
            one.greeting = msgspec.structs.replace(one.greeting, cluster="c")
            await until(lambda: one.is_up(two.url))

    run(main())


def test_a_second_name_of_a_node_is_refused_lest_one_disk_counts_as_two(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one, Node(next(ports)) as two:
            alias = f"http://localhost:{two.port}"
            one.links.set_peers([alias])
            with capture_logs() as logs:
                await until(lambda: one.journal.handshakes_refused)
            assert f"calls itself '{two.url}'" in logs[0]["reason"]
            assert one.events == []

    run(main())


def test_a_peer_that_never_reads_costs_its_link_and_bounded_memory(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        port = next(ports)
        bound = 4 << 20
        large = Frame(1, 1, [big(1)])
        frame_bytes = len(encode_frame(large))
        one = Node(next(ports), rng=Never(), outbox_bytes_max=bound)
        async with one, raw_peer(port, greeting_of(one, port)):
            one.links.set_peers([url_of(port)])
            await until(lambda: one.is_up(url_of(port)))
            highest = 0
            while not one.journal.links_overflowed:
                one.links.send(url_of(port), large)
                highest = max(highest, one.links.queued_bytes(url_of(port)))
                # More than the sockets' buffers and the bound together: it must have ended.
                assert one.journal.frames_sent < 64
                await asyncio.sleep(0)
            assert bound < highest <= bound + frame_bytes
            for _ in range(10):
                one.links.send(url_of(port), large)
            assert one.journal.links_overflowed == 1
            await until(lambda: not one.is_up(url_of(port)), "LinkDown")

    run(main())


def test_a_peer_that_never_reads_does_not_slow_another(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        port = next(ports)
        one = Node(next(ports))
        deaf = raw_peer(port, greeting_of(one, port))
        async with one, Node(next(ports)) as two, deaf:
            one.links.set_peers([url_of(port), two.url])
            await until(lambda: one.is_up(url_of(port)) and one.is_up(two.url))
            for number in range(10):
                one.links.send(url_of(port), Frame(1, 1, [big(1)]))
                one.links.send(two.url, frame(number))
            await until(lambda: two.numbers() == list(range(10)))
            assert one.links.queued_bytes(two.url) == 0
            assert one.links.queued_bytes(url_of(port)) > 0

    run(main())


@pytest.mark.parametrize("answer", ["", "QRT1", "partial"])
def test_a_peer_that_does_not_finish_its_greeting_is_given_up_and_tried_again(
    run: Run, ports: Iterator[int], answer: str
) -> None:
    async def main() -> None:
        port = next(ports)
        async with Node(next(ports), handshake_s=0.05) as one:
            data = greeting_of(one, port)[:20] if answer == "partial" else answer.encode()
            async with raw_peer(port, data) as connections:
                one.links.set_peers([url_of(port)])
                await until(lambda: len(connections) >= 3)
            assert one.events == []

    run(main())


def test_a_port_that_does_not_answer_the_dial_is_given_up(
    run: Run, ports: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(links_module, "CONNECT_S", 0.05)
        port = next(ports)
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
            rng = AtOnce()
            async with Node(next(ports), rng=rng) as one:
                one.links.set_peers([url_of(port)])
                await until(lambda: len(rng.ceilings) >= 3)
                assert one.events == []

    run(main())


def test_bytes_from_the_acceptor_after_its_greeting_cost_the_link(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        port = next(ports)
        async with Node(next(ports), rng=Never()) as one:
            async with raw_peer(port, greeting_of(one, port)) as connections:
                one.links.set_peers([url_of(port)])
                await until(lambda: one.is_up(url_of(port)))
                connections[0].transport.write(bytes(encode_frame(frame(1))))
                await until(lambda: not one.is_up(url_of(port)), "LinkDown")
                assert one.journal.protocol_errors == 1
            together = greeting_of(one, port) + encode_frame(frame(1))
            ups = len(one.events)
            async with raw_peer(port, together):
                one.links.hurry(url_of(port))
                await until(lambda: one.journal.protocol_errors == 2)
            assert len(one.events) == ups

    run(main())


def test_a_port_where_something_else_answers_is_reported_and_tried_again(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        port = next(ports)
        async with Node(next(ports), rng=AtOnce()) as one:
            one.links.set_peers([url_of(port)])
            with capture_logs() as logs:
                async with raw_peer(port, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
                    await until(lambda: one.journal.protocol_errors >= 5)
            assert [line["event"] for line in logs] == ["peer_broke_protocol"]
            assert one.events == []

    run(main())


def test_a_peer_that_drops_every_link_at_once_is_tried_with_growing_waits(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        port = next(ports)
        rng = AtOnce()
        async with Node(next(ports), rng=rng) as one:
            async with raw_peer(port, greeting_of(one, port), closes=True):
                one.links.set_peers([url_of(port)])
                await until(lambda: len(rng.ceilings) >= 8)
            assert rng.ceilings[:8] == [50, 100, 200, 400, 800, 1600, 2000, 2000]

    run(main())


def test_peers_not_named_any_more_are_left_and_told_as_down(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one, Node(next(ports)) as two, Node(next(ports)) as three:
            one.links.set_peers([two.url, three.url])
            await until(lambda: one.is_up(two.url) and one.is_up(three.url))
            one.links.set_peers([three.url])
            await until(lambda: LinkDown(two.url) in one.events)
            one.links.send(two.url, frame(1))
            one.links.send(three.url, frame(2))
            await until(lambda: three.numbers() == [2])
            assert two.frames == []
            assert one.is_up(three.url)
            assert [type(e) for e in one.events if e.peer == two.url] == [LinkUp, LinkDown]

    run(main())


@pytest.mark.parametrize(
    "url", ["", "http://127.0.0.1", "http://127.0.0.1:99999", "http://a\0b:80", "http://a..b:80"]
)
def test_a_url_without_an_address_is_just_never_reached(
    run: Run, ports: Iterator[int], url: str
) -> None:
    async def main() -> None:
        rng = AtOnce()
        async with Node(next(ports), rng=rng) as one, Node(next(ports)) as two:
            one.links.set_peers([url, two.url])
            await until(lambda: len(rng.ceilings) >= 3 and one.is_up(two.url))

    run(main())


def test_more_than_a_frame_holds_is_sent_as_several_in_order(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one, Node(next(ports)) as two:
            one.links.set_peers([two.url])
            await until(lambda: one.is_up(two.url))
            messages: list[Message] = [Pong(1), big(15), big(15), Pong(2), big(15), Pong(3)]
            one.links.send(two.url, Frame(4, 5, messages))
            await until(lambda: two.numbers() == [1, 2, 3])
            assert [m for _, f in two.frames for m in f.messages] == messages
            assert {(f.epoch, f.clock) for _, f in two.frames} == {(4, 5)}
            assert len(two.frames) > 1

    run(main())


def test_the_largest_value_that_a_node_can_be_set_to_take_fits_into_a_frame() -> None:
    """It would be accepted otherwise, never reach a replica, and hold up all hints behind it."""
    record = Record(b"v" * 14, bytes(VALUE_BYTES_MOST), 2**63 - 1, b"p" * 14)
    row = row_of(b"k" * KEY_BYTES_MAX)
    assert encode_frame(Frame(2**63, 2**63, [Mutate(2**63, [(row, record)])]))


def test_a_message_too_large_for_any_frame_is_dropped_and_the_link_stays(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one, Node(next(ports)) as two:
            one.links.set_peers([two.url])
            await until(lambda: one.is_up(two.url))
            with capture_logs() as logs:
                too_large = big((FRAME_BYTES_MAX >> 20) + 1)
                one.links.send(two.url, Frame(1, 1, [Pong(1), too_large, Pong(2)]))
            await until(lambda: two.numbers() == [1, 2])
            assert [line["event"] for line in logs] == ["message_too_large"]
            assert one.journal.frames_dropped == 1
            assert one.is_up(two.url)

    run(main())


def test_close_lets_what_was_sent_leave(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one, Node(next(ports)) as two:
            one.links.set_peers([two.url])
            await until(lambda: one.is_up(two.url))
            (incoming,) = [each._transport for each in two.acceptor._connections]
            assert incoming is not None
            incoming.pause_reading()
            for _ in range(3):
                one.links.send(two.url, Frame(1, 1, [big(8)]))
            closing = asyncio.create_task(one.links.close())
            await until(lambda: not one.is_up(two.url))
            assert not closing.done()
            incoming.resume_reading()
            await closing
            await until(lambda: len(two.frames) == 3)
            assert one.events[-1] == LinkDown(two.url)

    run(main())


def test_close_does_not_wait_for_a_peer_that_never_reads(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        port = next(ports)
        async with Node(next(ports)) as one, raw_peer(port, greeting_of(one, port)):
            one.links.set_peers([url_of(port)])
            await until(lambda: one.is_up(url_of(port)))
            for _ in range(3):
                one.links.send(url_of(port), Frame(1, 1, [big(8)]))
            await asyncio.wait_for(one.links.close(), 5)

    run(main())


def test_a_fault_of_our_own_in_a_link_is_heard_by_the_loop(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        heard: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

        def broken(_: Greeting) -> None:
            raise ZeroDivisionError

        async with Node(next(ports)) as one, Node(next(ports)) as two:
            one.links = PeerLinks(
                greeting=lambda: one.greeting,
                on_event=one.events.append,
                on_welcome=broken,
                on_twin=one._note_twin,
                rng=random.Random(1),
                journal=one.journal,
            )
            one.links.set_peers([two.url])
            await until(lambda: heard)
            assert isinstance(heard[0]["exception"], ZeroDivisionError)

    run(main())
