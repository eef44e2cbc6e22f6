# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node tells those that are to hold its copies, and what it takes of what they tell."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.exchanges.outbox import MESSAGE_BYTES_MAX, STEP_BYTES_MAX
from quorate.core.topology.layout import Layout
from quorate.core.topology.steps import completed, stepped
from quorate.core.values.events import SCAN_ROWS_MAX, PeerFrame, StorageState
from quorate.core.values.messages import (
    Frame,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Pull,
    Read,
    ReadAnswer,
    ScannedRows,
)
from quorate.core.values.slots import row_of
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.moving import (
    hear,
    held_by,
    keys_in,
    later,
    node,
    rows_in,
    settle,
    stable,
    swapped,
)

OLD = stable()
P = next(each for each in held_by(OLD, 0) if 3 not in OLD.table[each])
"""This node and two others hold it; node 3 does not."""
JOINT = stepped(OLD, {P: swapped(OLD, P, 0, 3)})
ROWS = rows_in(P, 12)


def _filled() -> Alone:
    alone = node()
    alone.hear(1, Mutate(7, [(row, record_at(1)) for row in ROWS]))
    alone.take(1, Mutated)
    return alone


def _pulled(
    alone: Alone, after: bytes = b"", limit: int = 100, *, is_full: bool = False
) -> ScannedRows:
    alone.hear(3, Pull(9, P, after, limit, is_full=is_full))
    (listed,) = alone.take(3, ScannedRows)
    assert listed.batch == 9
    return listed


def test_it_lists_its_rows_in_order_a_page_at_a_time() -> None:
    alone = _filled()
    hear(alone, JOINT)
    first = _pulled(alone, limit=5)
    assert ([each.row for each in first.rows], first.more) == (list(ROWS[:5]), True)
    rest = _pulled(alone, after=ROWS[4], limit=50)
    assert ([each.row for each in rest.rows], rest.more) == (list(ROWS[5:]), False)
    assert len(_pulled(alone, limit=SCAN_ROWS_MAX * 9).rows) == len(ROWS)


def test_tombstones_and_what_expires_are_listed_as_they_are() -> None:
    alone = _filled()
    alone.hear(1, Mutate(7, [(ROWS[0], record_at(2, None))]))
    hear(alone, JOINT)
    first = _pulled(alone).rows[0]
    assert (first.row, first.live) == (ROWS[0], False)


