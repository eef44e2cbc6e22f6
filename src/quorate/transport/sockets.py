# SPDX-License-Identifier: GPL-3.0-or-later
"""Socket options of a peer link: send at once, and notice a peer whose machine is gone.

A host that vanishes (power cut, cable, a firewall that forgot us) sends no FIN. Keepalive finds
that on an idle link, the user timeout (RFC 5482) on one with unacknowledged bytes, where the
kernel would otherwise retransmit for a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

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


def tune(transport: asyncio.BaseTransport) -> None:
    """Set the options; a connection that died meanwhile is left for its protocol to notice."""
    sock: socket.socket | None = transport.get_extra_info("socket")
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
