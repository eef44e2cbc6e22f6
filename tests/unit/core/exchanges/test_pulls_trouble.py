# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting copies where something fails: a source, a disk, an answer; the sources are the test."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.exchanges.pulls import (
    AGAIN_MS,
    UNREADABLE_MS,
)
from quorate.core.topology.steps import completed
from quorate.core.values.events import StorageState
from quorate.core.values.messages import Pull, Read, ScannedRow, ScannedRows
from quorate.sim.cluster import id_of
from tests.unit.core.alone import record_at
from tests.unit.core.moving import (
    JOINT,
    OLD,
    ROWS,
    P,
    Q,
    Source,
    asked_to_list,
    copy_of,
    gaining,
    has_pulled,
    hear,
    later,
    node,
    records_of,
    rows_in,
    shared,
    sources_of,
    stable,
    work,
)


def test_a_source_that_does_not_answer_is_asked_again() -> None:
    alone = node(timeout_ms=300)
    hear(alone, JOINT)
    for _ in range(20):
        assert len(asked_to_list(alone)) == 2
        alone.step(after_ms=301)
        assert asked_to_list(alone) == {}
        alone.step(after_ms=AGAIN_MS)
    assert "did not come" in alone.node.pulls.waits_for
    assert "pull_waits" in alone.notes
    assert len(asked_to_list(alone)) == 2
    alone.step(after_ms=301)
    alone.step(after_ms=AGAIN_MS)
    work(alone, *sources_of(alone, records_of(*ROWS[:3])))
    assert has_pulled(alone)
    assert copy_of(alone, P) == records_of(*ROWS[:3])


def test_a_page_of_which_a_source_was_lost_is_none_whoever_answers_after_that() -> None:
    """What leaves missed some, and the other would have told."""
    alone = node(JOINT)
    held = records_of(*ROWS[:3])
    one, two, leaver = [Source(alone, index, held) for index in (1, 2, 3)]
    leaver.held.clear()
    alone.step()
    alone.unlink(2)
    leaver.answer()
    work(alone, one, two, leaver)
    assert has_pulled(alone)
    assert copy_of(alone, P) == held


def test_records_that_do_not_come_are_asked_for_again_and_no_others() -> None:
    alone = node(timeout_ms=300)
    hear(alone, JOINT)
    sources = sources_of(alone, records_of(*ROWS[:5]), room=0)
    for source in sources:
        for pull in alone.take(source.index, Pull):
            if pull.base is None:
                alone.hear(source.index, source.listed(pull))
    ((source, read),) = [(each, read) for each in sources for read in alone.take(each.index, Read)]
    asked_of = source.index
    alone.hear(asked_of, *source.sent(read)[:2])
    alone.unlink(asked_of)
    assert set(copy_of(alone, P)) == set(ROWS[:2])
    assert not has_pulled(alone)
    alone.link(asked_of)
    work(alone, *sources)
    assert sorted({row for source in sources for row in source.read}) == list(ROWS[2:5])
    assert copy_of(alone, P) == records_of(*ROWS[:5])
    assert has_pulled(alone)


def test_a_source_that_cannot_read_its_copy_is_replaced_by_another() -> None:
    alone = node()
    alone.peer(2).speed = 9
    hear(alone, JOINT)
    one, two, three = sources_of(alone, records_of(*ROWS[:6]))
    one.damaged.add(ROWS[2])
    work(alone, one, two, three)
    assert has_pulled(alone)
    assert copy_of(alone, P) == records_of(*ROWS[:6])
    assert two.pulls


def test_a_leaver_that_cannot_read_a_row_is_asked_for_all_others() -> None:
    alone = node()
    hear(alone, JOINT)
    one, two, three = sources_of(alone, records_of(*ROWS[:6]))
    three.held[ROWS[9]] = record_at(1)
    three.damaged.add(ROWS[2])
    for source in (one, two):
        source.held[ROWS[12]] = record_at(1)
    work(alone, one, two, three)
    assert has_pulled(alone)
    assert set(copy_of(alone, P)) == {*ROWS[:6], ROWS[9], ROWS[12]}
    assert one.pulls
    assert two.pulls, "it counts as none of N - majority + 1"


def test_damage_that_is_mended_does_not_hold_it_up() -> None:
    """Both that stay are needed, as who leaves is lost: it waits until both can be read."""
    alone = node()
    lost = shared(OLD, 3, lost=(3,))
    hear(alone, lost)
    hear(alone, gaining(lost, P))
    one, two = sources_of(alone, records_of(*ROWS[:6]), 1, 2)
    one.damaged.add(ROWS[2])
    work(alone, one, two, ms=UNREADABLE_MS - 2 * AGAIN_MS)
    assert not has_pulled(alone)
    assert "readable" in alone.node.pulls.waits_for
    one.damaged.clear()
    work(alone, one, two)
    assert has_pulled(alone)
    assert alone.node.pulls.unreadable == []
    assert copy_of(alone, P) == records_of(*ROWS[:6])


