# SPDX-License-Identifier: GPL-3.0-or-later
"""What is settled before a node is put together: whether it may be reached, its secret, its URL.

What is wrong here keeps the node from starting, and is said in one line.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from quorate.addresses import (
    OwnUrl,
    dns_names_of,
    is_local,
    listening,
    node_url,
    own_url_told,
    peer_urls,
)
from quorate.config import AUTO, Config, ConfigError
from quorate.errors import QuorateError
from quorate.notation import is_loopback
from quorate.runtime.discovery import look_up
from quorate.runtime.entering import EntryError, enter, keep_announcing, kept_secret
from quorate.runtime.located import Located, located_by_peers, located_by_stun
from quorate.runtime.resolve import Names
from quorate.runtime.system import AsyncioSystem
from quorate.security.contexts import Trust
from quorate.security.keeping import Keeper, TrustError, sources_of, utc_now
from quorate.storage.engine import Engine

LOOK_UP_SECONDS: Final = 5.0
"""For all names that are asked for where this node is."""

log = structlog.get_logger()


class StartError(Exception):
    """The node cannot start; one line that says why and what to do."""


@contextmanager
def starting() -> Iterator[None]:
    """What fails in here keeps the node from starting; what fails later ends it."""
    try:
        yield
    except (QuorateError, TrustError) as error:
        raise StartError(str(error)) from error


def data_directory(config: Config) -> Path:
    return Path(config.data or f"quorate-data/{config.port}")


def refuse_strangers(config: Config, sockets: list[socket.socket], *, has_secret: bool) -> None:
    """StartError if other machines reach these sockets and nothing says who may do what; a line in
    the log where what was given leaves something open to who reaches them.

    Judged by the addresses that are bound, as a name in -listen may stand for either.
    """
    hosts = [str(each.getsockname()[0]) for each in sockets]
    reached = [host for host in hosts if not is_loopback(host)]
    if reached and not (has_secret or config.users or config.tls_cert or config.insecure):
        raise StartError(
            f"other machines reach -port {config.port} of {reached[0]}, and all who do could read"
            " and change everything: give -secret-file (quorate secret new makes one), or -users or"
            " -tls-cert for clients, or -insecure if that is meant"
        )
    if not reached or has_secret or config.insecure:
        return
    if not config.users:
        can = "read and change everything"
    elif not config.peer_names:
        can = "speak as a node"
    else:
        return
    cure = "give -secret-file to all nodes (quorate secret new makes one)"
    log.warning("open_to_strangers", address=reached[0], can=can, cure=cure)


def secret_file_of(config: Config, secret: str) -> str:
    """Where the secret is: in the file that was named, or where a join token left it."""
    if config.secret_file or secret:
        return config.secret_file
    kept = kept_secret(data_directory(config))
    return "" if kept is None else str(kept)


def let_in(config: Config) -> Config:
    """Get the secret for a token, if that is wanting: settings that say where it is kept."""
    if config.secret_file or not config.token_file:
        return config
    directory = data_directory(config)
    try:
        path = enter(config.join, Path(config.token_file), directory, cluster=config.cluster)
    except EntryError as error:
        raise StartError(str(error)) from error
    log.info("let_in", by=list(config.join), secret=str(path))
    return msgspec.structs.replace(config, secret_file=str(path))


def keeper_of(config: Config, secret: str) -> Keeper | None:
    """What keeps secret and certificates; None for a node without."""
    sources = sources_of(config, secret)
    return None if sources is None else Keeper(sources, now=utc_now)


def trust_of(keeper: Keeper | None) -> Callable[[], Trust | None]:
    """What is asked whenever a link is dialled."""
    return lambda: None if keeper is None else keeper.trust


def secrets_of(keeper: Keeper | None) -> tuple[bytes, ...]:
    return () if keeper is None else keeper.trust.secrets


async def located(config: Config, engine: Engine, keeper: Keeper | None, node_id: int) -> Config:
    """The settings with the URL that others reach this node at, which is told with the reason."""
    found = Located("", "")
    if config.advertise == AUTO:
        found = await _seen(config, engine, keeper, node_id)
    try:
        own = OwnUrl(node_url(found.host, config.port), found.reason)
        if not found.host:
            own = own_url_told(config)
    except ConfigError as error:
        raise StartError(str(error)) from error
    reason = own.reason if found.host or not found.reason else f"{own.reason}; {found.reason}"
    client = config.advertise_client or own.url
    if keeper is not None:
        with starting():
            keeper.stand_at(own.url)
    log.info("advertised", url=own.url, client=client, reason=reason)
    return (
        config if config.advertise != AUTO else msgspec.structs.replace(config, advertise=own.url)
    )


async def _seen(config: Config, engine: Engine, keeper: Keeper | None, node_id: int) -> Located:
    """Where the STUN server sees this node, if one is named, or else the peers."""
    bound = listening(config).addresses[0][0]
    may_be_loopback = is_local(config) or is_loopback(bound)
    found = Located("", "")
    if config.stun:
        found = await located_by_stun(config.stun, may_be_loopback=may_be_loopback)
    if found.host:
        return found
    asking = node_url(bound, config.port)
    system = AsyncioSystem(
        own_url=asking, sync=engine.sync, on_end=log.critical, trust=trust_of(keeper)
    )
    try:
        by_peers = await located_by_peers(
            system,
            [*peer_urls(config), *await _named(config, asking)],
            cluster=config.cluster,
            node_id=node_id,
            may_be_loopback=may_be_loopback,
        )
    finally:
        system.close()
    reasons = "; ".join(filter(None, [found.reason, by_peers.reason]))
    return by_peers._replace(reason=reasons)


async def _named(config: Config, asking: str) -> list[str]:
    """The URLs that the DNS has for the names of -discover, as far as it answers soon."""
    lookups, found = Names(asking), list[str]()
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK_UP_SECONDS):
            for name in dns_names_of(config):
                found += await _urls_of(name, lookups, port=config.port)
    return found


async def _urls_of(name: str, lookups: Names, *, port: int) -> list[str]:
    try:
        return (await look_up(name, lookups, port=port))[0]
    except OSError:
        return []


def begin_joining(
    config: Config, url: str, keeper: Keeper | None, *, is_new: bool
) -> Callable[[], None]:
    """Ask the nodes of -join to make this new node a member, in a thread; what ends that."""
    stopped = threading.Event()
    if config.join and is_new:
        threading.Thread(
            target=keep_announcing,
            args=(config.join, url, partial(secrets_of, keeper)),
            kwargs={"cluster": config.cluster, "stopped": stopped},
            daemon=True,
        ).start()
    return stopped.set
