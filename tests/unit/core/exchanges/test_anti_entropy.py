# SPDX-License-Identifier: GPL-3.0-or-later
"""Repair, where the other replica is mistaken, slow, or says what cannot be."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any, Final

import pytest

from quorate.core.digests import bucket_of
from quorate.core.exchanges.anti_entropy import LIST_ROWS_MAX, PAUSE_MAX, RECORDS_MAX
from quorate.core.exchanges.outbox import STEP_BYTES_MAX
from quorate.core.serving import SUMS_BYTES
from quorate.core.values.events import StorageState
from quorate.core.values.messages import (
    Agree,
    AskSums,
    ListBuckets,
    Listed,
    Mutate,
    Mutated,
    Read,
    ReadAnswer,
    Sums,
)
from quorate.core.values.record import Record
from quorate.core.values.settings import SLICE_MS
from quorate.core.values.slots import BUCKETS, PAGE_BYTES, PARTITION_COUNT, partition_of, row_of
from quorate.core.values.versions import pack_version
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, made_at, record_at
from tests.unit.core.exchanges.test_agreement import KEYS, PARTITION, holding, told

OTHERS = [1] * BUCKETS
"""Sums that are no replica's."""
LACKED = [b"{tag}lacked%03d" % number for number in range(RECORDS_MAX)]


def asked_for_sums(**settings: Any) -> tuple[Alone, AskSums]:
    """A node that has been told of another digest, and what it asks then."""
    alone = holding(**settings)
    boundary = told(alone).pop(-1)
    alone.hear(1, Agree(boundary, [(PARTITION, 1)]))
    alone.step()
    (asked,) = alone.take(1, AskSums)
    return alone, asked


def asked_for_list(**settings: Any) -> tuple[Alone, ListBuckets]:
    """A node that lists all buckets, and asks the other for the same."""
    alone, asked = asked_for_sums(**settings)
    alone.hear(1, Sums(asked.batch, OTHERS))
    alone.step(after_ms=1_000)
    (wanted,) = alone.take(1, ListBuckets)
    return alone, wanted


def held() -> list[tuple[bytes, bytes]]:
    """What the node lists of the partition."""
    return sorted([(row_of(key), record_at(10 + n).version) for n, key in enumerate(KEYS)])


def lacked(count: int = RECORDS_MAX) -> list[tuple[bytes, bytes]]:
    """Rows of the same partition that the other alone has."""
    return [(row_of(key), record_at(5).version) for key in LACKED[:count]]


def next_told(alone: Alone) -> int:
    """Let a boundary go by: the other tells of something else again. Returns the boundary."""
    boundary = told(alone).pop(-1)
    alone.hear(1, Agree(boundary, [(PARTITION, 1)]))
    alone.step()
    return boundary


# --- a list that is none -------------------------------------------------------------------------

FOREIGN = row_of(b"elsewhere")
AFTER = row_of(KEYS[5])
VERSION = record_at(5).version
NOT_THE_KEYS = row_of(KEYS[0])[:4] + b"elsewhere"


@pytest.mark.parametrize(
    ("rows", "bound"),
    [
        ([(FOREIGN, VERSION)], b""),
        ([(NOT_THE_KEYS, VERSION)], b""),
        (lacked(3)[::-1], b""),
        (lacked(1) * 2, b""),
        ([(row_of(b"{tag}%d" % number), VERSION) for number in range(2_000, 9_000)], b""),
        ([(lacked(1)[0][0], pack_version(0, 1))], b""),
        (lacked(3), lacked(1)[0][0]),
        ([], FOREIGN),
        ([], b"\0"),
        ([], b"\xff" * 3),
    ],
    ids=[
        "another partition",
        "not the key's row",
        "order",
        "twice",
        "too many",
        "no stamp",
        "rows past the bound",
        "a bound elsewhere",
        "a bound below",
        "a bound past all",
    ],
)
def test_a_list_that_cannot_be_one_is_no_answer(
    rows: list[tuple[bytes, bytes]], bound: bytes
) -> None:
    alone, wanted = asked_for_list()
    assert partition_of(FOREIGN) != PARTITION
    alone.hear(1, Listed(wanted.batch, rows, bound))
    for _ in range(5):
        alone.step(after_ms=1_000)
    assert alone.take(1, Read) == []
    assert alone.take(1, ListBuckets) == []
    assert "peer_answered_out_of_shape" in alone.notes
    assert not alone.node.agreement.is_repairing