def test_what_too_few_can_read_is_done_without_and_holds_up_no_other_partition() -> None:
    """Nobody guesses what the damaged copy was: it may have had a newer write than the other."""
    alone = node()
    lost = shared(OLD, 3, lost=(3,))
    hear(alone, lost)
    hear(alone, gaining(lost, P, Q))
    one, two = sources_of(alone, records_of(*ROWS[:6], *rows_in(Q, 4)), 1, 2)
    one.damaged.add(ROWS[2])
    work(alone, one, two, ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert has_pulled(alone)
    assert alone.node.pulls.unreadable == [P]
    assert "partition_unreadable" in alone.notes
    assert copy_of(alone, Q) == records_of(*rows_in(Q, 4))


def test_the_partition_after_one_that_was_put_aside_half_way_is_asked_for_from_its_beginning() -> (
    None
):
    alone = node()
    lost = shared(OLD, 3, lost=(3,))
    hear(alone, lost)
    hear(alone, gaining(lost, P, Q))
    held = records_of(*ROWS[:6], *rows_in(Q, 4))
    one, two = Source(alone, 1, held, page=2), Source(alone, 2, held, page=2)
    one.damaged.add(ROWS[3])
    work(alone, one, two, ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert alone.node.pulls.unreadable == [P]
    assert next(pull.after for pull in two.pulls if pull.partition == Q) == b""


def test_what_could_not_be_read_is_tried_again_for_another_layout() -> None:
    alone = node()
    lost = shared(OLD, 3, lost=(3,))
    hear(alone, lost)
    joint = gaining(lost, P)
    hear(alone, joint)
    one, two = sources_of(alone, records_of(*ROWS[:6]), 1, 2)
    one.damaged.add(ROWS[2])
    work(alone, one, two, ms=UNREADABLE_MS + 4 * AGAIN_MS)
    assert alone.node.pulls.unreadable == [P]
    hear(alone, completed(joint, without={P}))
    assert alone.node.pulls.unreadable == []
    one.damaged.clear()
    hear(alone, later(joint, 2))
    work(alone, one, two)
    assert has_pulled(alone)
    assert alone.node.pulls.unreadable == []
    assert copy_of(alone, P) == records_of(*ROWS[:6])


@pytest.mark.parametrize("code", ["disk_full", "storage_busy"])
def test_while_the_own_disk_takes_nothing_it_does_not_come_forward(code: str) -> None:
    alone = node()
    hear(alone, JOINT)
    sources = sources_of(alone, records_of(*ROWS[:6]))
    alone.step(StorageState(code, "no"))
    work(alone, *sources, ms=5_000)
    assert not has_pulled(alone)
    assert alone.node.pulls.left == [P]
    alone.step(StorageState())
    work(alone, *sources)
    assert has_pulled(alone)
    assert copy_of(alone, P) == records_of(*ROWS[:6])


def test_while_the_own_disk_cannot_be_read_it_does_not_come_forward() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = sources_of(alone, records_of(*ROWS[:6]))
    alone.disk.is_read_lost = lambda: True
    work(alone, *sources, ms=5_000)
    assert not has_pulled(alone)
    alone.disk.is_read_lost = None
    work(alone, *sources)
    assert has_pulled(alone)
    assert copy_of(alone, P) == records_of(*ROWS[:6])


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": [], "more": True},
        {"rows": [ROWS[1], ROWS[0]], "more": True},
        {"rows": [rows_in(Q, 1)[0]], "more": False},
        {"rows": [ROWS[0], ROWS[0]], "more": False},
    ],
    ids=["nothing and more", "out of order", "of another partition", "twice"],
)
def test_a_mistaken_answer_counts_as_none(wrong: dict[str, Any]) -> None:
    alone = node()
    hear(alone, JOINT)
    sources = sources_of(alone, records_of(*ROWS[:6]))
    for source in sources:
        for pull in alone.take(source.index, Pull):
            rows = [ScannedRow(row, record_at(1).version, True, 0) for row in wrong["rows"]]
            alone.hear(source.index, ScannedRows(pull.batch, rows, wrong["more"]))
    assert not has_pulled(alone)
    work(alone, *sources)
    assert has_pulled(alone)
    assert copy_of(alone, P) == records_of(*ROWS[:6])
    assert copy_of(alone, Q) == {}


def test_where_nobody_else_is_left_to_ask_its_own_copy_is_all_there_is() -> None:
    """Two copies become one, as the disk of the other is lost: one of two is N - majority + 1."""
    old = stable(2, replication=2)
    alone = node(count=2, layout_of=old, syncs=False)
    lost = shared(old, 1, lost=(1,))
    hear(alone, lost)
    for _ in range(50):
        # It is the only voter: it decides all that follows.
        if alone.marks:
            alone.sync()
        alone.step(after_ms=AGAIN_MS)
    layout = alone.node.membership.layout
    assert layout is not None
    assert layout.table[0] == (0,)
    assert layout.replicas(0) == [id_of(0)]
    assert "pull_waits" not in alone.notes
