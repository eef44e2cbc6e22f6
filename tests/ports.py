# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports for tests: each is one test's until all were used.

What a system gives out on request (port 0) it also takes for outgoing connections, of any process,
between the moment that a test learns the number and the moment that a server listens. These lie
below that range, and each worker of a parallel run has its own.
"""

from __future__ import annotations

import os
from itertools import cycle

from quorate.cli.processes import busy_ports

_FIRST = 16_000
_EACH = 1_000
_WORKERS = 16

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _WORKERS
_start = _FIRST + _worker * _EACH
_ports = cycle(range(_start, _start + _EACH))


def free_ports(count: int) -> list[int]:
    """Consecutive ports of loopback that nothing uses now."""
    found: list[int] = []
    for _ in range(_EACH):
        if len(found) == count:
            return found
        port = next(_ports)
        follows = not found or port == found[-1] + 1
        found = [*found, port] if follows and not busy_ports([port]) else []
    raise AssertionError(f"no {count} free ports in a row from {_start} to {_start + _EACH - 1}")


def free_port() -> int:
    """One of them."""
    (port,) = free_ports(1)
    return port
