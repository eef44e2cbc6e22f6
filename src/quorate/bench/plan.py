# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be measured: plain data, the same in JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

Distribution = Literal["uniform", "zipfian", "latest", "once"]
Writes = Literal["update", "insert", "modify"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do to whom."""

    targets: tuple[tuple[str, int], ...]
    """Hosts and ports."""
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
    writes: Writes = "update"
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

    @property
    def needs_keys(self) -> bool:
        """Whether keys are read, so that they should be there."""
        return self.reads > 0 or self.writes == "modify"
