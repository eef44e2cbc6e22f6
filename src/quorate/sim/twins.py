# SPDX-License-Identifier: GPL-3.0-or-later
"""A second process with the identity of a machine: its URL, its node id, a copy of its disk.

So it is where a data directory, a virtual machine or a container was copied and both were started.
Whoever dials the URL reaches the original, unless `lead` has the address lead to the twin. It is
none of the cluster's machines: observers do not see what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quorate.core.values.events import Effects, Event, Put, Waiter
from quorate.host.system import Dialled, Timer
from quorate.sim.cluster import Handle, SimCluster
from quorate.sim.machine import Machine


class Twin:
    """The twin of machine `index`, running."""

    def __init__(self, cluster: SimCluster, index: int) -> None:
        self._cluster = cluster
        original = cluster.machines[index]
        cluster.journal.fault(original.name, "twin")
        # Each draws for itself.
        name = f"{original.name}t{cluster.faults['twin']}"
        disk = original.disk.image()
        self.machine = Machine(
            cluster.world, cluster.journal, original.settings, self, disk, name=name
        )
        self.machine.clock.offset_ms = original.clock.offset_ms
        self.machine.start()

    def ask(self, make: Callable[[Waiter], Event]) -> Handle:
        """Give it the request that `make` builds."""
        handle = Handle(self._cluster.world)
        self.machine.receive(make(handle))
        return handle

    def put(self, key: bytes, value: bytes | None, *, w: int = 0) -> Handle:
        """Write through it."""
        return self.ask(lambda waiter: Put(waiter, key, value, w=w))

    def lead(self, *sources: int) -> None:
        """Have these reach the twin where they dial the URL."""
        for source in sources:
            self._cluster.lead(self._cluster.machines[source], self.machine)

    def stop(self) -> None:
        """End it for good, if it has not ended by itself."""
        self.machine.crash()

    # --- what its machine asks for (`machine.Cluster`) ---------------------------------------

    def dial(self, machine: Machine, url: str, connection: Dialled) -> Timer:
        """Part of `machine.Cluster`."""
        return self._cluster.dial(machine, url, connection)

    def on_step(self, machine: Machine, events: Sequence[Event], effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        self._cluster.journal.step(machine.name, events, effects)

    def on_broken(self, machine: Machine, error: BaseException) -> None:
        """Part of `machine.Cluster`."""
        self._cluster.on_broken(machine, error)
