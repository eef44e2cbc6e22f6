# SPDX-License-Identifier: GPL-3.0-or-later
"""Three whole nodes in one process, each with its Redis door, links, cache and RocksDB, and clients
of the first: from a client's bytes to the bytes of the reply. There is no loop and there are no
sockets: what one end writes waits for the other until all that came before was heard. What it costs
is counted in instructions, which other work on the machine does not change:

    PYTHONPATH=$PWD/build/compiled PYTHONHASHSEED=0 valgrind --tool=callgrind \\
        --callgrind-out-file=set.16.200 .venv/bin/python -m bench.micro.whole set 16 200

asks 200 times 16 requests in one turn. An operation costs what 200 turns take beyond what 100 take,
through 100 and 16. Kinds: `set` (W=2, a copy on each node), `get` (R=2), `get-r1`, and
`incr`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count as counted
from pathlib import Path
from typing import Any, Final, cast

from quorate.config import Config
from quorate.core.values.events import Instant, Note
from quorate.core.values.slots import PARTITION_COUNT
from quorate.doors.limits import ByteBudget
from quorate.doors.principals import Principals
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.session import RespDoor
from quorate.host.driver import Driver
from quorate.host.system import Channel, Connection, Dialled, Proof
from quorate.sim.cluster import settings_of, url_of
from quorate.storage.cached import CachedEngine, Lru
from quorate.storage.rocks import RocksEngine
from quorate.wire.resp import array, bulk

KINDS: Final = ("set", "get", "get-r1", "incr")
NODES: Final = 3
_WALL_MS: Final = 1_700_000_000_000
_FOUNDED_MS: Final = 8_000
"""Of virtual time, until three nodes have found together."""
_TICK_MS: Final = 20
VALUE: Final = b"v" * 64
_KEYS: Final = tuple(b"key:%06d" % number for number in range(1_000))
_COUNTERS: Final = tuple(b"counter:%06d" % number for number in range(1_000))


class _Call:
    """Something that will happen."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class _Wire:
    """One end of a link. Its connection hears what the other end wrote."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.inbox: deque[bytes] = deque()

    def join(self, other: _Wire) -> None:
        """Have what is written here come there."""
        self.write = other.inbox.append

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """No node of these ends."""

    abort = close

    def get_extra_info(self, name: str) -> Any:
        del name


class _System:
    """The operating system of one node (`host.system.System`): all of them have one clock."""

    def __init__(self, index: int, cluster: WholeNodes) -> None:
        self._cluster = cluster
        self._calls: deque[Callable[[], None]] = deque()
        self.soon: Final = self._calls.append
        self._later: list[tuple[float, int, _Call]] = []
        self._entered = counted()
        self.wires: list[_Wire] = []
        self.engine = CachedEngine(
            RocksEngine.open(cluster.directory / str(index), durability="os"),
            Lru(entries_max=100_000, bytes_max=1 << 30),
        )
        config = Config(w=2, r=cluster.r)
        settings = settings_of(index, range(NODES), w=2, r=cluster.r)
        self.driver = Driver(config, settings, self.engine, self, random.Random(index))

    def now(self) -> Instant:
        return self._cluster.now

    def later(self, ms: float, call: Callable[[], None]) -> _Call:
        timer = _Call(call)
        heappush(self._later, (self.now().mono_ms + ms, next(self._entered), timer))
        return timer

    def sync(self, done: Callable[[BaseException | None], None], /) -> None:
        self.soon(partial(done, None))

    def dial(self, url: str, connection: Dialled) -> _Call:
        self.soon(partial(self._connect, self._cluster.nodes[url], connection))
        return _Call(lambda: None)

    def _connect(self, other: _System, connection: Dialled) -> None:
        here, there = _Wire(connection), _Wire(other.driver.acceptor.connection())
        here.join(there)
        there.join(here)
        self.wires.append(here)
        other.wires.append(there)
        here.connection.connection_made(cast(Channel, here))
        there.connection.connection_made(cast(Channel, there))

    def proof(self, channel: Channel, /) -> Proof:
        del channel
        return Proof()

    def tune(self, channel: Channel) -> None:
        """There is no socket."""

    def log(self, note: Note) -> None:
        """Nobody reads it."""

    def fault(self, what: str, error: Exception) -> None:
        raise AssertionError(what) from error

    def end(self, reason: str, /) -> None:
        raise AssertionError(reason)

    def go(self) -> bool:
        """Have this node hear and do what is due. False if that is nothing."""
        did = False
        for wire in self.wires:
            while wire.inbox:
                wire.connection.data_received(wire.inbox.popleft())
                did = True
        while self._later and self._later[0][0] <= self.now().mono_ms:
            call = heappop(self._later)[2].call
            if call is not None:
                call()
                did = True
        for _ in range(len(self._calls)):
            self._calls.popleft()()
            did = True
        return did


class _Sender:
    """A client's end of its connection: the bytes that were answered."""

    def __init__(self, store: Driver, door: RespDoor) -> None:
        self.replies: list[bytes] = []
        self.write = self.replies.append
        connection = RespConnection(store, door)
        connection.connection_made(cast(asyncio.Transport, self))
        self.ask = connection.data_received

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 40_000) if name == "peername" else None


