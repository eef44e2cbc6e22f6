# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a node together and runs it: the only place where concrete parts meet."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import shutil
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom
from types import MappingProxyType
from typing import NamedTuple, cast

import msgspec
import structlog

from quorate import __version__
from quorate.addresses import is_this_node, listening, names_told, node_url
from quorate.config import DNS_SERVICE, MDNS, Config
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.values.events import Discovered
from quorate.doors.audit import Audit
from quorate.doors.handshakes import Handshakes
from quorate.doors.http.door import HttpDoor
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.limits import Budgets, ByteBudget
from quorate.doors.port import Listener, ProtocolFactory
from quorate.doors.principals import Principals
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.session import RespDoor
from quorate.doors.users_file import UsersFile
from quorate.errors import QuorateError, StorageError
from quorate.host.driver import Driver
from quorate.host.identity import node_id_of
from quorate.notation import is_loopback
from quorate.runtime import process
from quorate.runtime.discovery import Discovery
from quorate.runtime.entering import carry
from quorate.runtime.probe import Prober
from quorate.runtime.proving import refusal_of
from quorate.runtime.renewing import Renewal
from quorate.runtime.sockets import bind
from quorate.runtime.system import AsyncioSystem
from quorate.security.contexts import Standing
from quorate.security.keeping import Keeper, tls_mode
from quorate.security.users import UsersError
from quorate.settings import node_settings
from quorate.starting import (
    StartError,
    begin_joining,
    data_directory,
    keeper_of,
    let_in,
    located,
    refuse_strangers,
    secret_file_of,
    secrets_of,
    starting,
    trust_of,
)
from quorate.storage.cached import CachedEngine, Lru
from quorate.storage.engine import Engine
from quorate.storage.memory import MemoryEngine

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


class OldDiskError(StartError):
    """The data directory was put back as it was before: peers saw more of it."""


def run(
    config: Config, ignored: Mapping[str, str] = MappingProxyType({}), *, secret: str = ""
) -> int:
    """Run a node until it is told to stop or fails. Returns the process's exit code. `ignored` are
    variables that did not make the configuration, with the reason. `secret` is the text of the
    cluster's, where no file has it."""
    process.configure_logs(form=config.log_format, level=config.log_level)
    for variable, reason in ignored.items():
        log.warning("variable_ignored", variable=variable, reason=reason)
    # What it makes is for itself alone: the data, and its files' names, which tell of it.
    os.umask(0o077)
    try:
        return _run_on_a_disk_that_counts(config, secret)
    except StartError as error:
        print(f"quorate: {error}", file=sys.stderr)
        return EXIT_NOT_STARTED
    except QuorateError as error:
        log.critical("stopped", reason=str(error))
        return process.EXIT_FAILED
    finally:
        process.LINES.flush(seconds=process.FLUSH_S)


def _run_on_a_disk_that_counts(config: Config, secret: str) -> int:
    """Run, and once more on an empty disk if this one is old and may be given up."""
    while True:
        try:
            with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
                return runner.run(_serve(config, secret))
        except OldDiskError:
            if config.old_disk != "refill":
                raise
        _move_aside(data_directory(config))


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
    carry(aside, directory)
    log.warning("old_disk_moved_aside", directory=str(directory), aside=str(aside))


async def _serve(config: Config, secret: str) -> int:
    for source in config.discover:
        _require_package(source)
    there = listening(config)
    try:
        sockets = bind(there.addresses)
    except OSError as error:
        advice = _LISTEN_ADVICE.get(error.errno or 0, "choose another -port")
        raise StartError(f"cannot listen on {error.strerror}; {advice}") from error
    try:
        config = msgspec.structs.replace(config, secret_file=secret_file_of(config, secret))
        has_secret = bool(secret or config.secret_file or config.token_file)
        refuse_strangers(config, sockets, has_secret=has_secret)
        with starting():
            keeper = keeper_of(config, secret)
            engine = _open_engine(config)
        code = process.EXIT_FAILED
        try:
            admitted = let_in(config)
            with starting():
                keeper = keeper if admitted is config else keeper_of(admitted, secret)
            code = await _run(admitted, engine, sockets, keeper, why_there=there.reason)
        finally:
            is_closed = await process.close_in_time(engine.close, seconds=CLOSE_S)
        return code if is_closed else process.EXIT_FAILED
    finally:
        for each in sockets:
            each.close()


def _require_package(source: str) -> None:
    """StartError if this entry of -discover needs a package that is not there."""
    if source == MDNS:
        module, package = "zeroconf", "zeroconf"
    elif source.startswith(DNS_SERVICE):
        module, package = "dns", "dnspython"
    else:
        return
    if find_spec(module) is None:
        raise StartError(
            f"-discover={source} needs a package that is not there: pip install {package}, or name "
            "nodes with -nodes or -discover=URL"
        )


