# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a node together and runs it: the only place where concrete parts meet."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from types import MappingProxyType
from typing import NamedTuple, cast

import structlog

from quorate import __version__
from quorate.addresses import listen_addresses
from quorate.config import Config
from quorate.core.values.events import Stop
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

LINGER_S = 0.2
"""How long a node that stops refuses requests on the connections that are open: several times what
a busy client takes until its next one."""
CLOSE_S = 10.0
"""How long a node that stops waits for the disk."""
FILES_RESERVED = 256 + 64 + 128 + 64
"""File descriptors kept for the engine's tables (`storage.tuning`), for its other files and what
else is open once, for links, and for who may become one; clients get the rest."""
EXIT_NOT_STARTED = 2
_LISTEN_ADVICE = {
    errno.EADDRNOTAVAIL: "no interface of this machine has that address: choose another -listen",
    errno.EACCES: "it needs a right that this user has not: choose a -port above 1023",
}

log = structlog.get_logger()


class StartError(Exception):
    """The node cannot start; one line that says why and what to do."""


class OldDiskError(StartError):
    """The data directory was put back as it was before: peers saw more of it."""


def run(config: Config, ignored: Mapping[str, str] = MappingProxyType({})) -> int:
    """Run a node until it is told to stop or fails. Returns the process's exit code. `ignored` are
    variables that did not make the configuration, with the reason."""
    process.configure_logs(form=config.log_format, level=config.log_level)
    for variable, reason in ignored.items():
        log.warning("variable_ignored", variable=variable, reason=reason)
    # What it makes is for itself alone: the data, and its files' names, which tell of it.
    os.umask(0o077)
    try:
        return _run_on_a_disk_that_counts(config)
    except StartError as error:
        print(f"quorate: {error}", file=sys.stderr)
        return EXIT_NOT_STARTED
    except QuorateError as error:
        log.critical("stopped", reason=str(error))
        return process.EXIT_FAILED
    finally:
        process.LINES.flush(seconds=process.FLUSH_S)


def _run_on_a_disk_that_counts(config: Config) -> int:
    """Run, and once more on an empty disk if this one is old and may be given up."""
    while True:
        try:
            with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
                return runner.run(_serve(config))
        except OldDiskError:
            if config.old_disk != "refill":
                raise
        _move_aside(_data_directory(config))


def _move_aside(directory: Path) -> None:
    """Make room for an empty directory, and lose nothing."""
    aside = directory.with_name(f"{directory.name}.old-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    try:
        directory.rename(aside)
    except OSError as error:
        raise StartError(
            f"cannot move -data {directory} aside: {error.strerror}; its copies do not count: move "
            "it by hand, and start with an empty one"
        ) from error
    log.warning("old_disk_moved_aside", directory=str(directory), aside=str(aside))


async def _serve(config: Config) -> int:
    try:
        sockets = bind(listen_addresses(config))
    except OSError as error:
        advice = _LISTEN_ADVICE.get(error.errno or 0, "choose another -port")
        raise StartError(f"cannot listen on {error.strerror}; {advice}") from error
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
    log.info("listening", url=url, version=__version__, engine=config.engine)
    await stopping.wait()
    for server in servers:
        server.close()
    if not failures:
        # Whoever is sending now is told to go elsewhere, and that nothing was written. Were its
        # connection closed at once, it could not know what became of the write on its way here.
        driver.submit(Stop())
        await asyncio.sleep(LINGER_S)
    stopped = asyncio.Event()
    driver.stop(stopped.set)
    await stopped.wait()
    await http.stop()
    listener.close()
    system.close()
    refusal = driver.node.membership.marks.refusal
    if refusal:
        raise OldDiskError(refusal)
    for reason in dict.fromkeys(failures):
        log.critical("stopped", reason=reason)
    return process.EXIT_FAILED if failures else 0


def _assemble(
    config: Config, engine: Engine, sockets: list[socket.socket], fail: Callable[[str], None]
) -> _Assembled:
    random = SystemRandom()
    settings = node_settings(config, node_id=node_id_of(engine, random))
    system = AsyncioSystem(own_url=settings.url, sync=engine.sync, on_end=fail)
    driver = Driver(config, settings, engine, system, random, counts=lambda: _counts(engine))
    bodies = ByteBudget(config.inflight_bytes_max)
    replies = ByteBudget(config.reply_bytes_max)
    resp = RespDoor(driver, bodies, replies)
    http = HttpDoor(
        driver,
        bodies=bodies,
        replies=replies,
        is_on_loopback=all(is_loopback(str(each.getsockname()[0])) for each in sockets),
        others=(resp.answered,),
        numbers=lambda: {
            "connections": listener.connections,
            "connections_accepted": listener.accepted,
            "connections_refused": listener.refused,
            "reply_bytes": replies.used,
            "replies_refused": replies.refused,
            **_disk_sizes(config),
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

    directory = _data_directory(config)
    try:
        engine = RocksEngine.open(directory, durability=config.durability)
    except StorageError as error:
        facts = [f"{name}={fact}" for name, fact in error.facts.items() if fact != str(directory)]
        why = f"{error.detail} ({' '.join(facts)})" if facts else error.detail
        raise StartError(f"cannot use -data {directory}: {why}") from error
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o077:
        cure = f"chmod -R go= {shlex.quote(str(directory))}"
        log.warning("data_open_to_others", directory=str(directory), mode=f"{mode:04o}", cure=cure)
    if config.cache_size:
        lru = Lru(entries_max=config.cache_size, bytes_max=config.cache_bytes)
        engine = CachedEngine(engine, lru)
    return engine


def _counts(engine: Engine) -> dict[str, int]:
    """What is counted outside the node. `log_lines_lost` takes in what the driver counts."""
    counts = {"log_lines_lost": process.LINES.lost}
    if isinstance(engine, CachedEngine):
        counts |= {"cache_hits": engine.lru.hits, "cache_misses": engine.lru.misses}
    return counts


def _data_directory(config: Config) -> Path:
    return Path(config.data or f"quorate-data/{config.port}")


def _disk_sizes(config: Config) -> dict[str, int]:
    """Of the file system of the data. The kernel knows them without asking the disk."""
    if config.engine == "memory":
        return {}
    try:
        usage = shutil.disk_usage(_data_directory(config))
    except OSError:
        return {}
    return {"disk_bytes": usage.total, "disk_free_bytes": usage.free}


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
