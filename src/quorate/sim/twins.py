# SPDX-License-Identifier: GPL-3.0-or-later
"""A second process with the identity of a machine: its URL, its node id, a copy of its disk.

This is what comes of a data directory, virtual machine or container that was copied, when both are
started. Whoever dials the URL reaches the original, unless `SimCluster.leads` says otherwise.
Checkers do not watch it: what it does to its own disk breaks no promise.
"""

from __future__ import annotations

from quorate.sim.cluster import SimCluster
from quorate.sim.machine import Machine


def twin_of(cluster: SimCluster, index: int) -> Machine:
    """The twin of machine `index`, running."""
    original = cluster.machines[index]
    cluster.recorder.fault(original.name, "twin")
    # Each draws for itself.
    name = f"{original.name}t{cluster.recorder.faults['twin']}"
    disk = original.disk.image()
    twin = Machine(cluster.world, cluster.recorder, original.settings, cluster, disk, name=name)
    twin.clock.offset_ms = original.clock.offset_ms
    twin.start()
    return twin
