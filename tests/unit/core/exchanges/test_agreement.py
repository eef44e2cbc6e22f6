# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node tells of its copies, and what it makes of what others tell."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from quorate.core.digests import bucket_of, sums_of
from quorate.core.exchanges.agreement import (
    LEAD_BOUNDARIES,
    ROUND_STEPS,
    ROUNDS_PER_SLICE,
)
from quorate.core.exchanges.anti_entropy import LIST_ROWS_MAX
from quorate.core.exchanges.counting import ROWS_PER_STEP
from quorate.core.topology.steps import stepped
from quorate.core.values.events import StorageState
from quorate.core.values.messages import (
    Agree,
    AskSums,
    ListBuckets,
    Listed,
    Mutate,
    Mutated,
    OtherEpoch,
    Sums,
)
from quorate.core.values.settings import SLICE_MS
from quorate.core.values.slots import PARTITION_COUNT, partition_of, row_of
from tests.simulation.asking import newer
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.moving import gaining, hear, held_by, node, stable, swapped, without

KEYS = [b"{tag}%d" % number for number in range(20)]
PARTITION = partition_of(row_of(KEYS[0]))
LATER_MS = 3 * SLICE_MS
ROUND_MS = SLICE_MS // ROUNDS_PER_SLICE


def holding(*, keys: list[bytes] = KEYS, **settings: Any) -> Alone:
    """Node 0, of the lowest id, with records of long ago, linked to both others."""
    # Peers here answer no pings.
    alone = Alone(3, heartbeat_ms=86_400_000, **settings)
    alone.link(1, 2)
    items = [(row_of(key), record_at(10 + place)) for place, key in enumerate(keys)]
    alone.hear(1, Mutate(1, items))
    alone.take(1, Mutated)
    alone.mono_ms += LATER_MS
    digests = alone.node.parts.replica.digests
    while not all(map(digests.is_whole, range(PARTITION_COUNT))):
        alone.step(after_ms=50)
    return alone