def test_rows_of_buckets_that_were_not_asked_for_are_no_answer() -> None:
    alone, asked = asked_for_sums()
    sums = alone.node.parts.replica.digests.sums(PARTITION)
    alone.hear(1, Sums(asked.batch, [*sums[:63], 1]))
    alone.step(after_ms=1_000)
    (wanted,) = alone.take(1, ListBuckets)
    assert wanted.buckets == 1 << 63
    other = next(pair for pair in lacked() if bucket_of(pair[0]) != 63)
    alone.hear(1, Listed(wanted.batch, [other], b""))
    alone.step(after_ms=1_000)
    assert alone.take(1, Read) == []


def test_a_page_that_does_not_come_forward_ends_it() -> None:
    """Else it would be asked for again and again."""
    alone, wanted = asked_for_list(keys=[b"{tag}%05d" % n for n in range(2 * LIST_ROWS_MAX)])
    first = max(row_of(b"{tag}%05d" % n) for n in range(10))
    alone.hear(1, Listed(wanted.batch, [], first))
    alone.step(after_ms=1_000)
    for _ in range(3):
        for push in alone.take(1, Mutate):
            alone.hear(1, Mutated(push.batch, [], []))
            alone.step(after_ms=1_000)
    (again,) = alone.take(1, ListBuckets)
    assert again.after == first
    alone.hear(1, Listed(again.batch, [], first))
    alone.step(after_ms=1_000)
    assert alone.take(1, ListBuckets) == []
    assert not alone.node.agreement.is_repairing


# --- records --------------------------------------------------------------------------------------


def asked_for_records(count: int = 3, **settings: Any) -> tuple[Alone, Read]:
    alone, wanted = asked_for_list(**settings)
    alone.hear(1, Listed(wanted.batch, sorted([*held(), *lacked(count)]), b""))
    alone.step(after_ms=1_000)
    (asked,) = alone.take(1, Read)
    assert asked.full == sorted([row for row, _ in lacked(count)])
    return alone, asked


def test_what_comes_after_another_layout_is_not_kept() -> None:
    """Who shall hold it now is the new one's to say."""
    alone, asked = asked_for_records()
    layout = alone.node.membership.layout
    assert layout is not None
    alone.node.agreement.adopted(layout)
    records: list[Record | None] = [record_at(5)] * 3
    alone.hear(1, ReadAnswer(asked.batch, records, [], []))
    assert alone.node.parts.turn.counters["repair_records_got"] == 0
    assert alone.disk.get(asked.full[0]) is None


@pytest.mark.parametrize("far", [record_at(3_600_000), made_at(3_600_000)], ids=["stamped", "made"])
def test_a_record_past_the_guard_is_not_kept(far: Record) -> None:
    alone, asked = asked_for_records()
    alone.hear(1, ReadAnswer(asked.batch, [far, record_at(5), None], [], []))
    assert alone.disk.get(asked.full[0]) is None
    assert alone.disk.get(asked.full[1]) == record_at(5)


def test_many_small_records_count_against_the_rate() -> None:
    """Each of them is less than a millisecond's worth."""
    alone, wanted = asked_for_list(repair_rate=1 << 20)
    alone.hear(1, Listed(wanted.batch, sorted([*held(), *lacked()]), b""))
    began_ms = alone.mono_ms
    counts = []
    while alone.node.agreement.is_repairing:
        for asked in alone.take(1, Read):
            records: list[Record | None] = [record_at(5, b"v" * 800)] * len(asked.full)
            counts.append(len(records))
            alone.hear(1, ReadAnswer(asked.batch, records, [], []))
        alone.sleep()
    assert sum(counts) == RECORDS_MAX
    assert alone.mono_ms - began_ms >= RECORDS_MAX * 900 * 1000 >> 20
    assert counts[0] < 20 < counts[1], "few at first, as they might have been large"


def test_all_pieces_of_an_answer_count_against_the_rate() -> None:
    alone, asked = asked_for_records(repair_rate=1 << 20)
    began_ms = alone.mono_ms
    for _ in asked.full:
        alone.hear(1, ReadAnswer(asked.batch, [record_at(5, b"v" * (1 << 18))], [], []))
    while alone.node.agreement.is_repairing:
        alone.sleep()
    assert alone.mono_ms - began_ms >= 750


@pytest.mark.parametrize("rate", [1, 1 << 62])
def test_a_rate_may_be_tiny_or_huge(rate: int) -> None:
    alone, asked = asked_for_sums(repair_rate=rate)
    alone.hear(1, Sums(asked.batch, OTHERS))
    alone.step()
    (wanted,) = alone.take(1, ListBuckets)
    alone.hear(1, Listed(wanted.batch, [], b""))
    alone.step(after_ms=1_000)
    assert len(alone.take(1, Mutate)) == (rate > 1)


