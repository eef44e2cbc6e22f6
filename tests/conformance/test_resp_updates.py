# SPDX-License-Identifier: GPL-3.0-or-later
"""What reads and writes as one step, as redis-py asks for it: over a make-believe store on both
loops, and over a whole node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.cluster

from tests.conformance.test_resp_door import CONFIG, SERVED, connect
from tests.resp_served import WAIT_SECONDS, RespServed, single_node


@pytest.fixture(scope="module", params=list(SERVED))
def shared(request: pytest.FixtureRequest) -> Iterator[RespServed]:
    make, loop = SERVED[request.param]
    with RespServed(make(CONFIG), loop=loop) as door:
        yield door


@pytest.fixture
def door(shared: RespServed) -> RespServed:
    with connect(shared, 2) as client:
        client.flushdb()
    return shared


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(door: RespServed, request: pytest.FixtureRequest) -> Iterator[Any]:
    with connect(door, request.param) as client:
        yield client


@pytest.fixture(scope="module")
def node() -> Iterator[RespServed]:
    with RespServed(single_node(CONFIG), loop="uvloop") as door:
        yield door


def test_conditional_sets(client: Any) -> None:
    assert client.set("k", "a", nx=True) is True
    assert client.set("k", "b", nx=True) is None
    assert client.set("k", "b", xx=True, ex=100) is True
    assert client.set("k", "c", get=True, keepttl=True) == b"b"
    assert 98 < client.ttl("k") <= 100
    assert client.set("none", "c", xx=True) is None
    assert client.setnx("n", "1") is True
    assert client.setnx("n", "2") is False
    assert client.getset("n", "3") == b"1"
    assert client.getdel("n") == b"3"
    assert client.getdel("n") is None
    assert client.msetnx({"m": "1"}) is True
    with pytest.raises(redis.ResponseError, match=r"^CROSSKEY"):
        client.msetnx({"m": "1", "n": "2"})


def test_counters(client: Any) -> None:
    assert [client.incr("k"), client.incr("k", 5), client.decr("k", 7)] == [1, 6, -1]
    assert client.incrbyfloat("k", 1.5) == 0.5
    with pytest.raises(redis.ResponseError, match=r"^value is not an integer or out of range$"):
        client.incr("k")
    client.set("k", 2**63 - 1)
    with pytest.raises(redis.ResponseError, match=r"^increment or decrement would overflow$"):
        client.incr("k")
    with pytest.raises(redis.ResponseError, match="NaN or Infinity"):
        client.incrbyfloat("k", float("inf"))


def test_parts_of_values(client: Any) -> None:
    assert client.append("k", "Hello") == 5
    assert client.append("k", " World") == 11
    assert client.setrange("k", 6, "Redis") == 11
    assert client.getrange("k", 6, -1) == b"Redis"
    assert client.setbit("bits", 9, 1) == 0
    assert (client.getbit("bits", 9), client.bitcount("bits")) == (1, 1)
    assert client.bitcount("bits", 8, 15, mode="BIT") == 1
    client.mset({"a": "ohmytext", "b": "mynewtext"})
    assert client.lcs("a", "b") == b"mytext"
    with pytest.raises(redis.ResponseError, match="proto-max-bulk-len"):
        client.setrange("k", 512 << 20, "x")


def test_expiry_on_conditions(client: Any) -> None:
    client.set("k", "v")
    assert client.expire("k", 10, xx=True) is False
    assert client.expire("k", 10, nx=True) is True
    assert client.expire("k", 5, gt=True) is False
    assert client.expire("k", 5, lt=True) is True
    assert client.persist("k") is True
    assert client.persist("k") is False


def test_two_names(client: Any) -> None:
    client.set("a", "v", ex=100)
    assert client.copy("a", "b") is True
    assert client.copy("a", "b") is False
    assert client.rename("b", "c") is True
    assert client.renamenx("c", "a") is False
    assert client.mget("a", "b", "c") == [b"v", None, b"v"]
    assert client.ttl("c") > 98
    with pytest.raises(redis.ResponseError, match="no such key"):
        client.rename("none", "c")


def test_a_transaction_is_one_step(client: Any) -> None:
    with client.pipeline() as pipeline:
        pipeline.incr("hits").expire("hits", 60).get("hits").ttl("hits")
        assert pipeline.execute() == [1, True, b"1", 60]
    with client.pipeline() as pipeline:
        pipeline.mset({"a": 1, "b": 2}).expire("a", 60).expire("b", 60)
        assert pipeline.execute() == [True, True, True]
    with client.pipeline() as pipeline:
        pipeline.mget("a", "b").exists("a", "none")
        assert pipeline.execute() == [[b"1", b"2"], 1]
    with client.pipeline() as pipeline, pytest.raises(redis.ResponseError, match="CROSSKEY"):
        pipeline.incr("a").incr("b").execute()
    with client.pipeline() as pipeline, pytest.raises(redis.ResponseError, match="not an integer"):
        pipeline.set("a", "text").incr("a").execute()
    assert client.mget("a", "b") == [b"text", b"2"]


def test_a_watch_that_was_lost_is_told(client: Any, door: RespServed) -> None:
    client.set("k", "1")
    other: Any
    with client.pipeline() as pipeline, connect(door, 2) as other:
        pipeline.watch("k")
        value = int(pipeline.get("k"))
        other.set("k", "7")
        pipeline.multi()
        pipeline.set("k", value + 1)
        with pytest.raises(redis.WatchError):
            pipeline.execute()
        pipeline.watch("k")
        pipeline.multi()
        pipeline.incr("k")
        assert pipeline.execute() == [8]


def test_no_transaction_of_many_clients_is_lost(door: RespServed) -> None:
    def count() -> None:
        def more(pipeline: Any) -> None:
            value = int(pipeline.get("k") or 0)
            pipeline.multi()
            pipeline.set("k", value + 1)

        with connect(door, 2) as client:
            for _ in range(10):
                client.transaction(more, "k")
                client.incr("k")

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    with connect(door, 2) as client:
        assert client.get("k") == b"80"


def test_a_pipeline_of_counters_is_counted_in_order(client: Any) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(300):
            pipeline.incr("k")
            pipeline.append("text", "x")
        assert pipeline.execute() == [n for i in range(1, 301) for n in (i, i)]


def test_compare_and_set_and_leases(client: Any) -> None:
    done, version = client.execute_command("QUORATE.CAS", "k", "", "v")
    assert done == 1
    assert client.execute_command("QUORATE.GET", "k") == [b"v", version]
    assert client.execute_command("QUORATE.CAS", "k", "", "w") == [0, version]
    done, newer = client.execute_command("QUORATE.CAS", "k", version, "w", "PX", 50_000)
    assert (done, newer > version) == (1, True)
    first = client.execute_command("QUORATE.LEASE", "ACQUIRE", "l", "me", 50_000)
    assert client.execute_command("QUORATE.LEASE", "ACQUIRE", "l", "you", 50_000) is None
    second = client.execute_command("QUORATE.LEASE", "RENEW", "l", first, 50_000)
    assert client.execute_command("QUORATE.LEASE", "RELEASE", "l", first) == 0
    assert client.execute_command("QUORATE.LEASE", "RELEASE", "l", second) == 1
    third = client.execute_command("QUORATE.LEASE", "ACQUIRE", "l", "you", 50_000)
    assert first < second < third


def test_the_asyncio_client_counts(door: RespServed) -> None:
    async def talk() -> None:
        client: Any
        async with redis.asyncio.Redis(port=door.port, protocol=3) as client:
            counts = await asyncio.gather(*(client.incr("k") for _ in range(100)))
            assert sorted(counts) == list(range(1, 101))
            async with client.pipeline(transaction=True) as pipeline:
                assert await pipeline.incr("k").ttl("k").execute() == [101, -1]

    asyncio.run(talk())


def test_the_cluster_client_counts(node: RespServed) -> None:
    with redis.cluster.RedisCluster(
        host="127.0.0.1", port=node.port, socket_timeout=WAIT_SECONDS
    ) as client:
        assert [client.incr(f"{{tag}}:{i % 2}") for i in range(4)] == [1, 1, 2, 2]
        assert client.set("once", "v", nx=True) is True
        assert client.set("once", "v", nx=True) is None
