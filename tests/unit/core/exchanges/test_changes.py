# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding the next layout: when a node proposes, and how that goes. The peers are the test."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.changes import (
    AGAIN_MS_MAX,
    AGAIN_MS_MIN,
    BALLOT_AHEAD_MAX,
    TRY_MS,
    TURN_MS,
    VOTE_META,
)
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.topology.wants import SETTLE_MS
from quorate.core.values.events import Change, ChangeResult, GetResult, LinkUp, PutResult
from quorate.core.values.messages import (
    Accept,
    Mutate,
    OtherEpoch,
    Prepare,
    Vote,
    Voted,
)
from quorate.core.values.wish import Wish
from quorate.errors import NotReady, Outcome
from quorate.sim.cluster import id_of, url_of
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.founders import (
    HIGH,
    LOW,
    accept,
    ack,
    ask,
    bound,
    found,
    grant,
    layout_of,
    new,
    of_others,
    second,
    vote,
)

# --- a cluster of one --------------------------------------------------------------------------


def test_a_cluster_of_one_decides_its_second_layout_by_itself_and_serves() -> None:
    alone = new(1)
    layout = layout_of(alone)
    assert layout.epoch == 2
    assert layout.voters == (id_of(0),)
    assert [each.id for each in layout.members] == [id_of(0)]
    assert "layout_decided" in alone.notes
    assert isinstance(alone.put(b"k", b"v").result, PutResult)
    assert isinstance(alone.get(b"k").result, GetResult)


def test_it_serves_nothing_before_that_is_durable() -> None:
    """Neither its own promise nor its own acceptance counts before."""
    alone = Alone(1, is_new=True, syncs=False)
    asker = alone.put(b"k", b"v")
    syncs = 0
    while alone.node.membership.epoch == 1:
        assert not asker.results
        alone.sync()
        syncs += 1
    assert syncs == 2
    alone.syncs = True
    alone.step()
    alone.sync()
    assert isinstance(asker.result, PutResult)


def test_it_goes_on_after_a_crash_between_the_phases() -> None:
    """Its own promise to an earlier process is in nobody's way for long."""
    for seed in range(8):
        alone = Alone(1, is_new=True, syncs=False)
        assert alone.disk.get_meta(VOTE_META) is not None
        again = Alone(1, is_new=True, disk=alone.disk, seed=seed)
        again.step(after_ms=TRY_MS)
        assert again.node.membership.epoch == 2


# --- when it proposes --------------------------------------------------------------------------
#
# The founders' turns are those of numbers made of their URLs: n2 comes first, then n0, n4, n1.


def test_nothing_is_proposed_before_a_majority_was_met() -> None:
    alone = new(5)
    alone.link(1)
    for _ in range(3):
        alone.step(after_ms=TURN_MS)
    assert alone.take(1, Prepare) == []
    alone.link(4)
    assert alone.take(1, Prepare) == []
    alone.step(after_ms=SETTLE_MS)
    (asked,) = alone.take(1, Prepare)
    assert asked.number == 2


def test_a_majority_of_the_founders_has_to_be_there_all_the_while() -> None:
    alone = new(9)
    alone.link(1, 4, 6)
    alone.step(after_ms=SETTLE_MS + TURN_MS)
    assert alone.take(1, Prepare) == []
    alone.link(8)
    alone.step(after_ms=SETTLE_MS + TURN_MS - 1)
    alone.unlink(8)
    alone.step(after_ms=1)
    alone.link(8)
    alone.step(after_ms=SETTLE_MS + TURN_MS - 1)
    assert alone.take(1, Prepare) == [], "the wait began anew"
    alone.step(after_ms=1)
    grant(alone, 1, 4, 6, 8)
    accept(alone, 1, 4, 6, 8)
    assert layout_of(alone).epoch == 2