class _Assembled(NamedTuple):
    """A node that is put together and does not run yet."""

    system: AsyncioSystem
    driver: Driver
    http: HttpDoor
    listener: Listener
    principals: Principals
    users: UsersFile | None
    renewal: Renewal | None
    discovery: Discovery | None

    def follow_files(self) -> list[Callable[[], None]]:
        """Have files read again when they change; the calls that have it done at once."""
        read_now: list[Callable[[], None]] = []
        if self.renewal is not None:
            self.renewal.start()
            read_now.append(self.renewal.read_now)
        if self.users is not None:
            self.users.follow(self.principals)
            read_now.append(self.users.look)
        return read_now

    async def close(self) -> None:
        """Let nothing of it go on."""
        self.listener.close()
        self.system.close()
        self.principals.close()
        if self.users is not None:
            await self.users.close()
        if self.renewal is not None:
            await self.renewal.close()


async def _run(
    config: Config,
    engine: Engine,
    sockets: list[socket.socket],
    keeper: Keeper | None,
    *,
    why_there: str,
) -> int:
    """From a usable engine and bound sockets to the end of the node's life. `why_there` says why
    the sockets are bound where they are."""
    stopping = asyncio.Event()
    failures: list[str] = []

    def fail(reason: str) -> None:
        failures.append(reason)
        stopping.set()

    random = SystemRandom()
    is_new = engine.get_meta(LAYOUT_META) is None
    with starting():
        node_id = node_id_of(engine, random)
        if keeper is not None:
            keeper.show_as(node_id)
    config = await located(config, engine, keeper, node_id)
    with starting():
        parts = _assemble(config, engine, sockets, keeper, fail, random=random, node_id=node_id)
    process.handle_faults(fail)
    servers = await _start(parts, sockets)
    process.handle_signals(stopping, parts.follow_files())
    process.settle_memory()
    log.info(
        "listening",
        url=parts.driver.node.settings.url,
        addresses=_bound(sockets),
        reason=why_there,
        version=__version__,
        engine=config.engine,
        links="plain" if parts.system.is_plain() else "tls",
        tls=tls_mode(config),
    )
    url = parts.driver.node.settings.url
    end_joining = begin_joining(config, url, keeper, is_new=is_new)
    await stopping.wait()
    end_joining()
    for server in servers:
        server.close()
    await _stop(parts)
    refusal = parts.driver.node.membership.marks.refusal
    if refusal:
        raise OldDiskError(refusal)
    for reason in dict.fromkeys(failures):
        log.critical("stopped", reason=reason)
    return process.EXIT_FAILED if failures else 0


def _bound(sockets: list[socket.socket]) -> str:
    """The addresses and ports of these, as the log has them."""
    names = [each.getsockname() for each in sockets]
    return ", ".join(node_url(str(name[0]), name[1]).removeprefix("http://") for name in names)


async def _start(parts: _Assembled, sockets: list[socket.socket]) -> list[asyncio.Server]:
    await parts.http.start()
    parts.driver.start()
    loop, listener = asyncio.get_running_loop(), parts.listener
    servers = [await loop.create_server(listener, sock=each, backlog=1024) for each in sockets]
    if parts.discovery is not None:
        parts.discovery.start()
    return servers


async def _stop(parts: _Assembled) -> None:
    if parts.discovery is not None:
        await parts.discovery.close()
    stopped = asyncio.Event()
    parts.driver.stop(stopped.set)
    await stopped.wait()
    await parts.http.stop()
    await parts.close()


