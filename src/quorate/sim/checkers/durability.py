# SPDX-License-Identifier: GPL-3.0-or-later
"""An acknowledged write is on as many disks as its answer says (I7, P1), and where copies moved,
still on as many (I18).

At the moment of the answer, `acks` distinct replicas hold the record, or a higher one, so that a
power cut would leave it; and of each row of the layout that its coordinator had, as many as the
write needs. Hints do not count, nor does a replica counted twice, nor one that has not synced.

When a layout says that a partition has moved, the same holds of its new row at that moment: of who
gained it because it pulled, of who stayed because it was there. Disks that are lost meanwhile are
counted as if they were not, and a write that as many disks may have had alone is not judged. A disk
that was given up, as somebody takes the place of a dead node, is lost too.
"""

from __future__ import annotations

from typing import NamedTuple

from quorate.core.topology.layout import Layout
from quorate.core.values.events import Put, PutResult, Update, UpdateResult, Waiter
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import chain_of
from quorate.sim.checkers.watch import Judge, Machines, Place, Step
from quorate.sim.layouts import Holders


class _Acked(NamedTuple):
    """The newest version of a row that was acknowledged."""

    version: bytes
    w: int
    """How many acks it asked for; 0 for a majority."""
    least: int
    """How many disks are known to have had it, at least: if as many are lost, it may be gone. Where
    a key has three copies that is two; once it was seen to have moved to five, three."""


class Durability(Judge):
    """Looks at the disks whenever a write is acknowledged, and whenever copies have moved."""

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self._machines = machines
        self._had: dict[str, Layout] = {}
        """By URL: the layout that a node had after its last step."""
        self._seen: dict[int, Layout] = {}
        """By epoch."""
        self._given_up: set[int] = set()
        """The disks that layouts said are lost: nobody asks them, though they may be whole."""
        self._asked: dict[Waiter, tuple[bytes, int]] = {}
        """The row of each write under way, and how many acks it asked for."""
        self._chains: dict[tuple[bytes, bytes], list[bytes]] = {}
        """By row and chain: the versions of it that were handed."""
        self._handed: dict[tuple[bytes, bytes], dict[int, Place]] = {}
        """By row and version, and by what layouts call them: where its replicas had their copies
        when it was first given to one."""
        self._acked: dict[bytes, _Acked] = {}
        """By row."""

    def look(self, step: Step) -> None:
        """Judge the acknowledgements of a step, and the layout that it adopted."""
        url = step.machine.url
        before = self._had.get(url)
        layout = before if step.node is None else step.node.membership.layout
        if layout is None:
            return
        before = before or layout
        for event in step.machine.events:
            if type(event) is Put:
                self._asked[event.waiter] = row_of(event.key), event.w
            elif type(event) is Update:
                self._asked[event.waiter] = row_of(event.key), 0
        for given in step.given:
            self._note(layout, given.row, given.record.version)
        for waiter, result in step.acked:
            asked = self._asked.pop(waiter, None)
            if asked is not None:
                self._judge(step, result, *asked, [before, layout])
        if layout is not before or url not in self._had:
            self._had[url] = layout
            if layout.epoch not in self._seen:
                self._seen[layout.epoch] = layout
                self._given_up.update(layout.lost)
                self._look_at_moved(layout)

    def _note(self, layout: Layout, row: bytes, version: bytes) -> None:
        """When a version is first given to a replica, remember where all of its replicas have their
        copies by then."""
        if (row, version) not in self._handed:
            self._handed[row, version] = {}
            self._chains.setdefault((row, chain_of(version)), []).append(version)
            self._place(layout, row, version)

    def _place(self, layout: Layout, row: bytes, version: bytes) -> dict[int, Place]:
        """The places of a version, with those of this layout's replicas that are new."""
        places = self._handed[row, version]
        for each in self._machines.rows(layout, row):
            for replica in each.ids:
                machine = self._machines.by_url[self._machines.url_of(replica)]
                if replica not in places and replica in machine.names():
                    places[replica] = Place(machine, row)
        return places

    def _version(self, row: bytes, result: PutResult | UpdateResult) -> bytes:
        """What was handed and has what was acknowledged: of several requests that are one proposal,
        the last one's version."""
        if isinstance(result, PutResult):
            return result.version
        assert result.after is not None, "what wrote nothing is not acknowledged"
        wanted = result.after.version
        later = [each for each in self._chains.get((row, chain_of(wanted)), []) if each >= wanted]
        return min(later, default=wanted)

    def _judge(
        self,
        step: Step,
        result: PutResult | UpdateResult,
        row: bytes,
        asked: int,
        layouts: list[Layout],
    ) -> None:
        version = self._version(row, result)
        if (row, version) not in self._handed:
            if isinstance(result, PutResult):
                # What its own copy supersedes is for the others alone, who may get not even hints.
                if not result.superseded:
                    self.blame("I7", f"{result} was answered, and no replica was given it", row)
                return
            # All may hold something newer by now, and were given nothing.
            self._note(layouts[-1], row, version)
        places = self._place(layouts[-1], row, version)
        holders = [each for each, place in places.items() if place.may_hold(row, version)]
        urls = {places[each].machine.url for each in holders}
        w = asked or (0 if isinstance(result, UpdateResult) else step.machine.settings.w)
        is_met = any(self._lacking(layout, row, holders, w) is None for layout in layouts)
        if len(holders) < result.acks or not is_met:
            told = f"{result} is durable on {sorted(urls)} only, when {step.machine.url} answers"
            self.blame("I7", told, row)
        acked = self._acked.get(row)
        if acked is None or acked.version < version:
            rows = [each for layout in layouts for each in self._machines.rows(layout, row)]
            self._acked[row] = _Acked(version, w, w or min([each.majority for each in rows]))

    def _lacking(self, layout: Layout, row: bytes, holders: list[int], w: int) -> Holders | None:
        """A row of the layout of which too few hold what a write of this W wrote."""
        for each in self._machines.rows(layout, row):
            if len(set(holders).intersection(each.ids)) < min(w or each.majority, len(each.ids)):
                return each
        return None

    def _look_at_moved(self, layout: Layout) -> None:
        """Judge a layout of which the one before had copies that moved, if they have."""
        before = self._seen.get(layout.epoch - 1)
        if before is None or layout.moves or layout.members != before.members:
            return
        moved = {partition for partition, shall in before.moves if layout.table[partition] == shall}
        for row, acked in self._acked.items():
            if partition_of(row) not in moved:
                continue
            places = self._place(layout, row, acked.version)
            holders = [
                each
                for each in self._machines.rows(layout, row)[0].ids
                if each not in places or places[each].may_hold(row, acked.version)
            ]
            short = self._lacking(layout, row, holders, acked.w)
            # As many lost disks as it has acks may have been all that had it (P1).
            given_up = self._given_up
            gone = sum([place.is_lost() or each in given_up for each, place in places.items()])
            if short is None:
                most = min([each.majority for each in self._machines.rows(layout, row)])
                self._acked[row] = acked._replace(least=max(acked.least, acked.w or most))
            elif gone < acked.least:
                urls = [self._machines.url_of(each) for each in holders]
                told = f"{acked.version.hex()} was acknowledged, and has moved to {urls} only"
                self.blame("I18", told, row)
