# SPDX-License-Identifier: GPL-3.0-or-later
"""What a crowd costs the other clients of a node that has little memory.

Three nodes; the first may use 1 GiB (a cgroup of its own). A client of it writes and reads small
values, first alone, then beside a crowd: clients that ask for a large value over RESP and HTTP and
do not read the answer, and strangers that greet as peers, from several addresses, two of three of
whom never end. Printed is what the client waited, alone and beside the crowd, and how much memory
the node used. The exit code is 1 if the node ended, the client met an error, or its p99 was
HARM_TIMES what it is alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Final

from quorate.core.topology.greeting import hashed
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Greeting
from quorate.wire.frames import MAGIC, encode_greeting
from tests.cluster.processes import Cluster, fetch

MEMORY_BYTES: Final = 1 << 30
VALUE_BYTES: Final = 8 << 20
REPLIES: Final = 7
"""Large values that each slow reader asks for."""
COMING_S: Final = 60.0
"""All of the crowd have come, and were served or turned away, within this."""
HARM_TIMES: Final = 10.0
WHOLE_EVERY: Final = 3
"""Of so many strangers one greets wholly."""
ADDRESSES: Final = 16
"""Of loopback, from which they come: a node bounds each."""
AGAIN_S: Final = 1.0
"""After which a stranger that was turned away comes again."""
DYING_S: Final = 1.0
"""A node that was ended for its memory is gone within this."""
ASK_S: Final = 60.0
"""A request is given up after this long."""


class Memory:
    """A memory cgroup, of version 1 or 2, below the one of this process."""

    def __init__(self, limit_bytes: int) -> None:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        groups = dict(line.split(":", 2)[1:] for line in lines)
        self._is_v1 = "memory" in groups
        mount = Path("/sys/fs/cgroup", "memory") if self._is_v1 else Path("/sys/fs/cgroup")
        parent = mount / groups["memory" if self._is_v1 else ""].lstrip("/")
        self._directory = parent / f"quorate-crowd-{os.getpid()}"
        self._directory.mkdir()
        name = "memory.limit_in_bytes" if self._is_v1 else "memory.max"
        (self._directory / name).write_text(str(limit_bytes))

    def take(self, pid: int) -> None:
        """Have the process live in it."""
        (self._directory / "cgroup.procs").write_text(str(pid))

    def most_bytes(self) -> int:
        """The most that was in use at any time."""
        name = "memory.max_usage_in_bytes" if self._is_v1 else "memory.peak"
        return int((self._directory / name).read_text())

    def close(self) -> None:
        """Be gone; no process is in it any more."""
        self._directory.rmdir()


def ask(port: int, seconds: float) -> list[float]:
    """Small writes and reads in turn; what each took, in milliseconds. OSError or ValueError if
    one fails."""
    took_ms = []
    asked = itertools.cycle(
        [
            (b"*3\r\n$3\r\nSET\r\n$5\r\nsmall\r\n$5\r\nvalue\r\n", b"+OK\r\n"),
            (b"*2\r\n$3\r\nGET\r\n$5\r\nsmall\r\n", b"$5\r\nvalue\r\n"),
        ]
    )
    end = time.monotonic() + seconds
    with socket.create_connection(("localhost", port), timeout=ASK_S) as connection:
        while time.monotonic() < end:
            request, answer = next(asked)
            began = time.perf_counter()
            connection.sendall(request)
            found = connection.recv(4096)
            if found != answer:
                raise ValueError(f"answered {found[:200]!r}")
            took_ms.append((time.perf_counter() - began) * 1e3)
    return took_ms


class Crowd:
    """Those who harm, in a process of their own."""

    def __init__(self, port: int, readers: int, strangers: int) -> None:
        self._has_come = multiprocessing.Semaphore(0)
        self._size = readers + strangers
        self._process = multiprocessing.Process(
            target=_crowd, args=(port, readers, strangers, self._has_come), daemon=True
        )

    def __enter__(self) -> Crowd:
        """Return once all have come."""
        self._process.start()
        for _ in range(self._size):
            assert self._has_come.acquire(timeout=COMING_S), "the crowd cannot come"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _crowd(port: int, readers: int, strangers: int, has_come: Semaphore) -> None:
    asyncio.run(_be_crowd(port, readers, strangers, has_come))


async def _be_crowd(port: int, readers: int, strangers: int, has_come: Semaphore) -> None:
    get = b"GET /kv?key=large HTTP/1.1\r\nHost: localhost\r\n\r\n" * REPLIES
    keys = b"$5\r\nlarge\r\n" * REPLIES
    mget = b"*%d\r\n$4\r\nMGET\r\n%s" % (REPLIES + 1, keys)
    everyone = [partial(_read_nothing, port, mget if each % 2 else get) for each in range(readers)]
    everyone += [
        partial(_greet_half if each % WHOLE_EVERY else _greet, port, each)
        for each in range(strangers)
    ]
    await asyncio.gather(*[_come_again(each, has_come) for each in everyone])


async def _come_again(
    come: Callable[[Callable[[], None]], Awaitable[None]], has_come: Semaphore
) -> None:
    """Come again whenever the node turned us away; say once that we came."""
    is_told = False

    def tell() -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            has_come.release()

    while True:
        with suppress(OSError):
            await come(tell)
        tell()
        await asyncio.sleep(AGAIN_S)


async def _read_nothing(port: int, request: bytes, tell: Callable[[], None]) -> None:
    """Ask, and take no answer."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, request)
        tell()
        await asyncio.sleep(3600)