def told(alone: Alone, index: int = 1) -> dict[int, int]:
    """What it tells a peer in the first two rounds at a boundary, which is under -1."""
    alone.mono_ms += SLICE_MS - alone.now.wall_ms % SLICE_MS
    alone.take(index, Agree)
    found: dict[int, int] = {}
    for _ in range(2 * ROUND_STEPS):
        alone.step(after_ms=ROUND_MS // ROUND_STEPS)
        for message in alone.take(index, Agree):
            found.update(message.digests)
            found[-1] = message.boundary
    return found


def test_every_partition_that_is_gone_through_is_told_of_in_a_round() -> None:
    alone = holding()
    digests = told(alone)
    boundary = alone.now.wall_ms // SLICE_MS - 1
    assert digests.pop(-1) == boundary
    assert sorted(digests) == list(range(PARTITION_COUNT))
    assert [partition for partition, each in digests.items() if each] == [PARTITION]


def test_the_age_of_the_last_agreement_counts_from_when_a_partition_came_here() -> None:
    old = stable()
    alone = node(layout_of=old)
    assert alone.node.status().agreed_age_s == 0
    alone.step(after_ms=100_000)
    hear(alone, gaining(old, without(old, 0)[0]))
    assert alone.node.status().agreed_age_s == 100, "that of what it had before"


def test_what_was_counted_under_an_earlier_layout_is_not_told_under_the_next() -> None:
    alone = holding()
    told(alone)
    alone.syncs = False
    alone.hear(1, Mutate(2, [(row_of(KEYS[0]), record_at(500))]))
    for _ in range(ROUND_STEPS):
        alone.step(after_ms=ROUND_MS // ROUND_STEPS)
    assert alone.take(1, Agree) == [], "it waits for the disk"
    layout = alone.node.membership.layout
    assert layout is not None
    hear(alone, newer(layout))
    alone.take(1, Agree)
    alone.sync()
    assert alone.take(1, Agree) == []


def test_of_a_partition_that_moves_nothing_is_told() -> None:
    old = stable()
    moving = held_by(old, 0, 1, 3)[0]
    alone = node(layout_of=old)
    alone.mono_ms += LATER_MS
    digests = alone.node.parts.replica.digests
    while not digests.is_whole(moving):
        alone.step(after_ms=50)
    assert moving in told(alone)
    hear(alone, stepped(old, {moving: swapped(old, moving, 3, 2)}))
    found = told(alone)
    assert found
    assert moving not in found


def test_equal_digests_of_all_others_are_an_agreement() -> None:
    alone = holding()
    digests = told(alone)
    boundary = digests.pop(-1)
    before = alone.node.status().agreed_age_s
    alone.hear(1, Agree(boundary, list(digests.items())))
    assert alone.node.status().agreed_age_s >= before
    alone.hear(2, Agree(boundary, list(digests.items())), epoch=1)
    assert alone.node.status().agreed_age_s >= before, "of another layout"
    alone.hear(2, Agree(boundary, list(digests.items())))
    assert alone.node.status().agreed_age_s <= 2 * SLICE_MS // 1_000
    assert alone.take(1, AskSums) == []


def test_who_differs_by_now_agrees_no_more_though_it_did_at_this_boundary() -> None:
    alone = holding()
    digests = told(alone)
    boundary = digests.pop(-1)
    before = alone.node.status().agreed_age_s
    alone.hear(1, Agree(boundary, list(digests.items())))
    alone.hear(1, Agree(boundary, [(PARTITION, digests[PARTITION] + 1)]))
    alone.hear(2, Agree(boundary, list(digests.items())))
    assert alone.node.status().agreed_age_s >= before
    alone.hear(1, Agree(boundary, [(PARTITION, digests[PARTITION])]))
    assert alone.node.status().agreed_age_s < before


def test_a_digest_of_another_boundary_says_nothing() -> None:
    alone = holding()
    boundary = told(alone).pop(-1)
    for other in (boundary - 1, boundary + 1):
        alone.hear(1, Agree(other, [(PARTITION, 1)]))
        alone.step()
        assert alone.take(1, AskSums) == []
    alone.hear(1, Agree(boundary, [(PARTITION, 1)]))
    alone.step()
    assert [asked.partition for asked in alone.take(1, AskSums)] == [PARTITION]


def test_a_horizon_that_a_peer_told_is_not_taken_back_at_the_same_boundary() -> None:
    alone = holding()
    boundary = told(alone).pop(-1)
    horizon = boundary - 1
    alone.hear(1, Agree(boundary, [], [(PARTITION, horizon, 1, horizon)]))
    alone.hear(1, Agree(boundary, [(PARTITION, 1)], [(PARTITION, horizon, 1, 0)]))
    alone.step()
    assert alone.take(1, AskSums) == [], "it has dropped what this node still has"


def test_what_the_other_lacks_is_sent_and_nothing_else() -> None:
    alone = holding()
    boundary = told(alone).pop(-1)
    alone.hear(1, Agree(boundary, [(PARTITION, 1)]))
    alone.step()
    (asked,) = alone.take(1, AskSums)
    held = [(row_of(key), record_at(10 + n).version) for n, key in enumerate(KEYS)]
    alone.hear(1, Sums(asked.batch, sums_of(held[1:])))
    alone.step(after_ms=1_000)
    (wanted,) = alone.take(1, ListBuckets)
    assert wanted.buckets == 1 << bucket_of(held[0][0])
    theirs = [pair for pair in held[1:] if wanted.buckets >> bucket_of(pair[0]) & 1]
    alone.hear(1, Listed(wanted.batch, theirs, b""))
    alone.step(after_ms=1_000)
    (sent,) = alone.take(1, Mutate)
    assert [row for row, _ in sent.items] == [held[0][0]]
    alone.hear(1, Mutated(sent.batch, [], []))
    for _ in range(5):
        alone.step(after_ms=1_000)
    assert alone.take(1, ListBuckets) == []
    assert alone.take(1, AskSums) == []


def test_it_tells_its_sums_at_its_boundary_only() -> None:
    alone = holding()
    boundary = told(alone).pop(-1)
    alone.hear(1, AskSums(1, PARTITION, boundary), AskSums(2, PARTITION, boundary + 1))
    held = [(row_of(key), record_at(10 + n).version) for n, key in enumerate(KEYS)]
    assert alone.take(1, Sums) == [Sums(1, sums_of(held)), Sums(2, [])]
    alone.hear(1, AskSums(3, PARTITION, boundary), epoch=1)
    assert [refused.batches for refused in alone.take(1, OtherEpoch)] == [[3]]


def test_a_list_is_of_the_buckets_that_are_asked_and_bounded() -> None:
    keys = [b"{tag}%05d" % number for number in range(LIST_ROWS_MAX + 10)]
    alone = holding(keys=keys)
    rows = sorted(map(row_of, keys))
    alone.hear(1, ListBuckets(1, PARTITION, 3, b"", 1 << 40))
    alone.hear(1, ListBuckets(2, PARTITION, 3, rows[LIST_ROWS_MAX - 1], 1 << 40))
    first, last = alone.take(1, Listed)
    assert first.bound == rows[LIST_ROWS_MAX - 1]
    assert last.bound == b""
    assert [row for row, _ in first.rows + last.rows] == [
        row for row in rows if bucket_of(row) in (0, 1)
    ]


def test_what_is_stamped_after_the_boundary_is_left_alone() -> None:
    """It may be on its way."""
    alone = holding()
    boundary = told(alone).pop(-1)
    young = (row_of(b"{tag}young"), record_at(alone.mono_ms).version)
    alone.hear(1, Agree(boundary, [(PARTITION, 1)]))
    alone.step()
    (asked,) = alone.take(1, AskSums)
    alone.hear(1, Sums(asked.batch, [1] * 64))
    alone.step(after_ms=1_000)
    (wanted,) = alone.take(1, ListBuckets)
    held = [(row_of(key), record_at(10 + n).version) for n, key in enumerate(KEYS)]
    alone.hear(1, Listed(wanted.batch, sorted([*held, young]), b""))
    before = dict(alone.said)
    alone.step(after_ms=100)
    assert alone.take(1, Mutate) == []
    assert before.keys() == alone.said.keys()
    assert alone.node.parts.turn.counters["repair_records_got"] == 0


# --- peers that are mistaken, slow or gone -------------------------------------------------------


def test_what_a_peer_tells_of_what_it_does_not_hold_is_not_remembered() -> None:
    """A thousand peers may tell of a thousand partitions each."""
    alone = Alone(4, replication=2, heartbeat_ms=86_400_000)
    alone.link(1)
    alone.hear(1, Agree(1 << 62, [(each, each) for each in range(PARTITION_COUNT)] * 2))
    heard = alone.node.agreement._heard[alone.peer(1)]
    both = [
        each
        for each, replicas in enumerate(alone.node.membership.current().partitions)
        if replicas.is_mine and alone.peer(1) in replicas.others
    ]
    assert 0 < len(both) < PARTITION_COUNT
    assert sorted(heard.digests) == both


@pytest.mark.parametrize("boundary", [0, 1, (1 << 63) - 1])
def test_a_boundary_that_nobody_is_at_is_of_no_consequence(boundary: int) -> None:
    alone = holding()
    digests = told(alone)
    now = digests.pop(-1)
    alone.hear(1, Agree(boundary, list(digests.items())))
    alone.hear(2, Agree(now, list(digests.items())))
    alone.step()
    assert alone.take(1, AskSums) == alone.take(2, AskSums) == []
    alone.hear(1, Agree(now, list(digests.items())))
    assert alone.node.status().agreed_age_s <= 2 * SLICE_MS // 1_000


def test_a_node_of_few_partitions_tells_each_once_in_a_round() -> None:
    """However many nodes share them."""
    alone = Alone(30, heartbeat_ms=86_400_000)
    peers = range(1, 30)
    alone.link(*peers)
    _go_through(alone)
    for index in peers:
        alone.take(index, Agree)
    for _ in range(4 * ROUND_STEPS):
        alone.step(after_ms=ROUND_MS // ROUND_STEPS)
    said = [each for index in peers for agree in alone.take(index, Agree) for each in agree.digests]
    shared = sum(
        len(each.others) for each in alone.node.membership.current().partitions if each.is_mine
    )
    assert len(said) == 4 * shared


def _go_through(alone: Alone) -> None:
    """Let it scan all that is its own."""
    partitions = alone.node.membership.current().partitions
    digests = alone.node.parts.replica.digests
    mine = [each for each, replicas in enumerate(partitions) if replicas.is_mine]
    for _ in range(1_000):
        if all(map(digests.is_whole, mine)):
            return
        alone.step(after_ms=50)
    raise AssertionError("it does not get through")


def holding_up(alone: Alone) -> list[str]:
    return [member.url for member in alone.node.status().members if member.holds_up]


def test_nothing_piles_up_while_a_disk_takes_nothing() -> None:
    alone = holding()
    alone.syncs = False
    alone.hear(1, Mutate(1, [(row_of(KEYS[0]), record_at(99_000))]))
    alone.step(StorageState("disk_full", "no room"))
    waiting = len(alone.node.parts.replica._waiting)
    for _ in range(20 * ROUND_STEPS):
        alone.step(after_ms=ROUND_MS // ROUND_STEPS)
    assert len(alone.node.parts.replica._waiting) == waiting
    assert "takes no writes" in alone.node.status().agreed_waits


def test_a_partition_that_takes_longer_than_a_round_is_gone_through_once() -> None:
    alone = holding()
    digests = alone.node.parts.replica.digests
    keys = [b"{tag}%05d" % number for number in range(20 * ROWS_PER_STEP)]
    for place in range(0, len(keys), 1_000):
        items = [(row_of(key), record_at(10)) for key in keys[place : place + 1_000]]
        alone.hear(1, Mutate(place, items))
    digests.forget(PARTITION)
    ended = 0
    for _ in range(20 * ROUND_STEPS):
        was_whole = digests.is_whole(PARTITION)
        alone.step(after_ms=ROUND_MS // ROUND_STEPS)
        ended += digests.is_whole(PARTITION) and not was_whole
        assert not was_whole or digests.is_whole(PARTITION)
    assert ended == 1


def test_a_copy_that_cannot_be_read_is_named_and_tried_once_for_a_boundary() -> None:
    alone = holding()
    row = sorted(map(row_of, KEYS))[3]
    assert alone.disk.rot(row, Random(1))
    alone.node.parts.replica.digests.forget(PARTITION)
    before = alone.node.parts.turn.counters["copies_damaged"]
    for _ in range(20 * ROUND_STEPS):
        alone.step(after_ms=ROUND_MS // ROUND_STEPS)
    tried = alone.node.parts.turn.counters["copies_damaged"] - before
    assert 4 <= tried <= 20 * ROUND_MS // SLICE_MS + 1
    digests = told(alone)
    boundary = digests.pop(-1)
    assert PARTITION not in digests
    for index in (1, 2):
        alone.hear(index, Agree(boundary, list(digests.items())))
    assert alone.node.status().agreed_waits == (
        f"partition {PARTITION}: this node cannot read all that it holds"
    )
    assert holding_up(alone) == [alone.node.status().url]


def test_who_holds_it_up_is_named_at_every_moment() -> None:
    """Also just after a boundary, where the other has not told anything yet."""
    alone = holding()
    digests = told(alone)
    digests.pop(-1)
    for step in range(20 * ROUND_STEPS):
        alone.step(after_ms=ROUND_MS // ROUND_STEPS)
        if step % ROUND_STEPS == 0:
            # Their clocks are some seconds behind.
            boundary = (alone.now.wall_ms - 7_000) // SLICE_MS - 1
            alone.hear(1, Agree(boundary, list(digests.items())))
            alone.hear(2, Agree(boundary, [(each, 1) for each in digests]))
        if step > 10 * ROUND_STEPS:
            waits = alone.node.status().agreed_waits
            assert waits.endswith("http://n2:8000 holds something else"), waits
            assert holding_up(alone) == ["http://n2:8000"]


def test_those_that_stay_apart_take_turns_in_bringing_them_together() -> None:
    alone = holding()
    for _ in range(LEAD_BOUNDARIES + 2):
        boundary = told(alone).pop(-1)
    for index in (1, 2):
        alone.hear(index, Agree(boundary, [(PARTITION, 1)]))
    alone.step()
    for index in (1, 2):
        alone.take(index, AskSums)
    asked: list[int] = []
    for _ in range(6):
        boundary = told(alone).pop(-1)
        for index in (1, 2):
            alone.hear(index, Agree(boundary, [(PARTITION, 1)]))
        alone.step()
        if any(alone.take(index, AskSums) for index in (1, 2)):
            asked.append(boundary)
        alone.unlink(1, 2)
        alone.link(1, 2)
    assert len(asked) == 2
    assert asked[1] - asked[0] == 3
