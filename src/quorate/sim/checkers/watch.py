# SPDX-License-Identifier: GPL-3.0-or-later
"""All judges of steps, behind one observer: each step is taken apart once, for all of them.

A step touches something if it stores, sends records or answers. Most do not, as most of the time
there are only heartbeats: after such a step only the node's own counts are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quorate.core.exchanges.hints import peer_of
from quorate.core.horizons import beginning
from quorate.core.node import CEILING_META, Node
from quorate.core.topology.layout import Layout
from quorate.core.values.events import Batch, Effects, PutResult, UpdateResult, Waiter
from quorate.core.values.messages import AcceptRows, Mutate, ReadAnswer, RowsVoted
from quorate.core.values.record import Record
from quorate.core.values.slots import key_of, partition_of
from quorate.core.values.stored import hint_of
from quorate.core.values.versions import link_of
from quorate.core.votes import decode_votes
from quorate.errors import Corrupt, QuorateError
from quorate.sim.disk import Disk
from quorate.sim.history import Violation
from quorate.sim.layouts import Holders, rows_of
from quorate.sim.machine import Machine, machine_of


class Gift:
    """A record that a node hands to a replica: itself, a peer, or a peer by way of a hint."""

    __slots__ = ("record", "row", "url")

    def __init__(self, url: str, row: bytes, record: Record) -> None:
        self.url = url
        """Of the replica."""
        self.row = row
        self.record = record

    def __repr__(self) -> str:
        return f"{self.record} of row {self.row!r} for {self.url}"


class Step(NamedTuple):
    """What one step of a node touched."""

    machine: Machine
    node: Node | None
    """None if the step's batch ended the process."""
    stored: list[Gift]
    sent: list[Gift]
    hinted: list[tuple[bytes, Gift]]
    """By the name under which the hint is kept."""
    given: list[Gift]
    """All three of these."""
    proposed: list[Gift]
    """Writes that it asked others to move: under which stamp."""
    collected: list[bytes]
    """Rows that were deleted one by one."""
    forgotten: list[bytes]
    """Names of hints that were deleted one by one."""
    dropped_hints: list[tuple[bytes, bytes]]
    """Ranges [start, end) of names whose hints were deleted before others were kept."""
    acked: list[tuple[Waiter, PutResult | UpdateResult]]
    """Who was told of a write that was done, and what."""
    refused: list[tuple[Waiter, QuorateError]]
    """Who was answered with which error."""
    told: list[tuple[int, ReadAnswer]]
    """To whom, and what."""
    voted: list[tuple[int, RowsVoted]]
    """The same of votes."""
    ceiling: int
    """Of the clock, as the step stored it; 0 if it did not."""


def _wrote(result: UpdateResult) -> bool:
    return result.after is not None and not result.is_repeated


class Machines:
    """All machines of a world."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.by_url = {machine.url: machine for machine in machines}
        self._urls: dict[int, str] = {}
        """By what nodes call them: those looked for."""
        self._rows: dict[tuple[int, bytes], list[Holders]] = {}

    def rows(self, layout: Layout, row: bytes) -> list[Holders]:
        """Who holds a row, and who shall. Kept by epoch, as its table never changes (I17) and most
        rows are asked for again and again."""
        place = layout.epoch, row
        rows = self._rows.get(place)
        if rows is None:
            rows = self._rows[place] = rows_of(layout, row)
        return rows

    def replicas(self, layout: Layout, row: bytes) -> list[str]:
        """The URLs of all of them but those whose disk is lost."""
        rows = self.rows(layout, row)
        return list(
            {self.url_of(id): None for each in rows for id in each.ids if id not in each.lost}
        )

    def url_of(self, peer: int) -> str:
        """Of the machine that nodes call, or once called, so."""
        url = self._urls.get(peer)
        if url is None:
            url = self._urls[peer] = machine_of(self.by_url.values(), peer).url
        return url

    def hinted(self, name: bytes, blob: bytes) -> Gift:
        """What a hint is, and for whom."""
        hint = hint_of(blob)
        return Gift(self.url_of(peer_of(name)), hint.row, hint.record)


class Place:
    """Where a machine has, or had, its copy of a row."""

    __slots__ = ("_harms", "_lost", "machine")

    def __init__(self, machine: Machine, row: bytes) -> None:
        """Where it has its copy now."""
        self.machine = machine
        self._lost = len(machine.lost_disks)
        self._harms = _harms(machine.disk, row)
        """How often the copy had been damaged or given up by then."""

    def is_lost(self) -> bool:
        """Whether the machine lost that disk."""
        return len(self.machine.lost_disks) > self._lost

    def may_hold(self, row: bytes, version: bytes) -> bool:
        """Whether the machine holds a version or a higher one durably, now or on a disk that it
        lost since. Also if its copy was damaged since, as something older may then have taken its
        place; or if it was given up since, as a layout said, which others have pulled."""
        disks = [*self.machine.lost_disks[self._lost :], self.machine.disk]
        if sum(_harms(disk, row) for disk in disks) > self._harms:
            return True
        slice_ms = self.machine.settings.slice_ms
        return any(holds(disk, row, version, slice_ms) for disk in disks)


def _harms(disk: Disk, row: bytes) -> int:
    return disk.rots.get(row, 0) + disk.drops(row)


def holds(disk: Disk, row: bytes, version: bytes, slice_ms: int) -> bool:
    """Whether a power cut would leave a version or a higher one, or something damaged."""
    try:
        record = disk.durable_remembered(row)
    except Corrupt:
        return True
    if record is not None and record.version >= version:
        return True
    # Garbage below the horizon counts as kept where nothing is held.
    _, horizon = disk.fence(partition_of(row))
    return record is None and version < beginning(horizon, slice_ms)


def _moved_alone(machine: Machine, batch: Batch | None) -> list[Gift]:
    """What a node proposes for its own writes, and votes for itself: perhaps nobody else is there
    to be asked yet."""
    tie = machine.process.to_bytes(6, "big")
    return [
        Gift(machine.url, row, each.record)
        for row, blob in (() if batch is None else batch.votes)
        for each in (decode_votes(blob).instances if blob else ())
        if each.record is not None
        and not each.is_resolved
        and not link_of(each.record.version)
        and each.record.version.endswith(tie)
    ]


class Judge:
    """One question about steps."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def look(self, step: Step) -> None:
        """Judge a step that touched something."""

    def measure(self, node: Node) -> None:
        """Judge what a node counts after any step: cheap on purpose."""

    def blame(self, invariant: str, told: str, row: bytes | None = None) -> None:
        """Note what is wrong, and with which row."""
        self.found.append(Violation(invariant, b"" if row is None else key_of(row), told))


