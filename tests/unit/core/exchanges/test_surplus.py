# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node drops of its copies, and when."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.exchanges.surplus import ROWS_PER_STEP
from quorate.core.topology.layout import Course, Layout
from quorate.core.topology.steps import completed, stepped
from quorate.core.values.events import Batch
from quorate.core.values.messages import (
    Mutate,
    Mutated,
    PrepareRows,
    Pull,
    Read,
    ReadAnswer,
    ScannedRows,
)
from quorate.core.values.slots import ROW_END, partition_bounds
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.founders import disk_of
from tests.unit.core.moving import (
    gaining,
    hear,
    held_by,
    later,
    node,
    rows_in,
    settle,
    stable,
    swapped,
    without,
)

OLD = stable()
TAKEN, OTHER = without(OLD, 0)[:2]
"""Partitions that this node does not hold."""
HELD, ALSO = held_by(OLD, 0)[:2]
"""Partitions that it does, and not all others."""


def _giver(partition: int) -> int:
    """A member that does not hold a partition of this node."""
    return next(index for index in range(4) if index not in OLD.table[partition])


def _leaving(layout: Layout, *partitions: int) -> Layout:
    """What follows when this node gives these up."""
    return stepped(layout, {each: swapped(layout, each, 0, _giver(each)) for each in partitions})


def _left(layout: Layout, *partitions: int) -> Layout:
    """The stable layout after that."""
    return completed(_leaving(layout, *partitions))


def _write(alone: Alone, *rows: bytes, ms: int = 1, value: bytes | None = b"v") -> None:
    """A peer has these kept."""
    alone.hear(1, Mutate(7, [(row, record_at(ms, value)) for row in rows]))


def _is_kept(alone: Alone) -> bool:
    """Whether the write was acknowledged; not if it was refused or there is no answer."""
    told = alone.take(1, Mutated)[-1:]
    return bool(told) and not told[0].busy and not told[0].refused


def _held(alone: Alone, partition: int) -> list[bytes]:
    return [row for row, _ in alone.disk.scan(*partition_bounds(partition))]


def _filled(layout: Layout, partitions: dict[int, int], *, keys: int | None = None) -> Disk:
    """A disk of a node with this layout, and so many live rows of partitions."""
    disk = disk_of(layout)
    records = [(row, record_at(1)) for p, count in partitions.items() for row in rows_in(p, count)]
    total = len(records) if keys is None else keys
    disk.format(Batch([*records], [], [(b"keys", total.to_bytes(8, "big"))]))
    return disk


# --- what goes when ----------------------------------------------------------------------------


def test_who_leaves_keeps_its_copy_until_the_others_have_it() -> None:
    alone = node()
    _write(alone, *rows_in(HELD, 3))
    hear(alone, _leaving(OLD, HELD))
    settle(alone)
    assert _held(alone, HELD) == list(rows_in(HELD, 3))
    assert alone.node.parts.replica.keys == 3
    hear(alone, completed(_leaving(OLD, HELD)))
    settle(alone)
    assert _held(alone, HELD) == []
    assert alone.node.parts.replica.keys == 0


def test_when_a_move_is_called_off_who_left_keeps_its_copy_and_who_gained_drops_it() -> None:
    alone = node()
    _write(alone, *rows_in(HELD, 3))
    moving = stepped(OLD, {**dict(_leaving(OLD, HELD).moves), **dict(gaining(OLD, TAKEN).moves)})
    hear(alone, moving)
    _write(alone, *rows_in(TAKEN, 2))
    assert _is_kept(alone)
    assert alone.node.parts.replica.keys == 5
    hear(alone, later(moving, moves=(), course=Course.REST))
    settle(alone)
    assert _held(alone, HELD) == list(rows_in(HELD, 3))
    assert _held(alone, TAKEN) == []
    assert alone.node.parts.replica.keys == 3


