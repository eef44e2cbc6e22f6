# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a node together and runs it: the only place where concrete parts meet."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Any, NamedTuple

import msgspec
import structlog

from quorate import __version__
from quorate.addresses import cluster_urls, listen_addresses, own_url
from quorate.config import KEY_BYTES_MAX, Config
from quorate.core.node import Node
from quorate.core.parts import Settings
from quorate.core.topology.greeting import judge
from quorate.core.values.events import Instant, Welcome
from quorate.core.values.messages import Greeting
from quorate.doors.budget import ByteBudget
from quorate.doors.http.door import HttpDoor
from quorate.doors.port import Listener
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.session import RespDoor
from quorate.errors import QuorateError, StorageError
from quorate.runtime.driver import Driver
from quorate.runtime.identity import node_id_of
from quorate.storage.cached import CachedEngine
from quorate.storage.engine import Engine
from quorate.storage.lru import Lru
from quorate.storage.memory import MemoryEngine
from quorate.transport.acceptor import Acceptor
from quorate.transport.journal import Journal
from quorate.transport.links import PeerLinks

DRAIN_S = 10.0
"""How long a stopping node waits for requests in flight."""
SETTLE_S = 2.0
"""How long for the engine to take what it refused, in a write stall or on a full disk."""
CLOSE_S = 10.0
"""How long it then waits for the disk."""
FILES_RESERVED = 256 + 64 + 128
"""File descriptors kept for the engine's tables (`storage.tuning`), for its other files and what
else is open once, and for links; clients get the rest."""
STDERR = 2
EXIT_FAILED = 1
EXIT_NOT_STARTED = 2

log = structlog.get_logger()


class StartError(Exception):
    """The node cannot start; one line that says why and what to do."""


def run(config: Config) -> int:
    """Run a node until it is told to stop or fails. Returns the process's exit code."""
    _configure_logs(config)
    try:
        with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
            return runner.run(_serve(config))
    except StartError as error:
        print(f"quorate: {error}", file=sys.stderr)
        return EXIT_NOT_STARTED
    except QuorateError as error:
        log.critical("stopped", reason=str(error))
        return EXIT_FAILED


async def _serve(config: Config) -> int:
    sockets = _bind(config)
    try:
        with _starting():
            engine = _open_engine(config)
        code = EXIT_FAILED
        try:
            code = await _run(config, engine, sockets)
        finally:
            is_closed = await _close(engine)
        return code if is_closed else EXIT_FAILED
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


async def _close(engine: Engine) -> bool:
    """Close the engine; False if that failed. Ends the process if the disk does not let it."""
    loop = asyncio.get_running_loop()
    closing = loop.run_in_executor(ThreadPoolExecutor(max_workers=1), engine.close)
    await asyncio.wait({closing}, timeout=CLOSE_S)
    if not closing.done():
        log.critical("stopped", reason=f"the disk did not confirm a sync for {CLOSE_S:g} s")
        # Any other way out of Python waits for the threads that wait for the disk. Nothing is lost:
        # what was acknowledged is durable.
        os._exit(EXIT_FAILED)
    error = closing.exception()
    if error is not None:
        log.critical("close_failed", reason=str(error))
    return error is None


class _Parts(NamedTuple):
    """A node that is put together and does not run yet."""

    driver: Driver
    links: PeerLinks
    acceptor: Acceptor
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
    driver, links, acceptor, http, listener = parts
    _handle_faults(fail)
    await http.start()
    # Before anyone can be heard: a step that nobody carries out would be lost.
    driver.start(links)
    servers = await _listen(listener, sockets)
    _handle_signals(stopping)
    _settle_memory()
    url = driver.node.settings.url
    log.info("serving", url=url, version=__version__, engine=config.engine)
    await stopping.wait()
    for server in servers:
        server.close()
    if not failures:
        await driver.drain(DRAIN_S)
    await links.close()
    acceptor.close()
    await http.stop()
    listener.close()
    await driver.settle(SETTLE_S)
    driver.close()
    for reason in dict.fromkeys(failures):
        log.critical("stopped", reason=reason)
    return EXIT_FAILED if failures else 0


def _assemble(
    config: Config, engine: Engine, sockets: list[socket.socket], fail: Callable[[str], None]
) -> _Parts:
    settings = _settings(config, node_id_of(engine))
    now = Instant(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)
    node = Node(settings, engine, SystemRandom(), now)
    journal = Journal()
    driver = Driver(
        config,
        node,
        engine,
        on_failure=fail,
        counts=lambda: journal.counters() | _cache_counts(engine),
    )
    links, acceptor = _transport(node, driver, journal, fail)
    bodies = ByteBudget(config.inflight_bytes_max)
    resp = RespDoor(driver, bodies)
    http = HttpDoor(
        driver,
        bodies=bodies,
        is_on_loopback=all(_is_loopback(each) for each in sockets),
        door_counts=lambda: {
            "connections": listener.connections,
            "connections_accepted": listener.accepted,
            "connections_refused": listener.refused,
        },
    )
    listener = Listener(
        http=http.connection,
        resp=lambda: RespConnection(driver, resp),
        peer=acceptor.connection,
        connections_max=_connections_max(config),
    )
    return _Parts(driver, links, acceptor, http, listener)


