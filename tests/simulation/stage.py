# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a scenario is played, and what of it is written down."""

from __future__ import annotations

from typing import Any

from quorate.core.values.record import encode_stored
from quorate.core.values.slots import row_of
from quorate.errors import Outcome, QuorumUnreachable
from quorate.sim.cluster import SimCluster
from quorate.sim.trace import Trace
from tests.simulation import asking
from tests.simulation.asking import Handle


class Stage:
    """A cluster, all linked and with nothing under way, and what is written down from then on."""

    def __init__(
        self, count: int = 3, *, seed: int = 1, hidden: tuple[str, ...] = (), **settings: Any
    ) -> None:
        """`hidden`: lines with one of these in them are left out."""
        self.lines: list[str] = []
        self._hidden = hidden
        self.cluster = SimCluster(seed, count, trace=Trace(self._write), **settings)
        self.cluster.run(50)
        self.lines.clear()

    def _write(self, line: str) -> None:
        if not any(part in line for part in self._hidden):
            self.lines.append(line.rstrip())

    def tell(self, told: str) -> None:
        """Say in plain words what the next lines are."""
        self.lines += ["", f"# {told}"]

    def given(self, key: bytes, value: bytes) -> None:
        """All replicas have this before the story begins."""
        self.put(0, key, value)
        self.lines.clear()

    def put(self, index: int, key: bytes, value: bytes | None) -> None:
        """Write, which must succeed, and let the other replicas get it."""
        asking.must_put(self.cluster, index, key, value)
        self.cluster.run(20)

    def assert_failed(self, handle: Handle, outcome: Outcome | None) -> None:
        """The request ends for want of replicas, and says honestly what became of it."""
        asking.finish(self.cluster, handle)
        assert handle.of(QuorumUnreachable).outcome is outcome

    def assert_read(self, index: int, key: bytes, value: bytes | None) -> None:
        """A reader there gets this."""
        assert asking.value(self.cluster, index, key) == value

    def assert_converged(self, **values: bytes) -> None:
        """All replicas of each key have the same bytes on disk, and these are the value."""
        for name, value in values.items():
            key = name.encode()
            row = row_of(key)
            held = []
            for index in self.cluster.replicas(key):
                record = self.cluster.machines[index].disk.durable(row)
                assert record is not None, f"n{index} has nothing of {name}"
                assert record.value == value
                held.append(encode_stored(row, record))
            assert len(set(held)) == 1, f"replicas of {name} differ"

    def until_hints_are_gone(self) -> None:
        """Wait until no running node keeps a hint, and that is on the disks."""
        machines = [machine for machine in self.cluster.machines if machine.is_running]
        self.cluster.run_until(lambda: not any(m.node.hints.total for m in machines))
        self.cluster.run(20)

    def says(self, index: int) -> None:
        """Write down what a node says that its tombstones wait for."""
        status = self.cluster.machines[index].node.status()
        self.lines.append(f"# n{index} says: {status.tombstones_wait or 'nothing'}")

    def until_nobody_holds(self, key: bytes) -> None:
        """Wait until no disk has a record of a key, not even a tombstone."""
        row = row_of(key)
        disks = [machine.disk for machine in self.cluster.machines]
        self.cluster.run_until(lambda: not any(disk.durable(row) for disk in disks))
