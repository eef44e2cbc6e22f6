# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting copies of which some are stamped further ahead than clocks may differ (I8)."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.pulls import AGAIN_MS, UNREADABLE_MS
from quorate.core.values.messages import Mutate, Mutated, Pull, Read
from quorate.core.values.record import Record
from quorate.core.values.slots import key_of
from quorate.core.values.versions import ms_of
from quorate.sim.clock import EPOCH_MS
from tests.unit.core.alone import Alone, made_at, record_at
from tests.unit.core.moving import (
    JOINT,
    OLD,
    ROWS,
    P,
    Q,
    Source,
    copy_of,
    gaining,
    has_pulled,
    hear,
    node,
    records_of,
    rows_in,
    shared,
    sources_of,
    stable,
    without,
    work,
)

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


@pytest.mark.parametrize("leaver_alone", [True, False], ids=["who leaves", "who stays"])
def test_what_one_source_has_hardly_past_the_guard_is_waited_for(*, leaver_alone: bool) -> None:
    """This clock is slow, or was set back: nothing that others acknowledged may be wanting."""
    alone = node()
    before = OLD if leaver_alone else shared(OLD, 3, lost=(3,))
    if before is not OLD:
        hear(alone, before)
    hear(alone, gaining(before, P))
    sources = sources_of(alone, records_of(*ROWS[:6]), 1, 2, *([3] if leaver_alone else []))
    sources[-1].held[ROWS[2]] = record = _ahead(alone, UNREADABLE_MS // 2)
    work(alone, *sources, ms=UNREADABLE_MS // 2 - 1)
    assert copy_of(alone, P).get(ROWS[2]) != record
    assert not has_pulled(alone)
    assert "too far ahead until 20" in alone.node.pulls.waits_for
    assert repr(key_of(ROWS[2])) in alone.node.pulls.waits_for
    work(alone, *sources)
    assert has_pulled(alone)
    assert alone.node.pulls.unreadable == []
    assert copy_of(alone, P) == sources[-1].held


@pytest.mark.parametrize("ahead", [NEXT_YEAR, made_at(YEAR_MS)], ids=["stamped", "made"])
def test_what_who_leaves_has_alone_far_past_the_guard_stays_and_holds_up_no_other(
    ahead: Record,
) -> None:
    """With W below a majority that may have been acknowledged."""
    alone = node()
    hear(alone, gaining(OLD, P, Q))
    held = records_of(*ROWS[:6], *rows_in(Q, 4))
    one, two, three = sources_of(alone, held)
    three.held[ROWS[9]] = ahead
    work(alone, one, two, three, ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert has_pulled(alone)
    assert alone.node.pulls.unreadable == [P]
    assert "partition_unreadable" in alone.notes
    assert copy_of(alone, Q) == records_of(*rows_in(Q, 4))
    assert ROWS[9] not in copy_of(alone, P)


# --- what a majority has -----------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [NEXT_YEAR, made_at(YEAR_MS)], ids=["stamped", "made"])
@pytest.mark.parametrize("page", [50, 2], ids=["one page", "pages that end elsewhere"])
def test_what_a_majority_lists_far_past_the_guard_is_taken_and_no_clock_follows_it(
    ahead: Record, page: int
) -> None:
    """All clocks were a day ahead for ten minutes: nothing can beat what was written then, and a
    lost disk is to be refilled before that day is over."""
    alone = node()
    lost = shared(OLD, 3, lost=(3,))
    hear(alone, lost)
    hear(alone, gaining(lost, P))
    one, two = sources_of(alone, records_of(*ROWS[:6]), 1, 2)
    one.page = page
    one.held[ROWS[4]] = two.held[ROWS[4]] = ahead
    work(alone, one, two, ms=UNREADABLE_MS // 2)
    assert has_pulled(alone)
    assert copy_of(alone, P) == one.held
    clock, wall_ms = alone.node.parts.clock, alone.now.wall_ms
    assert ms_of(clock.last) <= wall_ms
    alone.step()
    assert ms_of(clock.reading) <= wall_ms + alone.node.settings.max_clock_skew_ms


def test_after_a_restart_nothing_is_denied_that_such_a_version_may_have_taken_the_place_of() -> (
    None
):
    """Above its clock's ceiling too: it may have held that, and somebody may have read it there."""
    alone = node()
    hear(alone, JOINT)
    one, two, three = sources_of(alone, records_of(*ROWS[:6]))
    one.held[ROWS[2]] = two.held[ROWS[2]] = three.held[ROWS[2]] = NEXT_YEAR
    work(alone, one, two, three, ms=UNREADABLE_MS // 2)
    assert has_pulled(alone)
    again = Alone(4, disk=alone.disk).node.parts.replica
    assert not again.never_held(record_at(YEAR_MS - 1))
    assert again.never_held(record_at(YEAR_MS + 1))


@pytest.mark.parametrize("missed", [1, 2, 3])
@pytest.mark.parametrize("below", [records_of(ROWS[2])[ROWS[2]], record_at(YEAR_MS - 1)])
def test_what_two_of_three_have_is_taken_whoever_missed_it(missed: int, below: Record) -> None:
    """They acknowledged it, and who leaves is asked in any case: of the others one after another,
    and then all."""
    alone = node()
    hear(alone, JOINT)
    held = records_of(*ROWS[:6])
    held[ROWS[2]] = NEXT_YEAR
    sources = sources_of(alone, held)
    sources[missed - 1].held[ROWS[2]] = below
    work(alone, *sources, ms=UNREADABLE_MS // 2)
    assert has_pulled(alone)
    assert alone.node.pulls.unreadable == []
    assert copy_of(alone, P) == held


def test_versions_past_the_guard_that_differ_are_no_majority() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = sources_of(alone, records_of(*ROWS[:6]))
    for source in sources:
        source.held[ROWS[2]] = record_at(YEAR_MS + source.index)
    work(alone, *sources, ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert alone.node.pulls.unreadable == [P]
    assert ROWS[2] not in copy_of(alone, P)


def test_above_what_a_majority_has_nothing_past_the_guard_is_passed_over() -> None:
    """Who leaves may have acknowledged it alone, by a clock that was as wrong."""
    alone = node()
    hear(alone, JOINT)
    one, two, three = sources_of(alone, records_of(*ROWS[:6]))
    one.held[ROWS[2]] = two.held[ROWS[2]] = NEXT_YEAR
    three.held[ROWS[2]] = record_at(YEAR_MS + 1)
    work(alone, one, two, three, ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert alone.node.pulls.unreadable == [P]


def test_one_row_past_the_guard_does_not_keep_another_from_its_majority() -> None:
    """For one all three have to be asked, and for the other the first is not believed."""
    alone = node()
    hear(alone, JOINT)
    held = records_of(*ROWS[:6])
    one, two, three = sources_of(alone, held)
    one.held[ROWS[2]] = three.held[ROWS[2]] = NEXT_YEAR
    one.held[ROWS[4]] = record_at(YEAR_MS + 1)
    work(alone, one, two, three, ms=UNREADABLE_MS // 2)
    assert has_pulled(alone)
    assert copy_of(alone, P) == {**held, ROWS[2]: NEXT_YEAR}


def test_above_what_a_majority_has_is_left_out_what_one_that_stays_has_alone() -> None:
    alone = node()
    hear(alone, JOINT)
    one, two, three = sources_of(alone, records_of(*ROWS[:6]))
    two.held[ROWS[2]] = three.held[ROWS[2]] = NEXT_YEAR
    one.held[ROWS[2]] = record_at(YEAR_MS + 1)
    work(alone, one, two, three, ms=UNREADABLE_MS // 2)
    assert has_pulled(alone)
    assert copy_of(alone, P) == two.held


def test_of_one_row_two_copies_of_three_past_the_guard_are_not_left_out() -> None:
    """What both had acknowledged before the third has not."""
    alone = node()
    hear(alone, JOINT)
    one, two, three = sources_of(alone, records_of(*ROWS[:6]))
    one.held[ROWS[2]] = three.held[ROWS[2]] = NEXT_YEAR
    one.held[ROWS[4]], two.held[ROWS[4]] = record_at(YEAR_MS + 1), record_at(YEAR_MS + 2)
    work(alone, one, two, three, ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert alone.node.pulls.unreadable == [P]


def test_one_copy_of_two_is_no_majority() -> None:
    """The other disk is lost: one wrong clock would have two copies."""
    two_copies = stable(4, replication=2)
    (partition, *_) = without(two_copies, 0)
    gone, left = two_copies.table[partition]
    lost = shared(two_copies, gone, lost=(gone,))
    alone = node(layout_of=two_copies)
    hear(alone, lost)
    hear(alone, gaining(lost, partition, leaver=gone))
    row = rows_in(partition, 1)[0]
    source = Source(alone, left, {row: NEXT_YEAR})
    work(alone, source, ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert alone.node.pulls.unreadable == [partition]
    assert copy_of(alone, partition) == {}


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
    one, two, three = sources_of(alone, held, room=0)
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
