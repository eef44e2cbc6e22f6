# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a node is that is to find out by itself: what servers and peers say, and what they may."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import cast

import pytest
from aioice import stun as oracle

from quorate.core.values.messages import Greeting
from quorate.host.system import Channel, Dialled, Proof, Timer
from quorate.runtime import stun
from quorate.runtime.located import Located, located_by_peers, located_by_stun
from quorate.runtime.system import AsyncioSystem
from quorate.wire.frames import encode_greeting

SEEN = "198.51.100.7"
Datagrams = Callable[[bytes], list[bytes]]


class StunServer(asyncio.DatagramProtocol):
    """Answers each datagram with those that `says` makes of it; `elsewhere` does so for it."""

    def __init__(self, says: Datagrams, *, elsewhere: bool = False) -> None:
        self._says = says
        self._elsewhere = elsewhere
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.asked += 1
        if self._elsewhere:
            task = asyncio.ensure_future(self._say_from_elsewhere(data, address))
            task.add_done_callback(lambda done: done.result())
            return
        for each in self._says(data):
            self._transport.sendto(each, address)

    async def _say_from_elsewhere(self, data: bytes, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        other, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        for each in self._says(data):
            other.sendto(each, address)
        other.close()


def answer(request: bytes, host: str = SEEN, *, transaction: bytes | None = None) -> bytes:
    read = oracle.parse_message(request)
    return bytes(
        oracle.Message(
            oracle.Method.BINDING,
            oracle.Class.RESPONSE,
            transaction or read.transaction_id,
            {"XOR-MAPPED-ADDRESS": (host, 7)},
        )
    )


def ask(says: Datagrams, *, elsewhere: bool = False, may_be_loopback: bool = False) -> Located:
    """What comes of asking such a server, on loopback."""

    async def run() -> Located:
        server = StunServer(says, elsewhere=elsewhere)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: server, local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        try:
            return await located_by_stun(f"127.0.0.1:{port}", may_be_loopback=may_be_loopback)
        finally:
            assert server.asked
            transport.close()

    return asyncio.run(run())


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stun, "WAITS_S", (0.05, 0.05))


def test_what_a_stun_server_sees_is_where_the_node_is() -> None:
    found = ask(lambda request: [answer(request)])
    assert found.host == SEEN
    assert "the STUN server 127.0.0.1:" in found.reason


def test_what_is_no_answer_is_passed_over_for_the_one_that_is() -> None:
    found = ask(
        lambda request: [
            b"",
            answer(request)[:-1],
            answer(request, "203.0.113.9", transaction=b"x" * 12),
            answer(request),
        ]
    )
    assert found.host == SEEN


@pytest.mark.usefixtures("_soon")
def test_an_answer_from_elsewhere_is_none() -> None:
    found = ask(lambda request: [answer(request)], elsewhere=True)
    assert found.host == ""
    assert "no answer" in found.reason


@pytest.mark.usefixtures("_soon")
def test_a_server_that_says_nothing_useful_is_named_with_the_reason() -> None:
    assert "an answer that is none: cut" in ask(lambda request: [answer(request)[:-1]]).reason


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_a_server_whose_name_is_none_is_said_to_be_no_help(host: str) -> None:
    found = asyncio.run(located_by_stun(f"{host}:3478", may_be_loopback=False))
    assert found.host == ""
    assert f"-stun={host}:3478 does not say it: no name" in found.reason


def test_a_start_does_not_wait_long_for_the_name_of_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()

    def silent(*_: object, **__: object) -> None:
        over.wait(60)
        raise OSError("no server for names answers")

    monkeypatch.setattr("quorate.runtime.stun.RESOLVE_S", 0.05)
    monkeypatch.setattr("socket.getaddrinfo", silent)

    async def run() -> Located:
        async with asyncio.timeout(20):
            return await located_by_stun("stun.example:3478", may_be_loopback=False)

    try:
        assert "its name is not resolved in time" in asyncio.run(run()).reason
    finally:
        over.set()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1"]
)
def test_no_server_can_make_a_node_be_where_none_can_be(host: str) -> None:
    found = ask(lambda request: [answer(request, host)])
    assert found.host == ""
    assert host in found.reason


def test_on_loopback_a_node_may_be_on_loopback() -> None:
    found = ask(lambda request: [answer(request, "127.0.0.1")], may_be_loopback=True)
    assert found.host == "127.0.0.1"


class Peers:
    """A system whose dials lead to peers that see this node so; None: nobody is there."""

    def __init__(self, seen: dict[str, str | None]) -> None:
        self._seen = seen
        self._loop = asyncio.get_running_loop()

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        return self._loop.call_later(ms / 1000, call)

    def dial(self, url: str, connection: Dialled) -> Timer:
        return self._loop.call_soon(self._connect, self._seen[url], connection)

    def proof(self, _: Channel) -> Proof:
        return Proof()

    def _connect(self, seen: str | None, connection: Dialled) -> None:
        if seen is None:
            connection.dial_failed("")
            return
        connection.connection_made(_Written())  # type: ignore[arg-type]
        blank = Greeting(4, 4, "", "", 0, 0, b"", "", refusal="no", seen=seen)
        connection.data_received(encode_greeting(blank))


class _Written:
    def write(self, data: bytes) -> None:
        assert data

    def abort(self) -> None:
        pass


def told(seen: Sequence[str | None]) -> Located:
    async def run() -> Located:
        urls = {f"http://n{number}:8000": each for number, each in enumerate(seen)}
        return await located_by_peers(
            Peers(urls),  # type: ignore[arg-type]
            list(urls),
            cluster="c",
            node_id=1,
            may_be_loopback=False,
        )

    return asyncio.run(run())


def test_what_most_peers_see_is_where_the_node_is() -> None:
    found = told(["203.0.113.9", SEEN, None, SEEN])
    assert found.host == SEEN
    assert found.reason == ("http://n1:8000 and 1 more sees it there; others see it at 203.0.113.9")


@pytest.mark.parametrize("seen", ["unknown", "127.0.0.1", "169.254.1.1", "fe80::1%eth0"])
def test_what_no_node_can_be_at_is_believed_of_no_peer(seen: str) -> None:
    why = f"it sees it at {seen}, where no other machine can reach a node"
    assert told([seen, None]) == Located("", f"none of 2 peers says it; http://n0:8000: {why}")


@pytest.mark.parametrize(
    ("seen", "why"), [("", "no"), (None, "nobody takes the connection"), ("\x1b" * 99, "\\x1b")]
)
def test_a_peer_that_does_not_say_it_is_named_with_the_reason(seen: str | None, why: str) -> None:
    found = told([seen])
    assert found.host == ""
    assert found.reason.startswith("none of 1 peers says it; http://n0:8000: ")
    assert why in found.reason
    assert found.reason.isprintable()


def test_an_address_is_in_its_shortest_form() -> None:
    assert told(["::ffff:198.51.100.7"]).host == SEEN


def test_a_node_without_peers_is_told_nothing() -> None:
    assert told([]).host == ""


def test_the_system_of_the_product_can_be_asked_of_nobody() -> None:
    """A peer that is not there is no answer, and leaves nothing behind."""

    async def run() -> Located:
        system = AsyncioSystem(own_url="http://127.0.0.1:1", sync=lambda: None, on_end=print)
        try:
            return await located_by_peers(
                system, ["http://127.0.0.1:1"], cluster="c", node_id=1, may_be_loopback=True
            )
        finally:
            system.close()

    assert asyncio.run(run()).host == ""