class Watch:
    """An observer that has every judge look at each step."""

    def __init__(
        self, machines: Machines, judges: Sequence[Judge], measuring: Sequence[Judge]
    ) -> None:
        """`measuring`: those of the judges that measure nodes too."""
        self._machines = machines
        self._judges = judges
        self._measuring = measuring

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Measure the node, and have all look at a step that touched anything."""
        if machine.is_running:
            node = machine.node
            for each in self._measuring:
                each.measure(node)
        sent: list[Gift] = []
        told: list[tuple[int, ReadAnswer]] = []
        voted: list[tuple[int, RowsVoted]] = []
        proposed = _moved_alone(machine, effects.batch)
        for peer, messages in effects.sends.items():
            for message in messages:
                if type(message) is Mutate:
                    url = self._machines.url_of(peer)
                    sent += [Gift(url, row, record) for row, record in message.items]
                elif type(message) is ReadAnswer:
                    told.append((peer, message))
                elif type(message) is RowsVoted:
                    voted.append((peer, message))
                elif type(message) is AcceptRows:
                    proposed += self._moved(peer, message)
        is_said = sent or proposed or told or voted or effects.answers
        if is_said or effects.batch is not None:
            step = self._taken_apart(machine, effects, sent, told, proposed, voted=voted)
            for judge in self._judges:
                judge.look(step)

    def _moved(self, peer: int, message: AcceptRows) -> list[Gift]:
        url = self._machines.url_of(peer)
        return [
            Gift(url, row, record)
            for row, _, _, record in message.items
            if not link_of(record.version)
        ]

    def violations(self) -> list[Violation]:
        """What any of them found."""
        return [violation for judge in self._judges for violation in judge.found]

    def _taken_apart(
        self,
        machine: Machine,
        effects: Effects,
        sent: list[Gift],
        told: list[tuple[int, ReadAnswer]],
        proposed: list[Gift],
        *,
        voted: list[tuple[int, RowsVoted]],
    ) -> Step:
        batch = effects.batch
        stored: list[Gift] = []
        hinted: list[tuple[bytes, Gift]] = []
        forgotten: list[bytes] = []
        collected: list[bytes] = []
        ceiling = 0
        if batch is not None:
            ceiling = int.from_bytes(dict(batch.meta).get(CEILING_META) or b"", "big")
            stored = [
                Gift(machine.url, row, record)
                for row, record in batch.records
                if record is not None
            ]
            collected = [row for row, record in batch.records if record is None]
            for name, blob in batch.hints:
                if blob is None:
                    forgotten.append(name)
                else:
                    hinted.append((name, self._machines.hinted(name, blob)))
        return Step(
            machine,
            machine.node if machine.is_running else None,
            stored=stored,
            sent=sent,
            hinted=hinted,
            given=[*stored, *sent, *[hint for _, hint in hinted]],
            proposed=proposed,
            collected=collected,
            forgotten=forgotten,
            dropped_hints=[] if batch is None else batch.dropped_hints,
            acked=[
                (waiter, result)
                for waiter, result in effects.answers
                if type(result) is PutResult or (type(result) is UpdateResult and _wrote(result))
            ],
            refused=[
                (waiter, result)
                for waiter, result in effects.answers
                if isinstance(result, QuorateError)
            ],
            told=told,
            voted=voted,
            ceiling=ceiling,
        )