async def _greet_half(port: int, number: int, tell: Callable[[], None]) -> None:
    """Begin a greeting, and wait until the node has enough of it."""
    await _say(port, number, MAGIC + b"\0\0", tell)


async def _greet(port: int, number: int, tell: Callable[[], None]) -> None:
    """Greet as a node of this cluster that nobody can dial, and wait likewise."""
    url = f"http://stranger-{number}.invalid:8000"
    greeting = Greeting(PROTOCOL_MIN, PROTOCOL_MAX, hashed("quorate"), url, number + 1, 0, b"", "")
    await _say(port, number, encode_greeting(greeting), tell)


async def _say(port: int, number: int, said: bytes, tell: Callable[[], None]) -> None:
    source = f"127.0.0.{2 + number % ADDRESSES}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        writer.write(said)
        tell()
        while await reader.read(1 << 16):
            pass
    finally:
        writer.close()


def _p99(took_ms: list[float]) -> float:
    return statistics.quantiles(took_ms, n=100)[98]


def is_harm(alone_ms: float, beside_ms: float) -> bool:
    """Whether that is too long to wait beside the crowd, for who waits that long alone."""
    return beside_ms >= HARM_TIMES * alone_ms


def main() -> int:
    """Measure, print, and judge that nobody was harmed."""
    parser = argparse.ArgumentParser(prog="scripts/crowd", description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, default=1000, help="clients that do not read")
    parser.add_argument("--strangers", type=int, default=1000, help="half-known peers")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        memory = Memory(MEMORY_BYTES)
    except (OSError, KeyError) as why:
        print(f"needs a cgroup that it may divide: {why}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory)) as cluster:
        node = cluster.nodes[0]
        assert node.process is not None
        memory.take(node.process.pid)
        status, _ = fetch(f"{node.url}/kv?key=large", method="PUT", body=bytes(VALUE_BYTES))
        assert status == 200, status
        alone = _p99(ask(node.port, given.seconds))
        print(f"alone: p99 {alone:.2f} ms", flush=True)
        print(
            f"beside {given.readers} readers and {given.strangers} strangers: ", end="", flush=True
        )
        is_harmed = False
        with Crowd(node.port, given.readers, given.strangers):
            try:
                beside = _p99(ask(node.port, given.seconds))
                print(f"p99 {beside:.2f} ms, {beside / alone:.1f} times")
                is_harmed = is_harm(alone, beside)
            except (OSError, ValueError) as why:
                is_harmed = True
                print(why)
        with suppress(subprocess.TimeoutExpired):
            node.process.wait(DYING_S)
        lives = node.is_running
        print(f"memory: at most {memory.most_bytes() >> 20} of {MEMORY_BYTES >> 20} MiB")
        print("the node lives" if lives else f"the node ended: {node.log.read_text()[-2000:]}")
    memory.close()
    return 0 if lives and not is_harmed else 1


if __name__ == "__main__":
    sys.exit(main())
