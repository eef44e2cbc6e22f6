# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting copies of which some are stamped further ahead than clocks may differ (I8)."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.pulls import AGAIN_MS, UNREADABLE_MS
from quorate.core.values.messages import Mutate, Mutated, Pull, Read
from quorate.core.values.record import Record
from quorate.sim.clock import EPOCH_MS
from tests.unit.core.alone import Alone, made_at, record_at
from tests.unit.core.moving import (
    copy_of,
    gaining,
    has_pulled,
    hear,
    node,
    records_of,
    rows_in,
    sources_of,
    stable,
    without,
    work,
)

OLD = stable()
P, Q = without(OLD, 0)[:2]
"""Partitions that this node does not hold: 1, 2 and 3 do; 3 leaves."""
JOINT = gaining(OLD, P)
ROWS = rows_in(P, 40)
YEAR_MS = 365 * 86_400_000
NEXT_YEAR = record_at(YEAR_MS, b"next year's")


def _ahead(alone: Alone, ms: int) -> Record:
    """A record so far past the guard."""
    guard_ms = alone.node.settings.max_clock_skew_ms
    return record_at(alone.now.wall_ms - EPOCH_MS + guard_ms + ms, b"ahead")


@pytest.mark.parametrize("ahead", [NEXT_YEAR, made_at(YEAR_MS)], ids=["stamped", "made"])
def test_a_source_whose_record_is_past_the_guard_is_replaced_by_another(ahead: Record) -> None:
    """Or the one clock that was wrong would have two copies of three, which nothing can beat."""
    alone = node()
    alone.peer(2).speed = 9
    hear(alone, JOINT)
    one, two, three = sources_of(alone, records_of(*ROWS[:6]))
    one.held[ROWS[2]] = ahead
    work(alone, one, two, three)
    assert has_pulled(alone)
    assert copy_of(alone, P) == records_of(*ROWS[:6])
    assert two.pulls


def test_a_leaver_with_a_record_past_the_guard_is_asked_for_all_others() -> None:
    alone = node()
    hear(alone, JOINT)
    one, two, three = sources_of(alone, records_of(*ROWS[:6]))
    three.held[ROWS[2]] = NEXT_YEAR
    three.held[ROWS[9]] = record_at(1)
    work(alone, one, two, three)
    assert has_pulled(alone)
    assert copy_of(alone, P) == records_of(*ROWS[:6], ROWS[9])
    assert one.pulls
    assert two.pulls, "it counts as none of N - majority + 1"


def test_what_is_hardly_past_the_guard_is_waited_for() -> None:
    """This clock is slow, or was set back: nothing that others acknowledged may be wanting."""
    alone = node()
    hear(alone, JOINT)
    held = records_of(*ROWS[:6])
    held[ROWS[2]] = _ahead(alone, UNREADABLE_MS // 2)
    sources = sources_of(alone, held)
    work(alone, *sources, ms=UNREADABLE_MS // 2 - 1)
    assert ROWS[2] not in copy_of(alone, P)
    assert not has_pulled(alone)
    assert "too far ahead" in alone.node.pulls.waits_for
    work(alone, *sources)
    assert has_pulled(alone)
    assert alone.node.pulls.unreadable == []
    assert copy_of(alone, P) == held


def test_what_is_far_past_the_guard_everywhere_stays_and_holds_up_no_other_partition() -> None:
    alone = node()
    hear(alone, gaining(OLD, P, Q))
    held = records_of(*ROWS[:6], *rows_in(Q, 4))
    held[ROWS[2]] = NEXT_YEAR
    work(alone, *sources_of(alone, held), ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert has_pulled(alone)
    assert alone.node.pulls.unreadable == [P]
    assert "partition_unreadable" in alone.notes
    assert copy_of(alone, Q) == records_of(*rows_in(Q, 4))
    assert ROWS[2] not in copy_of(alone, P)


def test_what_is_here_already_holds_nothing_up_though_the_clock_was_set_back_since() -> None:
    alone = node()
    hear(alone, JOINT)
    held = records_of(*ROWS[:6], ms=500)
    alone.hear(1, Mutate(1, list(held.items())))
    assert alone.take(1, Mutated)[0].refused == []
    alone.wall_offset_ms = -YEAR_MS
    work(alone, *sources_of(alone, held), ms=UNREADABLE_MS - AGAIN_MS)
    assert has_pulled(alone)
    assert copy_of(alone, P) == held


def test_a_record_that_went_past_the_guard_after_it_was_listed_is_not_kept() -> None:
    alone = node()
    alone.peer(2).speed = 9
    hear(alone, JOINT)
    held = records_of(*ROWS[:6])
    one, two, three = sources_of(alone, held)
    for source in (one, two, three):
        for pull in alone.take(source.index, Pull):
            if pull.base is None:
                alone.hear(source.index, source.listed(pull))
    ((source, read),) = [
        (each, read) for each in (one, two, three) for read in alone.take(each.index, Read)
    ]
    source.held[ROWS[2]] = NEXT_YEAR
    alone.hear(source.index, *source.sent(read))
    work(alone, one, two, three)
    assert has_pulled(alone)
    assert copy_of(alone, P) == held
