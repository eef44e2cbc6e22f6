# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the coordinator of reads, and of what replicas answer it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from quorate.core.exchanges import scans
from quorate.core.exchanges.look import Look
from quorate.core.exchanges.reads import Reads
from quorate.core.exchanges.repairs import Repairs
from quorate.core.exchanges.scans import Listing, Scans
from quorate.core.replica import Replica
from quorate.core.serving import Serving
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import Group, Groups
from quorate.core.turn import Begun, Requests
from quorate.core.values.events import GetResult, Result, ScanResult
from quorate.core.values.messages import ScannedRow, ScannedRows
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.errors import QuorumUnreachable
from quorate.sim.draw import Options
from tests.simulation.plants.plant import DEFAULT, Plant

_repair: Final = Reads._repair
_wrote_back: Final = Repairs.wrote_back
_note_own: Final = Reads._note_own
_end: Final = Requests.end
_shown: Final = Replica.shown
_serving_shown: Final = Serving._shown
_merge: Final = Scans._merge
_groups: Final = Listing.groups
_take: Final = Listing.take
_local_rows: Final = scans.local_rows


def _any_record_will_do(self: Reads, look: Look) -> None:
    self._answer(look)


def _missing_is_not_behind(self: Reads, look: Look, behind: int) -> None:
    missing = sum(bit for bit, version in look.versions.items() if version == ABSENT)
    _repair(self, look, behind & ~missing)


def _answer_then_write_back(self: Reads, look: Look, behind: int) -> None:
    _repair(self, look, behind)
    if look.waiter is not None:
        self._answer(look)


def _once_is_enough(self: Repairs, look: Look, bit: int, *, is_superseded: bool) -> None:
    del is_superseded
    _wrote_back(self, look, bit, is_superseded=False)


def _unreachable_is_nothing(self: Requests, operation: Begun, result: Result) -> None:
    if isinstance(operation, Look) and isinstance(result, QuorumUnreachable):
        result = GetResult(None, len(operation.versions))
    _end(self, operation, result)


def _tombstone_is_nothing(self: Replica, row: bytes) -> Record | None:
    record = _shown(self, row)
    return None if record is None or record.value is None else record


def _write_whatever_is_held(self: Repairs, look: Look, record: Record) -> None:
    if self._replica.trouble.code:
        self.not_written_back(look, OWN_BIT)
        return
    self._replica.apply_over(look.row, record, None)
    self._replica.when_durable(lambda: self.wrote_back(look, OWN_BIT, is_superseded=False))


def _own_answer_twice(self: Reads, look: Look, record: Record | None, *, is_intact: bool) -> None:
    _note_own(self, look, record, is_intact=is_intact)
    if look.answers:
        look.groups = tuple([Group(each.mask, each.needed - 1) for each in look.groups])


def _damage_is_nothing(self: Serving, row: bytes, failed: list[bytes]) -> Record | None:
    del failed
    return _serving_shown(self, row, [])


def _never_hedge(self: Reads, late: Peer, ops: list[Look]) -> None:
    del self, late, ops


def _oldest_is_listed(
    self: Scans, listing: Listing, partition: int, answers: list[ScannedRows]
) -> bool:
    oldest: dict[bytes, ScannedRow] = {}
    for each in (row for told in answers for row in told.rows):
        if each.row not in oldest or each.version < oldest[each.row].version:
            oldest[each.row] = each
    rows = [oldest[row] for row in sorted(oldest)]
    return _merge(self, listing, partition, [ScannedRows(0, rows, more=False)])


def _one_replica_lists(self: Listing, partition: int) -> Groups:
    return tuple([Group(each.mask, 1) for each in _groups(self, partition)])


def _tombstones_are_not_listed(self: Listing, partition: int, bit: int, told: ScannedRows) -> None:
    live = [each for each in told.rows if each.live]
    _take(self, partition, bit, ScannedRows(0, live, told.more, told.failed))


def _nothing_is_left_out(
    self: Scans, rows: list[ScannedRow], *, expired: bool = False
) -> list[ScannedRow]:
    del self, expired
    return rows


def _all_is_live(*args: Any, **named: Any) -> ScannedRows:
    told = _local_rows(*args, **named)
    rows = [msgspec.structs.replace(each, live=True) for each in told.rows]
    return msgspec.structs.replace(told, rows=rows)


def _never_complete(self: Requests, operation: Begun, result: Result) -> None:
    if isinstance(result, ScanResult):
        result = msgspec.structs.replace(result, complete=False)
    _end(self, operation, result)


def _a_page_begins_where_it_began(
    self: Scans, listing: Listing, partition: int, answers: list[ScannedRows]
) -> bool:
    before, is_over = listing.position, _merge(self, listing, partition, answers)
    if is_over:
        listing.position = before
    return is_over


_WALKS: Final = DEFAULT._replace(walk_share=1.0)

PLANTS: Final = (
    Plant("of two versions the older one is listed", Scans, "_merge", _oldest_is_listed, _WALKS),
    Plant("one replica is enough for a listing", Listing, "groups", _one_replica_lists, _WALKS),
    Plant("replicas list no tombstones", Listing, "take", _tombstones_are_not_listed, _WALKS),
    Plant("a listing leaves nothing out", Scans, "_live", _nothing_is_left_out, _WALKS),
    Plant("what is deleted is listed as live", scans, "local_rows", _all_is_live, _WALKS),
    Plant("no listing is complete", Requests, "end", _never_complete, _WALKS),
    Plant("a page ends where it began", Scans, "_merge", _a_page_begins_where_it_began, _WALKS),
    Plant(
        "a read returns the first answer, not the newest",
        Reads,
        "_judge",
        _any_record_will_do,
    ),
    Plant("a missing replica is not repaired", Reads, "_repair", _missing_is_not_behind),
    Plant("an answer before the write-back", Reads, "_repair", _answer_then_write_back),
    Plant(
        "no second look when the write-back is superseded",
        Repairs,
        "wrote_back",
        _once_is_enough,
        Options(5, 3, 0, 0, faults=frozenset({"crossed"})),
    ),
    Plant("unreachable is answered as not found", Requests, "end", _unreachable_is_nothing),
    Plant("a tombstone is treated as missing", Replica, "shown", _tombstone_is_nothing),
    Plant(
        "read repair writes an older version",
        Repairs,
        "_write_here",
        _write_whatever_is_held,
    ),
    Plant("the coordinator's own answer counts twice", Reads, "_note_own", _own_answer_twice),
    Plant("a damaged copy is answered as nothing", Serving, "_shown", _damage_is_nothing),
    Plant("a silent replica is waited for", Reads, "_hedge", _never_hedge),
)