def test_the_rest_are_waited_for_a_little() -> None:
    alone = new()
    alone.link(1)
    assert alone.wake_ms == alone.mono_ms + SETTLE_MS
    alone.step(after_ms=SETTLE_MS - 1)
    assert alone.take(1, Prepare) == []
    alone.step(after_ms=1)
    grant(alone, 1)
    (layout,) = accept(alone, 1)
    assert bound(layout) == [url_of(0), url_of(1)]


def test_when_all_were_met_nobody_is_waited_for() -> None:
    alone = new()
    alone.link(1, 2)
    grant(alone, 1)
    (layout,) = accept(alone, 1)
    assert bound(layout) == [url_of(0), url_of(1), url_of(2)]


def test_the_wait_begins_anew_where_the_majority_was_lost() -> None:
    alone = new()
    alone.link(1)
    alone.step(after_ms=SETTLE_MS - 1)
    alone.unlink(1)
    alone.step(after_ms=SETTLE_MS)
    alone.link(1)
    alone.step(after_ms=SETTLE_MS - 1)
    assert alone.take(1, Prepare) == []
    alone.step(after_ms=1)
    assert len(alone.take(1, Prepare)) == 1


def test_a_peer_that_is_not_heard_yet_is_not_asked() -> None:
    """Its answers may not come."""
    alone = new()
    alone.step(alone.met(1), LinkUp(id_of(1)))
    alone.step(after_ms=TURN_MS)
    assert alone.take(1, Prepare) == []
    alone = new()
    alone.link(1)
    alone.step(alone.met(2), LinkUp(id_of(2)))
    alone.step(after_ms=SETTLE_MS)
    assert [len(alone.take(index, Prepare)) for index in (1, 2)] == [1, 0]


@pytest.mark.parametrize(("met", "wait_ms"), [((2, 1), TURN_MS), ((2,), TURN_MS + SETTLE_MS)])
def test_who_is_not_first_in_turn_waits_for_who_is(met: tuple[int, ...], wait_ms: int) -> None:
    alone = new()
    alone.link(*met)
    alone.step(after_ms=wait_ms - 1)
    assert alone.take(2, Prepare) == []
    alone.step(after_ms=1)
    for index in met:
        assert len(alone.take(index, Prepare)) == 1


def test_when_who_is_first_goes_the_next_one_begins() -> None:
    alone = new()
    alone.link(2)
    alone.step(after_ms=SETTLE_MS)
    alone.unlink(2)
    alone.link(1)
    alone.step(after_ms=SETTLE_MS)
    assert alone.take(1, Prepare)


def test_who_is_no_member_proposes_nothing() -> None:
    """It sees what is wanting as well as others do, but nobody votes for it."""
    alone = Alone(4, listed=[1, 2, 3], replication=3, heartbeat_ms=3_600_000)
    layout = of_others(1, 2)
    alone.step(alone.met(1, epoch=2, layout_hash=layout.hash(), layout=layout.encode()))
    alone.link(1, 2, 3)
    assert layout_of(alone) == layout
    alone.step(after_ms=2 * TURN_MS)
    assert alone.take(1, Prepare) == []


def test_nothing_is_proposed_while_too_few_voters_are_there() -> None:
    alone = new()
    found(alone, 1)
    alone.unlink(1)
    alone.link(2)
    alone.step(after_ms=TURN_MS)
    assert alone.take(2, Prepare) == []
    alone.link(1)
    assert len(alone.take(1, Prepare)) == 1


# --- how a proposal goes -----------------------------------------------------------------------


def test_its_own_votes_count_once_they_are_durable() -> None:
    alone = new()
    alone.link(1)
    alone.syncs = False
    alone.step(after_ms=SETTLE_MS)
    grant(alone, 1)
    assert alone.take(1, Accept) == []
    alone.sync()
    accept(alone, 1)
    assert alone.node.membership.epoch == 1
    alone.sync()
    assert alone.node.membership.epoch == 2


