# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking each key at a node that holds it, as clients of Redis Cluster do.

A node that is asked for a key of which it has no copy has one node more to ask. Where there are
more nodes than replicas, a client that knows the slots saves that (redis.io, "Redis cluster
specification").
"""

from __future__ import annotations

import socket
from binascii import crc_hqx
from collections.abc import Iterable
from typing import Any, Final

from quorate.bench.distributions import Draw
from quorate.bench.load import CONNECT_SECONDS
from quorate.bench.protocols import ProtocolFault, read_reply

_SLOT_COUNT: Final = 16384
_ASK: Final = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n"
_READ_BYTES: Final = 64 << 10
_TRIES: Final = 1000
"""For a key that a node holds. There may be fewer keys than nodes: then it is asked for another."""

Target = tuple[str, int]
Held = bytearray
"""By slot, 1 where a node is a replica."""


def held_slots(targets: Iterable[Target]) -> dict[Target, Held]:
    """What each target holds, as the first of them has it. OSError if it cannot be asked,
    ProtocolFault if it does not say, or does not name all targets."""
    wanted = list(targets)
    found: dict[Target, Held] = {}
    try:
        for start, end, *replicas in _slots(wanted[0]):
            for host, port, *_ in replicas:
                held = found.setdefault((host.decode(), port), bytearray(_SLOT_COUNT))
                held[start : end + 1] = b"\1" * (end + 1 - start)
    except (ValueError, TypeError, AttributeError) as fault:
        raise ProtocolFault(f"CLUSTER SLOTS was answered with no list of slots: {fault}") from None
    for host, port in wanted:
        if (host, port) not in found:
            named = ", ".join(f"{name}:{number}" for name, number in sorted(found))
            raise ProtocolFault(f"{host}:{port} is none of the nodes of the layout: {named}")
    return found


def held_only(draw: Draw, held: Held) -> Draw:
    """Of the keys that `draw` gives, those in the slots that are held."""

    def next_key() -> int:
        for _ in range(_TRIES):
            key = draw()
            if held[crc_hqx(b"quorate-bench:%015d" % key, 0) % _SLOT_COUNT]:
                break
        return key

    return next_key


def _slots(target: Target) -> list[Any]:
    with socket.create_connection(target, CONNECT_SECONDS) as connection:
        connection.sendall(_ASK)
        data = b""
        while (read := read_reply(data, 0)) is None or read[1] > len(data):
            came = connection.recv(_READ_BYTES)
            if not came:
                raise ProtocolFault("CLUSTER SLOTS was not answered")
            data += came
    reply, _ = read
    if not isinstance(reply, list) or not reply:
        raise ProtocolFault(f"CLUSTER SLOTS was answered with {reply!r}")
    return reply
