# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a node together and runs it: the only place where concrete parts meet."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import NamedTuple, cast

import structlog

from quorate import __version__
from quorate.addresses import listen_addresses
from quorate.config import Config
from quorate.doors.http.door import HttpDoor
from quorate.doors.limits import ByteBudget
from quorate.doors.port import Listener, ProtocolFactory
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.session import RespDoor
from quorate.errors import QuorateError, StorageError
from quorate.host.driver import Driver
from quorate.host.identity import node_id_of
from quorate.notation import is_loopback
from quorate.runtime import process
from quorate.runtime.sockets import bind
from quorate.runtime.system import AsyncioSystem
from quorate.settings import node_settings
from quorate.storage.cached import CachedEngine, Lru
from quorate.storage.engine import Engine
from quorate.storage.memory import MemoryEngine

CLOSE_S = 10.0
"""How long a node that stops waits for the disk."""
FILES_RESERVED = 256 + 64 + 128
"""File descriptors kept for the engine's tables (`storage.tuning`), for its other files and what
else is open once, and for links; clients get the rest."""
EXIT_NOT_STARTED = 2

log = structlog.get_logger()


class StartError(Exception):
    """The node cannot start; one line that says why and what to do."""


def run(config: Config) -> int:
    """Run a node until it is told to stop or fails. Returns the process's exit code."""
    process.configure_logs(form=config.log_format, level=config.log_level)
    try:
        with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
            return runner.run(_serve(config))
    except StartError as error:
        print(f"quorate: {error}", file=sys.stderr)
        return EXIT_NOT_STARTED
    except QuorateError as error:
        log.critical("stopped", reason=str(error))
        return process.EXIT_FAILED


async def _serve(config: Config) -> int:
    try:
        sockets = bind(listen_addresses(config))
    except OSError as error:
        raise StartError(f"cannot listen on {error}; choose another -port") from error
    try:
        with _starting():
            engine = _open_engine(config)
        code = process.EXIT_FAILED
        try:
            code = await _run(config, engine, sockets)
        finally:
            is_closed = await process.close_in_time(engine.close, seconds=CLOSE_S)
        return code if is_closed else process.EXIT_FAILED
    finally:
        for each in sockets:
            each.close()


@contextmanager
def _starting() -> Iterator[None]:
    """What fails in here keeps the node from starting; what fails later ends it."""
    try:
        yield
    except QuorateError as error:
        raise StartError(str(error)) from error


class _Assembled(NamedTuple):
    """A node that is put together and does not run yet."""

    system: AsyncioSystem
    driver: Driver
    http: HttpDoor
    listener: Listener


async def _run(config: Config, engine: Engine, sockets: list[socket.socket]) -> int:
    """From a usable engine and bound sockets to the end of the node's life."""
    stopping = asyncio.Event()
    failures: list[str] = []

    def fail(reason: str) -> None:
        failures.append(reason)
        stopping.set()

    with _starting():
        parts = _assemble(config, engine, sockets, fail)
    system, driver, http, listener = parts
    process.handle_faults(fail)
    await http.start()
    driver.start()
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(listener, sock=each, backlog=1024) for each in sockets]
    process.handle_signals(stopping)
    process.settle_memory()
    url = driver.node.settings.url
    log.info("serving", url=url, version=__version__, engine=config.engine)
    await stopping.wait()
    for server in servers:
        server.close()
    stopped = asyncio.Event()
    driver.stop(stopped.set)
    await stopped.wait()
    await http.stop()
    listener.close()
    system.close()
    for reason in dict.fromkeys(failures):
        log.critical("stopped", reason=reason)
    return process.EXIT_FAILED if failures else 0


def _assemble(
    config: Config, engine: Engine, sockets: list[socket.socket], fail: Callable[[str], None]
) -> _Assembled:
    random = SystemRandom()
    settings = node_settings(config, node_id=node_id_of(engine, random))
    system = AsyncioSystem(own_url=settings.url, sync=engine.sync, on_end=fail)
    driver = Driver(config, settings, engine, system, random, counts=lambda: _cache_counts(engine))
    bodies = ByteBudget(config.inflight_bytes_max)
    resp = RespDoor(driver, bodies)
    http = HttpDoor(
        driver,
        bodies=bodies,
        is_on_loopback=all(is_loopback(str(each.getsockname()[0])) for each in sockets),
        door_counts=lambda: {
            "connections": listener.connections,
            "connections_accepted": listener.accepted,
            "connections_refused": listener.refused,
        },
    )
    listener = Listener(
        http=http.connection,
        resp=lambda: RespConnection(driver, resp),
        peer=cast(ProtocolFactory, driver.acceptor.connection),
        connections_max=_connections_max(config),
    )
    return _Assembled(system, driver, http, listener)


def _open_engine(config: Config) -> Engine:
    engine: Engine
    if config.engine == "memory":
        return MemoryEngine()
    from quorate.storage.rocks import RocksEngine  # Late: the wheel is not on every platform.

    directory = Path(config.data or f"quorate-data/{config.port}")
    try:
        engine = RocksEngine.open(directory, durability=config.durability)
    except StorageError as error:
        raise StartError(f"cannot use -data {directory}: {error}") from error
    if config.cache_size:
        lru = Lru(entries_max=config.cache_size, bytes_max=config.cache_bytes)
        engine = CachedEngine(engine, lru)
    return engine


def _cache_counts(engine: Engine) -> dict[str, int]:
    if not isinstance(engine, CachedEngine):
        return {}
    return {"cache_hits": engine.lru.hits, "cache_misses": engine.lru.misses}


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        return process.loop_factory(config.loop)
    except ImportError as error:
        raise StartError("uvloop is not installed: use -loop auto") from error


def _connections_max(config: Config) -> int:
    """The configured maximum, or less where the limit of open files is low."""
    files = process.files_max()
    if files is None:
        return config.connections_max
    return min(config.connections_max, max(files - FILES_RESERVED, files // 4))
