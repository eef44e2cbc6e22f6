# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of this machine's addresses a node listens on, and which URL others reach it at.

A process must have exactly one URL in the cluster (two would count as two replicas), and a cluster
that spans machines must never be told `localhost`. Nothing here sends a packet, but names in
`nodes` are looked up.
"""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

from quorate.config import AUTO, DNS, MDNS, Config, ConfigError
from quorate.notation import address_of, is_loopback, split_url

_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})
_ANYWHERE: Final = "192.0.2.1"
"""A documentation address (RFC 5737): it routes like any address of the internet."""


class OwnUrl(NamedTuple):
    """What this node is called, and why."""

    url: str
    reason: str
    """One line, for the log."""


class Listening(NamedTuple):
    """Where this node accepts connections, and why."""

    addresses: list[tuple[str, int]]
    """Hosts and ports."""
    reason: str
    """One line, for the log."""


def own_url(config: Config) -> str:
    """The one URL of this node: see `own_url_told`."""
    return own_url_told(config).url


def own_url_told(config: Config) -> OwnUrl:
    """The one URL of this node: `advertise` if given, else the entry of `nodes` that is this node,
    else an address that the other nodes can reach, else that entry though it is on loopback.
    ConfigError if there is none."""
    if config.advertise not in ("", AUTO):
        return OwnUrl(config.advertise, "-advertise says it")
    local = is_local(config)
    bound = _listened(config)
    for url in config.nodes:
        if _is_this_node(url, config.port, bound) and (local or not _is_on_loopback(url)):
            return OwnUrl(url, "it is the entry of -nodes with an address of this machine")
    if bound and bound not in _WILDCARDS:
        return OwnUrl(node_url(bound, config.port), "-listen says it")
    if local and not bound:
        return OwnUrl(node_url("localhost", config.port), "no node on another machine is named")
    named = (*config.nodes, *seeds_of(config))
    peers = [split_url(url)[0] for url in named if not _is_on_loopback(url)]
    for peer in [*peers, _ANYWHERE]:
        # A name that does not resolve is a peer that is down, and stops nobody else.
        address = _routing_address(peer)
        if address:
            way = "of the default route" if peer == _ANYWHERE else f"that routes to {peer}"
            return OwnUrl(node_url(address, config.port), f"it is of the interface {way}")
    for url in config.nodes:
        if _is_this_node(url, config.port, bound):
            return OwnUrl(url, "it is the entry of -nodes with an address of this machine")
    unreached = (peers or [_ANYWHERE])[0]
    raise ConfigError([f"-advertise: cannot tell which address reaches {unreached}: give this one"])


def cluster_urls(config: Config) -> tuple[str, ...]:
    """This node under its own URL, once, whatever else `nodes` calls it, and all other nodes."""
    own = own_url(config)
    bound = [host for host, _ in listening(config).addresses]
    others = (
        url
        for url in config.nodes
        if url != own and not any(_is_this_node(url, config.port, host) for host in bound)
    )
    return (own, *others)


def peer_urls(config: Config) -> list[str]:
    """The nodes that are named and are not this one, however it is called there."""
    named = dict.fromkeys((*config.nodes, *seeds_of(config)))
    return [url for url in named if not is_this_node(url, config)]


def listening(config: Config) -> Listening:
    """Where to accept connections: `listen`, else loopback when all nodes are there, else all."""
    port = config.port
    if config.listen:
        return Listening([(_listened(config), port)], "-listen says it")
    local = is_local(config)
    far = "nodes on other machines are named, or looked for"
    if config.advertise == AUTO and not local:
        return Listening([("0.0.0.0", port)], far)
    own = split_url(own_url(config))[0]
    if not (is_loopback(own) and local):
        reason = "-advertise is no address of loopback" if local else far
        return Listening([("::" if ":" in own else "0.0.0.0", port)], reason)
    near = "no node on another machine is named"
    if address_of(own) is not None:
        return Listening([(own, port)], near)
    # A client may try either family of "localhost" first.
    both = [(host, port) for host in ("127.0.0.1", "::1") if _is_own_host(host)]
    return Listening(both, near)


def is_local(config: Config) -> bool:
    """Whether no node on another machine is named."""
    is_near = all(_is_on_loopback(url) for url in (*config.nodes, *seeds_of(config)))
    return is_near and not any(each == MDNS or each.startswith(DNS) for each in config.discover)


def seeds_of(config: Config) -> list[str]:
    """The nodes that `discover` names by their URLs."""
    return [each for each in config.discover if each != MDNS and not each.startswith(DNS)]


def dns_names_of(config: Config) -> list[str]:
    """The names that `discover` has the DNS asked for."""
    return [each.removeprefix(DNS) for each in config.discover if each.startswith(DNS)]


def names_told(config: Config) -> frozenset[str]:
    """Names and addresses that the settings hold, of this node and others. Others than who made
    them can have none of these."""
    urls = [*config.nodes, *config.join, *seeds_of(config)]
    urls += [config.advertise_client] if config.advertise_client else []
    looked_up = [name.partition(":")[0].lower() for name in dns_names_of(config)]
    return frozenset([*(split_url(url)[0] for url in urls), *looked_up])


def is_this_node(url: str, config: Config) -> bool:
    """Whether `url` leads to an address that this node listens on. Names are looked up."""
    return any(_is_this_node(url, config.port, host) for host, _ in listening(config).addresses)


def _listened(config: Config) -> str:
    return split_url(config.listen)[0] if config.listen else ""


def _is_this_node(url: str, port: int, bound: str) -> bool:
    """Whether `url` leads to the process that listens on `port` of `bound` (empty: not said)."""
    host, url_port = split_url(url)
    if url_port != port:
        return False
    if bound and bound not in _WILDCARDS:
        # Loopback has many addresses: 127.0.0.2 and 127.0.0.3 may be two nodes on one port.
        return bool(_resolved(host) & _resolved(bound))
    return _is_own_host(host)


def _resolved(host: str) -> set[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return set()
    return {(family, str(address[0])) for family, _, _, _, address in found}


def _is_own_host(host: str) -> bool:
    """Whether `host` is, or resolves to, an address of one of this machine's interfaces."""
    return any(_can_bind(family, address) for family, address in _resolved(host))


def _can_bind(family: int, address: str) -> bool:
    # Only an address of a local interface can be bound. UDP: nobody could connect meanwhile.
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _routing_address(peer: str) -> str:
    """The address of the interface that routes to `peer`; empty without any."""
    try:
        family, _, _, _, address = socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # UDP: this picks the route and sends nothing.
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _is_on_loopback(url: str) -> bool:
    return is_loopback(split_url(url)[0])


def node_url(host: str, port: int) -> str:
    """The URL of a node at an address or a name."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