def test_what_the_other_refuses_is_told_and_not_counted_as_sent() -> None:
    alone, wanted = asked_for_list()
    alone.hear(1, Listed(wanted.batch, held()[2:], b""))
    alone.step(after_ms=1_000)
    (push,) = alone.take(1, Mutate)
    alone.hear(1, Mutated(push.batch, [], [(0, "the value is too large")]))
    assert alone.node.parts.turn.counters["repair_records_sent"] == 1
    assert alone.node.parts.turn.counters["repair_records_refused"] == 1
    assert "repair_refused" in alone.notes


def test_a_difference_of_which_some_was_taken_is_looked_at_again_at_once() -> None:
    alone, wanted = asked_for_list(keys=[b"{tag}%05d" % n for n in range(RECORDS_MAX + 5)])
    alone.hear(1, Listed(wanted.batch, [], b""))
    for is_refused in (False, True):
        alone.step(after_ms=1_000)
        (push,) = alone.take(1, Mutate)
        refused = [(at, "no") for at in range(len(push.items))] if is_refused else []
        alone.hear(1, Mutated(push.batch, [], refused))
    alone.step(after_ms=1_000)
    assert not alone.node.agreement.is_repairing
    _, pause = alone.node.agreement._anti_entropy._looked[PARTITION, alone.peer(1)]
    assert pause == 0


LOCK: Final = EPOCH_MS // SLICE_MS + 1
"""Above all that these hold."""


def test_what_is_sent_to_another_bears_the_lock_with_which_it_is_held() -> None:
    alone, wanted = asked_for_list()
    alone.node.parts.replica.fences.lock(PARTITION, LOCK, 0)
    alone.hear(1, Listed(wanted.batch, [], b""))
    alone.step(after_ms=1_000)
    assert [push.lock for push in alone.take(1, Mutate)] == [LOCK]


@pytest.mark.parametrize("lock", [0, LOCK])
def test_what_another_holds_with_this_lock_is_kept_though_nothing_so_old_may_win(
    lock: int,
) -> None:
    alone, asked = asked_for_records()
    alone.node.parts.replica.fences.lock(PARTITION, LOCK, 0)
    records: list[Record | None] = [record_at(5)] * 3
    alone.hear(1, ReadAnswer(asked.batch, records, [], [], lock))
    assert alone.disk.get(asked.full[0]) == (record_at(5) if lock else None)


# --- what stays different -------------------------------------------------------------------------


def looked_at(alone: Alone, *, boundaries: int) -> list[int]:
    """At which of so many boundaries it looks, where the other says each time that it differs in
    something, and lists the same."""
    found = []
    for _ in range(boundaries):
        boundary = next_told(alone)
        for asked in alone.take(1, AskSums):
            found.append(boundary)
            alone.hear(1, Sums(asked.batch, OTHERS))
            alone.step(after_ms=1_000)
            (wanted,) = alone.take(1, ListBuckets)
            alone.hear(1, Listed(wanted.batch, held(), b""))
            alone.step(after_ms=1_000)
    return found


