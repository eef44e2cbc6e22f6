# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock on whose ground this node alone accepted something, and what the others say of that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from quorate.core.exchanges.counting import REST_MS, ROWS_PER_STEP
from quorate.core.exchanges.rounds import ROUND_MS
from quorate.core.values.events import Batch
from quorate.core.values.messages import (
    NO_BALLOT,
    AcceptRows,
    Agree,
    Fencing,
    Instance,
    PrepareRows,
    RowsVoted,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.stored import StoredVotes
from quorate.core.values.versions import pack_version, stamp_at, successor
from quorate.core.votes import encode_votes
from quorate.sim.clock import EPOCH_MS
from tests.unit.core.alone import Alone
from tests.unit.core.update_stage import ROW, stage

PARTITION: Final = partition_of(ROW)
SLICE_MS: Final = 60_000
LOCK: Final = EPOCH_MS // SLICE_MS + 1
PHANTOM: Final = pack_version(stamp_at(LOCK * SLICE_MS), 0)
THEIRS: Final = (3, 5)
ACCEPTED: Final = Record(successor(PHANTOM, 100), b"theirs", winners=((0, 7),))
OLDER: Final = Record(pack_version(stamp_at(LOCK * SLICE_MS - 1), 7), b"older")
NEWER: Final = Record(pack_version(stamp_at(LOCK * SLICE_MS + 1), 7), b"newer")


def _holding_up(**settings: Any) -> Alone:
    """A node that has locked, and accepted what a coordinator proposed that is dead."""
    alone = stage(None, slice_ms=SLICE_MS, heartbeat_ms=86_400_000, **settings)
    alone.step(after_ms=3 * SLICE_MS)
    fences = alone.node.parts.replica.fences
    fences.lock(PARTITION, LOCK, 1)
    alone.hear(1, AcceptRows(7, [(ROW, PHANTOM, THEIRS, ACCEPTED)]))
    (answer,) = alone.take(1, RowsVoted)
    assert answer.votes[0].said == Said.ACCEPTED
    return alone


def _tell(alone: Alone, index: int, *fences: Fencing, boundary: int = LOCK + 1) -> None:
    """A peer tells a boundary, by itself past the lock and without one."""
    alone.hear(index, Agree(boundary, [(PARTITION, 1)], list(fences)))
    alone.step()


def _answer(alone: Alone, index: int, said: Said, held: Record | None = None) -> int:
    """A peer says this of the phantom, and nothing to other questions; of how many it was one."""
    count = 0
    for message in alone.take(index, PrepareRows):
        votes = []
        for _, base, ballot, _ in message.items:
            if base == PHANTOM:
                assert ballot == NO_BALLOT
                count += 1
                votes.append(RowVote(said, bytes(14), held=held))
            else:
                votes.append(RowVote(Said.REFUSED))
        alone.hear(index, RowsVoted(message.batch, votes))
    return count


def _lock(alone: Alone) -> int:
    return alone.node.parts.replica.fences.boundary(PARTITION)


def _is_accepted(alone: Alone) -> bool:
    """And what was promised stays, whether it is or not."""
    (instance,) = alone.node.parts.votes.remembered(ROW).instances
    assert (instance.base, instance.promised) == (PHANTOM, THEIRS)
    assert (instance.record is None) == (instance.accepted == NO_BALLOT)
    return instance.record == ACCEPTED


@pytest.mark.parametrize("held", [None, OLDER], ids=["nothing", "something older"])
def test_what_no_majority_can_accept_any_more_is_given_up_and_the_lock_taken_back(
    held: Record | None,
) -> None:
    alone = _holding_up()
    for index in (1, 2):
        _tell(alone, index)
        assert _lock(alone) == LOCK
    assert _answer(alone, 1, Said.GONE, held) == 1
    assert _is_accepted(alone)
    assert _answer(alone, 2, Said.GONE, held) == 1
    assert not _is_accepted(alone)
    assert alone.node.parts.turn.counters["votes_given_up"] == 1
    _tell(alone, 1)
    assert _lock(alone) == 0


@pytest.mark.parametrize(
    ("said", "held"),
    [
        (Said.GONE, NEWER),
        (Said.GONE, ACCEPTED),
        (Said.PROMISED, None),
        (Said.OUTBID, None),
        (Said.RESOLVED, ACCEPTED),
        (Said.REFUSED, None),
    ],
)
def test_who_may_have_accepted_it_or_may_yet_keeps_it(said: Said, held: Record | None) -> None:
    """It accepted, took a newer put, and took its lock back: its vote may have been the one."""
    alone = _holding_up()
    _tell(alone, 1)
    _tell(alone, 2)
    _answer(alone, 1, Said.GONE)
    _answer(alone, 2, said, held)
    assert _is_accepted(alone)
    _tell(alone, 1)
    assert _lock(alone) == LOCK


@pytest.mark.parametrize(
    ("boundary", "fences"),
    [(LOCK, ()), (LOCK + 1, ((PARTITION, LOCK, 2, 0),))],
    ids=["it is not past the lock", "it has the lock"],
)
def test_who_may_have_the_lock_yet_is_not_asked(boundary: int, fences: tuple[Fencing, ...]) -> None:
    alone = _holding_up()
    _tell(alone, 1, *fences, boundary=boundary)
    _tell(alone, 2)
    assert _answer(alone, 1, Said.GONE) == _answer(alone, 2, Said.GONE) == 0
    assert _is_accepted(alone)


def test_who_has_not_passed_the_lock_counts_as_one_that_may_accept_it() -> None:
    """Its answer may be of before it locks."""
    alone = _holding_up(count=5)
    for index in (1, 2, 3):
        _tell(alone, index)
    for index in (1, 2, 4):
        assert _answer(alone, index, Said.GONE)
    assert _is_accepted(alone)
    _answer(alone, 3, Said.GONE)
    assert not _is_accepted(alone)


def test_an_answer_under_another_layout_settles_nothing() -> None:
    alone = _holding_up()
    _tell(alone, 1)
    _tell(alone, 2)
    alone.node.membership.epoch += 1
    _answer(alone, 1, Said.GONE)
    _answer(alone, 2, Said.GONE)
    assert _is_accepted(alone)


def test_a_question_is_over_when_nobody_is_left_to_answer() -> None:
    alone = _holding_up()
    _tell(alone, 1)
    _tell(alone, 2)
    alone.unlink(1, 2)
    for _ in range(60):
        alone.step(after_ms=ROUND_MS)
    assert [asked for _, asked in alone.node.rounds._order if not asked.is_over] == []
    assert _is_accepted(alone)


def test_what_is_given_up_is_accepted_here_no_more_and_its_row_takes_updates() -> None:
    alone = _holding_up()
    for index in (1, 2):
        _tell(alone, index)
    _answer(alone, 1, Said.GONE)
    _answer(alone, 2, Said.GONE)
    _tell(alone, 1)
    alone.hear(1, AcceptRows(8, [(ROW, PHANTOM, THEIRS, ACCEPTED)]))
    (answer,) = alone.take(1, RowsVoted)
    assert answer.votes[0].said == Said.GONE
    alone.hear(1, AcceptRows(9, [(ROW, bytes(14), THEIRS, Record(successor(bytes(14), 9), b"v"))]))
    (answer,) = alone.take(1, RowsVoted)
    assert answer.votes[0].said == Said.ACCEPTED


# --- which votes are open ----------------------------------------------------------------------

NOTHING: Final = bytes(14)
"""The base of nothing, where nothing was locked."""
OPEN: Final = Record(successor(NOTHING, 100), b"theirs", winners=((0, 7),))
"""What a lock would refuse."""


def _restarted(rows: list[bytes], *, is_open: bytes) -> Alone:
    """A node that voted on all of these rows before it was started again, and accepted something
    for one."""
    votes: list[tuple[bytes, bytes | None]] = []
    for row in rows:
        accepted = (THEIRS, OPEN) if row == is_open else (NO_BALLOT, None)
        votes.append((row, encode_votes(StoredVotes(b"", [Instance(NOTHING, THEIRS, *accepted)]))))
    before = stage(None, slice_ms=SLICE_MS)
    before.disk.format(Batch([], [], [], votes=votes))
    alone = Alone(3, replication=3, disk=before.disk, slice_ms=SLICE_MS, heartbeat_ms=86_400_000)
    alone.link(1, 2)
    return alone


class _Looked:
    """Of how many rows votes are read."""

    def __init__(self, alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._scan, self._get = alone.disk.scan_votes, alone.disk.get_votes
        monkeypatch.setattr(alone.disk, "scan_votes", self._scan_counted)
        monkeypatch.setattr(alone.disk, "get_votes", self._get_counted)

    def _scan_counted(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        for found in self._scan(start, end):
            self.count += 1
            yield found

    def _get_counted(self, row: bytes) -> bytes | None:
        self.count += 1
        return self._get(row)

    def since(self) -> int:
        """Since it was last asked."""
        count, self.count = self.count, 0
        return count


@pytest.mark.plain
def test_after_a_restart_the_votes_of_a_partition_are_gone_through_some_rows_in_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are looked at in order, and each is read to see whether it is open: two looks."""
    rows = sorted([row_of(b"{k}%d" % number) for number in range(3 * ROWS_PER_STEP)])
    alone = _restarted(rows, is_open=rows[-1])
    open_votes = alone.node.agreement._collection._open_votes
    looked = _Looked(alone, monkeypatch)
    for partition in (PARTITION, PARTITION + 1):
        assert open_votes.hold_up_lock(partition, LOCK)
        assert open_votes.hold_up_unlock(partition, 0)
    counts = [looked.since()]
    while not alone.node.parts.votes.is_known(PARTITION + 1):
        # Where it has been already, something is accepted.
        alone.hear(1, AcceptRows(7, [(rows[0], NOTHING, (4, 5), OPEN)]))
        looked.since()
        alone.step(after_ms=REST_MS)
        counts.append(looked.since())
    assert max(counts) <= 2 * ROWS_PER_STEP + 1
    assert sum(counts) >= 2 * len(rows)
    assert open_votes.hold_up_lock(PARTITION, LOCK)
    assert alone.node.parts.turn.counters["locks_waited_for_votes"] == len((rows[0], rows[-1]))
    assert not open_votes.hold_up_lock(PARTITION + 1, LOCK)
