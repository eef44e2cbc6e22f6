# SPDX-License-Identifier: GPL-3.0-or-later
"""Every setting of a node: its unit, its default, and why.

Defaults < TOML file < environment (`QUORATE_` + name) < flags; each is parsed once, and all faults
are reported together. What must match on every node (`cluster`, `replication`) is compared in the
handshake of links.
"""

from __future__ import annotations

from typing import Final

import msgspec

KEY_BYTES_MAX: Final = 1024
"""Fixed: rows, frames and URLs are sized for it."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A node's settings, valid once `load` returned it. Field names are flag names, `_ms` aside."""

    port: int = 8000
    listen: str = ""
    """`host:port`; empty: `port` on loopback when every node is on loopback, else on all."""
    advertise: str = ""
    """URL that others reach this node at; empty: worked out from `listen` and `nodes`."""
    nodes: tuple[str, ...] = ()
    """URLs of the cluster's nodes, normalised; empty: this node alone."""
    cluster: str = "quorate"
    """Nodes of another cluster name are refused, so that two clusters never merge by mistake."""
    replication: int = 3
    w: int = 0
    """Replicas that must hold a write; 0: a majority of the replicas there are."""
    r: int = 0
    """Replicas that must answer a read; 0: a majority likewise."""
    timeout_ms: int = 5_000
    """How long a request may take once replicas were asked."""
    write_wait_ms: int = 3_000
    """How long a write waits for enough live replicas before it is refused."""
    heartbeat_ms: int = 2_000
    down_after: int = 3
    """Heartbeats missed in a row that mark a node down."""
    max_clock_skew_ms: int = 1_000
    """A peer's stamp further ahead of our wall clock than this is refused."""
    cache_size: int = 100_000
    """Entries of the read cache; 0 switches it off."""
    cache_bytes: int = 64 << 20
    data: str = ""
    """Directory; empty: `./quorate-data/<port>`."""
    engine: str = "rocksdb"
    durability: str = "sync"
    """`sync`: an acknowledged write is on disk; `os`: it is with the operating system, and survives
    the process but not a power cut."""
    value_bytes_max: int = 8 << 20
    hint_bytes_max: int = 256 << 20
    """Kept for all unreachable replicas together; the oldest are dropped, and repair covers."""
    connections_max: int = 10_000
    inflight_max: int = 50_000
    """Requests begun and not finished; more are refused as overloaded before anything is done."""
    inflight_bytes_max: int = 256 << 20
    allow_flush: bool = False
    """Whether FLUSHDB is obeyed."""
    loop: str = "auto"
    """`uvloop`, `asyncio`, or `auto`: uvloop where it exists."""
    log_level: str = "info"
    log_format: str = "auto"
    """`json`, `text`, or `auto`: text on a terminal."""
