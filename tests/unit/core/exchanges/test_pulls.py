# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting the copies that a joint layout gives a node; the sources are the test."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from quorate.core.exchanges.pulls import (
    AGAIN_MS,
    PAGE_ROWS_MAX,
    PULL_META,
    WAIT_NOTED_MS,
)
from quorate.core.topology.layout import Course, Layout
from quorate.core.topology.steps import completed, stepped
from quorate.core.values.messages import Mutate, Mutated, Ping, Pull, Read
from quorate.core.values.record import Record
from quorate.core.values.slots import PAGE_BYTES
from quorate.sim.cluster import id_of, url_of
from tests.unit.core.alone import Alone, record_at
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
    held_by,
    later,
    node,
    records_of,
    replace,
    rows_in,
    settle,
    shared,
    sources_of,
    stable,
    swapped,
    without,
    work,
)

# --- whom it asks ------------------------------------------------------------------------------


def test_it_asks_who_leaves_and_as_many_others_as_a_write_cannot_avoid() -> None:
    """N - majority + 1 of three are two: the one that leaves, and the faster of the others."""
    alone = node()
    alone.peer(1).speed = 9
    hear(alone, JOINT)
    assert set(asked_to_list(alone)) == {2, 3}
    alone = node()
    alone.peer(2).speed = 9
    hear(alone, JOINT)
    assert set(asked_to_list(alone)) == {1, 3}