def test_a_proposer_that_is_beaten_waits_and_takes_up_what_was_accepted() -> None:
    alone = new()
    alone.link(1)
    alone.step(after_ms=SETTLE_MS)
    (asked,) = alone.take(1, Prepare)
    alone.hear(1, Voted(asked.batch, Vote(2, False, HIGH)))
    alone.step(after_ms=AGAIN_MS_MIN - 1)
    assert alone.take(1, Prepare) == []
    assert alone.wake_ms is not None
    assert alone.wake_ms - alone.mono_ms <= AGAIN_MS_MAX
    alone.sleep()
    (again,) = alone.take(1, Prepare)
    assert again.ballot > HIGH
    theirs = second(0, 1)
    alone.hear(1, Voted(again.batch, Vote(2, True, again.ballot, HIGH, theirs.encode())))
    assert accept(alone, 1) == [theirs]
    assert layout_of(alone) == theirs


def test_a_proposer_that_is_beaten_to_acceptance_waits_too() -> None:
    alone = new()
    alone.link(1)
    alone.step(after_ms=SETTLE_MS)
    grant(alone, 1)
    (asked,) = alone.take(1, Accept)
    alone.hear(1, Voted(asked.batch, Vote(2, False, HIGH)))
    assert alone.node.membership.epoch == 1
    alone.step(after_ms=AGAIN_MS_MAX)
    (again,) = alone.take(1, Prepare)
    assert again.ballot > HIGH


def test_a_proposer_that_is_beaten_has_given_up_whatever_others_promise() -> None:
    alone = new(5)
    alone.link(1, 4, 2)
    alone.step(after_ms=SETTLE_MS + TURN_MS)
    (asked,) = alone.take(1, Prepare)
    alone.hear(1, Voted(asked.batch, Vote(2, False, HIGH)))
    grant(alone, 4, 2)
    assert [alone.take(index, Accept) for index in (1, 2, 4)] == [[]] * 3


def test_a_proposer_takes_up_what_it_accepted_itself() -> None:
    alone = new()
    alone.link(1)
    theirs = second(0, 1)
    ask(alone, 1, LOW, theirs.encode())
    assert vote(alone, 1) == Vote(2, True, LOW, LOW)
    alone.step(after_ms=SETTLE_MS)
    grant(alone, 1)
    assert accept(alone, 1) == [theirs]
    assert layout_of(alone) == theirs


def test_without_votes_it_tries_again_with_another_ballot_and_the_late_ones_count_for_nothing() -> (
    None
):
    alone = new(timeout_ms=60_000)
    alone.link(1)
    alone.step(after_ms=SETTLE_MS)
    (one,) = alone.take(1, Prepare)
    alone.step(after_ms=TRY_MS - 1)
    assert alone.take(1, Prepare) == []
    alone.step(after_ms=1)
    (other,) = alone.take(1, Prepare)
    assert other.ballot > one.ballot
    alone.hear(1, Voted(one.batch, Vote(2, True, one.ballot)))
    assert alone.take(1, Accept) == []
    alone.hear(1, Voted(other.batch, Vote(2, True, other.ballot)))
    assert len(accept(alone, 1)) == 1
    assert layout_of(alone).epoch == 2
    assert alone.node.changes._try_ms == TRY_MS, "the next number has its first try"


def test_a_voter_that_is_asked_twice_counts_once() -> None:
    """Whatever it says, and however often."""
    alone = new(5)
    alone.link(1, 4)
    alone.step(after_ms=SETTLE_MS)
    (asked,) = alone.take(1, Prepare)
    for _ in range(3):
        alone.hear(1, Voted(asked.batch, Vote(2, True, asked.ballot)))
    assert alone.take(1, Accept) == []
    grant(alone, 4)
    assert len(alone.take(1, Accept)) == 1


def test_a_proposal_ends_when_its_number_is_decided_by_another() -> None:
    alone = new()
    alone.link(1)
    alone.step(after_ms=SETTLE_MS)
    (asked,) = alone.take(1, Prepare)
    theirs = second(0, 1)
    alone.hear(1, OtherEpoch(2, [asked.batch], theirs.encode()), epoch=2)
    assert layout_of(alone) == theirs
    alone.hear(1, Voted(asked.batch, Vote(2, True, asked.ballot)))
    alone.step(after_ms=TURN_MS)
    for kind in (Prepare, Accept):
        assert alone.take(1, kind) == []
    assert layout_of(alone) == theirs


