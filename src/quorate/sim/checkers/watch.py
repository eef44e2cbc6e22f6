# SPDX-License-Identifier: GPL-3.0-or-later
"""Everyone who judges steps, behind one observer: a step is taken apart once, for all of them.

What a step touched is what it stored, what it sent, and what it answered. Most steps touch nothing,
as most of a world's time is heartbeats: these are only measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from quorate.core.exchanges.hints import PREFIX_BYTES, prefix_of
from quorate.core.node import Node
from quorate.core.topology.layout import Layout
from quorate.core.values.events import Effects, PutResult
from quorate.core.values.messages import Mutate, ReadAnswer, StoredHint
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of
from quorate.errors import Corrupt
from quorate.sim.checkers.violation import Violation
from quorate.sim.disk import Disk
from quorate.sim.machine import Machine

_decode: Final = msgspec.msgpack.Decoder(StoredHint).decode


class Given:
    """A record that a node hands to a replica: itself, a peer, or a peer by way of a hint."""

    __slots__ = ("record", "row", "url")

    def __init__(self, url: str, row: bytes, record: Record) -> None:
        self.url = url
        """Of the replica."""
        self.row = row
        self.record = record

    def __repr__(self) -> str:
        return f"{self.record} of row {self.row!r} for {self.url}"


class Step:
    """What one step of a node touched."""

    __slots__ = (
        "acked",
        "forgotten",
        "given",
        "hinted",
        "machine",
        "node",
        "sent",
        "stored",
        "told",
    )

    def __init__(
        self,
        machine: Machine,
        node: Node | None,
        *,
        stored: list[Given],
        sent: list[Given],
        hinted: list[tuple[bytes, Given]],
        forgotten: list[bytes],
        acked: list[PutResult],
        told: list[tuple[str, ReadAnswer]],
    ) -> None:
        self.machine = machine
        self.node = node
        """None if the step's batch ended the process."""
        self.stored = stored
        self.sent = sent
        self.hinted = hinted
        """By the name under which the hint is kept."""
        self.given = [*stored, *sent, *[hint for _, hint in hinted]]
        """All three of these."""
        self.forgotten = forgotten
        """Names of hints that were deleted."""
        self.acked = acked
        self.told = told
        """To whom, and what."""


class Machines:
    """All machines of a world."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.by_url = {machine.url: machine for machine in machines}
        self.url_of = {prefix_of(url): url for url in self.by_url}
        """By the prefix of their hints' names."""

    def replicas(self, layout: Layout, row: bytes) -> list[Machine]:
        """Those that hold a row."""
        return [self.by_url[url] for url in layout.replicas(partition_of(row))]

    def hinted(self, name: bytes, blob: bytes) -> Given:
        """What a hint is, and for whom."""
        hint = _decode(blob)
        return Given(self.url_of[name[:PREFIX_BYTES]], hint.row, hint.record)


class Place:
    """Where a machine has, or had, its copy of a row."""

    __slots__ = ("_lost", "_rots", "machine")

    def __init__(self, machine: Machine, row: bytes) -> None:
        """Where it has it now."""
        self.machine = machine
        self._lost = len(machine.lost_disks)
        self._rots = machine.disk.rots.get(row, 0)
        """How often the copy had been damaged by then."""

    def may_hold(self, row: bytes, version: bytes) -> bool:
        """Whether the machine durably holds a version or a higher one, or did on a disk that it
        lost since; or the copy was damaged since then: something older may have taken its place.
        """
        disks = [*self.machine.lost_disks[self._lost :], self.machine.disk]
        if sum(disk.rots.get(row, 0) for disk in disks) > self._rots:
            return True
        return any(_holds(disk, row, version) for disk in disks)


def _holds(disk: Disk, row: bytes, version: bytes) -> bool:
    """Whether a power cut would leave a version or a higher one; or something is damaged."""
    try:
        record = disk.durable(row)
    except Corrupt:
        return True
    return record is not None and record.version >= version


class Judge(Protocol):
    """One question about steps."""

    found: list[Violation]

    def look(self, step: Step) -> None:
        """Judge a step."""


class Measure(Protocol):
    """One question about what a node counts; cheap, as it is asked after every step."""

    found: list[Violation]

    def measure(self, node: Node) -> None:
        """Judge a node after a step."""


class Watch:
    """An observer that has every judge look at each step."""

    def __init__(
        self, machines: Machines, measures: Sequence[Measure], judges: Sequence[Judge]
    ) -> None:
        self._machines = machines
        self._measures = measures
        self._judges = judges

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Measure the node, and have all look at a step that touched anything."""
        if machine.is_running:
            node = machine.node
            for each in self._measures:
                each.measure(node)
        sent: list[Given] = []
        told: list[tuple[str, ReadAnswer]] = []
        for url, messages in effects.sends.items():
            for message in messages:
                if type(message) is Mutate:
                    sent += [Given(url, row, record) for row, record in message.items]
                elif type(message) is ReadAnswer:
                    told.append((url, message))
        if sent or told or effects.answers or effects.batch is not None:
            step = self._taken_apart(machine, effects, sent, told)
            for judge in self._judges:
                judge.look(step)

    def violations(self) -> list[Violation]:
        """What any of them found."""
        measured = [violation for measure in self._measures for violation in measure.found]
        return measured + [violation for judge in self._judges for violation in judge.found]

    def _taken_apart(
        self,
        machine: Machine,
        effects: Effects,
        sent: list[Given],
        told: list[tuple[str, ReadAnswer]],
    ) -> Step:
        batch = effects.batch
        stored: list[Given] = []
        hinted: list[tuple[bytes, Given]] = []
        forgotten: list[bytes] = []
        if batch is not None:
            stored = [Given(machine.url, row, record) for row, record in batch.records]
            for name, blob in batch.hints:
                if blob is None:
                    forgotten.append(name)
                else:
                    hinted.append((name, self._machines.hinted(name, blob)))
        node = machine.node if machine.is_running else None
        acked = [result for _, result in effects.answers if type(result) is PutResult]
        return Step(
            machine,
            node,
            stored=stored,
            sent=sent,
            hinted=hinted,
            forgotten=forgotten,
            acked=acked,
            told=told,
        )