@pytest.mark.parametrize(("replication", "count"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_how_many_that_are(replication: int, count: int) -> None:
    """Of four a majority is three, and 4 - 3 + 1 are two."""
    old = stable(7, replication=replication)
    partition = without(old, 0)[0]
    leaver = old.table[partition][0]
    alone = node(gaining(old, partition, leaver=leaver), count=7, layout_of=old)
    asked = set(asked_to_list(alone, 7))
    assert leaver in asked
    assert asked <= set(old.table[partition])
    assert len(asked) == count


def test_a_row_that_grows_asks_no_more_than_a_write_cannot_avoid() -> None:
    alone = node()
    hear(alone, stepped(OLD, {P: (*OLD.table[P], 0)}))
    assert len(asked_to_list(alone)) == 2


def test_where_a_row_shrinks_its_own_copy_counts_and_all_who_stay_ask() -> None:
    partition = held_by(OLD, 0, 1, 2)[0]
    shorter = tuple(index for index in OLD.table[partition] if index != 2)
    alone = node()
    hear(alone, stepped(OLD, {partition: shorter}))
    assert alone.node.pulls.left == [partition]
    asked = asked_to_list(alone)
    assert set(asked) == {2}, "this node and who leaves are N - majority + 1"
    assert not any(pull.is_full for pull in asked[2]), "most of what is there is here"
    old = stable(6, replication=5)
    partition = held_by(old, 0, 1)[0]
    given = old.table[partition][-1] or old.table[partition][0]
    alone = node(
        stepped(old, {partition: tuple(i for i in old.table[partition] if i != given)}),
        count=6,
        layout_of=old,
    )
    asked = asked_to_list(alone, 6)
    assert len(asked) == 2, "three of five, and one is this node"
    assert given in asked


def test_a_leaver_that_is_lost_is_not_asked() -> None:
    alone = node()
    hear(alone, shared(OLD, 3, lost=(3,)))
    hear(alone, gaining(shared(OLD, 3, lost=(3,)), P))
    assert set(asked_to_list(alone)) == {1, 2}


def test_a_leaver_that_is_lost_is_not_asked_though_it_is_back() -> None:
    alone = node()
    alone.unlink(3)
    hear(alone, shared(OLD, 3, lost=(3,)))
    alone.link(3)
    hear(alone, gaining(shared(OLD, 3, lost=(3,)), P))
    assert set(asked_to_list(alone)) == {1, 2}


def test_a_leaver_that_is_not_there_is_waited_for_whatever_the_others_have() -> None:
    alone = node()
    alone.unlink(3)
    hear(alone, JOINT)
    assert asked_to_list(alone) == {}
    assert alone.node.pulls.waits_for == f"partition {P} waits for {url_of(3)}: no link to it"
    alone.step(after_ms=WAIT_NOTED_MS)
    alone.step(after_ms=WAIT_NOTED_MS)
    assert "pull_waits" in alone.notes
    alone.link(3)
    work(alone, *sources_of(alone, {}))
    assert has_pulled(alone)
    assert alone.node.pulls.waits_for == ""


def test_too_few_that_stay_are_waited_for() -> None:
    alone = node(timeout_ms=300)
    alone.unlink(2)
    hear(alone, JOINT)
    alone.unlink(1)
    asked_to_list(alone)
    alone.step(after_ms=301)
    alone.step(after_ms=AGAIN_MS)
    assert asked_to_list(alone) == {}
    assert f"partition {P} waits for 1 of its replicas" in alone.node.pulls.waits_for


def test_who_gains_nothing_asks_nobody() -> None:
    alone = node()
    partition = held_by(OLD, 0, 1, 2)[0]
    other = next(index for index in range(4) if index not in OLD.table[partition])
    hear(alone, stepped(OLD, {partition: swapped(OLD, partition, 1, other)}))
    assert asked_to_list(alone) == {}
    assert alone.node.pulls.pulled == 0
    assert alone.disk.get_meta(PULL_META) is None


# --- what it gets ------------------------------------------------------------------------------


def test_it_gets_the_newest_of_each_row_and_then_has_pulled() -> None:
    alone = node()
    hear(alone, JOINT)
    one = Source(alone, 1, {**records_of(*ROWS[:9]), **records_of(ROWS[3], ms=5, value=b"new")})
    two = Source(alone, 2, one.held)
    three = Source(alone, 3, {**records_of(*ROWS[6:12]), **records_of(ROWS[7], ms=5, value=None)})
    work(alone, one, two, three)
    assert has_pulled(alone)
    expected = {**records_of(*ROWS[:12]), **records_of(ROWS[3], ms=5, value=b"new")}
    assert copy_of(alone, P) == {**expected, **records_of(ROWS[7], ms=5, value=None)}
    assert alone.node.parts.replica.keys == 11
    told = [ping.pulled for index in (1, 2, 3) for ping in alone.take(index, Ping)]
    assert told[-3:] == [JOINT.epoch] * 3, "all are told, at once"


def test_records_come_with_one_list_and_what_is_newer_elsewhere_is_asked_for() -> None:
    alone = node()
    alone.peer(2).speed = 9
    hear(alone, JOINT)
    held = records_of(*ROWS[:9])
    newer = records_of(ROWS[7], ms=5, value=b"new")
    one, three = Source(alone, 1, {**held, **newer}), Source(alone, 3, held)
    work(alone, one, three)
    assert has_pulled(alone)
    assert copy_of(alone, P) == {**held, **newer}
    assert [[pull.is_full for pull in each.pulls] for each in (one, three)] == [[False], [True]]
    assert (one.read, three.read) == ([ROWS[7]], [])


def test_records_that_had_no_room_beside_a_list_are_asked_for_where_it_came_from() -> None:
    alone = node()
    alone.peer(2).speed = 9
    hear(alone, JOINT)
    held = records_of(*ROWS[:9])
    sources = sources_of(alone, held, room=1)
    work(alone, *sources)
    assert has_pulled(alone)
    assert copy_of(alone, P) == held
    assert [each.read for each in sources] == [[], [], list(ROWS[1:9])]


def test_a_source_that_cannot_read_what_comes_next_is_not_the_one_to_send_records() -> None:
    alone = node()
    alone.peer(2).speed = 9
    hear(alone, JOINT)
    held = records_of(*ROWS[:9])
    sources = sources_of(alone, held)
    sources[2].damaged.add(ROWS[4])
    work(alone, *sources)
    assert has_pulled(alone)
    assert copy_of(alone, P) == held
    assert [each.read for each in sources] == [[], [], []]
    assert any(pull.is_full for source in sources[:2] for pull in source.pulls)


def test_an_empty_partition_is_pulled_too() -> None:
    alone = node()
    hear(alone, JOINT)
    work(alone, *sources_of(alone, {}))
    assert has_pulled(alone)
    assert alone.disk.lowered == []


def test_nothing_is_fetched_that_is_held_already_or_is_newer_here() -> None:
    alone = node()
    hear(alone, JOINT)
    alone.hear(1, Mutate(7, [(ROWS[0], record_at(9)), (ROWS[1], record_at(1))]))
    sources = sources_of(alone, records_of(*ROWS[:3]), room=0)
    work(alone, *sources)
    assert [row for source in sources for row in source.read] == [ROWS[2]]
    assert copy_of(alone, P)[ROWS[0]] == record_at(9)


@pytest.mark.parametrize("pages", [(1, 2, 3), (3, 1, 7), (500, 4, 1), (2, 500, 500)])
def test_pages_that_are_cut_differently_leave_nothing_out(pages: tuple[int, int, int]) -> None:
    """Past the last row of a page that was cut, that source has not spoken yet."""
    random = Random(sum(pages))
    alone = node()
    alone.peer(2).speed = 99
    hear(alone, JOINT)
    sources, newest = [], dict[bytes, Record]()
    for index, page in enumerate(pages, 1):
        held = {row: record_at(random.randrange(1, 50)) for row in random.sample(ROWS, 25)}
        sources.append(Source(alone, index, held, page=page))
        if index != 2:
            newest.update(
                {k: v for k, v in held.items() if k not in newest or v.version > newest[k].version}
            )
    work(alone, *sources)
    assert has_pulled(alone)
    held = copy_of(alone, P)
    for row, record in newest.items():
        assert held[row].version >= record.version


def test_several_partitions_are_pulled_one_after_another() -> None:
    alone = node()
    hear(alone, gaining(OLD, P, Q))
    held = records_of(*ROWS[:5], *rows_in(Q, 3))
    seen = []
    sources = sources_of(alone, held)
    work(alone, *sources)
    for source in sources:
        seen += [pull.partition for pull in source.pulls]
    assert sorted(seen) == seen or set(seen) == {P, Q}
    assert copy_of(alone, P) == records_of(*ROWS[:5])
    assert copy_of(alone, Q) == records_of(*rows_in(Q, 3))
    assert alone.node.parts.turn.counters["copies_pulled"] == 2
    assert has_pulled(alone)


def test_with_larger_values_a_page_has_fewer_rows() -> None:
    alone = node()
    hear(alone, JOINT)
    large = b"x" * (PAGE_BYTES // 4)
    sources = sources_of(alone, records_of(*ROWS[:12], value=large))
    work(alone, *sources)
    assert has_pulled(alone)
    limits = [pull.limit for source in sources for pull in source.pulls]
    assert limits[0] == PAGE_ROWS_MAX
    hear(alone, later(JOINT, 1, moves=(), course=Course.REST))
    settle(alone)
    hear(alone, later(JOINT, 3))
    sources = sources_of(alone, records_of(*ROWS[:12], value=large))
    work(alone, *sources)
    assert {pull.limit for source in sources for pull in source.pulls} == {3}
    assert len(copy_of(alone, P)) == 12


def test_a_value_that_is_larger_than_a_page_comes_too() -> None:
    alone = node()
    hear(alone, JOINT)
    held = records_of(*ROWS[:3], value=b"x" * (3 * PAGE_BYTES))
    work(alone, *sources_of(alone, held))
    assert copy_of(alone, P) == held
    assert has_pulled(alone)


# --- what counts -------------------------------------------------------------------------------


def test_it_has_pulled_once_that_is_durable_and_tells_it_then() -> None:
    alone = node()
    hear(alone, JOINT)
    alone.syncs = False
    work(alone, *sources_of(alone, records_of(*ROWS[:3])))
    assert alone.node.pulls.left == []
    assert not has_pulled(alone)
    assert [p for i in (1, 2, 3) for p in alone.take(i, Ping) if p.pulled] == []
    alone.sync()
    assert has_pulled(alone)
    assert len([p for i in (1, 2, 3) for p in alone.take(i, Ping) if p.pulled]) == 3


def test_what_was_pulled_for_another_layout_is_void() -> None:
    """Its last page becomes durable when another layout is in force."""
    alone = node()
    hear(alone, JOINT)
    alone.syncs = False
    work(alone, *sources_of(alone, records_of(*ROWS[:3])))
    hear(alone, later(JOINT, 2))
    alone.syncs = True
    alone.sync()
    settle(alone)
    assert not has_pulled(alone)
    assert alone.node.pulls.pulled == 0
    sources = sources_of(alone, records_of(*ROWS[:2]))
    work(alone, *sources)
    assert has_pulled(alone)
    assert set(copy_of(alone, P)) == set(ROWS[:2]), "it began with nothing"


@pytest.mark.parametrize("after", ["asked", "listed", "sent"])
def test_answers_to_an_earlier_layout_count_for_nothing(after: str) -> None:
    alone = node()
    hear(alone, JOINT)
    sources = sources_of(alone, records_of(*ROWS[:3]))
    late = [(s.index, s.listed(pull)) for s in sources for pull in alone.take(s.index, Pull)]
    if after != "asked":
        for index, listed in late:
            alone.hear(index, listed)
        late = []
    reads = [(s, read) for s in sources for read in alone.take(s.index, Read)]
    if after == "sent":
        for source, read in reads:
            alone.hear(source.index, *source.sent(read)[:1])
    hear(alone, later(JOINT, 2))
    settle(alone)
    fresh = sources_of(alone, {})
    for index, listed in late:
        alone.hear(index, listed)
    for source, read in reads:
        alone.hear(source.index, *source.sent(read)[after == "sent" :])
    assert not has_pulled(alone)
    work(alone, *fresh)
    assert has_pulled(alone)
    assert copy_of(alone, P) == {}


def test_a_restart_goes_on_with_the_partition_that_was_under_way() -> None:
    joint = gaining(OLD, P, Q)
    alone = node()
    hear(alone, joint)
    first, second = alone.node.pulls.left
    held = records_of(*rows_in(first, 4), *rows_in(second, 30))
    for source in (sources := [Source(alone, i, held, page=9) for i in (1, 2, 3)]):
        assert source.held
    while len(copy_of(alone, second)) < 9:
        if not any([source.answer() for source in sources]):
            alone.sleep()
    again = node(disk=alone.disk)
    settle(again)
    assert again.node.pulls.left == [second]
    assert not has_pulled(again)
    assert len(copy_of(again, first)) == 4
    assert len(copy_of(again, second)) == 9
    sources = sources_of(again, held, room=0)
    work(again, *sources)
    assert has_pulled(again)
    assert {pull.partition for source in sources for pull in source.pulls} == {second}
    assert sorted(row for source in sources for row in source.read) == list(rows_in(second, 30))[9:]
    last = node(disk=again.disk)
    assert has_pulled(last), "and it says so after another"
    assert asked_to_list(last) == {}


def test_a_restart_under_another_layout_begins_anew() -> None:
    alone = node()
    hear(alone, JOINT)
    work(alone, *sources_of(alone, records_of(*ROWS[:3])))
    assert has_pulled(alone)
    hear(alone, later(JOINT, 2))
    assert not has_pulled(alone)
    again = node(disk=alone.disk)
    settle(again)
    assert again.node.pulls.left == [P]
    assert not has_pulled(again)
    assert again.node.pulls.pulled == 0


def test_the_epoch_and_what_is_complete_are_stored() -> None:
    alone = node()
    hear(alone, JOINT)
    assert _stored(alone) == (JOINT.epoch, [])
    work(alone, *sources_of(alone, {}))
    assert _stored(alone) == (JOINT.epoch, [P])


def _stored(alone: Alone) -> tuple[int, list[int]]:
    blob = alone.disk.get_meta(PULL_META)
    assert blob is not None
    return msgspec.msgpack.decode(blob, type=tuple[int, list[int]])


# --- meanwhile ---------------------------------------------------------------------------------


def test_it_takes_writes_while_it_pulls() -> None:
    alone = node()
    hear(alone, JOINT)
    alone.hear(1, Mutate(7, [(ROWS[0], record_at(9, b"new"))]))
    (told,) = alone.take(1, Mutated)
    assert not told.refused
    work(alone, *sources_of(alone, records_of(*ROWS[:2])))
    assert copy_of(alone, P)[ROWS[0]].value == b"new"


def test_it_rests_after_a_page_for_a_part_of_what_that_took() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = [Source(alone, i, records_of(*ROWS[:9]), page=4) for i in (1, 2, 3)]
    took_ms = 80
    alone.step(after_ms=took_ms)
    while any([source.answer() for source in sources]):
        pass
    assert alone.wake_ms == alone.mono_ms + took_ms
    alone.step(after_ms=took_ms - 1)
    assert asked_to_list(alone) == {}
    alone.step(after_ms=1)
    assert len(asked_to_list(alone)) == 2


def test_a_layout_that_gives_it_nothing_ends_it() -> None:
    alone = node()
    hear(alone, JOINT)
    assert asked_to_list(alone)
    hear(alone, later(JOINT, moves=(), course=Course.REST))
    settle(alone)
    assert alone.node.pulls.left == []
    alone.step(after_ms=10_000)
    assert asked_to_list(alone) == {}


def test_when_the_move_is_complete_there_is_nothing_to_pull() -> None:
    alone = node()
    hear(alone, JOINT)
    work(alone, *sources_of(alone, records_of(*ROWS[:3])))
    hear(alone, completed(JOINT))
    settle(alone)
    assert alone.node.pulls.left == []
    assert copy_of(alone, P) == records_of(*ROWS[:3])


def test_one_whose_disk_counts_as_lost_pulls_nothing() -> None:
    layout: Layout = replace(JOINT, epoch=JOINT.epoch + 1, moves=())
    alone = node()
    hear(alone, JOINT)
    hear(alone, shared(JOINT, 0, lost=(0,)))
    settle(alone)
    assert alone.node.pulls.left == []
    assert id_of(0) in shared(JOINT, 0, lost=(0,)).lost
    assert layout.epoch == shared(JOINT, 0, lost=(0,)).epoch
