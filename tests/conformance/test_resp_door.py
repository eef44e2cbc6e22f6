# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis door as real clients meet it: over a make-believe store on both loops, and over a whole
node. What needs no socket is in `tests/unit/doors/redis`."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import msgspec
import pytest
import redis
import redis.asyncio
import redis.cluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from quorate.config import Config
from quorate.doors.limits import FREE_BYTES, ByteBudget, Deadlines
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.session import WINDOW_MAX
from tests.fake_store import NODES
from tests.resp_served import WAIT_SECONDS, RespServed, fake_store, single_node

VALUE_BYTES_MAX = 1 << 20
CONFIG = Config(nodes=NODES, advertise=NODES[0], value_bytes_max=VALUE_BYTES_MAX, allow_flush=True)
SERVED = {
    "fake-asyncio": (fake_store, "asyncio"),
    "fake-uvloop": (fake_store, "uvloop"),
    "node-uvloop": (single_node, "uvloop"),
}
PING = b"*1\r\n$4\r\nPING\r\n"


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


@pytest.fixture(scope="module")
def node() -> Iterator[RespServed]:
    with RespServed(single_node(CONFIG), loop="uvloop") as door:
        yield door


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(door: RespServed, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with connect(door, request.param) as client:
        yield client


def connect(door: RespServed, protocol: int) -> redis.Redis:
    return redis.Redis(
        port=door.port,
        protocol=protocol,
        socket_timeout=WAIT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


class Raw:
    """A socket that sends exact bytes."""

    def __init__(self, door: RespServed) -> None:
        self.socket = socket.create_connection(("127.0.0.1", door.port), timeout=WAIT_SECONDS)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.socket.recv(count - len(data))):
            data += more
        return data

    def rest(self) -> bytes:
        """Whatever comes until the other side closes."""
        data = b""
        while more := self.socket.recv(1 << 16):
            data += more
        return data


@pytest.fixture
def raw(door: RespServed) -> Iterator[Raw]:
    with Raw(door) as raw:
        yield raw


# --- redis-py ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [b"", b"v", bytes(range(256)), b"\r\n" * 5000, b"x" * VALUE_BYTES_MAX, "é😀".encode()],
    ids=len,
)
def test_values_come_back_byte_for_byte(client: redis.Redis, value: bytes) -> None:
    assert client.set("k", value) is True
    assert client.get("k") == value
    assert client.getdel("k") == value
    assert client.get("k") is None


@pytest.mark.parametrize("key", [b"k", b"\r\n", bytes(range(256)), b"k" * 1024, "ключ".encode()])
def test_keys_are_any_bytes(client: redis.Redis, key: bytes) -> None:
    client.set(key, b"v")
    assert client.get(key) == b"v"
    assert client.exists(key) == 1
    assert client.keys("*") == [key]
    assert client.delete(key) == 1


def test_what_is_over_a_limit_is_refused_and_the_connection_stays(node: RespServed) -> None:
    with connect(node, 2) as client:
        for key, value in ((b"", b"v"), (b"k" * 1025, b"v"), (b"k", b"v" * (VALUE_BYTES_MAX + 1))):
            with pytest.raises(redis.ResponseError, match=r"needed|too large"):
                client.set(key, value)
        assert client.exists("k") == 0
        assert client.ping()


def test_a_pipeline_reads_its_own_writes_in_order(client: redis.Redis) -> None:
    pipeline = client.pipeline(transaction=False)
    for i in range(500):
        pipeline.set(f"k{i % 10}", i)
        pipeline.get(f"k{i % 10}")
        pipeline.strlen(f"k{i % 10}")
    pipeline.expire("k1", 100)
    pipeline.ttl("k1")
    pipeline.persist("k1")
    pipeline.ttl("k1")
    pipeline.delete("k1")
    pipeline.get("k1")
    results = pipeline.execute()
    for i in range(500):
        assert results[3 * i : 3 * i + 3] == [True, b"%d" % i, len(str(i))]
    assert results[1500:] == [True, 100, True, -1, 1, None]