@pytest.mark.parametrize("epochs", [1, 2, 3, 9])
def test_who_adopts_a_later_layout_drops_what_is_neither_in_it_nor_to_be_gained(
    epochs: int,
) -> None:
    """However many layouts it slept through, in which others may have held all of it."""
    alone = node()
    _write(alone, *rows_in(HELD, 3), *rows_in(ALSO, 2))
    hear(alone, later(_left(OLD, HELD), epochs))
    settle(alone)
    assert _held(alone, HELD) == []
    assert _held(alone, ALSO) == list(rows_in(ALSO, 2))
    assert alone.node.parts.replica.keys == 2


def test_who_gains_what_it_had_before_begins_with_nothing() -> None:
    alone = node()
    _write(alone, *rows_in(HELD, 3))
    gone = _left(OLD, HELD)
    back = stepped(gone, {HELD: swapped(gone, HELD, _giver(HELD), 0)})
    hear(alone, back)
    settle(alone)
    assert _held(alone, HELD) == []
    assert alone.node.pulls.left == [HELD]
    _write(alone, rows_in(HELD, 1)[0], ms=2)
    assert _is_kept(alone)


def test_nothing_goes_while_nothing_changes_for_this_node() -> None:
    alone = node()
    _write(alone, *rows_in(HELD, 3))
    for epochs in (2, 4):
        hear(alone, later(OLD, epochs))
        settle(alone)
    assert alone.node.parts.replica.keys == 3
    assert alone.node.parts.turn.counters["copies_dropped"] == 0


# --- meanwhile ---------------------------------------------------------------------------------


def test_what_is_to_be_dropped_is_neither_read_nor_written() -> None:
    """It holds an older copy of what it is to get; nobody may hear of that."""
    alone = node()
    first, *_ = rows = rows_in(HELD, 3)
    _write(alone, *rows)
    alone.take(1, Mutated)
    gone = _left(OLD, HELD)
    back = stepped(gone, {HELD: swapped(gone, HELD, _giver(HELD), 0)})
    alone.syncs = False
    hear(alone, back)
    _write(alone, first, ms=2)
    (busy,) = alone.take(1, Mutated)
    assert busy.busy
    alone.hear(1, Read(8, [first], [rows[1]]))
    (answer,) = alone.take(1, ReadAnswer)
    assert answer.failed == [first, rows[1]]
    alone.hear(2, Pull(9, HELD, b"", 10))
    alone.sync()
    (listed,) = alone.take(2, ScannedRows)
    assert listed.failed
    assert alone.take(1, Pull) == [], "nothing is got before either"
    alone.syncs = True
    settle(alone)
    assert alone.take(1, Pull) + alone.take(2, Pull) + alone.take(3, Pull)
    _write(alone, first, ms=2)
    assert _is_kept(alone)


def test_a_row_that_is_not_durable_yet_is_as_any_other() -> None:
    """It was written before; what comes now is for the new copy, and would go with the old."""
    alone = node()
    row = rows_in(HELD, 1)[0]
    alone.syncs = False
    _write(alone, row)
    gone = _left(OLD, HELD)
    hear(alone, stepped(gone, {HELD: swapped(gone, HELD, _giver(HELD), 0)}))
    _write(alone, row, ms=2)
    alone.hear(1, Read(8, [row], []))
    (answer,) = alone.take(1, ReadAnswer)
    assert answer.failed == [row]
    alone.syncs = True
    alone.sync()
    settle(alone)
    assert [told.busy for told in alone.take(1, Mutated)] == [True, False]
    assert _held(alone, HELD) == []
    _write(alone, row, ms=2)
    assert _is_kept(alone)
    assert _held(alone, HELD) == [row]
    assert alone.node.parts.replica.keys == 1


