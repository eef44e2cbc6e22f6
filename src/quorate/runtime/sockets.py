# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets: those that are listened on, and the options of a peer's connection.

A peer's bytes are sent at once, and a peer whose machine is gone is noticed.

A host that vanishes (power cut, cable, a firewall that forgot us) sends no FIN. Keepalive finds
that on an idle link, the user timeout (RFC 5482) on one with unacknowledged bytes, where the
kernel would otherwise retransmit for a quarter of an hour.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

from quorate.host.system import Channel

SILENCE_S: Final = 12
"""After so long without any sign from the peer's kernel the link is lost."""
_PROBE_AFTER_S: Final = 6
_PROBE_EVERY_S: Final = 2

# Not every platform has every option; those it lacks keep their defaults.
_OPTIONS: Final = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _PROBE_AFTER_S),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _PROBE_EVERY_S),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", (SILENCE_S - _PROBE_AFTER_S) // _PROBE_EVERY_S),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", SILENCE_S * 1000),
)


def tune(channel: Channel) -> None:
    """Set the options; a connection that died meanwhile is left for its owner to notice."""
    sock: socket.socket | None = channel.get_extra_info("socket")
    if sock is None:
        return
    for level, name, value in _OPTIONS:
        option: int | None = getattr(socket, name, None)
        if option is None:
            continue
        try:
            sock.setsockopt(level, option, value)
        except OSError:
            return


def bind(addresses: Iterable[tuple[str, int]]) -> list[socket.socket]:
    """Sockets bound to hosts and ports. OSError, which names the address, if one is not free."""
    bound: list[socket.socket] = []
    for host, port in addresses:
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
            raise OSError(error.errno, f"{host}:{port}: {error.strerror}") from error
    return bound
