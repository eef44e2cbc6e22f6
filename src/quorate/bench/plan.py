# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be measured: plain data, the same in JSON; and loads with a name.

Each of those sets some numbers of a plan, which whoever asks may set otherwise. The YCSB ones have
the mixes, distributions and 1,000-byte records of Cooper et al., "Benchmarking Cloud Serving
Systems with YCSB", 2010. E, short scans, is left out: it is not about single keys.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

Distribution = Literal["uniform", "zipfian", "latest", "once"]
WriteKind = Literal["update", "insert", "modify"]


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do to whom."""

    targets: tuple[tuple[str, int], ...]
    """Hosts and ports."""
    tls: bool = False
    """Whether they are reached through TLS."""
    ca: str = ""
    """A file with the CA by which they are known then; empty: the system's count."""
    protocol: str = "resp"
    """`resp` or `http`; in a result, whatever was measured."""
    scenario: str = ""
    """The name of where the numbers below came from; it means nothing here."""
    connections: int = 64
    """Altogether, spread evenly over workers and targets."""
    workers: int = 1
    """Processes."""
    pipeline: int = 1
    """Requests that a connection has under way."""
    keys: int = 100_000
    value_bytes: int = 64
    reads: float = 0.5
    """Share of reads, 0 to 1."""
    writes: WriteKind = "update"
    """What else there is: a write of a key that is there, of a new one, or of the key that was just
    read (read-modify-write)."""
    distribution: Distribution = "uniform"
    route: bool = False
    """Whether each key is asked at a node that holds it (Redis Cluster's slots)."""
    wait: int = 0
    """Replicas that a WAIT after each SET asks for; 0: no WAIT."""
    w: int = 0
    """Replicas that must hold a write; 0: the cluster's own number. Only HTTP can ask for it."""
    r: int = 0
    """Replicas that must answer a read; 0: the cluster's own number. Only HTTP can ask for it."""
    rate: float = 0.0
    """Requests per second altogether (open loop); 0: as many as are answered (closed loop)."""
    seconds: float = 5.0
    preload: bool = True
    """Whether all keys are written first, uncounted, if any is to be read."""
    timeline_ms: int = 0
    """Width of the slices of time that the result tells of; 0: none."""


_YCSB: Final[dict[str, Any]] = {"distribution": "zipfian", "value_bytes": 1000}

SCENARIOS: Final[dict[str, dict[str, Any]]] = {
    "write-heavy": {"reads": 0.05},
    "read-heavy": {"reads": 0.95, "keys": 10_000},
    "cold": {"reads": 0.95, "keys": 1_000_000, "distribution": "once"},
    "many-keys": {"keys": 10_000_000},
    "large-64k": {"value_bytes": 64 << 10, "keys": 2000, "connections": 16},
    "large-1m": {"value_bytes": 1 << 20, "keys": 200, "connections": 8},
    "ycsb-a": {**_YCSB, "reads": 0.5},
    "ycsb-b": {**_YCSB, "reads": 0.95},
    "ycsb-c": {**_YCSB, "reads": 1.0},
    "ycsb-d": {**_YCSB, "reads": 0.95, "writes": "insert", "distribution": "latest"},
    "ycsb-f": {**_YCSB, "reads": 0.5, "writes": "modify"},
}


def with_scenario(plan: LoadPlan, name: str) -> LoadPlan:
    """`plan` as the scenario has it. KeyError if there is none of this name."""
    return msgspec.structs.replace(plan, scenario=name, **SCENARIOS[name])
