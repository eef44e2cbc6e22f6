# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking replicas for their votes, and what counts as an answer."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.exchanges.outbox import MESSAGE_BYTES_MAX
from quorate.core.exchanges.rounds import BACK_OFF_MS_MAX, ROUND_MS, Round
from quorate.core.topology.topology import Verdict
from quorate.core.values.events import StorageState
from quorate.core.values.messages import (
    AcceptRows,
    Mutated,
    PrepareRows,
    RowsVoted,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import successor
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.update_stage import pass_ms
from tests.unit.core.vote_stage import accept, promise
from tests.unit.core.write_stage import alone_of

ROW = row_of(b"k")
BASE = record_at(-5)
BALLOT = (3, 9)
NEW = Record(successor(BASE.version, 1), b"new", winners=((0, 1),))


class Asked:
    """A round, and how often there was something new of it."""

    def __init__(self, alone: Alone, **fields: Any) -> None:
        self.heard = 0
        replicas = alone.node.membership.current().partitions[partition_of(ROW)]
        base = fields.pop("base", BASE.version)
        self.round = Round(ROW, base, BALLOT, replicas=replicas, heard=self._hear, **fields)
        alone.node.rounds.ask(self.round)
        alone.step()

    def _hear(self) -> None:
        self.heard += 1

    def verdict(self, *what: Said) -> Verdict:
        return self.round.verdict(self.round.said(*what))


def test_all_replicas_are_asked_and_their_answers_told_as_they_come() -> None:
    alone = alone_of()
    asked = Asked(alone)
    assert asked.heard == 1, "its own"
    assert promise(alone, 1, BASE) == [(ROW, BASE.version, BALLOT, b"")]
    assert asked.heard == 2
    assert asked.verdict(Said.PROMISED) is Verdict.MET
    promise(alone, 2, said=Said.OUTBID, promised=(9, 9))
    assert asked.heard == 3
    assert asked.round.said(Said.OUTBID) == alone.peer(2).bit
    assert asked.verdict(Said.PROMISED) is Verdict.MET


def test_a_record_is_asked_to_be_accepted() -> None:
    alone = alone_of()
    asked = Asked(alone, record=NEW)
    assert accept(alone, 1) == [(ROW, BASE.version, BALLOT, NEW)]
    assert asked.verdict(Said.ACCEPTED) is Verdict.MET


def test_what_this_node_holds_others_need_not_send() -> None:
    alone = alone_of()
    Asked(alone, base=None, held=BASE)
    assert promise(alone, 1) == [(ROW, None, BALLOT, BASE.version)]


@pytest.mark.parametrize("how", ["lost", "refused", "unreachable"])
def test_no_answer_is_a_replica_that_will_not_give_any(how: str) -> None:
    alone = alone_of()
    if how == "unreachable":
        alone.unlink(1, 2)
    asked = Asked(alone)
    if how == "lost":
        alone.unlink(1, 2)
    elif how == "refused":
        for index in (1, 2):
            promise(alone, index, said=Said.REFUSED)
    assert asked.round.failed == alone.peer(1).bit | alone.peer(2).bit
    assert asked.verdict(Said.PROMISED) is Verdict.LOST


def test_nobody_has_it_for_sure_once_all_that_were_asked_have_answered_or_refused() -> None:
    alone = alone_of()
    asked = Asked(alone)
    for index in (1, 2):
        assert not asked.round.did_nobody(Said.ACCEPTED)
        promise(alone, index, said=Said.REFUSED)
    assert asked.round.did_nobody(Said.ACCEPTED)


@pytest.mark.parametrize("votes", [0, 2])
def test_an_answer_of_another_shape_is_none(votes: int) -> None:
    alone = alone_of()
    asked = Asked(alone)
    (message,) = alone.take(1, PrepareRows)
    vote = RowVote(Said.PROMISED, BASE.version, BALLOT)
    alone.hear(1, RowsVoted(message.batch, [vote] * votes))
    assert asked.round.failed == alone.peer(1).bit
    assert "peer_answered_out_of_shape" in alone.notes
    (message,) = alone.take(2, PrepareRows)
    alone.hear(2, Mutated(message.batch, [], []))
    assert asked.verdict(Said.PROMISED) is Verdict.LOST


def test_an_answer_that_comes_twice_or_late_counts_once() -> None:
    alone = alone_of()
    asked = Asked(alone)
    (message,) = alone.take(1, PrepareRows)
    answer = RowsVoted(message.batch, [RowVote(Said.PROMISED, BASE.version, BALLOT)])
    alone.hear(1, answer)
    asked.round.is_over = True
    heard = asked.heard
    alone.hear(1, answer)
    promise(alone, 2)
    assert asked.heard == heard


def test_silence_is_given_up_only_where_another_round_may_bring_more() -> None:
    alone = alone_of()
    asked = Asked(alone)
    pass_ms(alone, 2 * ROUND_MS)
    assert asked.verdict(Said.PROMISED) is Verdict.PENDING, "they take their time"
    promise(alone, 1, said=Said.OUTBID, promised=(9, 9))
    assert asked.verdict(Said.PROMISED) is Verdict.LOST, "that one would promise a higher ballot"


def test_before_it_is_late_the_silent_one_is_waited_for() -> None:
    alone = alone_of()
    asked = Asked(alone)
    promise(alone, 1, said=Said.OUTBID, promised=(9, 9))
    assert asked.verdict(Said.PROMISED) is Verdict.PENDING
    pass_ms(alone, ROUND_MS)
    assert asked.verdict(Said.PROMISED) is Verdict.LOST


def test_who_was_away_and_is_there_again_is_worth_another_round() -> None:
    alone = alone_of()
    alone.unlink(1)
    asked = Asked(alone)
    pass_ms(alone, 2 * ROUND_MS)
    assert asked.verdict(Said.PROMISED) is Verdict.PENDING
    heard = asked.heard
    alone.link(1)
    pass_ms(alone, 2 * ROUND_MS)
    assert asked.heard > heard, "it is looked at again"
    assert asked.verdict(Said.PROMISED) is Verdict.LOST


def test_its_own_vote_counts_when_it_is_durable_and_a_full_disk_gives_none() -> None:
    alone = alone_of()
    alone.syncs = False
    asked = Asked(alone)
    assert asked.heard == 0
    alone.sync()
    assert asked.round.said(Said.PROMISED) == 1
    alone.step(StorageState("disk_full", "no space"))
    asked = Asked(alone)
    assert asked.round.failed == 1


def test_questions_of_one_step_to_one_peer_share_a_message_up_to_its_size() -> None:
    alone = alone_of()
    replicas = alone.node.membership.current().partitions[partition_of(ROW)]
    large = Record(NEW.version, bytes(MESSAGE_BYTES_MAX // 2), winners=NEW.winners)
    for record in (None, None, large, large, large):
        asked = Round(
            *(ROW, BASE.version, BALLOT), replicas=replicas, heard=lambda: None, record=record
        )
        alone.node.rounds.ask(asked)
    alone.step()
    assert [len(each.items) for each in alone.take(1, PrepareRows)] == [2]
    assert [len(each.items) for each in alone.take(1, AcceptRows)] == [2, 1]


def test_back_off_rises_and_is_bounded() -> None:
    rounds = alone_of().node.rounds
    means = [sum(rounds.back_off_ms(tries) for _ in range(200)) / 200 for tries in (0, 2, 4)]
    assert means == sorted(means)
    rounds._typical_ms = 5_000.0
    assert all(0 < rounds.back_off_ms(9) <= BACK_OFF_MS_MAX + 1 for _ in range(200))
