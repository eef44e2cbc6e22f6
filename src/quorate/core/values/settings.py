# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's settings as the core needs them; `config.Config` explains each."""

from __future__ import annotations

from typing import Final

import msgspec

SLICE_MS: Final = 60_000
"""`Settings.slice_ms` of the product."""
NODE_ID_MAX: Final = (1 << 48) - 1
MEMBERS_MAX: Final = 1000
"""Besides this node."""
REPLICATION_MAX: Final = 64
FOUNDERS_MAX: Final = 64
"""That find each other; a longer list has to be given."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a node was started with."""

    url: str
    advertise_client: str
    """Where clients reach it; empty: at `url`."""
    node_id: int
    """48 bits, drawn once for a data directory."""
    version: str
    level: int
    """The highest feature level that this release knows (`Layout.level`)."""
    cluster: str
    nodes: tuple[str, ...]
    """As given; may lack `url`, may be empty."""
    discover: tuple[str, ...]
    """Where others are looked for."""
    expect: int
    """How many nodes are to found the cluster, this one among them; 0: those that `nodes` says."""
    replication: int
    w: int
    r: int
    timeout_ms: int
    write_wait_ms: int
    heartbeat_ms: int
    down_after: int
    max_clock_skew_ms: int
    hint_bytes_max: int
    inflight_max: int
    inflight_bytes_max: int
    value_bytes_max: int
    key_bytes_max: int
    durability: str
    """`sync`, or `os`: then a power cut puts the disk back as it was before."""
    old_disk: str
    """`refuse` or `refill` one that was put back as it was before; or `accept` its copies."""
    zone: str
    weight: int
    grow_after_ms: int
    """How long after the last node joined copies are given to those that did."""
    repair_rate: int
    """Bytes a second that are spent on what replicas differ in; 0 for none."""
    slice_ms: int
    """Of stamp time (`core.digests`). All nodes have the same, and keep boundaries on disk as
    numbers of slices: it is no setting of the product, but of tests that cannot wait for minutes.
    """

    @property
    def is_seeking(self) -> bool:
        """Whether it founds nothing by a list, but looks for a cluster, or for who founds one."""
        return bool(self.discover) and not self.nodes

    @property
    def why_no_layout(self) -> str:
        """What to say while it has none."""
        if self.expect:
            return f"a new cluster: {self.expect} nodes that expect as many have yet to agree on it"
        if self.is_seeking:
            return "no cluster was found yet, by -discover"
        return "the cluster's layout is not known yet"


def majority(n: int) -> int:
    """How many of `n` are a majority: any two sets of as many have one in common. It is what W and
    R are unless they are given."""
    return n // 2 + 1
