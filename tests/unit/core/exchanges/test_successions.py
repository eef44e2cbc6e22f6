# SPDX-License-Identifier: GPL-3.0-or-later
"""Having the successor of a version decided: one of five replicas proposes."""

from __future__ import annotations

from itertools import permutations

import pytest

from quorate.core.exchanges.rounds import ROUND_MS
from quorate.core.exchanges.successions import Decided, Succession, is_same, next_ballot
from quorate.core.values.events import Batch
from quorate.core.values.messages import BALLOT_COUNT_MAX, AcceptRows, PrepareRows, Said
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import successor
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.update_stage import pass_ms
from tests.unit.core.vote_stage import accept, promise
from tests.unit.core.write_stage import alone_of

ROW = row_of(b"k")
BASE = record_at(-5)


def _proposal(number: int) -> Record:
    return Record(successor(BASE.version, number), b"%d" % number, winners=((0, number),))


MINE = _proposal(1)


class Proposer:
    """A succession, and what it told."""

    def __init__(self) -> None:
        self.alone = alone_of(5)
        self.alone.disk.format(Batch([(ROW, BASE)], [], []))
        self.told: list[tuple[Decided, Record | None]] = []
        self.is_wanted = True
        node = self.alone.node
        self.replicas = node.membership.current().partitions[partition_of(ROW)]
        self.succession = Succession(
            *(node.parts, node.rounds, ROW, BASE.version, MINE),
            then=lambda decided, record: self.told.append((decided, record)),
            is_wanted=lambda: self.is_wanted,
        )

    def begin(self) -> Alone:
        self.succession.begin(self.replicas)
        self.alone.step()
        return self.alone


def test_a_proposal_is_decided_by_two_rounds_of_a_majority() -> None:
    proposer = Proposer()
    alone = proposer.begin()
    promise(alone, 1, BASE)
    assert alone.take(1, AcceptRows) == []
    ((_, base, ballot, _),) = promise(alone, 2, BASE)
    assert base == BASE.version
    assert ballot[0] == 1
    assert accept(alone, 1) == [(ROW, BASE.version, ballot, MINE)]
    assert proposer.told == []
    accept(alone, 3)
    assert proposer.told == [(Decided.RECORD, MINE)]
    accept(alone, 4)
    assert len(proposer.told) == 1


@pytest.mark.parametrize("order", list(permutations(((1, 9), (4, 2), (4, 7)))))
def test_what_was_accepted_under_the_highest_ballot_is_proposed(
    order: tuple[tuple[int, int], ...],
) -> None:
    """It may have been decided."""
    proposer = Proposer()
    alone = proposer.begin()
    for index, ballot in zip((1, 2), order, strict=False):
        number = order.index(ballot) + 5
        promise(alone, index, BASE, accepted=ballot, record=_proposal(number))
    highest = max(order[:2])
    other = _proposal(order.index(highest) + 5)
    for index in (1, 2):
        assert accept(alone, index)[0][3] == other
    assert proposer.told == [(Decided.RECORD, other)]
    assert not proposer.succession.is_sent, "nobody was asked to accept its own"


def test_a_record_of_a_vote_that_is_no_promise_is_not_taken() -> None:
    proposer = Proposer()
    alone = proposer.begin()
    promise(alone, 3, BASE, said=Said.OUTBID, promised=(1, 1), record=_proposal(9))
    for index in (1, 2):
        promise(alone, index, BASE)
    assert accept(alone, 1)[0][3] == MINE


def test_who_is_outbid_asks_again_above_what_was_told_and_a_little_later() -> None:
    proposer = Proposer()
    alone = proposer.begin()
    for index, promised in ((1, (7, 5)), (2, (9, 1)), (3, (8, 8))):
        ((_, _, ballot, _),) = promise(alone, index, BASE, said=Said.OUTBID, promised=promised)
        assert ballot[0] == 1
    assert alone.take(1, PrepareRows) == []
    pass_ms(alone, 10)
    ((_, _, ballot, _),) = promise(alone, 1, BASE)
    assert ballot[0] == 10


def test_an_instance_that_one_replica_tells_to_be_resolved_is() -> None:
    for phase in (PrepareRows, AcceptRows):
        proposer = Proposer()
        alone = proposer.begin()
        told = Record(successor(BASE.version, 9), None, winners=((0, 9),))
        if phase is AcceptRows:
            for index in (1, 2):
                promise(alone, index, BASE)
            accept(alone, 3, said=Said.RESOLVED, record=told)
        else:
            promise(alone, 3, BASE, said=Said.RESOLVED, record=told)
        assert proposer.told == [(Decided.RESOLVED, told)]
        assert proposer.succession.is_sent == (phase is AcceptRows)


def test_an_instance_that_no_majority_can_vote_on_any_more_is_gone() -> None:
    proposer = Proposer()
    alone = proposer.begin()
    for index in (1, 2):
        promise(alone, index, BASE, said=Said.GONE)
    assert proposer.told == []
    promise(alone, 3, BASE, said=Said.GONE)
    assert proposer.told == [(Decided.GONE, None)]


def test_a_few_that_forgot_are_done_without() -> None:
    proposer = Proposer()
    alone = proposer.begin()
    for index in (1, 2):
        promise(alone, index, BASE, said=Said.GONE)
    for index in (3, 4):
        promise(alone, index, BASE)
    for index in (3, 4):
        accept(alone, index)
    assert proposer.told == [(Decided.RECORD, MINE)]


def test_a_move_begins_with_the_ballot_of_who_stamped_the_base() -> None:
    proposer = Proposer()
    proposer.succession.move(proposer.replicas)
    alone = proposer.alone
    alone.step()
    process = alone.node.parts.process
    for index in (1, 2):
        assert accept(alone, index) == [(ROW, BASE.version, (0, process), MINE)]
    assert proposer.told == [(Decided.RECORD, MINE)]
    assert alone.take(3, PrepareRows) == []


def test_what_nobody_waits_for_is_left_to_others_even_where_all_are_silent() -> None:
    proposer = Proposer()
    alone = proposer.begin()
    proposer.is_wanted = False
    pass_ms(alone, 2 * ROUND_MS)
    assert proposer.told == [(Decided.GONE, None)]
    assert alone.wake_ms is None or alone.wake_ms > alone.mono_ms + ROUND_MS


def test_a_succession_that_is_stopped_tells_nothing_more() -> None:
    proposer = Proposer()
    alone = proposer.begin()
    proposer.succession.stop()
    for index in (1, 2, 3, 4):
        promise(alone, index, BASE)
    pass_ms(alone, 2 * ROUND_MS)
    assert proposer.told == []
    assert alone.take(1, AcceptRows) == []


def test_two_records_are_one_proposal_by_version_and_number() -> None:
    assert is_same(MINE, Record(MINE.version, b"other", winners=MINE.winners))
    assert not is_same(MINE, Record(MINE.version, MINE.value, winners=((0, 2),)))
    assert not is_same(MINE, Record(BASE.version, MINE.value, winners=MINE.winners))


def test_ballots_rise_up_to_what_a_frame_carries() -> None:
    parts = alone_of().node.parts
    assert next_ballot(parts, 6)[0] == 7
    assert next_ballot(parts, BALLOT_COUNT_MAX)[0] == BALLOT_COUNT_MAX
    assert next_ballot(parts, 6) != next_ballot(parts, 6)
