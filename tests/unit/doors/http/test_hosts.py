# SPDX-License-Identifier: GPL-3.0-or-later
"""A web page whose name was made to resolve to a node reaches none that trusts who asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from quorate.core.values.events import Put
from quorate.doors.http.hosts import HostPolicy, Hosts
from quorate.doors.limits import Timers
from quorate.doors.principals import Principals
from tests.fake_store import FakeStore
from tests.http_served import Served
from tests.principals import CLUSTER, WALL_MS, open_principals, user, users_of
from tests.unit.doors.redis.turns import ManualTimers

FOREIGN = (b"evil.example", b"evil.example:8000")
PATHS = (b"PUT /kv?key=a", b"PUT /kv?key=a&ttl=9", b"POST /join/token", b"GET /nodes")
OWN_URL = "http://node-1.example.org:8000"
TOLD = frozenset({"kv.example.org", "2001:db8::7"})


class Line(asyncio.Transport):
    """A connection from one address, inside TLS or plain."""

    def __init__(self, address: str, *, is_tls: bool = False) -> None:
        inside = object() if is_tls else None
        super().__init__({"peername": (address, 40_000), "ssl_object": inside})


def trusting(timers: Timers) -> Principals:
    """A cluster with a secret and without users: who comes from this machine may do everything."""
    return Principals(timers, cluster=CLUSTER, wall_ms=lambda: WALL_MS, is_open=False)


def asking(timers: Timers) -> Principals:
    """Everybody has to log in."""
    users = users_of(user("ann", "read"))
    return Principals(timers, cluster=CLUSTER, wall_ms=lambda: WALL_MS, users=users)


def hosts_of(principals: Principals, line: Line, *, is_on_loopback: bool = False) -> Hosts:
    policy = HostPolicy(principals, is_on_loopback=is_on_loopback, own_url=OWN_URL, told=TOLD)
    return policy.at(line)


def on_loopback() -> Hosts:
    return hosts_of(open_principals(ManualTimers()), Line("127.0.0.1"), is_on_loopback=True)


def on_open_network() -> Hosts:
    return hosts_of(open_principals(ManualTimers()), Line("192.0.2.9"))


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        (b"localhost", True),
        (b"LocalHost:8000", True),
        (b"127.0.0.1:8000", True),
        (b"[::1]", True),
        (b"[::1]:8000", True),
        (b"node-1.example.org:9", True),
        (b"127.0.0.2", True),
        (b"a.localhost:8000", True),
        (b"10.0.0.1", False),
        (b"\xff", False),
        (b"evil.example", False),
        (b"kv.example.org", False),
        (b"kv", False),
        (b"localhost.evil.example", False),
        (b"localhost:8000:8000", False),
        (b"localhost:8000x", False),
        (b"localhost\n", False),
        (b"", False),
        (b":8000", False),
    ],
)
def test_on_loopback_only_loopback_and_our_own_name_are_ours(host: bytes, is_ours: bool) -> None:
    hosts = on_loopback()
    assert [hosts.welcome(host) for _ in range(2)] == [is_ours] * 2


@pytest.mark.parametrize(
    "host",
    [
        *(b"10.0.0.1", b"192.0.2.7:8000", b"[fe80::1]:8000", b"[2001:db8::1]", b"127.0.0.1:8000"),
        *(b"localhost:8000", b"a.localhost", b"kv", b"KV:8000", b"node_1", b"q-0"),
        *(b"node-1.example.org", b"Node-1.Example.Org.:8000", b"kv.example.org:80"),
        *(b"printer.local:8000", b"q-0.q.shop.svc", b"q-0.q.shop.svc.cluster.local:8000"),
        *(b"host.docker.internal", b"a.test", b"a.b.invalid", b"nas.home.arpa", b"nas.local."),
    ],
)
def test_a_name_that_no_other_site_can_have_is_ours_where_everybody_is_trusted(host: bytes) -> None:
    hosts = on_open_network()
    assert [hosts.welcome(host) for _ in range(2)] == [True, True]


@pytest.mark.parametrize(
    "host",
    [
        *FOREIGN,
        *(b"EVIL.EXAMPLE.", b"example.org", b"a.node-1.example.org", b"kv.example.org.example"),
        *(b"10.0.0.1.evil.example", b"localhost.evil.example:8000", b"q-0.q", b"kv.shop"),
        *(b"notlocal.example", b"evil.home", b"evil.arpa", b"evilhome.arpa", b"local..", b".."),
        *(b".local", b"a..local", b"evil.example@kv", b"evil example", b"kv\n", b"\xff"),
        *(b"kv:8000:8000", b"[::1].evil.example", b"evil.xn--local", b"evil.example/.local"),
        *(b"", b":8000"),
    ],
)
def test_a_name_that_another_site_may_have_is_not_ours_where_everybody_is_trusted(
    host: bytes,
) -> None:
    hosts = on_open_network()
    assert [hosts.welcome(host) for _ in range(2)] == [False, False]


def test_who_is_trusted_for_nothing_but_what_is_shown_asks_by_any_name() -> None:
    """A page has no login to show; and inside TLS no certificate is for a name of its own."""
    timers = ManualTimers()
    for hosts in (
        hosts_of(asking(timers), Line("192.0.2.9")),
        hosts_of(trusting(timers), Line("192.0.2.9")),
        hosts_of(open_principals(timers), Line("192.0.2.9", is_tls=True)),
    ):
        assert hosts.welcome(FOREIGN[0])
    for hosts in (
        hosts_of(trusting(timers), Line("127.0.0.1")),
        hosts_of(trusting(timers), Line("127.0.0.1", is_tls=True)),
        hosts_of(open_principals(timers), Line("127.0.0.1")),
    ):
        assert not hosts.welcome(FOREIGN[0])


def test_of_a_connection_that_is_gone_no_name_but_one_of_this_machine_is_taken() -> None:
    policy = HostPolicy(asking(ManualTimers()), is_on_loopback=False, own_url=OWN_URL, told=TOLD)
    assert not policy.at(None).welcome(FOREIGN[0])


@pytest.mark.parametrize("name", [b"x%d.localhost", b"x%d"])
def test_endlessly_many_names_of_ours_take_no_memory_and_the_last_are_known(name: bytes) -> None:
    hosts = on_loopback() if b"localhost" in name else on_open_network()
    assert all(hosts.welcome(name % number) for number in range(1000))
    assert name % 999 in hosts.known
    assert len(hosts.known) <= 100


@pytest.fixture(scope="module")
def on_network() -> Iterator[Served]:
    """A node that other machines reach, and that trusts its own."""
    with Served(FakeStore(), is_on_loopback=False, make_principals=trusting) as served:
        yield served


@pytest.fixture(scope="module")
def open_to_all() -> Iterator[Served]:
    """A node that other machines reach, and that trusts everybody (-insecure)."""
    with Served(
        FakeStore(),
        is_on_loopback=False,
        told=frozenset({"kv.example.org"}),
        make_principals=open_principals,
    ) as served:
        yield served


def request(line: bytes, host: bytes, headers: bytes = b"") -> bytes:
    length = b"" if line.startswith(b"GET") else b"Content-Length: 2\r\n"
    body = b"{}" if length else b""
    return b"%b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n%b" % (line, host, headers, length, body)


def asked(served: Served, line: bytes, host: bytes, headers: bytes = b"") -> int:
    with served.client() as client:
        return client.ask(request(line, host, headers)).status


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


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("line", PATHS)
@pytest.mark.parametrize("is_page", [False, True])
def test_a_page_of_another_site_does_nothing_where_everybody_may_do_everything(
    open_to_all: Served, line: bytes, host: bytes, is_page: bool
) -> None:
    """Its name was made to resolve to the node, so that its origin is the node's host."""
    origin = b"Origin: http://%b\r\n" % host if is_page else b""
    with open_to_all.client() as client:
        answer = client.ask(request(line, host, origin))
    assert answer.status == 421
    assert b"misdirected" in answer.body
    assert b"-advertise-client" in answer.body
    assert not any(isinstance(each, Put) for each in open_to_all.store.events)


@pytest.mark.parametrize("host", [b"10.0.0.1:8000", b"kv", b"q-0.q.shop.svc", b"kv.example.org"])
@pytest.mark.parametrize("line", [b"PUT /kv?key=a", b"PUT /kv?key=a&ttl=9", b"GET /nodes"])
def test_the_names_of_a_node_are_served_where_everybody_may_do_everything(
    open_to_all: Served, line: bytes, host: bytes
) -> None:
    assert asked(open_to_all, line, host) == 200
    open_to_all.reset()


def test_a_request_of_http_1_0_without_a_host_is_no_browsers(open_to_all: Served) -> None:
    with open_to_all.client() as client:
        assert client.ask(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200


def test_a_node_that_trusts_nobody_unheard_is_asked_by_any_name_on_a_network() -> None:
    with Served(FakeStore(), is_on_loopback=False, make_principals=asking) as served:
        assert asked(served, b"GET /healthz", FOREIGN[0]) == 200
        assert asked(served, b"PUT /kv?key=a", FOREIGN[0]) == 401
