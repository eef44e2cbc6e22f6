# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a copy's sources their locks and horizons keep out, and what they do not."""

from __future__ import annotations

from typing import Final

import pytest

from quorate.core.topology.layout import Layout
from quorate.core.topology.steps import stepped
from quorate.core.values.messages import Mutate, Mutated
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version, stamp_at, successor
from quorate.sim.clock import EPOCH_MS
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.moving import (
    JOINT,
    OLD,
    P,
    Source,
    copy_of,
    has_pulled,
    hear,
    held_by,
    node,
    rows_in,
    settle,
    work,
)

SLICE_MS: Final = 60_000
LOCK: Final = EPOCH_MS // SLICE_MS + 2
ROW = rows_in(P, 1)[0]
LATE: Final = record_at(LOCK * SLICE_MS - EPOCH_MS - 1)
"""Stamped just before the boundary."""


def _took(layout: Layout, row: bytes, record: Record) -> Alone:
    """A node that has kept a record since copies move."""
    alone = node(slice_ms=SLICE_MS)
    alone.step(after_ms=5 * SLICE_MS)
    hear(alone, layout)
    alone.hear(1, Mutate(7, [(row, record)]))
    (told,) = alone.take(1, Mutated)
    assert not told.refused
    return alone


def _pulled(one: tuple[int, int], two: tuple[int, int], leaver: tuple[int, int]) -> Alone:
    """A node that took what is late, and got a copy in which it is not, of those with such locks
    and horizons."""
    alone = _took(JOINT, ROW, LATE)
    fences = zip((1, 2, 3), (one, two, leaver), strict=True)
    work(alone, *[Source(alone, index, {}, fence=fence) for index, fence in fences])
    assert has_pulled(alone)
    return alone


@pytest.mark.parametrize(
    "leaver", [(LOCK, 0), (LOCK, LOCK), (LOCK + 1, LOCK)], ids=["locked", "dropped", "and on"]
)
def test_what_all_have_locked_or_one_has_dropped_keeps_out_what_came_before(
    leaver: tuple[int, int],
) -> None:
    """It may be older than a delete that was dropped there."""
    alone = _pulled((LOCK, 0), (LOCK, 0), leaver)
    assert copy_of(alone, P) == {}
    assert alone.node.parts.turn.counters["pulled_rows_refused"] == 1
    assert alone.node.parts.replica.fences.boundary(P) == LOCK


@pytest.mark.parametrize("horizon", [0, LOCK], ids=["locked", "dropped"])
def test_what_sources_hold_below_their_lock_is_gotten(horizon: int) -> None:
    alone = node(JOINT, slice_ms=SLICE_MS)
    held = {ROW: record_at(1)}
    work(alone, *[Source(alone, index, held, fence=(LOCK, horizon)) for index in (1, 2, 3)])
    assert has_pulled(alone)
    assert copy_of(alone, P) == held


def test_what_would_take_the_place_of_what_has_expired_below_the_lock_is_kept_out_too() -> None:
    """As by the sources: the older one may have been dropped by some of them."""
    alone = _took(JOINT, ROW, LATE)
    held = {ROW: Record(record_at(1).version, b"v", LOCK * SLICE_MS)}
    work(alone, *[Source(alone, index, held, fence=(LOCK, 0)) for index in (1, 2, 3)])
    assert has_pulled(alone)
    assert alone.node.parts.turn.counters["pulled_rows_refused"] == 1
    assert copy_of(alone, P) == held


def test_what_the_source_of_an_earlier_page_had_dropped_counts_to_the_end() -> None:
    """The one that is asked instead has yet to hear that it may drop it."""
    alone = node(JOINT, slice_ms=SLICE_MS)
    held = {row: record_at(1) for row in rows_in(P, 9)}
    first, instead, leaver = [
        Source(alone, index, held, page=1, fence=(LOCK, horizon))
        for index, horizon in ((2, LOCK), (1, 0), (3, 0))
    ]
    settle(alone)
    for _ in range(2):
        first.answer()
        leaver.answer()
    assert first.pulls
    alone.unlink(2)
    work(alone, instead, leaver)
    assert instead.pulls
    assert has_pulled(alone)
    assert alone.node.parts.replica.fences.horizon(P) == LOCK


@pytest.mark.parametrize("others", [(0, 0), (LOCK - 1, 0), (LOCK - 1, LOCK - 1), (LOCK + 1, 0)])
def test_a_lock_that_one_source_has_alone_keeps_nothing_out(others: tuple[int, int]) -> None:
    """The others have taken it back. What is acknowledged since then stays: with the one that kept
    the lock, and so refused it, there would be too few who have it."""
    alone = _pulled(others, others, (LOCK, 0))
    assert copy_of(alone, P) == {ROW: LATE}
    assert alone.node.parts.replica.fences.boundary(P) == others[1]


def test_where_a_row_shrinks_a_copy_that_counts_loses_nothing() -> None:
    """A delete was dropped everywhere. Then 0 and 1 had an update of what was deleted there, which
    has its stamp, and 2, which leaves, missed it."""
    partition = held_by(OLD, 0, 1, 2)[0]
    row = rows_in(partition, 1)[0]
    deleted = pack_version(stamp_at(EPOCH_MS + 9), 7)
    update = Record(successor(deleted, stamp_at((LOCK + 1) * SLICE_MS)), b"v")
    alone = node(slice_ms=SLICE_MS)
    alone.step(after_ms=5 * SLICE_MS)
    alone.hear(1, Mutate(7, [(row, update)]))
    alone.node.parts.replica.fences.advance(partition, LOCK)
    shorter = tuple(index for index in OLD.table[partition] if index != 2)
    hear(alone, stepped(OLD, {partition: shorter}))
    work(alone, *[Source(alone, index, {}, fence=(LOCK, LOCK)) for index in (1, 2, 3)])
    assert has_pulled(alone)
    assert copy_of(alone, partition) == {row: update}