def test_expiry_commands_agree(client: redis.Redis) -> None:
    client.set("k", "v", px=5000)
    assert 4000 < client.pttl("k") <= 5000
    assert client.expireat("k", 4_000_000_000) == 1
    assert client.expiretime("k") == 4_000_000_000
    assert client.set("k", "w", keepttl=True) is True
    assert client.pexpiretime("k") == 4_000_000_000_000
    assert client.getex("k", persist=True) == b"w"
    assert client.ttl("k") == -1
    assert client.expire("k", -1) is True
    assert client.ttl("k") == -2
    assert client.set("k", "x", get=True) is None
    assert client.set("k", "y", get=True) == b"x"


def test_many_keys_at_once(client: redis.Redis) -> None:
    pairs = {f"k{i}": f"v{i}" for i in range(300)}
    assert client.mset(pairs) is True
    assert client.mget([*pairs, "none"]) == [*(value.encode() for value in pairs.values()), None]
    assert client.exists(*pairs) == 300
    assert client.delete(*pairs, "none") == 300


def test_scan_iter_finds_every_key(client: redis.Redis) -> None:
    keys = {b"scan:%d" % i for i in range(500)}
    client.mset(dict.fromkeys(keys, "v"))
    client.set("other", "v")
    assert set(client.scan_iter("scan:*", count=20)) == keys
    assert len(list(client.scan_iter(count=1000))) == 501
    assert client.randomkey() in keys | {b"other"}


def test_what_clients_ask_on_connecting_and_for_monitoring(client: redis.Redis) -> None:
    assert client.client_setname("me")
    assert client.client_getname() in (b"me", "me")
    assert client.client_info()["name"] == "me"
    assert len(client.client_list()) >= 1
    assert client.info()["redis_version"].startswith("7.")
    assert client.config_get("maxmemory*") == {"maxmemory": "0", "maxmemory-policy": "noeviction"}
    assert client.command_count() == len(client.command())
    assert client.time()[0] > 1_600_000_000
    assert client.echo("x") == b"x"
    assert client.wait(0, 0) >= 0
    assert client.cluster("KEYSLOT", "foo") == 12182


def test_the_asyncio_client_works(door: RespServed) -> None:
    async def talk() -> None:
        async with redis.asyncio.Redis(port=door.port, protocol=3) as client:
            await client.set("k", "v", ex=100)
            replies = await asyncio.gather(*(client.get("k") for _ in range(50)))
            assert replies == [b"v"] * 50
            assert await client.ttl("k") in (99, 100)

    asyncio.run(talk())


def test_the_cluster_client_routes_by_slot(node: RespServed) -> None:
    with redis.cluster.RedisCluster(
        host="127.0.0.1", port=node.port, socket_timeout=WAIT_SECONDS
    ) as client:
        for i in range(50):
            client.set(f"cluster:{i}", i)
        assert [client.get(f"cluster:{i}") for i in range(50)] == [b"%d" % i for i in range(50)]
        assert client.mget_nonatomic([f"cluster:{i}" for i in range(10)]) == [
            b"%d" % i for i in range(10)
        ]
        (only,) = client.get_nodes()
        assert (only.host, only.port) == ("127.0.0.1", node.port)


@pytest.mark.parametrize("over", [2_000, 8 << 20, 40 << 20])
def test_a_value_over_the_limit_is_told_so_and_is_no_reset(door: RespServed, over: int) -> None:
    value = b"v" * (VALUE_BYTES_MAX + over)
    with connect(door, 2) as client:
        for command in (["SET", "k", value], ["GET", value], ["MSET", "a", "1", "b", value]):
            with pytest.raises(redis.ResponseError, match="too large") as refused:
                client.execute_command(*command)
            assert "outcome=not_applied" in str(refused.value)
            client.connection_pool.disconnect()
        assert client.keys() == []


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli")
def test_redis_cli_is_told_that_a_value_is_too_large(door: RespServed) -> None:
    line = ["redis-cli", "-p", str(door.port), "-x", "SET", "k"]
    value = b"v" * (VALUE_BYTES_MAX + (8 << 20))
    told = subprocess.run(line, input=value, capture_output=True, timeout=30, check=False).stdout
    assert f"bytes_max={VALUE_BYTES_MAX}" in told.decode()


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli")
def test_redis_cli_works(door: RespServed) -> None:
    def cli(*words: str) -> str:
        line = ["redis-cli", "-p", str(door.port), *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=30, check=True).stdout

    assert cli("SET", "k", "v") == "OK\n"
    assert cli("-3", "GET", "k") == "v\n"
    assert cli("GET", "none") == "\n"
    assert cli("--scan") == "k\n"
    assert cli("INCR", "k") == "ERR value is not an integer or out of range\n\n"
    assert cli("GETSET", "k", "1") == "v\n"
    assert cli("INCR", "k") == "2\n"


@pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="no redis-benchmark")
def test_redis_benchmark_runs_through(door: RespServed) -> None:
    line = f"redis-benchmark -p {door.port} -t ping,set,get,incr,mset -n 500 -r 100 -P 8 --csv"
    done = subprocess.run(line.split(), capture_output=True, text=True, timeout=60, check=True)
    for name in ("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"):
        assert f'"{name}' in done.stdout
    assert "rror" not in done.stdout + done.stderr


# --- exact bytes ---------------------------------------------------------------------------------


def test_inline_commands_and_arrays_mix(raw: Raw) -> None:
    raw.send(b"SET k 'a b'\r\n" + PING + b"get k\nQUIT\r\n")
    assert raw.rest() == b"+OK\r\n+PONG\r\n$3\r\na b\r\n+OK\r\n"


def test_a_command_in_single_bytes_is_served(raw: Raw) -> None:
    raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n":
        raw.send(bytes([byte]))
    assert raw.read(15) == b"+OK\r\n$4\r\na\r\nb\r\n"


def test_half_a_command_then_eof_executes_nothing(raw: Raw, door: RespServed) -> None:
    raw.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nv")
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.rest() == b""
    with connect(door, 2) as client:
        assert client.get("k") is None


def test_what_was_sent_before_eof_is_answered(raw: Raw) -> None:
    raw.send(b"SET k v\r\n" + b"GET k\r\n" * 3000)
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.rest() == b"+OK\r\n" + b"$1\r\nv\r\n" * 3000


def test_10000_pipelined_commands_are_answered_in_order(raw: Raw) -> None:
    raw.send(b"".join(b"ECHO %d\r\n" % i for i in range(10_000)) + b"QUIT\r\n")
    expected = b"".join(b"$%d\r\n%d\r\n" % (len(str(i)), i) for i in range(10_000))
    assert raw.rest() == expected + b"+OK\r\n"


@pytest.fixture
def short_linger(door: RespServed) -> Iterator[None]:
    """The door drops what a refused client still sends for 50 ms, and then closes."""
    usual = door.door.lingering
    door.door.lingering = Deadlines(door.door.timers, 0.05)
    yield
    door.door.lingering = usual


@pytest.mark.usefixtures("short_linger")
@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"*2147483648\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*100000000\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*01\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$10000000000\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$4\r\nPINGXX", b"-ERR Protocol error: bulk string without its CRLF\r\n"),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", b"-ERR Protocol error: expected '$', got '*'\r\n"),
        (b"%1\r\n$4\r\nPING\r\n", b"-ERR Protocol error: expected '*', got '%'\r\n"),
        (b"A" * 65_537, b"-ERR Protocol error: too big inline request\r\n"),
        (b'GET "k\r\n', b"-ERR Protocol error: unbalanced quotes in request\r\n"),
        (b"GET k\0\r\n", b"-ERR Protocol error: NUL byte in inline request\r\n"),
        (b"POST / HTTP/1.1\r\n\r\nSET k v\r\n", b""),
    ],
    ids=lambda value: value[:16].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_protocol_fault_is_told_and_closes_after_the_answers_before_it(
    raw: Raw, door: RespServed, data: bytes, answer: bytes
) -> None:
    raw.send(PING + data)
    # The rest may meet a closed socket, which is as good.
    try:
        raw.send(b"SET k v\r\n")
        assert raw.rest().startswith(b"+PONG\r\n" + answer.rstrip())
    except ConnectionError:
        pass
    with connect(door, 2) as client:
        assert client.exists("k") == 0


def test_a_client_that_never_reads_keeps_memory_flat(door: RespServed) -> None:
    value = b"v" * 10_000
    with connect(door, 2) as client:
        client.set("k", value)
    count = len(door.connections)
    with Raw(door) as raw, traced() as peak:
        door.until(lambda: len(door.connections) > count)
        connection = door.connections[count]
        transport = door.call(lambda: transport_of(connection))
        flood(raw, b"GET k\r\n" * 1000, until=lambda: door.call(lambda: is_stuck(connection)))
        assert not door.call(transport.is_reading)
        assert door.call(lambda: connection.queue.count) <= WINDOW_MAX
        buffered = door.call(transport.get_write_buffer_size)
        assert 0 < buffered <= WINDOW_MAX * (len(value) + 16) + (64 << 10)
        # A window of answers, once as replies and once joined, and a chunk of commands.
        assert peak() < 3 * WINDOW_MAX * len(value)
    door.until(lambda: connection.id not in door.door.sessions)
    with connect(door, 2) as client:
        assert client.ping()


