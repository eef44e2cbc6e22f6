# SPDX-License-Identifier: GPL-3.0-or-later
"""Answering who proposes: what is refused, and when the answer leaves."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.outbox import STEP_BYTES_MAX, STEP_BYTES_MAX_ALL
from quorate.core.values.events import Batch, PeerFrame, StorageState
from quorate.core.values.messages import (
    AcceptRows,
    Frame,
    OtherEpoch,
    PrepareRows,
    RowsVoted,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT, successor
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, made_at, record_at
from tests.unit.core.moving import node, stable
from tests.unit.core.vote_stage import Unreadable
from tests.unit.core.write_stage import alone_of

ROW = row_of(b"k")
HELD = record_at(-10, b"held")
BALLOT = (1, 7)
NEW = Record(successor(HELD.version, 1), b"new", winners=((0, 1),))


def _voter() -> Alone:
    alone = alone_of()
    alone.disk.format(Batch([(ROW, HELD)], [], []))
    return alone


def _votes(alone: Alone, index: int = 1) -> list[RowVote]:
    return [vote for answer in alone.take(index, RowsVoted) for vote in answer.votes]


def _prepare(alone: Alone, row: bytes = ROW, base: bytes | None = None) -> None:
    alone.hear(1, PrepareRows(5, [(row, base, BALLOT, ABSENT)]))


def _accept(alone: Alone, record: Record = NEW, row: bytes = ROW) -> None:
    alone.hear(1, AcceptRows(6, [(row, HELD.version, BALLOT, record)]))


def test_votes_are_told_in_the_order_asked() -> None:
    alone = _voter()
    items = [(row, None, BALLOT, ABSENT) for row in (row_of(b"a"), ROW, row_of(b"z"))]
    alone.hear(1, PrepareRows(5, [*items]))
    (answer,) = alone.take(1, RowsVoted)
    assert answer.batch == 5
    assert [vote.held for vote in answer.votes] == [None, HELD, None]
    _accept(alone)
    assert [vote.said for vote in _votes(alone)] == [Said.ACCEPTED]
    assert alone.disk.get(ROW) == HELD, "it is no record yet"


def test_a_vote_is_told_when_it_is_durable() -> None:
    """P1."""
    alone = _voter()
    alone.syncs = False
    _prepare(alone)
    assert _votes(alone) == []
    alone.sync()
    assert [vote.said for vote in _votes(alone)] == [Said.PROMISED]
    _accept(alone)
    assert _votes(alone) == []
    alone.sync()
    assert [vote.said for vote in _votes(alone)] == [Said.ACCEPTED]


def test_a_refusal_to_vote_waits_for_the_promise_that_it_tells_of() -> None:
    alone = _voter()
    alone.syncs = False
    _prepare(alone)
    alone.hear(2, PrepareRows(7, [(ROW, None, (1, 1), ABSENT)]))
    assert _votes(alone, 2) == []
    alone.sync()
    assert [vote.promised for vote in _votes(alone, 2)] == [BALLOT]


def test_a_full_disk_refuses_to_vote_at_once_and_remembers_nothing() -> None:
    alone = _voter()
    alone.syncs = False
    alone.put(b"another", b"v")
    alone.step(StorageState("disk_full", "no space"))
    _prepare(alone)
    _accept(alone)
    assert [vote.said for vote in _votes(alone)] == [Said.REFUSED] * 2
    alone.step(StorageState())
    alone.sync()
    assert alone.disk.get_votes(ROW) is None


def test_a_row_of_others_and_what_is_no_row_are_refused() -> None:
    layout = stable(5)
    alone = node(count=5, layout_of=layout)
    rows = [row_of(b"%d" % n) for n in range(99)]
    others = next(row for row in rows if 0 not in layout.table[partition_of(row)])
    for row in (others, b"\xff\xffk"):
        _prepare(alone, row)
        _accept(alone, row=row)
    assert [vote.said for vote in _votes(alone)] == [Said.REFUSED] * 4


@pytest.mark.parametrize("ahead", [record_at(3_600_000), record_at(1 << 40), made_at(3_600_000)])
def test_a_base_or_a_record_that_no_trusted_clock_gave_out_is_refused(ahead: Record) -> None:
    alone = _voter()
    _prepare(alone, base=ahead.version)
    _accept(alone, ahead)
    assert [vote.said for vote in _votes(alone)] == [Said.REFUSED] * 2
    assert alone.disk.get_votes(ROW) is None


def test_a_value_that_is_too_large_is_not_accepted() -> None:
    alone = _voter()
    bytes_max = alone.node.settings.value_bytes_max
    _accept(alone, Record(NEW.version, bytes(bytes_max + 1), winners=NEW.winners))
    _accept(alone, Record(NEW.version, bytes(bytes_max), winners=NEW.winners))
    assert [vote.said for vote in _votes(alone)] == [Said.REFUSED, Said.ACCEPTED]


def test_a_step_that_has_said_enough_refuses_the_rest() -> None:
    """Who asked counts that as no answer."""
    alone = _voter()
    rows = [row_of(b"%d" % n) for n in range(12)]
    large = Record(HELD.version, bytes(STEP_BYTES_MAX // 8))
    alone.disk.format(Batch([(row, large) for row in rows], [], []))
    alone.hear(1, PrepareRows(5, [(row, None, BALLOT, ABSENT) for row in rows]))
    said = [vote.said for vote in _votes(alone)]
    assert said == [Said.PROMISED] * 8 + [Said.REFUSED] * 4
    _prepare(alone, rows[-1])
    assert [vote.said for vote in _votes(alone)] == [Said.PROMISED], "the next step has room"


def test_what_a_step_says_to_all_peers_is_bounded_too() -> None:
    count = 12
    alone = Alone(count + 1, replication=count + 1)
    peers = range(1, count + 1)
    alone.link(*peers)
    rows = [row_of(b"%d" % n) for n in range(8)]
    large = Record(HELD.version, bytes(STEP_BYTES_MAX // 8))
    alone.disk.format(Batch([(row, large) for row in rows], [], []))
    epoch = alone.node.membership.epoch
    questions: list[tuple[bytes, bytes | None, tuple[int, int], bytes]] = [
        (row, None, (1, index), ABSENT) for index, row in enumerate(rows)
    ]
    asked = [Frame(epoch, 0, [PrepareRows(5, questions)]) for _ in peers]
    alone.step(*[PeerFrame(id_of(i), each) for i, each in zip(peers, asked, strict=True)])
    held = [vote.held for index in peers for vote in _votes(alone, index)]
    told = sum(len(each.value or b"") for each in held if each is not None)
    assert STEP_BYTES_MAX_ALL - STEP_BYTES_MAX <= told <= STEP_BYTES_MAX_ALL


def test_a_row_that_cannot_be_read_is_not_voted_on() -> None:
    alone = _voter()
    alone.node.parts.replica._engine = Unreadable()
    _prepare(alone)
    _accept(alone)
    assert [vote.said for vote in _votes(alone)] == [Said.REFUSED] * 2


def test_who_asks_under_another_epoch_is_told_so() -> None:
    alone = _voter()
    message = PrepareRows(5, [(ROW, None, BALLOT, ABSENT)])
    alone.hear(1, message, epoch=alone.node.membership.epoch + 1)
    assert _votes(alone) == []
    assert [each.batches for each in alone.take(1, OtherEpoch)] == [[5]]
