# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis clients, unchanged, against real nodes on their one port."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.cluster

from tests.cluster.processes import Cluster, fetch, wait_until

IOREDIS = "ioredis@5"
SCRIPT = """
const Redis = require('ioredis');
const ports = process.argv.slice(2).map(Number);
(async () => {
  const one = new Redis(ports[0]);
  await one.set('io', 'redis', 'EX', 60);
  const many = new Redis.Cluster(ports.map(port => ({ host: 'localhost', port })));
  await many.set('cluster', 'client');
  const found = await many.get('io');
  const piped = await one.pipeline().set('a', '1').get('a').ttl('io').exec();
  const multi = await one.multi().incr('m').expire('m', 60).incr('m').exec();
  const several = many.multi().set('{m}a', 1).get('{m}b');
  const crossed = await several.exec().catch(error => error.message);
  const cluster = await one.get('cluster');
  console.log(JSON.stringify({ found, piped, multi, crossed, cluster }));
  one.disconnect();
  many.disconnect();
})();
"""


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    with Cluster(tmp_path_factory.mktemp("clients"), "-durability=os") as cluster:
        yield [node.port for node in cluster.nodes]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: redis-tools)")
    return found


def test_redis_cli_sets_and_gets(ports: list[int]) -> None:
    cli = tool("redis-cli")

    def run(port: int, *words: str) -> str:
        done = subprocess.run(
            [cli, "-p", str(port), *words], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout.strip()

    assert run(ports[0], "set", "cli", "a b") == "OK"
    assert run(ports[1], "get", "cli") == "a b"
    assert run(ports[2], "-3", "ttl", "cli") == "-1"
    assert run(ports[0], "incr", "cli").startswith("ERR value is not an integer")
    assert run(ports[1], "incr", "counter") == "1"
    assert run(ports[2], "incr", "counter") == "2"


def test_redis_benchmark_runs(ports: list[int]) -> None:
    benchmark = tool("redis-benchmark")
    words = f"-p {ports[0]} -t ping,set,get,incr,mset -n 2000 -c 20 -q --csv".split()
    done = subprocess.run([benchmark, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"):
        assert f'"{name}"' in done.stdout


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_round_trips(ports: list[int], protocol: int) -> None:
    with redis.Redis(port=ports[0], protocol=protocol) as client:
        value = bytes(range(256))
        assert client.set(f"py{protocol}", value, ex=60)
        assert client.get(f"py{protocol}") == value
        assert 0 < client.ttl(f"py{protocol}") <= 60
        assert client.mget(f"py{protocol}", "nothing") == [value, None]
        assert client.delete(f"py{protocol}", "nothing") == 1
        pipe = client.pipeline(transaction=False)
        assert pipe.set("piped", 1).get("piped").exists("piped").execute() == [True, b"1", 1]
        assert client.incr("piped") == 2
        assert client.set("piped", 3, nx=True) is None
        assert client.getdel("piped") == b"2"
        counted: Any = client.pipeline().incr("piped").expire("piped", 60)
        assert counted.execute() == [1, True]
        with pytest.raises(redis.ResponseError, match="CROSSKEY"):
            counted.incr("piped").incr("other").execute()
        assert client.getdel("piped") == b"1"


def test_no_step_of_many_clients_of_all_nodes_is_lost(ports: list[int]) -> None:
    def count(port: int) -> None:
        def more(pipeline: Any) -> None:
            value = int(pipeline.get("watched") or 0)
            pipeline.multi()
            pipeline.set("watched", value + 1)

        with redis.Redis(port=port, socket_timeout=30) as client:
            for _ in range(20):
                client.incr("counted")
                client.append("appended", "x")
                client.transaction(more, "watched")

    with ThreadPoolExecutor() as pool:
        list(pool.map(count, ports * 2))
    with redis.Redis(port=ports[0]) as client:
        assert client.mget("counted", "watched") == [b"120", b"120"]
        assert client.strlen("appended") == 120


def test_a_lease_is_one_holders_and_its_tokens_rise(ports: list[int]) -> None:
    held: list[tuple[bytes, bytes]] = []
    guard = Lock()

    def hold(port: int) -> None:
        with redis.Redis(port=port, socket_timeout=30) as client:
            lease: Any = partial(client.execute_command, "QUORATE.LEASE")
            for _ in range(5):
                tokens: list[bytes] = []

                def taken(tokens: list[bytes] = tokens) -> bool:
                    tokens[:] = filter(None, [lease("ACQUIRE", "lease", port, 60_000)])
                    return bool(tokens)

                wait_until(taken, within_s=60, what="the lease")
                assert guard.acquire(blocking=False)
                renewed = lease("RENEW", "lease", tokens[0], 60_000)
                held.append((tokens[0], renewed))
                guard.release()
                assert lease("RELEASE", "lease", renewed) == 1

    with ThreadPoolExecutor() as pool:
        list(pool.map(hold, ports))
    tokens = [token for pair in held for token in pair]
    assert len(tokens) == 30
    assert tokens == sorted(set(tokens))


def test_redis_py_async_round_trips(ports: list[int]) -> None:
    async def talk() -> list[bytes | str | None]:
        async with redis.asyncio.Redis(port=ports[1]) as client:
            await asyncio.gather(*(client.set(f"async{i}", str(i)) for i in range(50)))
            return await client.mget([f"async{i}" for i in range(50)])

    assert asyncio.run(talk()) == [str(i).encode() for i in range(50)]


def test_redis_cluster_goes_straight_to_replicas(ports: list[int]) -> None:
    """Its slots are ours."""
    client = redis.cluster.RedisCluster(host="localhost", port=ports[0])
    try:
        for number in range(100):
            client.set(f"slot{number}", number)
        assert [client.get(f"slot{n}") for n in range(100)] == [str(n).encode() for n in range(100)]
        assert len(client.get_nodes()) == 3  # type: ignore[no-untyped-call]
        explained = json.loads(fetch(f"http://localhost:{ports[0]}/explain?key=slot7")[1])
        assert client.keyslot("slot7") == explained["slot"]  # type: ignore[no-untyped-call]
    finally:
        client.close()


def test_ioredis_alone_and_as_a_cluster(ports: list[int], tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed")
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--silent", IOREDIS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "npm_config_update_notifier": "false"},
    )
    if installed.returncode != 0:
        pytest.skip(f"ioredis cannot be installed here: {installed.stderr.strip()[-200:]}")
    done = subprocess.run(
        [node, "-e", SCRIPT, "script", *map(str, ports)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["found"] == "redis"
    assert told["cluster"] == "client"
    assert [reply for _, reply in told["piped"]][:2] == ["OK", "1"]
    assert told["multi"] == [[None, 1], [None, 1], [None, 2]]
    assert told["crossed"].startswith("CROSSKEY Transaction discarded")


FAILED_AFTER = """
begin
  require 'redis'
rescue LoadError
  puts 'no gem'
  exit
end
ports = ARGV.map(&:to_i)
client = Redis.new(cluster: ports.map { |port| "redis://127.0.0.1:#{port}" })
failed = (0...300).count do |i|
  begin
    client.set("rb#{i}", i.to_s) != 'OK' || client.get("rb#{i}") != i.to_s
  rescue Redis::BaseError
    true
  end
end
puts failed
"""


def test_with_one_dead_node_of_three_cluster_clients_lose_nothing_after_a_second(
    cluster: Cluster,
) -> None:
    ports = [node.port for node in cluster.nodes]
    with redis.cluster.RedisCluster(host="localhost", port=ports[0]) as client:
        assert all(client.set(f"before{i}", i) for i in range(100))
        cluster.nodes[2].kill()
        for node in cluster.nodes[:2]:
            is_left_out = partial(names_only, node.port, set(ports[:2]))
            wait_until(is_left_out, within_s=1, what="the dead are left out")
        for i in range(300):
            assert client.set(f"after{i}", i)
            assert client.get(f"after{i}") == b"%d" % i
    # One that comes now, and is told of the dead one too.
    with redis.cluster.RedisCluster(host="localhost", port=ports[1]) as client:
        assert [int(client.get(f"before{i}")) for i in range(100)] == list(range(100))
    if shutil.which("ruby") is not None:
        line = ["ruby", "-e", FAILED_AFTER, *map(str, ports)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() in ("0", "no gem"), done.stderr


def names_only(port: int, expected: set[int]) -> bool:
    """Whether CLUSTER SLOTS of a node names exactly these ports."""
    with redis.Redis(port=port) as node:
        slots = node.execute_command("CLUSTER SLOTS")
    return {node[1] for each in slots for node in each[2:]} == expected
