# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators ask for: each is answered, once, and what the answer says."""

from __future__ import annotations

from typing import Any

from quorate.core.exchanges.changes import AGAIN_MS_MAX, ASKED_MAX, TRY_MS, TRY_MS_MAX, TURN_MS
from quorate.core.topology.layout import Course, Layout, Member
from quorate.core.topology.steps import changed
from quorate.core.values.events import Change, ChangeResult, LinkUp
from quorate.core.values.messages import OtherEpoch, Prepare, Vote, Voted
from quorate.core.values.wish import Wish
from quorate.errors import (
    Conflict,
    InvalidRequest,
    NotReady,
    Outcome,
    Overloaded,
    QuorumUnreachable,
)
from quorate.sim.cluster import id_of, url_of
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.founders import HIGH, accept, ask, disk_of, grant, layout_of, new, vote
from tests.unit.core.moving import hear, later, node, replace, shared, stable

OLD = stable(3, course=Course.REST)
HEAVY = Wish(weights=((url_of(1), 2),), stops=True)
LIGHT = Wish(weights=((url_of(2), 7),), stops=True)


def _node(**settings: Any) -> Alone:
    """One of three of which nobody wants anything."""
    return node(count=3, layout_of=OLD, **settings)


def _ask(alone: Alone, wish: Wish, **fields: Any) -> Asker:
    asker = Asker()
    alone.step(Change(asker, wish, **fields))
    return asker


def _weighed(old: Layout, **weights: int) -> Layout:
    """What follows when members, `n1` or so, have other weights."""
    members = [
        replace(each, weight=weights.get(f"n{index}", each.weight))
        for index, each in enumerate(old.members)
    ]
    return changed(old, members, replication=3, lost=(), course=Course.REST)


def _decide(alone: Alone) -> Layout:
    """Peer 1 votes for what it was asked to last."""
    asked = alone.take(1, Prepare)[-1]
    alone.hear(1, Voted(asked.batch, Vote(asked.number, True, asked.ballot)))
    (layout,) = accept(alone, 1)
    return layout


# --- decided -----------------------------------------------------------------------------------


def test_what_is_decided_is_answered_with_its_epoch_and_what_it_comes_to() -> None:
    alone = _node()
    asker = _ask(alone, HEAVY)
    assert asker.results == []
    layout = _decide(alone)
    assert layout == _weighed(OLD, n1=2)
    result = asker.result
    assert isinstance(result, ChangeResult)
    assert result.epoch == 3
    assert result.plan.epoch == 2
    assert [share.weight for share in result.plan.shares] == [1, 2, 1]


def test_what_is_so_already_is_answered_at_once() -> None:
    alone = _node()
    asker = _ask(alone, Wish(weights=((url_of(1), 1),), stops=True))
    assert isinstance(asker.result, ChangeResult)
    assert asker.result.epoch == 0
    assert alone.take(1, Prepare) == []


def test_a_preview_changes_nothing_whoever_is_asked() -> None:
    alone = _node()
    asker = _ask(alone, Wish(leave=(url_of(2),), is_forced=True), is_preview=True)
    assert isinstance(asker.result, ChangeResult)
    assert asker.result.epoch == 0
    assert alone.take(1, Prepare) == []
    assert layout_of(alone) == OLD


def test_one_after_another_is_decided_and_each_is_answered_with_its_own() -> None:
    alone = _node()
    first, second, third = _ask(alone, HEAVY), _ask(alone, LIGHT), _ask(alone, HEAVY)
    _decide(alone)
    assert isinstance(first.result, ChangeResult)
    assert second.results == third.results == []
    layout = _decide(alone)
    assert layout == _weighed(_weighed(OLD, n1=2), n1=2, n2=7)
    assert isinstance(second.result, ChangeResult)
    assert second.result.epoch == 4
    assert isinstance(third.result, ChangeResult)
    assert third.result.epoch == 0, "it was so by then"