def _settings(config: Config, node_id: int) -> Settings:
    url = own_url(config)
    nodes = cluster_urls(config) if config.nodes else ()
    # The list named this node, by whatever name, if taking this node out makes it shorter.
    is_listed = len(nodes) - 1 < len(config.nodes)
    return Settings(
        url=url,
        node_id=node_id,
        version=__version__,
        cluster=config.cluster,
        nodes=nodes if is_listed else nodes[1:],
        replication=config.replication,
        w=config.w,
        r=config.r,
        timeout_ms=config.timeout_ms,
        write_wait_ms=config.write_wait_ms,
        heartbeat_ms=config.heartbeat_ms,
        down_after=config.down_after,
        max_clock_skew_ms=config.max_clock_skew_ms,
        hint_bytes_max=config.hint_bytes_max,
        inflight_max=config.inflight_max,
        inflight_bytes_max=config.inflight_bytes_max,
        value_bytes_max=config.value_bytes_max,
        key_bytes_max=KEY_BYTES_MAX,
    )


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


def _transport(
    node: Node, driver: Driver, journal: Journal, fail: Callable[[str], None]
) -> tuple[PeerLinks, Acceptor]:
    url = node.settings.url

    def answer(theirs: Greeting) -> Greeting:
        mine = msgspec.structs.replace(node.greeting(), reached=links.process(theirs.url))
        return msgspec.structs.replace(mine, refusal=judge(mine, theirs))

    def welcome(theirs: Greeting) -> None:
        acceptor.keep_only(theirs.url, theirs.process)
        driver.submit(Welcome(theirs))

    links = PeerLinks(
        greeting=node.greeting,
        on_event=driver.submit,
        on_welcome=welcome,
        on_twin=lambda: fail(f"two nodes with one identity: another process has the URL {url}"),
        rng=SystemRandom(),
        journal=journal,
    )
    acceptor = Acceptor(
        judge=answer, on_frames=driver.on_frames, on_accepted=links.hurry, journal=journal
    )
    return links, acceptor


# --- the operating system ------------------------------------------------------------------------


def _bind(config: Config) -> list[socket.socket]:
    """Bound sockets, before anything else is started. StartError if the port is taken."""
    bound: list[socket.socket] = []
    for host, port in listen_addresses(config):
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            each = socket.socket(family, kind)
            bound.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(address)
        except OSError as error:
            for each in bound:
                each.close()
            raise StartError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another -port"
            ) from error
    return bound


async def _listen(listener: Listener, sockets: list[socket.socket]) -> list[asyncio.Server]:
    loop = asyncio.get_running_loop()
    return [await loop.create_server(listener, sock=each, backlog=1024) for each in sockets]


def _is_loopback(bound: socket.socket) -> bool:
    host = str(bound.getsockname()[0])
    return host == "::1" or host.startswith("127.")


def _connections_max(config: Config) -> int:
    """The configured maximum, or less where the limit of open files is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return config.connections_max
    return min(config.connections_max, max(hard - FILES_RESERVED, hard // 4))


def _handle_faults(fail: Callable[[str], None]) -> None:
    """A fault in a task, which keeps a link, ends the node: that peer would never be dialled again.
    One in a callback has cost a client its connection, and that is enough."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "task" in context:
            fail(f"internal fault: {error or context['message']}")
        log.error("internal_fault", message=context["message"], exc_info=error)

    asyncio.get_running_loop().set_exception_handler(handle)


def _handle_signals(stopping: asyncio.Event) -> None:
    """The first signal drains, the second ends the process at once."""
    loop = asyncio.get_running_loop()

    def stop(signum: int) -> None:
        if stopping.is_set():
            # Not SystemExit: what unwinds then waits for the disk, perhaps the reason for a second.
            os._exit(128 + signum)
        stopping.set()
        log.info("stopping", signal=signal.Signals(signum).name)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop, signum)


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    if config.loop == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError as error:
        if config.loop == "uvloop":
            raise StartError("uvloop is not installed: use -loop auto") from error
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _settle_memory() -> None:
    """Keep what start-up built out of every later collection, and collect rarely: requests make
    no cycles, so collections find next to nothing and show only as pauses."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class _Log:
    """Lines to standard error. One that cannot be written is lost: its disk may be full and its
    reader gone, and what a node does must not depend on what it has to tell of it."""

    def msg(self, message: str) -> None:
        """Write a line; unbuffered, or what could not be written would count again at the end."""
        with suppress(OSError):
            os.write(STDERR, f"{message}\n".encode(errors="backslashreplace"))

    debug = info = warning = error = critical = msg


def _configure_logs(config: Config) -> None:
    is_json = config.log_format == "json" or (
        config.log_format == "auto" and not sys.stderr.isatty()
    )
    renderer = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer()
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[config.log_level]),
        logger_factory=lambda *_: _Log(),
        cache_logger_on_first_use=True,
    )