# --- what was decided --------------------------------------------------------------------------


def test_the_decided_layout_is_stored_and_survives_a_restart() -> None:
    alone = new()
    layout = found(alone, 1)
    assert alone.disk.get_meta(LAYOUT_META) == layout.encode()
    again = new(disk=alone.disk)
    assert layout_of(again) == layout
    assert again.node.membership.topology is not None


def test_the_decided_layout_is_told_ahead_of_all_else() -> None:
    alone = new()
    alone.link(1)
    alone.step(after_ms=SETTLE_MS)
    grant(alone, 1)
    accept(alone, 1)
    layout = layout_of(alone)
    assert layout.epoch == 2
    told, *rest = alone.said[id_of(1)]
    assert told == OtherEpoch(2, [], layout.encode())
    assert rest, "it is told at once: everyone is pinged"
    alone.step(alone.met(2, epoch=1), LinkUp(id_of(2)))
    assert alone.said[id_of(2)][0] == told


def test_not_ready_says_how_many_have_met() -> None:
    alone = new(5, write_wait_ms=100)
    alone.link(1)
    asker = alone.put(b"k", b"v")
    alone.step(after_ms=100)
    error = asker.result
    assert isinstance(error, NotReady)
    assert error.outcome is Outcome.NOT_APPLIED
    assert str(error).endswith("3 of its 5 nodes have to meet before it serves; here 2 have")


def test_what_waits_for_the_second_layout_is_done_after_it() -> None:
    alone = new()
    writing, reading = alone.put(b"k", b"v"), alone.get(b"other")
    alone.link(1)
    assert alone.take(1, Mutate) == []
    assert not (writing.results)
    assert not (reading.results)
    alone.step(after_ms=SETTLE_MS)
    grant(alone, 1)
    accept(alone, 1)
    ack(alone, 1)
    assert isinstance(writing.result, PutResult)
    assert alone.node.hints.count(alone.peer(2)) == 1


def test_all_founders_vote_however_many() -> None:
    """Five of nine are a majority, whichever they are."""
    alone = new(9)
    alone.link(*range(5, 9))
    alone.step(after_ms=SETTLE_MS + TURN_MS)
    grant(alone, *range(5, 9))
    accept(alone, *range(5, 9))
    assert alone.node.membership.epoch == 2


def test_slow_voters_are_waited_for_longer_each_time() -> None:
    """A phase takes two seconds here: the first tries are in vain."""
    alone = new(2)
    alone.link(1)
    due: list[tuple[int, Voted]] = []
    for _ in range(400):
        alone.step(after_ms=50)
        for asked in alone.take(1, Prepare):
            promise = Vote(asked.number, True, asked.ballot)
            due.append((alone.mono_ms + 2_000, Voted(asked.batch, promise)))
        for told in alone.take(1, Accept):
            taken = Vote(told.number, True, told.ballot, told.ballot)
            due.append((alone.mono_ms + 2_000, Voted(told.batch, taken)))
        while due and due[0][0] <= alone.mono_ms:
            alone.hear(1, due.pop(0)[1])
    assert alone.node.membership.epoch == 2
    assert "layout_undecided" in alone.notes


def test_a_node_proposes_as_many_layouts_as_it_likes() -> None:
    """Its ballots for each begin low: voters who have promised none refuse what is far ahead."""
    alone = new(1)
    layout = layout_of(alone)
    for turn in range(BALLOT_AHEAD_MAX + 2):
        asker = Asker()
        alone.step(Change(asker, Wish(weights=((url_of(0), 1 + turn % 2),), stops=True)))
        settled = isinstance(asker.result, ChangeResult)
        assert settled, (turn, asker.result)
    assert layout_of(alone).epoch > layout.epoch + BALLOT_AHEAD_MAX
