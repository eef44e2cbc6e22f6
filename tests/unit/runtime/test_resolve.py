# SPDX-License-Identifier: GPL-3.0-or-later
"""What a peer's URL resolves to is judged before it is dialled."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from quorate.runtime.resolve import LOOKUPS_MAX, Names, NotDialled

HERE, THERE = "http://127.0.0.1:8000", "http://10.0.0.1:8000"
NAMES = {
    "evil.example": ["169.254.169.254"],
    "inward.example": ["127.0.0.1"],
    "both.example": ["127.0.0.1", "10.0.0.9"],
    "machine": ["127.0.1.1"],
    "fine.example": ["10.0.0.9", "10.0.0.8"],
}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the names above resolve."""

    async def addresses(_names: Names, host: str) -> list[str]:
        return NAMES.get(host, [host])

    monkeypatch.setattr(Names, "addresses", addresses)


def resolved(url: str, own_url: str) -> list[tuple[str, int]]:
    return asyncio.run(Names(own_url).resolve(url))


@pytest.mark.parametrize(
    ("url", "own_url"),
    [
        ("http://169.254.169.254:80", HERE),
        ("http://[::ffff:169.254.169.254]:80", HERE),
        ("http://[fe80::1]:80", HERE),
        ("http://239.0.0.1:80", HERE),
        ("http://0.0.0.0:80", HERE),
        ("http://evil.example:80", HERE),
        ("http://127.0.0.1:6379", THERE),
        ("http://[::1]:6379", THERE),
        ("http://inward.example:6379", THERE),
    ],
)
@pytest.mark.usefixtures("names")
def test_addresses_where_no_peer_can_be_are_never_dialled(url: str, own_url: str) -> None:
    with pytest.raises(NotDialled):
        resolved(url, own_url)


@pytest.mark.parametrize(
    ("url", "own_url", "addresses"),
    [
        ("http://10.0.0.2:8001", THERE, ["10.0.0.2"]),
        ("http://fine.example:8001", THERE, ["10.0.0.9", "10.0.0.8"]),
        ("http://both.example:8001", THERE, ["10.0.0.9"]),
        ("http://both.example:8001", HERE, ["127.0.0.1", "10.0.0.9"]),
        ("http://inward.example:8001", HERE, ["127.0.0.1"]),
        ("http://machine:8001", "http://machine:8000", ["127.0.1.1"]),
        ("http://[::1]:8001", "http://a.localhost:8000", ["::1"]),
    ],
)
@pytest.mark.usefixtures("names")
def test_a_peer_is_dialled_at_what_its_name_resolved_to(
    url: str, own_url: str, addresses: list[str]
) -> None:
    assert resolved(url, own_url) == [(each, 8001) for each in addresses]


@pytest.mark.parametrize("url", ["", "http://a", "http://127.0.0.1:99999", "http://a\0b:80"])
def test_a_url_that_leads_nowhere_is_a_connection_that_failed(url: str) -> None:
    with pytest.raises(OSError):
        resolved(url, HERE)


def test_a_name_is_looked_up() -> None:
    assert ("127.0.0.1", 80) in resolved("http://localhost:80", HERE)


def test_a_lookup_without_a_thread_for_it_fails_and_a_later_one_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        names = Names(HERE)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ConnectionError, match="can't start new thread"):
                await names.addresses("localhost")
        assert await names.addresses("localhost")

    asyncio.run(run())


def test_whatever_comes_of_a_lookup_who_waits_has_an_answer_and_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look(*_: object, **_named: object) -> object:
        raise MemoryError

    async def run() -> None:
        names = Names(HERE)
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", look)
            with pytest.raises(ConnectionError, match=r"no look-up of 'localhost': MemoryError"):
                await names.addresses("localhost")
        assert await names.addresses("localhost")

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_name_whose_server_is_silent_is_looked_up_once_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither other names nor the end of the loop."""
    lookups: list[str] = []
    never, found = threading.Event(), socket.getaddrinfo

    def look(host: str, *_: object, **_named: object) -> object:
        lookups.append(host)
        if host.endswith("silent.example"):
            never.wait()
        return found("127.0.0.1", None, type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", look)

    async def main() -> None:
        names = Names(HERE)
        dials = [
            asyncio.ensure_future(names.resolve(f"http://{i}.silent.example:80"))
            for i in [*range(LOOKUPS_MAX - 1), 0, 0]
        ]
        assert await names.resolve("http://peer.example:80") == [("127.0.0.1", 80)]
        assert len(lookups) == LOOKUPS_MAX
        dials.append(asyncio.ensure_future(names.resolve("http://last.silent.example:80")))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError, match="too many lookups"):
            await names.resolve("http://one-too-many.example:80")
        for dial in dials:
            dial.cancel()

    asyncio.run(main())
    never.set()