class WholeNodes:
    """Three nodes that have found together and hold all keys, and clients of the first."""

    def __init__(self, directory: Path, *, r: int, clients: int) -> None:
        self.directory = directory
        self.r = r
        self.now = Instant(1_000, _WALL_MS)
        self.nodes = {url_of(index): _System(index, self) for index in range(NODES)}
        for node in self.nodes.values():
            node.driver.start()
        for _ in range(_FOUNDED_MS // _TICK_MS):
            self._go(_TICK_MS)
        store = self.nodes[url_of(0)].driver
        loop = asyncio.get_running_loop()
        principals = Principals(loop, cluster="quorate", wall_ms=store.wall_ms)
        door = RespDoor(store, ByteBudget(1 << 30), ByteBudget(1 << 30), principals=principals)
        self._clients = [_Sender(store, door) for _ in range(clients)]
        for node in self.nodes.values():
            digests = node.driver.node.parts.replica.digests
            for partition in range(PARTITION_COUNT):
                digests.begin_scan(partition)
                digests.end_scan(partition)
        for key in _KEYS:
            assert self.ask([_set(key)]) == [b"+OK\r\n"], "it was written"

    def ask(self, requests: list[bytes]) -> list[bytes]:
        """Have each client ask one of these in one turn. Returns the replies."""
        asking = self._clients[: len(requests)]
        for client, request in zip(asking, requests, strict=True):
            client.ask(request)
        # A millisecond for each turn: clocks that stood still would run out of stamps.
        self._go(1)
        return [client.replies.pop() for client in asking]

    def _go(self, ms: int) -> None:
        self.now = Instant(self.now.mono_ms + ms, self.now.wall_ms + ms)
        while any([node.go() for node in self.nodes.values()]):
            pass

    def close(self) -> None:
        for node in self.nodes.values():
            node.engine.close()


def _set(key: bytes) -> bytes:
    return array([bulk(b"SET"), bulk(key), bulk(VALUE)])


def _get(key: bytes) -> bytes:
    return array([bulk(b"GET"), bulk(key)])


def _incr(key: bytes) -> bytes:
    return array([bulk(b"INCR"), bulk(key)])


async def count(kind: str, batch: int, turns: int) -> list[bytes]:
    """Have so many turns of so many requests done. Returns the replies of the last."""
    made = {"set": _set, "incr": _incr}.get(kind, _get)
    keys = _COUNTERS if kind == "incr" else _KEYS
    draw = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="quorate-whole-") as directory:
        cluster = WholeNodes(Path(directory), r=1 if kind == "get-r1" else 2, clients=batch)
        replies: list[bytes] = []
        for _ in range(turns):
            replies = cluster.ask([made(key) for key in draw.choices(keys, k=batch)])
        cluster.close()
    return replies


if __name__ == "__main__":
    print(asyncio.run(count(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