def test_records_come_with_the_list_if_they_are_asked_for_and_have_room() -> None:
    alone = _filled()
    large = record_at(2, bytes(MESSAGE_BYTES_MAX // 2))
    alone.hear(1, Mutate(7, [(row, large) for row in ROWS[2:6]]))
    hear(alone, JOINT)
    assert _pulled(alone).records == []
    told = _pulled(alone, is_full=True)
    assert [each.row for each in told.rows] == list(ROWS)
    assert told.records == [record_at(1), record_at(1), large, large], "up to a message"
    assert _pulled(alone, after=ROWS[5], limit=2, is_full=True).records == [record_at(1)] * 2


def test_it_tells_when_what_it_took_before_is_durable_and_all_of_that() -> None:
    """A row that was acknowledged under the layout before must not be missing."""
    alone = _filled()
    alone.syncs = False
    late = row_of(keys_in(P, 20)[15])
    alone.hear(1, Mutate(7, [(late, record_at(1))]))
    hear(alone, JOINT)
    alone.hear(3, Pull(9, P, b"", 100))
    assert alone.take(3, ScannedRows) == []
    alone.syncs = True
    alone.sync()
    (listed,) = alone.take(3, ScannedRows)
    assert late in [each.row for each in listed.rows]


def test_who_asks_in_the_very_step_of_the_layout_waits_for_that_too() -> None:
    alone = _filled()
    alone.syncs = False
    news = OtherEpoch(JOINT.epoch, [], JOINT.encode())
    alone.step(PeerFrame(id_of(3), Frame(JOINT.epoch, 0, [news, Pull(9, P, b"", 100)])))
    assert alone.take(3, ScannedRows) == []
    alone.syncs = True
    alone.sync()
    assert len(alone.take(3, ScannedRows)) == 1


def test_a_question_that_waited_into_another_layout_is_refused() -> None:
    alone = _filled()
    hear(alone, JOINT)
    alone.syncs = False
    alone.hear(1, Mutate(7, [(ROWS[0], record_at(3))]))
    alone.hear(3, Pull(9, P, b"", 100))
    hear(alone, later(JOINT, 2))
    alone.syncs = True
    alone.sync()
    assert alone.take(3, ScannedRows) == []
    assert 9 in [batch for each in alone.take(3, OtherEpoch) for batch in each.batches]


@pytest.mark.parametrize("epochs", [-1, 1])
def test_a_question_of_another_layout_is_refused(epochs: int) -> None:
    alone = _filled()
    hear(alone, JOINT)
    alone.hear(3, Pull(9, P, b"", 100), epoch=JOINT.epoch + epochs)
    assert alone.take(3, ScannedRows) == []
    assert [9] in [each.batches for each in alone.take(3, OtherEpoch)]


def test_of_what_it_does_not_hold_it_tells_nothing() -> None:
    alone = _filled()
    gone = completed(JOINT)
    hear(alone, gone)
    assert _pulled(alone).failed
    settle(alone)
    assert _pulled(alone).failed


def test_damage_is_told_as_such_and_what_is_before_it_is_told() -> None:
    alone = _filled()
    hear(alone, JOINT)
    assert alone.disk.rot(ROWS[3], Random(1))
    listed = _pulled(alone)
    assert (len(listed.rows), listed.more, listed.failed) == (3, True, False)
    assert _pulled(alone, after=ROWS[2]).failed
    assert len(_pulled(alone, after=ROWS[3]).rows) == len(ROWS) - 4


def test_what_one_step_tells_one_peer_is_bounded() -> None:
    alone = _filled()
    hear(alone, JOINT)
    count = STEP_BYTES_MAX // (512 * len(ROWS)) + 50
    alone.hear(3, *[Pull(batch, P, b"", 100) for batch in range(count)])
    assert len(alone.take(3, ScannedRows)) < count
    assert alone.node.parts.turn.counters["peer_requests_dropped"] > 0
    assert _pulled(alone).rows, "and the next step tells it again"


def test_records_with_lists_are_part_of_what_one_step_tells() -> None:
    alone = _filled()
    alone.hear(1, Mutate(7, [(ROWS[0], record_at(2, bytes(MESSAGE_BYTES_MAX)))]))
    hear(alone, JOINT)
    count = STEP_BYTES_MAX // MESSAGE_BYTES_MAX + 5
    alone.hear(3, *[Pull(batch, P, b"", 1, is_full=True) for batch in range(count)])
    assert len(alone.take(3, ScannedRows)) <= STEP_BYTES_MAX // MESSAGE_BYTES_MAX
    assert alone.node.parts.turn.counters["peer_requests_dropped"] >= 5


def test_a_node_that_leaves_serves_and_keeps_until_the_move_is_complete() -> None:
    alone = _filled()
    hear(alone, JOINT)
    alone.hear(1, Mutate(8, [(ROWS[0], record_at(5))]))
    assert alone.take(1, Mutated) == [Mutated(8, [], [])]
    alone.hear(1, Read(8, [ROWS[0]], []))
    assert alone.take(1, ReadAnswer) == [ReadAnswer(8, [record_at(5)], [])]
    hear(alone, completed(JOINT))
    alone.hear(1, Mutate(9, [(ROWS[0], record_at(6))]))
    (told,) = alone.take(1, Mutated)
    assert told.refused == [(0, "not a replica of this key")]


def test_what_a_peer_tells_of_itself_is_taken_as_it_says() -> None:
    """And told on: what this node has yet to get."""
    alone = node()
    joint: Layout = stepped(OLD, {P: swapped(OLD, P, 1, 3) if 1 in OLD.table[P] else (0, 1, 3)})
    hear(alone, joint)
    alone.hear(3, Ping(5, [], keys=7, bytes_used=9, pulled=0, left=3))
    assert alone.node.pulls.pulled == 0
    asks = len(alone.said.get(id_of(1), []))
    alone.hear(3, Ping(6, [], keys=7, bytes_used=9, pulled=joint.epoch, left=0))
    assert len(alone.said[id_of(1)]) > asks, "the move is complete: it proposes that at once"


def test_while_the_disk_takes_nothing_no_pulls_wait_for_it() -> None:
    alone = _filled()
    hear(alone, JOINT)
    alone.step(StorageState("storage_busy", "stuck"))
    for _ in range(3):
        alone.hear(3, Pull(9, P, b"", 100), epoch=JOINT.epoch)
    assert alone.node.parts.turn.counters["peer_requests_dropped"] == 3
    assert alone.take(3, ScannedRows) == []
    alone.step(StorageState())
    assert [each.row for each in _pulled(alone).rows] == list(ROWS)
