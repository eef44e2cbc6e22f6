# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found comes to URLs to dial: few at a time, by turns, none where no peer may be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

import pytest
from structlog.testing import capture_logs

from quorate.runtime import discovery
from quorate.runtime.discovery import CANDIDATES_MAX, OFFERED_MAX, Around, Discovery
from quorate.runtime.resolve import Names

OWN = "http://10.0.0.1:8000"


class Found(Discovery):
    """One whose offers are kept."""

    def __init__(
        self, sources: Sequence[str] = (), *, own: str = OWN, nearby: Around | None = None
    ) -> None:
        self.offers: list[list[str]] = []
        super().__init__(
            sources,
            own_url=own,
            port=8000,
            is_own=lambda url: url == "http://192.168.0.1:8000",
            offer=self.offers.append,
            nearby=nearby,
        )


def test_of_ten_thousand_addresses_some_are_tried_by_turns_and_that_is_said_once() -> None:
    found = Found()
    many = [f"http://10.{i // 250}.{i % 250}.9:8000" for i in range(10_000)]
    with capture_logs() as lines:
        for _ in range(CANDIDATES_MAX // OFFERED_MAX + 1):
            found.offer(many)
    assert {len(each) for each in found.offers} == {OFFERED_MAX}
    assert {url for each in found.offers for url in each} == set(many[:CANDIDATES_MAX])
    assert [line["event"] for line in lines] == ["discovery_limited"]
    assert "10000 addresses, of which 1000 are tried" in lines[0]["reason"]


@pytest.mark.parametrize(
    "url",
    [
        OWN,
        "http://192.168.0.1:8000",
        "http://127.0.0.1:8000",
        "http://169.254.169.254:80",
        "http://10.0.0.2:22",
        "https://10.0.0.2:8000",
        "http://0.0.0.0:8000",
        "http://10.0.0.2:8000/x",
        "",
    ],
)
def test_where_no_other_node_may_be_nobody_is_sent(url: str) -> None:
    found = Found()
    found.offer([url])
    assert found.offers == []
    found.offer([url, "http://10.0.0.2:8000"])
    assert found.offers == [["http://10.0.0.2:8000"]]


def run_until_offered(found: Found, count: int) -> None:
    async def run() -> None:
        found.start()
        while len(found.offers) < count:
            await asyncio.sleep(0.001)
        await found.close()

    asyncio.run(asyncio.wait_for(run(), timeout=20))


def test_a_name_is_asked_for_again_and_again_and_may_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([["10.0.0.2", "2001:db8::2"], ["10.0.0.3"]])

    async def addresses(_names: Names, host: str) -> list[str]:
        assert host == "kv.example"
        return next(answers, ["10.0.0.4"])

    monkeypatch.setattr(Names, "addresses", addresses)
    monkeypatch.setattr(discovery, "FIRST_S", 0.001)
    found = Found(["dns:kv.example", "http://n9:8000"])

    async def run() -> None:
        found.start()
        while not found.offers or "http://10.0.0.4:8000" not in found.offers[-1]:
            await asyncio.sleep(0)
        await found.close()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert [sorted(each) for each, _ in groupby(found.offers, key=set)][-3:] == [
        ["http://10.0.0.2:8000", "http://[2001:db8::2]:8000", "http://n9:8000"],
        ["http://10.0.0.3:8000", "http://n9:8000"],
        ["http://10.0.0.4:8000", "http://n9:8000"],
    ]


def test_addresses_have_no_ttl_and_are_asked_for_at_first_often_then_at_an_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def addresses(_names: Names, _host: str) -> list[str]:
        return ["10.0.0.2"]

    monkeypatch.setattr(Names, "addresses", addresses)
    found = Found(["dns:kv.example"])
    waits = [asyncio.run(found._ask("kv.example")) for _ in range(7)]
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_a_name_whose_server_is_silent_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def addresses(_names: Names, host: str) -> list[str]:
        if host == "silent.example":
            await asyncio.sleep(3_600)
        return ["10.0.0.2"]

    monkeypatch.setattr(Names, "addresses", addresses)
    found = Found(["dns:silent.example", "dns:kv.example"])
    run_until_offered(found, 1)
    assert found.offers[0] == ["http://10.0.0.2:8000"]


def test_a_name_that_is_not_known_is_said_once_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def addresses(_names: Names, host: str) -> list[str]:
        raise ConnectionError(f"{host} is not known")

    monkeypatch.setattr(Names, "addresses", addresses)
    monkeypatch.setattr(discovery, "FIRST_S", 0.001)
    with capture_logs() as lines:
        run_until_offered(Found(["dns:kv.example:9000", "http://n9:8000"]), 3)
    assert [(line["source"], line["reason"]) for line in lines] == [
        ("dns:kv.example:9000", "kv.example is not known")
    ]


def test_a_name_that_is_lost_again_after_it_was_known_is_said_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    async def addresses(_names: Names, host: str) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == 2:
            return ["10.0.0.2"]
        raise ConnectionError(f"{host} is not known")

    monkeypatch.setattr(Names, "addresses", addresses)
    monkeypatch.setattr(discovery, "FIRST_S", 0.001)
    with capture_logs() as lines:
        run_until_offered(Found(["dns:kv.example", "http://n9:8000"]), 4)
    assert [line["source"] for line in lines] == ["dns:kv.example"] * 2


def test_what_nobody_foresaw_ends_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def addresses(_names: Names, _host: str) -> list[str]:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise RecursionError
        return ["10.0.0.2"]

    monkeypatch.setattr(Names, "addresses", addresses)
    monkeypatch.setattr("quorate.recurring.FIRST_S", 0.001)
    found = Found(["dns:kv.example"])
    with capture_logs() as lines:
        run_until_offered(found, 1)
    assert found.offers[0] == ["http://10.0.0.2:8000"]
    assert [(line["event"], line["work"]) for line in lines] == [("background_failed", "discovery")]


class ComesLate(Around):
    """A network that is there at the third try."""

    def __init__(self) -> None:
        self.tries = 0

    async def start(self) -> None:
        self.tries += 1
        if self.tries < 3:
            raise OSError(101, "Network is unreachable")

    async def close(self) -> None:
        pass

    def urls(self) -> list[str]:
        return [] if self.tries < 3 else ["http://10.0.0.2:8000"]


def test_a_network_that_is_not_there_yet_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "FIRST_S", 0.001)
    nearby = ComesLate()
    found = Found(nearby=nearby)
    with capture_logs() as lines:
        run_until_offered(found, 2)
    assert nearby.tries == 3
    assert [(line["event"], line["source"]) for line in lines] == [("discovery_limited", "mdns")]
