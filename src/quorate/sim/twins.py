# SPDX-License-Identifier: GPL-3.0-or-later
"""A second process with the identity of a machine: its URL, its node id, a copy of its disk.

So it is where a data directory, a virtual machine or a container was copied and both were started.
Whoever dials the URL reaches the original, unless `lead` has the address lead to the twin. It is
none of the cluster's machines: observers do not see what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quorate.core.node import Node
from quorate.core.values.events import Effects, Event, Put, Waiter
from quorate.core.values.messages import Frame
from quorate.sim.cluster import Handle, SimCluster
from quorate.sim.machine import Machine
from quorate.sim.network import Link


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
        self._links: dict[str, Link] = {}
        """By the URL of the target."""
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
            link = self._cluster.link(self._cluster.machines[source].url, self.machine.url)
            link.lead_to(self.machine)

    def stop(self) -> None:
        """End it for good, if it has not ended by itself."""
        self.machine.crash()
        self._hang_up()

    def _hang_up(self) -> None:
        for link in self._links.values():
            link.hang_up()
            link.rivals.remove(link)
        self._links.clear()

    def _link(self, url: str) -> Link:
        link = self._links.get(url)
        if link is None:
            cluster = self._cluster
            own = cluster.link(self.machine.url, url)
            link = Link(
                cluster.world,
                cluster.journal,
                self.machine,
                cluster.machine_at(url),
                own.latency_ms,
            )
            link.back, link.rivals = own.back, own.rivals
            link.rivals.append(link)
            self._links[url] = link
        return link

    # --- what its machine asks for (`machine.Cluster`) ---------------------------------------

    def tell(self, machine: Machine, effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        del machine
        for waiter, result in effects.answers:
            waiter.done(result)
        for url in effects.peers or ():
            self._link(url).dial()

    def on_step(self, machine: Machine, events: Sequence[Event], effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        self._cluster.journal.step(machine.name, events, effects)

    def send(self, machine: Machine, node: Node, effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        del machine
        epoch, clock = node.frame_header()
        for url, messages in effects.sends.items():
            self._links[url].send(Frame(epoch, clock, messages))

    def on_end(self, machine: Machine, reason: str) -> None:
        """Part of `machine.Cluster`."""
        del machine, reason
        self._hang_up()

    def on_broken(self, machine: Machine, error: BaseException) -> None:
        """Part of `machine.Cluster`."""
        self._cluster.on_broken(machine, error)
