# SPDX-License-Identifier: GPL-3.0-or-later
"""A web page whose name was made to resolve to 127.0.0.1 reaches no node that trusts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quorate.core.values.events import Put
from quorate.doors.limits import Timers
from quorate.doors.principals import Principals
from tests.fake_store import FakeStore
from tests.http_served import Served
from tests.principals import CLUSTER, WALL_MS, open_principals

FOREIGN = (b"evil.example", b"evil.example:8000")
PATHS = (b"PUT /kv?key=a", b"PUT /kv?key=a&ttl=9", b"POST /join/token", b"GET /nodes")


def trusting(timers: Timers) -> Principals:
    """A cluster with a secret and without users: who comes from this machine may do everything."""
    return Principals(timers, cluster=CLUSTER, wall_ms=lambda: WALL_MS, is_open=False)


@pytest.fixture(scope="module")
def on_network() -> Iterator[Served]:
    """A node that other machines reach, and that trusts its own."""
    with Served(FakeStore(), is_on_loopback=False, make_principals=trusting) as served:
        yield served


def asked(served: Served, line: bytes, host: bytes) -> int:
    length = b"" if line.startswith(b"GET") else b"Content-Length: 2\r\n"
    body = b"{}" if length else b""
    with served.client() as client:
        return client.ask(
            b"%b HTTP/1.1\r\nHost: %b\r\n%b\r\n%b" % (line, host, length, body)
        ).status


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("line", PATHS)
def test_who_is_trusted_for_coming_from_this_machine_asks_for_it_by_a_name_of_it(
    on_network: Served, line: bytes, host: bytes
) -> None:
    assert asked(on_network, line, host) == 421
    assert not any(isinstance(each, Put) for each in on_network.store.events)


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:8000", b"[::1]"])
def test_the_names_of_this_machine_are_served_on_a_network_too(
    on_network: Served, host: bytes
) -> None:
    assert asked(on_network, b"GET /nodes", host) == 200
    on_network.reset()
    assert asked(on_network, b"PUT /kv?key=a", host) == 200
    on_network.reset()


def test_a_node_that_trusts_everybody_or_nobody_answers_to_any_name_on_a_network() -> None:
    with Served(FakeStore(), is_on_loopback=False, make_principals=open_principals) as served:
        assert asked(served, b"GET /nodes", FOREIGN[0]) == 200
        assert asked(served, b"PUT /kv?key=a", FOREIGN[0]) == 200
