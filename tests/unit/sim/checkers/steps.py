# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps made by hand, on a cluster of three that is healthy and holds nothing."""

from __future__ import annotations

from quorate.core.values.events import Batch, Put, PutResult, Result
from quorate.core.values.messages import ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version
from quorate.sim.checkers.watch import Gift, Step
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster, url_of

KEY = b"k"
STAMP_MAX = (1 << 64) - 1
ROW = row_of(KEY)


def stamp_of_ms(ms: int) -> int:
    """The stamp of a clock that says so many milliseconds since the world began."""
    return EPOCH_MS + ms << 16


def record(ms: int, value: bytes | None = b"v", *, node: int = 0) -> Record:
    """What a node wrote when its clock said so many milliseconds; its first process has its number,
    counted from 1."""
    return Record(pack_version(stamp_of_ms(ms), node + 1), value)


def given(to: int, what: Record, row: bytes = ROW) -> Gift:
    """A record for a node."""
    return Gift(url_of(to), row, what)


class Nobody:
    """Does not care what is answered (`events.Waiter`)."""

    def done(self, result: Result) -> None:
        """Forget it."""


class Stage:
    """The cluster, and steps of its nodes."""

    def __init__(self, count: int = 3) -> None:
        self.cluster = SimCluster(0, count)
        self.machines = self.cluster.machines
        for index, machine in enumerate(self.machines):
            machine.process = index + 1

    def keep(self, node: int, what: Record, *, is_durable: bool = True) -> None:
        """Have a disk hold a record."""
        disk = self.machines[node].disk
        disk.write(Batch([(ROW, what)], [], []))
        if is_durable:
            disk.sync()

    def step(
        self,
        node: int,
        *,
        stored: list[Record] | None = None,
        sent: list[Gift] | None = None,
        hinted: list[tuple[bytes, Gift]] | None = None,
        forgotten: list[bytes] | None = None,
        acked: list[PutResult] | None = None,
        told: list[tuple[int, ReadAnswer]] | None = None,
        ceiling: int = STAMP_MAX,
    ) -> Step:
        """A step that touched this."""
        machine = self.machines[node]
        kept = [given(node, each) for each in stored or []]
        waiters = [(Nobody(), each) for each in acked or []]
        if waiters:
            machine.events = [Put(waiter, KEY, b"v", w=1) for waiter, _ in waiters]
        return Step(
            machine,
            machine.node if machine.is_running else None,
            stored=kept,
            sent=sent or [],
            hinted=hinted or [],
            given=[*kept, *(sent or []), *(hint for _, hint in hinted or [])],
            proposed=[],
            collected=[],
            forgotten=forgotten or [],
            dropped_hints=[],
            acked=[*waiters],
            refused=[],
            told=told or [],
            voted=[],
            ceiling=ceiling,
        )