def test_what_goes_while_other_copies_are_counted_waits_until_it_is_durable() -> None:
    alone = node(disk=_filled(OLD, {HELD: 5 * ROWS_PER_STEP}))
    gone = _left(OLD, HELD)
    hear(alone, gone)
    alone.syncs = False
    _write(alone, *rows_in(ALSO, 2))
    hear(alone, _left(gone, ALSO))
    for _ in range(20):
        alone.step()
    assert _held(alone, ALSO) == list(rows_in(ALSO, 2))
    alone.syncs = True
    alone.sync()
    settle(alone)
    assert _held(alone, ALSO) == []
    assert alone.node.parts.replica.keys == 0


def test_a_copy_that_goes_twice_is_counted_once() -> None:
    """The disk is slow, so that what was dropped is still there."""
    alone = node()
    _write(alone, *rows_in(HELD, 3), *rows_in(ALSO, 1))
    hear(alone, _left(OLD, HELD))
    alone.syncs = False
    while not alone.marks:
        alone.step()
    gone = _left(OLD, HELD)
    hear(alone, stepped(gone, {HELD: swapped(gone, HELD, _giver(HELD), 0)}))
    hear(alone, later(gone, 3))
    for _ in range(5):
        alone.step()
    alone.syncs = True
    alone.sync()
    settle(alone)
    assert alone.node.parts.replica.keys == 1


# --- counting ----------------------------------------------------------------------------------


def test_many_rows_are_counted_some_at_a_time_and_go_at_once() -> None:
    count = 2 * ROWS_PER_STEP + 10
    alone = node(disk=_filled(OLD, {HELD: count, ALSO: 5}))
    hear(alone, _left(OLD, HELD, ALSO))
    steps = 0
    while alone.node.parts.replica.withheld:
        assert len(_held(alone, HELD)) == count
        alone.step()
        steps += 1
    assert 3 <= steps <= 6
    assert _held(alone, HELD) == _held(alone, ALSO) == []
    assert alone.node.parts.replica.keys == 0
    assert alone.node.parts.turn.counters["copies_dropped"] == 2


def test_a_partition_is_counted_to_its_end_though_one_before_it_is_given_up_meanwhile() -> None:
    """Else some of its rows would count twice, and the node would have fewer keys than none."""
    assert HELD < ALSO
    alone = node(disk=_filled(OLD, {HELD: 5, ALSO: 3 * ROWS_PER_STEP}))
    gone = _left(OLD, ALSO)
    hear(alone, gone)
    alone.step()
    assert ALSO in alone.node.parts.replica.withheld, "it is being counted"
    hear(alone, _left(gone, HELD))
    settle(alone)
    assert _held(alone, HELD) == _held(alone, ALSO) == []
    assert alone.node.parts.replica.keys == 0


@pytest.mark.parametrize("count", [1, ROWS_PER_STEP - 1, ROWS_PER_STEP, ROWS_PER_STEP + 1])
def test_each_row_is_counted_once(count: int) -> None:
    alone = node(disk=_filled(OLD, {HELD: count, ALSO: 2}))
    hear(alone, _left(OLD, HELD))
    settle(alone)
    assert alone.node.parts.replica.keys == 2


def test_tombstones_go_too_and_count_for_none() -> None:
    alone = node()
    rows = rows_in(HELD, 4)
    _write(alone, *rows)
    _write(alone, *rows[:3], ms=2, value=None)
    assert alone.node.parts.replica.keys == 1
    hear(alone, _left(OLD, HELD))
    settle(alone)
    assert _held(alone, HELD) == []
    assert alone.node.parts.replica.keys == 0


def test_damaged_rows_go_and_the_count_never_falls_below_what_is_left() -> None:
    disk = _filled(OLD, {HELD: 5, ALSO: 2})
    rows = rows_in(HELD, 5)
    assert disk.rot(rows[2], Random(1))
    alone = node(disk=disk)
    hear(alone, _left(OLD, HELD))
    settle(alone)
    assert list(disk._columns[0]) == list(rows_in(ALSO, 2))
    assert alone.node.parts.replica.keys >= 2


