# SPDX-License-Identifier: GPL-3.0-or-later
"""Two processes with one URL, over real loopback sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from quorate.transport import links
from quorate.wire.frames import GreetingParser, encode_frame, encode_greeting
from tests.unit.transport.conftest import Run
from tests.unit.transport.node import Node, RawPeer, frame, until
from tests.unit.transport.test_acceptor import GOOD, greeted, greeting_for
from tests.unit.transport.test_links import AtOnce


def test_no_link_is_taken_from_another_process_than_our_own_link_leads_to(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as node, Node(next(ports)) as other:
            twin = encode_greeting(greeting_for(node, url=other.url, process=99))
            early = await greeted(node, url=other.url, process=99)
            node.links.set_peers([other.url])
            await until(lambda: node.is_up(other.url))
            assert await early.read_all() == b""
            good = await greeted(node, url=other.url, process=other.greeting.process)
            late = await RawPeer.dial(node.port)
            late.write(twin + GOOD)
            answer = GreetingParser().feed(await late.read_all())
            assert answer is not None
            assert "two nodes with one URL" in answer.refusal
            assert answer.reached == other.greeting.process
            good.write(bytes(encode_frame(frame(2))))
            await until(lambda: node.numbers() == [2], "the frame of the good one")
            for peer in (early, good, late):
                await peer.close()

    run(main())


def test_who_is_refused_for_long_because_another_has_its_url_is_told_so(
    run: Run, ports: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "TWIN_MS", 200)

    async def main() -> None:
        async with Node(next(ports)) as one, Node(next(ports)) as two:
            twin = Node(next(ports), rng=AtOnce())
            twin.greeting = msgspec.structs.replace(two.greeting, process=twin.port)
            one.links.set_peers([two.url])
            await until(lambda: one.is_up(two.url))
            began_s = asyncio.get_running_loop().time()
            twin.links.set_peers([one.url])
            await until(lambda: twin.twins)
            assert asyncio.get_running_loop().time() - began_s >= 0.2
            assert twin.events == two.events == []
            await twin.links.close()

    run(main())


def test_who_takes_the_place_of_another_process_is_refused_only_until_that_is_noticed(
    run: Run, ports: Iterator[int]
) -> None:
    async def main() -> None:
        async with Node(next(ports)) as one:
            before = Node(next(ports))
            after = Node(before.port, rng=AtOnce())
            after.greeting = msgspec.structs.replace(before.greeting, process=99)
            async with before:
                one.links.set_peers([before.url])
                await until(lambda: one.is_up(before.url))
            async with after:
                after.links.set_peers([one.url])
                await until(lambda: after.is_up(one.url) and one.is_up(after.url))
                await until(lambda: one.links.process(after.url) == 99)

    run(main())
