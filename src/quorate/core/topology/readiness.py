# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether clients should use this node, or go elsewhere and why."""

from __future__ import annotations

from quorate.core.topology.quorum import lacking, needed_of
from quorate.core.topology.topology import Topology
from quorate.core.values.events import StorageState


def why_not_ready(topology: Topology | None, trouble: StorageState, *, is_stopping: bool) -> str:
    """Why clients should go elsewhere, one line; empty if they should not."""
    if is_stopping:
        return "this node is stopping"
    if topology is None:
        return "the cluster's layout is not known yet"
    if trouble.code:
        return trouble.reason
    for replicas in topology.distinct:
        live = replicas.reachable()
        groups = replicas.readers + replicas.writers
        if lacking(live, groups):
            needed = needed_of(groups)
            return f"some keys have {live.bit_count()} reachable replicas and need {needed}"
    return ""
