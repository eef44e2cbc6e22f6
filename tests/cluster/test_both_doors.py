# SPDX-License-Identifier: GPL-3.0-or-later
"""I28: what one door wrote the other reads, with the same bytes, version and expiry, at the node
that took it and at another; on real nodes, by a Redis client and by HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis

from quorate.client import Client
from quorate.client.calls import BatchGet, BatchPut, Written
from quorate.client.calls import Value as HttpValue
from tests.cluster.processes import Cluster, fetch, wait_until

KEYS = [
    b"k",
    "schlüssel".encode(),
    b"\x00",
    b"\xff\xfe",
    bytes(range(256)),
    b" a+b%20&key=c#d?\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"{tag}" + b"x" * 500,
]
VALUES = [
    b"",
    b"0",
    "wert".encode("utf-16"),
    bytes(range(256)),
    b"\r\n$-1\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"\x00" * 70_000,
]
HOUR_MS = 3_600_000


class Seen(NamedTuple):
    """What a door says of a key that is there."""

    value: bytes
    version: str
    expires_ms: int
    """0: never."""


class Doors:
    """Both doors of one node."""

    def __init__(self, url: str, port: int) -> None:
        self.url = url
        self.redis: Any = redis.Redis("localhost", port)
        """Its types are of text, where keys are bytes."""
        self.http = Client(url)

    def close(self) -> None:
        self.redis.close()
        self.http.close()

    def at_redis(self, key: bytes) -> Seen | None:
        """What the Redis door says, by each command that shows some of it."""
        held = self.redis.execute_command("QUORATE.GET", key)
        value, expires_ms = self.redis.get(key), self.redis.pexpiretime(key)
        if held is None:
            assert (value, expires_ms) == (None, -2)
            return None
        shown, version = held
        assert shown == value
        return Seen(shown, version.decode(), 0 if expires_ms == -1 else expires_ms)

    def at_http(self, key: bytes) -> Seen | None:
        """What the HTTP door says, in both its lanes."""
        found = self.http.get(key)
        (batched,) = self.http.batch([BatchGet(key)])
        if found is None:
            assert batched is None
            return None
        assert isinstance(batched, HttpValue)
        assert (batched.value, batched.version) == (found.value, found.version)
        return Seen(found.value, found.version, batched.expires_ms or 0)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Doors]]:
    with Cluster(tmp_path_factory.mktemp("doors"), "-durability=os") as cluster:
        doors = [Doors(node.url, node.port) for node in cluster.nodes]
        yield doors
        for each in doors:
            each.close()


def seen(nodes: list[Doors], key: bytes) -> Seen | None:
    """What both doors of all nodes say alike."""
    told = [say(key) for each in nodes for say in (each.at_redis, each.at_http)]
    assert told == [told[0]] * len(told), key
    return told[0]


def test_what_redis_wrote_http_reads(nodes: list[Doors]) -> None:
    first = nodes[0]
    until = int(time.time() * 1000) + HOUR_MS + 7
    for number, key in enumerate(KEYS):
        for value in VALUES:
            first.redis.set(key, value, pxat=until + number)
            kept = seen(nodes, key)
            assert kept is not None
            assert kept == (value, kept.version, until + number)
            first.redis.set(key, value)
            again = seen(nodes, key)
            assert again is not None
            assert again == (value, again.version, 0)
            assert again.version > kept.version


def test_what_http_wrote_redis_reads(nodes: list[Doors]) -> None:
    first = nodes[0]
    until = int(time.time() * 1000) + HOUR_MS + 7
    for number, key in enumerate(KEYS):
        for value in VALUES:
            plain = first.http.put(key, value)
            assert seen(nodes, key) == (value, plain.version, 0)
            before_ms = int(time.time() * 1000)
            timed = first.http.put(key, value, ttl=3600)
            after_ms = int(time.time() * 1000)
            kept = seen(nodes, key)
            assert kept is not None
            assert kept[:2] == (value, timed.version)
            assert before_ms <= kept.expires_ms - HOUR_MS <= after_ms
            (written,) = first.http.batch([BatchPut(key, value, expires_ms=until + number)])
            assert isinstance(written, Written)
            assert seen(nodes, key) == (value, written.version, until + number)


def test_what_one_door_builds_on_the_other_built(nodes: list[Doors]) -> None:
    """Read-modify-writes: their versions are longer, and what expires goes on to."""
    first = nodes[0]
    until = int(time.time() * 1000) + HOUR_MS + 7
    for number, key in enumerate(KEYS):
        first.redis.set(key, "1", pxat=until + number)
        by_http = first.http.increment(key, 10)
        assert seen(nodes, key) == (b"11", by_http.version, until + number)
        assert first.redis.incrby(key, -4) == 7
        by_redis = seen(nodes, key)
        assert by_redis is not None
        assert by_redis == (b"7", by_redis.version, until + number)
        assert len(by_redis.version) == len(by_http.version) == 44
        assert by_redis.version > by_http.version
        by_version = first.http.compare_and_set(key, by_redis.version, b"\xff")
        assert seen(nodes, key) == (b"\xff", by_version.version, 0)
        done, version = first.redis.execute_command(
            "QUORATE.CAS", key, by_version.version, b"\x00", "PXAT", until
        )
        assert done == 1
        assert seen(nodes, key) == (b"\x00", version.decode(), until)


def test_when_a_key_expires_is_changed_at_one_door_and_seen_at_the_other(
    nodes: list[Doors],
) -> None:
    first = nodes[0]
    until = int(time.time() * 1000) + HOUR_MS
    for key in KEYS:
        first.http.put(key, b"v")
        assert first.redis.pexpireat(key, until)
        timed = seen(nodes, key)
        assert timed is not None
        assert (timed.value, timed.expires_ms) == (b"v", until)
        assert first.redis.persist(key)
        kept = seen(nodes, key)
        assert kept is not None
        assert (kept.value, kept.expires_ms) == (b"v", 0)
        first.http.put(key, b"w")
        replaced = seen(nodes, key)
        assert replaced is not None
        assert (replaced.value, replaced.expires_ms) == (b"w", 0)


def test_what_expired_or_was_deleted_at_one_door_is_gone_at_the_other(nodes: list[Doors]) -> None:
    first = nodes[0]
    for key in KEYS:
        first.redis.set(key, "v")
        first.http.delete(key)
        assert seen(nodes, key) is None
        first.http.put(key, b"v")
        assert first.redis.delete(key) == 1
        assert seen(nodes, key) is None
    first.redis.set("soon", "v", px=300)
    first.http.put(b"late", b"v", ttl=1)
    keys = (b"soon", b"late")

    def is_there() -> bool:
        told = [say(key) for at in nodes for say in (at.redis.get, at.http.get) for key in keys]
        return any(each is not None for each in told)

    wait_until(lambda: not is_there(), within_s=10, what="both expired at all nodes")
    assert [seen(nodes, key) for key in keys] == [None, None]


def test_each_door_lists_what_the_other_wrote(nodes: list[Doors]) -> None:
    for each, other in zip(KEYS, (*KEYS[1:], KEYS[0]), strict=True):
        nodes[0].redis.set(b"list/redis/" + each, other)
        nodes[0].http.put(b"list/http/" + each, other)
    wanted = sorted([b"list/redis/" + key for key in KEYS] + [b"list/http/" + key for key in KEYS])
    for at in nodes:
        assert sorted(at.redis.scan_iter(match="list/*", count=1000)) == wanted
        assert sorted(at.http.scan(b"list/")) == wanted
    status, _ = fetch(f"{nodes[0].url}/kv?key=list/http/k")
    assert status == 200