def _assemble(
    config: Config,
    engine: Engine,
    sockets: list[socket.socket],
    keeper: Keeper | None,
    fail: Callable[[str], None],
    *,
    random: SystemRandom,
    node_id: int,
) -> _Assembled:
    settings = node_settings(config, node_id=node_id)
    system = AsyncioSystem(
        own_url=settings.url, sync=engine.sync, on_end=fail, trust=trust_of(keeper)
    )
    driver = Driver(config, settings, engine, system, random, counts=lambda: _counts(engine))
    bodies = ByteBudget(config.inflight_bytes_max)
    replies = ByteBudget(config.reply_bytes_max)
    users = _users_file(config)
    principals = _principals(config, driver, keeper, users)
    resp = RespDoor(driver, bodies, replies, principals=principals)
    http = HttpDoor(
        driver,
        budgets=Budgets(bodies, replies),
        hosts=_hosts(config, settings.url, sockets, principals),
        principals=principals,
        others=(resp.answered,),
        probe=Prober(system, settings, wall_ms=driver.wall_ms).probe,
        numbers=lambda: {
            "connections": listener.connections,
            "connections_accepted": listener.accepted,
            "connections_refused": listener.refused,
            "connections_refused_plain": listener.refused_plain,
            "connections_refused_tls": listener.refused_tls,
            "reply_bytes": replies.used,
            "replies_refused": replies.refused,
            **principals.audit.counts(),
            **_disk_sizes(config),
            **_tls_numbers(keeper, listener),
        },
        secrets=partial(secrets_of, keeper),
    )
    listener = Listener(
        http=http.connection,
        resp=lambda: RespConnection(driver, resp),
        peer=cast(ProtocolFactory, driver.acceptor.connection),
        connections_max=_connections_max(config),
        guests=principals.guests,
        handshakes=None
        if keeper is None
        else Handshakes(lambda: keeper.trust, partial(_note_failed, driver, principals.audit)),
        is_plain_refused=tls_mode(config) == "required",
        on_tls_refused=principals.audit.tls_refused,
    )
    renewal = None if keeper is None else Renewal(keeper)
    discovery = _discovery(config, driver)
    return _Assembled(system, driver, http, listener, principals, users, renewal, discovery)


def _hosts(
    config: Config, own_url: str, sockets: list[socket.socket], principals: Principals
) -> HostPolicy:
    return HostPolicy(
        principals,
        is_on_loopback=all(is_loopback(str(each.getsockname()[0])) for each in sockets),
        own_url=own_url,
        told=names_told(config),
    )


def _tls_numbers(keeper: Keeper | None, listener: Listener) -> dict[str, int]:
    handshakes = listener.handshakes
    numbers = {} if handshakes is None else {"tls_handshakes_failed": handshakes.failed}
    expires_s = None if keeper is None else keeper.expires_s
    return numbers if expires_s is None else {**numbers, "certificate_expires_s": expires_s}


def _note_failed(
    driver: Driver, audit: Audit, address: str, error: Exception, is_peer: bool
) -> None:
    """Somebody did not come inside TLS: a peer's is a refused link."""
    if is_peer:
        is_ours = isinstance(error, ssl.SSLError)
        by = "us" if is_ours else "them"
        driver.journal.refused(address, refusal_of(error), by=by, address=address)
    else:
        audit.handshake_refused(source=address, reason=str(error) or type(error).__name__)


def _discovery(config: Config, driver: Driver) -> Discovery | None:
    """What looks for other nodes, where that is asked for."""
    if not config.discover:
        return None
    settings = driver.node.settings
    nearby = None
    if MDNS in config.discover:
        from quorate.runtime.mdns import Nearby  # Late: the package is an extra.

        nearby = Nearby(
            cluster=config.cluster,
            url=settings.url,
            name=f"{settings.node_id:012x}",
            interface=listening(config).addresses[0][0],
        )
    return Discovery(
        config.discover,
        own_url=settings.url,
        port=config.port,
        is_own=lambda url: is_this_node(url, config),
        offer=lambda urls: driver.submit(Discovered(urls)),
        nearby=nearby,
    )


def _principals(
    config: Config, driver: Driver, keeper: Keeper | None, users: UsersFile | None
) -> Principals:
    return Principals(
        asyncio.get_running_loop(),
        cluster=config.cluster,
        wall_ms=driver.wall_ms,
        users=users.users if users is not None else None,
        is_open=config.insecure or keeper is None or not keeper.trust.authorities,
        is_of_cluster=partial(_is_of_cluster, keeper),
    )


def _is_of_cluster(keeper: Keeper | None, transport: asyncio.BaseTransport) -> bool:
    """Whether a client showed a certificate that was made from the cluster's secret."""
    channel = transport.get_extra_info("ssl_object")
    if keeper is None or channel is None:
        return False
    proved = keeper.trust.identify(channel)
    # A node of a PKI has no id, and is no client with all rights.
    return proved is not None and (proved.standing is Standing.HOLDER or proved.node_id > 0)


def _users_file(config: Config) -> UsersFile | None:
    try:
        return UsersFile(Path(config.users)) if config.users else None
    except UsersError as error:
        raise StartError(f"cannot use -users {error}") from error


def _open_engine(config: Config) -> Engine:
    engine: Engine
    if config.engine == "memory":
        return MemoryEngine()
    from quorate.storage.rocks import RocksEngine  # Late: the wheel is not on every platform.

    directory = data_directory(config)
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


def _disk_sizes(config: Config) -> dict[str, int]:
    """Of the file system of the data. The kernel knows them without asking the disk."""
    if config.engine == "memory":
        return {}
    try:
        usage = shutil.disk_usage(data_directory(config))
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