def test_a_disk_that_cannot_be_read_is_looked_at_again() -> None:
    disk = _filled(OLD, {HELD: 5})
    alone = node(disk=disk)
    disk.is_read_lost = lambda: True
    hear(alone, _left(OLD, HELD))
    settle(alone)
    assert alone.node.parts.replica.withheld == {HELD}
    disk.is_read_lost = None
    assert alone.wake_ms is not None
    alone.sleep()
    settle(alone)
    assert alone.node.parts.replica.withheld == set()
    assert alone.node.parts.replica.keys == 0


# --- after a restart ---------------------------------------------------------------------------


def test_a_node_that_starts_drops_what_is_none_of_its_own() -> None:
    disk = _filled(OLD, {TAKEN: 3, HELD: 2})
    alone = node(disk=disk)
    settle(alone)
    assert _held(alone, TAKEN) == []
    assert _held(alone, HELD) == list(rows_in(HELD, 2))
    assert alone.node.parts.replica.keys == 2


def _voted(disk: Disk) -> list[bytes]:
    """The rows of which anything was voted."""
    return [row for row, _ in disk.scan_votes(b"", ROW_END)]


def test_what_was_voted_on_a_copy_goes_with_it() -> None:
    alone = node()
    row = rows_in(HELD, 1)[0]
    alone.hear(1, PrepareRows(7, [(row, None, (1, 7), b"")]))
    assert _voted(alone.disk) == [row]
    hear(alone, _left(OLD, HELD))
    settle(alone)
    assert _voted(alone.disk) == []


def test_a_node_that_starts_drops_votes_that_are_left_alone() -> None:
    """As of a row that has no record yet."""
    disk = _filled(OLD, {})
    rows = [rows_in(HELD, 1)[0], rows_in(TAKEN, 1)[0]]
    disk.format(Batch([], [], [], votes=[(row, b"votes") for row in rows]))
    alone = node(disk=disk)
    settle(alone)
    assert _voted(alone.disk) == rows[:1]


def test_a_crash_before_the_drop_ends_in_the_drop() -> None:
    alone = node(disk=_filled(OLD, {HELD: 3}))
    alone.syncs = False
    hear(alone, _left(OLD, HELD))
    alone.disk.sync()
    again = node(disk=alone.disk)
    settle(again)
    assert _held(again, HELD) == []
    assert again.node.parts.replica.keys == 0


def test_what_was_taken_under_this_very_layout_outlives_a_restart() -> None:
    alone = node(gaining(OLD, TAKEN))
    _write(alone, *rows_in(TAKEN, 2))
    assert _is_kept(alone)
    again = node(disk=alone.disk)
    settle(again)
    assert _held(again, TAKEN) == list(rows_in(TAKEN, 2))
    assert again.node.parts.replica.keys == 2


def test_and_so_it_does_where_an_older_copy_went_first() -> None:
    alone = node(disk=_filled(OLD, {HELD: 3}))
    gone = _left(OLD, HELD)
    hear(alone, stepped(gone, {HELD: swapped(gone, HELD, _giver(HELD), 0)}))
    settle(alone)
    _write(alone, rows_in(HELD, 1)[0], ms=2)
    assert _is_kept(alone)
    again = node(disk=alone.disk)
    settle(again)
    assert _held(again, HELD) == [rows_in(HELD, 1)[0]]
    assert again.node.parts.replica.keys == 1


def test_a_copy_of_an_earlier_move_does_not_outlive_a_restart() -> None:
    alone = node(gaining(OLD, TAKEN))
    _write(alone, *rows_in(TAKEN, 2))
    disk = alone.disk
    disk.format(Batch([], [], [(b"layout", later(gaining(OLD, TAKEN), 2).encode())]))
    again = node(disk=disk)
    settle(again)
    assert _held(again, TAKEN) == []
    assert again.node.parts.replica.keys == 0