def test_one_that_another_proposer_brought_to_an_end_is_answered_as_decided() -> None:
    alone = _node()
    asker = _ask(alone, HEAVY)
    hear(alone, _weighed(OLD, n1=2))
    assert isinstance(asker.result, ChangeResult)
    assert asker.result.epoch == 3


def test_one_that_was_beaten_is_proposed_again_on_top_of_what_was_decided() -> None:
    alone = _node()
    asker = _ask(alone, HEAVY)
    hear(alone, _weighed(OLD, n2=7))
    assert asker.results == []
    layout = _decide(alone)
    assert layout == _weighed(_weighed(OLD, n2=7), n1=2, n2=7)
    assert isinstance(asker.result, ChangeResult)
    assert asker.result.epoch == 4


def test_one_that_was_beaten_to_its_ballot_is_proposed_again() -> None:
    alone = _node()
    asker = _ask(alone, HEAVY)
    (asked,) = alone.take(1, Prepare)
    alone.hear(1, Voted(asked.batch, Vote(3, False, HIGH)))
    alone.take(2, Prepare)
    alone.step(after_ms=AGAIN_MS_MAX)
    (again,) = alone.take(2, Prepare)
    assert again.ballot > HIGH
    _decide(alone)
    assert isinstance(asker.result, ChangeResult)


def test_what_others_accepted_comes_first_and_then_what_was_asked_for() -> None:
    alone = _node()
    asker = _ask(alone, HEAVY)
    other = _weighed(OLD, n2=7)
    grant(alone, 1, accepted=(1, 0), value=other.encode())
    (layout,) = accept(alone, 1)
    assert layout == other
    assert asker.results == []
    assert _decide(alone) == _weighed(other, n1=2, n2=7)
    assert isinstance(asker.result, ChangeResult)
    assert asker.result.epoch == 4


# --- not decided -------------------------------------------------------------------------------


def test_without_votes_it_ends_in_time_and_may_yet_be_decided() -> None:
    alone = _node()
    asker = _ask(alone, HEAVY, timeout_ms=1_500)
    alone.step(after_ms=1_499)
    assert asker.results == []
    alone.step(after_ms=1)
    assert isinstance(asker.result, QuorumUnreachable)
    assert asker.result.outcome is Outcome.UNKNOWN


def test_without_a_majority_it_ends_in_time_and_nothing_was_proposed() -> None:
    alone = _node()
    alone.unlink(1, 2)
    asker = _ask(alone, HEAVY, timeout_ms=1_500)
    alone.step(after_ms=1_500)
    assert isinstance(asker.result, QuorumUnreachable)
    assert asker.result.outcome is Outcome.NOT_APPLIED
    alone.link(1, 2)
    alone.step(after_ms=TURN_MS)
    assert alone.take(1, Prepare) == [], "whoever asked was told that it is not done"


def test_it_is_proposed_when_a_majority_comes_in_time() -> None:
    alone = _node()
    alone.unlink(1, 2)
    asker = _ask(alone, HEAVY, timeout_ms=5_000)
    alone.link(1)
    _decide(alone)
    assert isinstance(asker.result, ChangeResult)


def test_it_ends_in_time_though_another_proposal_is_under_way() -> None:
    """A try takes up to half a minute where voters are slow."""
    alone = _node(timeout_ms=500)
    first = _ask(alone, HEAVY, timeout_ms=600_000)
    for _ in range(7):
        alone.step(after_ms=TRY_MS_MAX)
    second = _ask(alone, LIGHT, timeout_ms=1_000)
    alone.step(after_ms=999)
    assert second.results == []
    alone.step(after_ms=1)
    assert isinstance(second.result, QuorumUnreachable)
    assert second.result.outcome is Outcome.NOT_APPLIED
    assert first.results == []


