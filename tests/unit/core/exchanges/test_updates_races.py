# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-modify-writes that meet others: their proposals, and copies that differ."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.attempt import REMEMBERED
from quorate.core.values.messages import AcceptRows, Mutate, PrepareRows, Said
from quorate.core.values.record import Record
from quorate.core.values.versions import link_of, successor
from quorate.errors import (
    DeadlineExceeded,
    Outcome,
    QuorumUnreachable,
)
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.update_stage import (
    OLD,
    ROW,
    pass_ms,
    stage,
    successor_of,
    update,
    values,
)
from tests.unit.core.vote_stage import accept, promise
from tests.unit.core.write_stage import ack, error_of


def counters(alone: Alone) -> dict[str, int]:
    """What the node has counted."""
    return alone.node.parts.turn.counters


# --- others' proposals -------------------------------------------------------------------------


def test_what_another_had_accepted_is_finished_first_and_the_edit_made_anew() -> None:
    alone = stage()
    asker = update(alone)
    other = successor_of(OLD, b"50", number=7)
    ballot = (1, 5)
    promise(alone, 1, OLD, accepted=ballot, record=other)
    ((_, _, _, record),) = accept(alone, 1)
    assert record == other, "Paxos: the value of the highest ballot"
    assert ack(alone, 1) == [other]
    assert not asker.results
    pass_ms(alone, 1)
    promise(alone, 1, other)
    ((_, base, _, record),) = accept(alone, 1)
    assert (base, record.value) == (other.version, b"51")
    assert record.winners[0] == (0, 7)
    assert record.winners[1][0] == link_of(other.version)
    ack(alone, 1)
    assert values(asker) == (b"50", b"51")


@pytest.mark.parametrize("said", [Said.OUTBID, Said.GONE])
def test_where_too_few_promise_it_is_asked_again_with_a_higher_ballot(said: Said) -> None:
    alone = stage()
    asker = update(alone)
    (first,) = promise(alone, 1, OLD, said=said, promised=(7, 1))
    assert alone.take(1, AcceptRows) == []
    pass_ms(alone, 10)
    (again,) = promise(alone, 1, OLD)
    assert again[2] > max(first[2], (7, 1) if said is Said.OUTBID else first[2])
    ((_, _, ballot, _),) = accept(alone, 1)
    assert ballot == again[2]
    ack(alone, 1)
    assert values(asker) == (b"41", b"42")


def test_a_ballot_that_was_outbid_is_not_gone_back_to() -> None:
    alone = stage()
    update(alone)
    promise(alone, 1, OLD, said=Said.OUTBID, promised=(7, 1))
    pass_ms(alone, 10)
    promise(alone, 1, OLD, said=Said.GONE)
    pass_ms(alone, 20)
    (third,) = promise(alone, 1, OLD)
    assert third[2] > (7, 1)


@pytest.mark.parametrize("promised", [(7, 1), (900, 4)])
def test_where_too_few_accept_promises_are_asked_for_again(promised: tuple[int, int]) -> None:
    alone = stage()
    asker = update(alone)
    promise(alone, 1, OLD)
    accept(alone, 1, said=Said.OUTBID, promised=promised)
    accept(alone, 2, said=Said.OUTBID, promised=promised)
    promise(alone, 2)
    pass_ms(alone, 10)
    (again,) = promise(alone, 1, OLD)
    assert again[1] == OLD.version
    assert again[2] > promised
    ((_, _, ballot, record),) = accept(alone, 1)
    assert (ballot, record.value) == (again[2], b"42")
    ack(alone, 1)
    assert values(asker) == (b"41", b"42")


def test_a_race_that_is_lost_for_sure_is_run_again_and_not_applied_meanwhile() -> None:
    """Others tell that the base has another successor already."""
    alone = stage()
    asker = update(alone, timeout_ms=1_000)
    promise(alone, 1, OLD)
    other = successor_of(OLD, b"50", number=7)
    told = Record(other.version, None, winners=other.winners)
    accept(alone, 1, said=Said.RESOLVED, record=told)
    assert counters(alone)["updates_lost_race"] == 1
    pass_ms(alone, 1_000)
    error_of(asker, DeadlineExceeded, Outcome.NOT_APPLIED)