def test_a_difference_that_nothing_comes_of_is_looked_at_less_and_less_often() -> None:
    alone, _ = asked_for_sums()
    alone.unlink(1)
    alone.link(1)
    at = looked_at(alone, boundaries=5 * PAUSE_MAX)
    pauses = [later - sooner for sooner, later in pairwise(at)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert set(pauses[4:]) == {PAUSE_MAX}


def test_a_difference_that_comes_later_is_looked_at_at_once() -> None:
    alone, _ = asked_for_sums()
    alone.unlink(1)
    alone.link(1)
    assert len(looked_at(alone, boundaries=4)) == 3
    alone.hear(1, Agree(*_as_here(alone)))
    assert len(looked_at(alone, boundaries=1)) == 1


def _as_here(alone: Alone) -> tuple[int, list[tuple[int, int]]]:
    digests = told(alone)
    boundary = digests.pop(-1)
    return boundary, list(digests.items())


def test_sums_of_another_boundary_are_no_look() -> None:
    """The other is at the next one in a moment, and tells its digest again."""
    alone, asked = asked_for_sums()
    alone.hear(1, Sums(asked.batch, []))
    alone.step()
    assert alone.take(1, AskSums) == []
    boundary = alone.node.agreement.boundary
    alone.hear(1, Agree(boundary, [(PARTITION, 1)]))
    alone.step()
    assert [each.boundary for each in alone.take(1, AskSums)] == [boundary]


def test_a_full_disk_is_not_repaired() -> None:
    alone, asked = asked_for_sums()
    alone.step(StorageState("disk_full", "no room"))
    alone.hear(1, Sums(asked.batch, OTHERS))
    for _ in range(3):
        alone.step(after_ms=1_000)
    assert alone.take(1, ListBuckets) == []
    assert not alone.node.agreement.is_repairing
    assert id_of(1) in alone.said


def test_damage_holds_up_what_is_behind_it_and_not_what_is_before() -> None:
    alone, wanted = asked_for_list()
    alone.hear(1, Listed(wanted.batch, held()[2:6], held()[9][0]))
    alone.step(after_ms=1_000)
    (push,) = alone.take(1, Mutate)
    assert sorted(row for row, _ in push.items) == [row for row, _ in held()[:2] + held()[6:10]]
    alone.hear(1, Mutated(push.batch, [], []))
    alone.step(after_ms=1_000)
    (again,) = alone.take(1, ListBuckets)
    alone.hear(1, Listed(again.batch, [], b"", failed=True))
    alone.step(after_ms=1_000)
    assert not alone.node.agreement.is_repairing


def test_a_peer_lists_what_is_before_its_damage() -> None:
    alone = holding()
    rows = [row for row, _ in held()]
    assert alone.disk.rot(rows[3], Random(1))
    all_buckets = (1 << BUCKETS) - 1
    alone.hear(1, ListBuckets(1, PARTITION, all_buckets, b"", LIST_ROWS_MAX))
    alone.hear(1, ListBuckets(2, PARTITION, all_buckets, rows[2], LIST_ROWS_MAX))
    assert alone.take(1, Listed) == [
        Listed(1, held()[:3], rows[2]),
        Listed(2, [], b"", failed=True),
    ]


def test_boundaries_go_by_while_the_disk_is_looked_at() -> None:
    """What was asked for at a boundary is not compared with sums of the next."""
    alone, asked = asked_for_sums()
    alone.mono_ms += SLICE_MS
    told(alone)
    alone.hear(1, Sums(asked.batch, OTHERS))
    alone.step(after_ms=1_000)
    assert alone.take(1, ListBuckets) == []


# --- what a peer asks for -------------------------------------------------------------------------

ALL: Final = (1 << BUCKETS) - 1


def test_a_page_of_large_records_is_short() -> None:
    """They are read whole."""
    alone = holding(keys=[])
    rows = sorted(row for row, _ in lacked(8))
    for number, row in enumerate(rows):
        alone.hear(1, Mutate(number, [(row, record_at(5, b"v" * (PAGE_BYTES // 4)))]))
    alone.hear(1, ListBuckets(1, PARTITION, ALL, b"", LIST_ROWS_MAX))
    (page,) = alone.take(1, Listed)
    assert [row for row, _ in page.rows] == rows[:4]
    assert page.bound == rows[3]


def test_a_list_is_of_one_partition_whatever_row_it_is_to_begin_behind() -> None:
    alone = holding()
    for after in (b"", b"\0", b"\0" * 5_000, row_of(KEYS[0])[:2]):
        alone.hear(1, ListBuckets(1, PARTITION, ALL, after, LIST_ROWS_MAX))
        assert alone.take(1, Listed) == [Listed(1, held(), b"")]
    for after in ((PARTITION + 1).to_bytes(2, "big"), b"\xff" * 5_000):
        alone.hear(1, ListBuckets(1, PARTITION, ALL, after, LIST_ROWS_MAX))
        assert alone.take(1, Listed) == [Listed(1, [], b"")]


def test_a_copy_that_is_none_is_not_listed() -> None:
    alone = Alone(2, replication=1, w=1, r=1)
    alone.link(1)
    topology = alone.node.membership.current()
    other = next(each for each in range(PARTITION_COUNT) if not topology.partitions[each].is_mine)
    alone.hear(1, ListBuckets(1, other, ALL, b"", LIST_ROWS_MAX))
    assert alone.take(1, Listed) == [Listed(1, [], b"", failed=True)]


def test_answers_of_a_step_are_bounded() -> None:
    """A question of 20 bytes is answered with half a thousand."""
    alone = holding()
    boundary = told(alone).pop(-1)
    alone.hear(1, *[AskSums(number, PARTITION, boundary) for number in range(100_000)])
    answers = alone.take(1, Sums)
    assert 0 < len(answers) <= STEP_BYTES_MAX // SUMS_BYTES + 1
    assert alone.node.parts.turn.counters["peer_requests_dropped"] == 100_000 - len(answers)
    alone.hear(1, *[ListBuckets(number, PARTITION, ALL, b"", 500) for number in range(100)])
    assert len(alone.take(1, Listed)) < 100


def test_one_that_does_not_answer_holds_up_nobody_for_long() -> None:
    alone = holding()
    boundary = told(alone).pop(-1)
    alone.hear(1, Agree(boundary, [(each, 1) for each in range(100)]))
    alone.hear(2, Agree(boundary, [(PARTITION, 1)]))
    alone.step()
    assert len(alone.take(1, AskSums)) == 1
    alone.step(after_ms=alone.node.settings.timeout_ms + 1)
    alone.step()
    assert [asked.partition for asked in alone.take(2, AskSums)] == [PARTITION]
    assert alone.take(1, AskSums) == []