def test_each_ends_in_its_own_time() -> None:
    alone = _node()
    alone.unlink(1, 2)
    askers = [_ask(alone, HEAVY, timeout_ms=ms) for ms in (900, 300, 600)]
    for index in (1, 2, 0):
        assert askers[index].results == []
        alone.step(after_ms=300)
        assert isinstance(askers[index].result, QuorumUnreachable)


def test_if_the_cluster_is_another_than_was_looked_at_nothing_is_changed() -> None:
    alone = _node()
    conflict = _ask(alone, HEAVY, from_epoch=1)
    assert isinstance(conflict.result, Conflict)
    asker = _ask(alone, HEAVY, from_epoch=2)
    hear(alone, _weighed(OLD, n2=7))
    assert isinstance(asker.result, Conflict)
    assert asker.result.outcome is Outcome.NOT_APPLIED


def test_if_layouts_were_missed_it_is_not_known_whether_it_was_decided() -> None:
    """It was proposed; it, or another, was decided, and a later one is heard of."""
    alone = _node()
    asker = _ask(alone, HEAVY, from_epoch=2)
    gone = _ask(alone, Wish(leave=(url_of(2),), is_forced=True, stops=True), timeout_ms=60_000)
    hear(alone, later(_weighed(OLD, n1=2), 2))
    assert isinstance(asker.result, Conflict)
    assert asker.result.outcome is Outcome.UNKNOWN
    assert gone.results == []


def test_too_many_at_once_are_refused() -> None:
    alone = _node()
    askers = [_ask(alone, Wish(weights=((url_of(1), 2 + n),))) for n in range(ASKED_MAX)]
    one_more = _ask(alone, HEAVY)
    assert isinstance(one_more.result, Overloaded)
    assert one_more.result.outcome is Outcome.NOT_APPLIED
    assert all(asker.results == [] for asker in askers)
    alone.step(after_ms=60_000)
    assert all(isinstance(asker.result, QuorumUnreachable) for asker in askers)
    assert _ask(alone, HEAVY).results == []


def test_a_node_that_is_no_member_says_so() -> None:
    others = shared(stable(4, course=Course.REST), 0)
    members = [each for each in others.members if each.id != id_of(0)]
    table = tuple([(0, 1, 2) for _ in others.table])
    voters = tuple([each.id for each in members])
    gone = replace(others, members=tuple(members), table=table, voters=voters)
    alone = Alone(4, disk=disk_of(gone))
    alone.link(1, 2, 3)
    asker = _ask(alone, HEAVY)
    assert isinstance(asker.result, NotReady)
    assert asker.result.outcome is Outcome.NOT_APPLIED
    preview = _ask(alone, HEAVY, is_preview=True)
    assert isinstance(preview.result, ChangeResult)


def test_before_the_cluster_has_found_together_it_is_not_ready() -> None:
    asker = _ask(new(), HEAVY)
    assert isinstance(asker.result, NotReady)


def test_what_cannot_be_is_refused_at_once_and_leaves_nothing() -> None:
    alone = _node()
    asker = _ask(alone, Wish(weights=(("http://nobody:1", 2),)))
    assert isinstance(asker.result, InvalidRequest)
    assert asker.result.outcome is Outcome.NOT_APPLIED
    assert alone.take(1, Prepare) == []


def test_what_cannot_be_any_more_is_refused_when_it_would_be_proposed() -> None:
    alone = _node()
    grown = changed(
        OLD,
        [*OLD.members, Member(id_of(9), url_of(9))],
        replication=3,
        lost=(),
        course=Course.REST,
    )
    hear(alone, grown)
    asker = _ask(alone, Wish(weights=((url_of(9), 4),), stops=True), timeout_ms=60_000)
    assert asker.results == []
    hear(alone, replace(OLD, epoch=grown.epoch + 1))
    assert isinstance(asker.result, InvalidRequest)
    assert asker.result.outcome is Outcome.NOT_APPLIED


# --- whose disk is lost ------------------------------------------------------------------------