def test_unfinished_commands_of_many_clients_stay_within_the_budget() -> None:
    config = msgspec.structs.replace(CONFIG, inflight_bytes_max=4 << 20)
    header = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % VALUE_BYTES_MAX
    half = header + b"v" * (VALUE_BYTES_MAX - 1)
    with RespServed(single_node(config), loop="uvloop") as door, ExitStack() as stack:
        used = 0
        for _ in range(4):
            stack.enter_context(Raw(door)).send(half)
            used += len(half) - FREE_BYTES - 1000
            door.until(partial(is_used, door.bodies, used))
        late = stack.enter_context(Raw(door))
        try:
            late.send(half)
            answer = late.rest()
        except ConnectionError:
            # What was still on its way met a closed socket.
            answer = b""
        assert answer in (
            b"",
            b"-BUSY too many request bytes are arriving (outcome=not_applied)\r\n",
        )
        assert door.call(lambda: used <= door.bodies.used <= config.inflight_bytes_max)
        with connect(door, 2) as client:
            assert client.set("k", b"v" * 1000)
        stack.close()
        door.until(lambda: door.bodies.used == 0)


def is_used(budget: ByteBudget, count: int) -> bool:
    return budget.used >= count


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """The most bytes of Python's that were allocated since the beginning."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def flood(raw: Raw, data: bytes, *, until: Callable[[], bool]) -> None:
    """Send without reading until nothing more goes out and the condition holds."""
    raw.socket.setblocking(False)
    for _ in range(100_000):
        try:
            raw.socket.send(data)
        except BlockingIOError:
            if until():
                return
    raise AssertionError("whatever is sent is taken")


def is_stuck(connection: RespConnection) -> bool:
    """Whether answers wait for the client and nothing else can happen."""
    following = connection.queue.first
    while following is not None and not following.reply:
        following = following.behind
    return connection.flow.is_choked and following is None


def transport_of(connection: RespConnection) -> asyncio.Transport:
    transport = connection.flow.transport
    assert transport is not None
    return transport


def test_clients_that_vanish_in_the_middle_leave_nothing_behind(door: RespServed) -> None:
    for _ in range(20):
        with Raw(door) as raw:
            raw.send(b"GET k\r\n" * 1000 + b"MGET a b c\r\n*3\r\n$3\r\nSE")
    door.until(lambda: not door.door.sessions)
    with connect(door, 2) as client:
        assert client.ping()


def comes_true(condition: Callable[[], bool]) -> None:
    """Wait for `condition`, which asks the node."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline


def test_nothing_is_counted_after_a_flush_though_keys_had_expired(node: RespServed) -> None:
    with connect(node, 2) as client:
        client.mset({f"k{i}": "v" for i in range(10)})
        for i in range(5):
            client.pexpire(f"k{i}", 1)
        comes_true(lambda: not client.exists("k0", "k1", "k2", "k3", "k4"))
        client.flushall()
        assert client.keys() == []
        comes_true(lambda: client.dbsize() == 0)
        comes_true(lambda: client.info("keyspace") == {})
        client.set("last", "v")
        comes_true(lambda: client.dbsize() == 1)
        client.delete("last")
        comes_true(lambda: client.dbsize() == 0)


@pytest.mark.parametrize("key", [b"", b"k" * 1025], ids=["empty", "too large"])
@pytest.mark.parametrize("command", ["GET", "EXISTS", "DEL", "TTL", "STRLEN", "TYPE", "GETDEL"])
def test_a_key_that_can_be_none_is_an_error_and_not_absent(
    node: RespServed, command: str, key: bytes
) -> None:
    with connect(node, 2) as client, pytest.raises(redis.ResponseError) as refused:
        client.execute_command(command, key)
    assert (
        "key is too large" in str(refused.value) if key else "key is needed" in str(refused.value)
    )
    assert "outcome=not_applied" in str(refused.value)
