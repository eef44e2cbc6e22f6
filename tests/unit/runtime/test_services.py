# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that SRV records name, asked of a DNS server that a test made up."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from dns.asyncresolver import Resolver
from structlog.testing import capture_logs

from quorate.runtime import discovery, services
from quorate.runtime.discovery import TTL_S_MAX, TTL_S_MIN
from quorate.runtime.services import urls_of_service
from tests.unit.runtime.test_discovery import ComesLate, Found, run_until_offered

NAME = "_quorate._tcp.kv.invalid"


class Server:
    """Answers every question with these records; None: that there is no such name."""

    def __init__(self, records: list[str] | None) -> None:
        self.records = records
        self.asked = 0
        self.is_silent = False
        self.ttl_s = 0
        self.alias_ttl_s: int | None = None
        """Of the alias that leads to the records; None: they have the name that was asked for."""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])

    def serve(self) -> None:
        while True:
            data, asker = self.socket.recvfrom(4096)
            if data == b"end":
                return
            self.asked += 1
            if not self.is_silent:
                self.socket.sendto(self._answer(dns.message.from_wire(data)), asker)

    def _answer(self, question: dns.message.Message) -> bytes:
        answer = dns.message.make_response(question)
        if self.records is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif self.records:
            name = question.question[0].name
            if self.alias_ttl_s is not None:
                alias = (name, self.alias_ttl_s, "IN", "CNAME", "_quorate._tcp.east.invalid.")
                answer.answer.append(dns.rrset.from_text(*alias))
                name = dns.name.from_text("_quorate._tcp.east.invalid.")
            found = dns.rrset.from_text(name, self.ttl_s, "IN", "SRV", *self.records)
            answer.answer.append(found)
        return answer.to_wire()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The system's DNS server."""
    with serving(Server([])) as server:

        def configured() -> Resolver:
            resolver = Resolver(configure=False)
            resolver.nameservers = ["127.0.0.1"]
            resolver.port = server.port
            return resolver

        monkeypatch.setattr(services, "Resolver", configured)
        yield server


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", ("127.0.0.1", server.port))
        thread.join(10)
        server.socket.close()


def test_the_nodes_of_a_service_come_by_priority_then_weight(server: Server) -> None:
    server.records = [
        "20 50 8003 n3.invalid.",
        "10 20 8001 n1.invalid.",
        "10 80 8002 n2.invalid.",
    ]
    server.ttl_s = 42
    assert asyncio.run(urls_of_service(NAME)) == (
        ["http://n2.invalid:8002", "http://n1.invalid:8001", "http://n3.invalid:8003"],
        42,
    )


def test_a_service_that_is_said_not_to_be_there_has_no_nodes(server: Server) -> None:
    server.records = ["0 0 0 ."]
    assert asyncio.run(urls_of_service(NAME)) == ([], 0)


@pytest.mark.parametrize("records", [[], None])
def test_a_name_without_such_records_is_told(server: Server, records: list[str] | None) -> None:
    server.records = records
    with pytest.raises(ConnectionError, match=r"kv\.invalid"):
        asyncio.run(urls_of_service(NAME))


def test_a_server_that_says_nothing_is_waited_for_so_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "ASK_S", 0.3)
    server.is_silent = True
    with pytest.raises(ConnectionError, match="lifetime expired"):
        asyncio.run(urls_of_service(NAME))
    assert server.asked > 0


def test_records_that_lie_lead_nowhere_and_those_that_change_are_followed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that no peer has, this node itself, names that are none."""
    monkeypatch.setattr(discovery, "TTL_S_MIN", 0.001)
    bad = ["0 0 22 n2.invalid.", "0 0 8000 10.0.0.1.", "0 0 8000 a\\032b.invalid."]
    server.records = [*bad, "0 0 8000 n2.invalid."]
    found = Found([f"dns:{NAME}"])

    async def run() -> None:
        found.start()
        while len(found.offers) < 2:
            await asyncio.sleep(0.001)
        server.records = ["0 0 8000 n3.invalid."]
        while found.offers[-1] != ["http://n3.invalid:8000"]:
            await asyncio.sleep(0.001)
        await found.close()

    with capture_logs() as lines:
        asyncio.run(asyncio.wait_for(run(), 20))
    assert {tuple(each) for each in found.offers} == {
        ("http://n2.invalid:8000",),
        ("http://n3.invalid:8000",),
    }
    assert {line["event"] for line in lines} == {"discovery_limited"}


def test_records_that_are_not_there_are_told_once_and_stop_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "FIRST_S", 0.001)
    server.records = None
    with capture_logs() as lines:
        run_until_offered(Found([f"dns:{NAME}", "http://n9:8000"]), 3)
    assert [line["source"] for line in lines] == [f"dns:{NAME}"]


def test_names_in_capitals_are_names(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a zone file has them, or Windows: DNS keeps the letters and compares without regard to
    them."""
    monkeypatch.setattr(discovery, "FIRST_S", 0.001)
    server.records = ["0 0 8000 NODE2.Invalid."]
    found = Found([f"dns:{NAME}"])

    async def run() -> None:
        found.start()
        while not found.offers:
            await asyncio.sleep(0.001)
        await found.close()

    asyncio.run(asyncio.wait_for(run(), 3))
    assert found.offers[0] == ["http://node2.invalid:8000"]


YEAR_S = 31_536_000


@pytest.mark.parametrize(
    ("ttl_s", "wait_s"), [(0, TTL_S_MIN), (42, 42), (YEAR_S, TTL_S_MAX), (2**31 - 1, TTL_S_MAX)]
)
def test_a_service_is_asked_for_again_when_its_ttl_is_over_but_neither_at_once_nor_never(
    server: Server, ttl_s: int, wait_s: float
) -> None:
    server.records, server.ttl_s = ["0 0 8000 n2.invalid."], ttl_s
    found = Found([f"dns:{NAME}"])
    assert asyncio.run(found._ask(NAME)) == wait_s


@pytest.mark.parametrize(("alias_ttl_s", "ttl_s"), [(20, 60), (60, 20)])
def test_an_alias_that_may_change_before_its_records_is_asked_for_again_then(
    server: Server, alias_ttl_s: int, ttl_s: int
) -> None:
    server.records, server.alias_ttl_s, server.ttl_s = ["0 0 8000 n2.invalid."], alias_ttl_s, ttl_s
    assert asyncio.run(urls_of_service(NAME)) == (["http://n2.invalid:8000"], 20)


def test_a_service_that_is_not_known_is_asked_for_later_each_time_until_it_is(
    server: Server,
) -> None:
    found = Found([f"dns:{NAME}"])

    def waits(count: int) -> list[float]:
        return [asyncio.run(found._ask(NAME)) for _ in range(count)]

    server.records = None
    assert waits(7) == [1, 2, 4, 8, 16, 30, 30]
    server.records, server.ttl_s = ["0 0 8000 n2.invalid."], 60
    assert waits(2) == [60, 60]
    server.records = None
    assert waits(2) == [1, 2]


def test_what_is_around_has_no_name_asked_for_before_its_ttl_is_over(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "FIRST_S", 0.001)
    server.records, server.ttl_s = ["0 0 8000 n2.invalid."], 60
    found = Found(["mdns", f"dns:{NAME}"], nearby=ComesLate())

    async def run() -> None:
        found.start()
        while len(found.offers) < 20 or len(found.offers[-1]) < 2:
            await asyncio.sleep(0.001)
        await found.close()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert sorted(found.offers[-1]) == ["http://10.0.0.2:8000", "http://n2.invalid:8000"]
    assert server.asked == 1