def test_an_own_proposal_that_others_tell_to_have_won_is_done() -> None:
    """The acceptances were lost on their way; somebody else finished it."""
    alone = stage()
    asker = update(alone)
    promise(alone, 1, OLD)
    (message,) = alone.take(1, AcceptRows)
    mine = message.items[0][3]
    told = Record(successor(mine.version, 1), None, winners=(*mine.winners, (1, 3)))
    alone.take(2, PrepareRows)
    accept(alone, 2, said=Said.RESOLVED, record=told)
    assert ack(alone, 2)[-1:] == [mine]
    assert values(asker) == (b"41", b"42")


def test_a_winner_that_is_not_listed_any_more_leaves_it_unknown() -> None:
    alone = stage()
    asker = update(alone)
    promise(alone, 1, OLD)
    winners = tuple((9 + n, n) for n in range(REMEMBERED))
    told = Record(successor(OLD.version, 99), None, winners=winners)
    accept(alone, 1, said=Said.RESOLVED, record=told)
    error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
    assert alone.node.inflight == 0
    assert counters(alone)["updates_gone"] == 1


def test_votes_that_a_majority_forgot_leave_it_unknown() -> None:
    alone = stage()
    asker = update(alone)
    promise(alone, 1, OLD)
    for index in (1, 2):
        accept(alone, index, said=Said.GONE)
    error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
    assert counters(alone)["updates_gone"] == 1


def test_votes_that_were_forgotten_before_it_proposed_make_it_ask_again() -> None:
    alone = stage()
    asker = update(alone)
    promise(alone, 1, OLD, said=Said.GONE)
    assert not asker.results
    newer = record_at(-5, b"60")
    pass_ms(alone, 1)
    for index in (1, 2):
        promise(alone, index, newer)
    _settle(alone, newer)
    assert values(asker) == (b"60", b"61")


def _settle(alone: Alone, held: Record) -> None:
    """Peers 1 and 2 answer all that they are asked, as replicas that hold this."""
    for _ in range(20):
        for index in (1, 2):
            promise(alone, index, held)
            accept(alone, index)
            ack(alone, index)
        pass_ms(alone, 5)


def test_promises_for_another_base_say_nothing_of_this_one() -> None:
    """One of three has locked, and accepted something on that ground."""
    alone = stage(None)
    asker = update(alone)
    lock = record_at(-60_000).version[:8] + bytes(6)
    stale = successor_of(Record(lock, None), b"2", number=3)
    promise(alone, 1, base=lock, accepted=(1, 5), record=stale)
    promise(alone, 2, base=bytes(14))
    ((_, base, _, record),) = accept(alone, 2)
    assert (base, record.value) == (bytes(14), b"1")
    ack(alone, 2)
    assert values(asker) == (None, b"1")


# --- the base ----------------------------------------------------------------------------------


def test_a_base_that_others_lack_is_written_back_first() -> None:
    alone = stage()
    asker = update(alone)
    newer = record_at(-5, b"60")
    promise(alone, 1, newer)
    assert alone.take(1, AcceptRows) == []
    assert alone.disk.get(ROW) == newer, "its own copy, too"
    assert counters(alone)["updates_wrote_back"] == 1
    pass_ms(alone, 1)
    promise(alone, 1, newer)
    ((_, base, _, record),) = accept(alone, 1)
    assert (base, record.value) == (newer.version, b"61")
    ack(alone, 1)
    assert values(asker) == (b"60", b"61")
    assert alone.node.hints.total == 0


def test_while_replicas_tell_of_two_locks_the_third_is_waited_for() -> None:
    alone = stage(None)
    asker = update(alone)
    lock = record_at(-60_000).version[:8] + bytes(6)
    promise(alone, 1, base=lock)
    assert alone.take(1, AcceptRows) == []
    promise(alone, 2, base=bytes(14))
    ((_, base, _, _),) = accept(alone, 2)
    assert base == bytes(14)
    ack(alone, 2)
    assert values(asker) == (None, b"1")


def test_a_live_record_is_preferred_to_a_phantom() -> None:
    alone = stage()
    asker = update(alone)
    lock = record_at(-5).version[:8] + bytes(6)
    promise(alone, 1, base=lock)
    assert alone.take(1, AcceptRows) == []
    kept = [record for mutate in alone.take(1, Mutate) for _, record in mutate.items]
    assert kept[-1:] == [OLD], "written back"
    assert not asker.results