def test_who_hears_one_that_is_said_to_be_lost_promises_nothing() -> None:
    alone = _node()
    for lost in ([id_of(2)], [id_of(0)], [id_of(2), 77]):
        alone.hear(1, Prepare(7, 3, (1, 1), lost))
        assert not vote(alone, 1).is_granted
    alone.hear(1, Prepare(7, 3, (1, 1), [77]))
    assert vote(alone, 1).is_granted, "that one is in no layout: what it is said to be is nothing"


def test_who_does_not_hear_it_promises() -> None:
    alone = _node()
    alone.unlink(2)
    alone.hear(1, Prepare(7, 3, (1, 1), [id_of(2)]))
    assert vote(alone, 1).is_granted


def test_what_was_accepted_is_accepted_whoever_is_heard() -> None:
    """A majority has promised it before."""
    alone = _node()
    ask(alone, 1, HIGH, shared(OLD, 2, lost=(2,)).encode(), number=3)
    assert vote(alone, 1).is_granted


def test_who_proposes_that_one_is_lost_asks_whether_others_hear_it() -> None:
    alone = _node()
    alone.unlink(2)
    asker = _ask(alone, Wish(leave=(url_of(2),), is_forced=True), timeout_ms=60_000)
    (asked,) = alone.take(1, Prepare)
    assert asked.lost == [id_of(2)]
    alone.hear(1, Voted(asked.batch, Vote(3, False, (0, 0))))
    assert asker.results == []
    alone.link(2)
    alone.step(after_ms=TRY_MS)
    asked = alone.take(1, Prepare)[-1]
    assert asked.lost == [], "it is heard: it leaves as any other"
    alone.hear(1, Voted(asked.batch, Vote(3, True, asked.ballot)))
    (layout,) = accept(alone, 1)
    assert (layout.lost, layout.members[2].weight) == ((), 0)
    assert isinstance(asker.result, ChangeResult)


def test_who_counts_as_lost_already_is_asked_about_no_more() -> None:
    """It may be back by then, and would hold up all that follows."""
    alone = _node()
    alone.unlink(2)
    _ask(alone, Wish(leave=(url_of(2),), is_forced=True), timeout_ms=60_000)
    (asked,) = alone.take(1, Prepare)
    alone.hear(1, Voted(asked.batch, Vote(asked.number, True, asked.ballot)))
    (layout,) = accept(alone, 1)
    assert layout.lost == (id_of(2),)
    _ask(alone, Wish(weights=((url_of(1), 7),)))
    assert [each.lost for each in alone.take(1, Prepare)][-1:] == [[]]


def test_it_votes_itself_for_no_loss_of_one_that_it_hears_by_then() -> None:
    alone = _node(syncs=True)
    alone.unlink(2)
    _ask(alone, Wish(leave=(url_of(2),), is_forced=True), timeout_ms=60_000)
    alone.step(alone.met(2), LinkUp(id_of(2)))
    alone.hear(1, OtherEpoch(2, []))
    assert layout_of(alone) == OLD


def test_a_change_that_leaves_too_few_that_could_decide_the_next_is_refused() -> None:
    """Of eight, seven vote and four are there; one of these would hand its vote to one that is
    not."""
    alone = Alone(8, disk=disk_of(stable(8, course=Course.REST)), heartbeat_ms=3_600_000)
    alone.link(1, 2, 3, 7)
    alone.unlink(7)
    asker = _ask(alone, Wish(leave=(url_of(3),)))
    assert isinstance(asker.result, Conflict)
    assert asker.result.outcome is Outcome.NOT_APPLIED
    assert "n4:8000, http://n5:8000, http://n6:8000, http://n7:8000 would have to vote" in str(
        asker.result
    )
    assert alone.take(1, Prepare) == []
    alone.link(7)
    assert _ask(alone, Wish(leave=(url_of(3),))).results == []
    assert len(alone.take(1, Prepare)) == 1
