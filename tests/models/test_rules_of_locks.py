# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lock and a read-modify-write of nothing owe to each other, one rule at a time.

These moments are rare in random worlds. So each is made here, step by step, for three replicas of
one key: what goes wrong when the rule is left out, and that it does not when it is not.
"""

from __future__ import annotations

import pytest

from tests.models.read_modify_write.collecting import never_accepts
from tests.models.read_modify_write.decision import chosen_of
from tests.models.read_modify_write.replica import Kind, Replica
from tests.models.read_modify_write.switches import Broken
from tests.models.read_modify_write.values import (
    ABSENT,
    Record,
    Report,
    Version,
    phantom,
)

LOCK = 100
OURS, THEIRS = (2, 8), (1, 9)
"""Ballots of two proposers."""
OLD_PUT = Record((60, 3, 0), (1,))
"""A put that was stamped before the lock's boundary, and comes late."""


def three(name: str) -> list[Replica]:
    return [Replica(each, Kind(1, 4, True), {}, Broken(name)) for each in range(3)]


def successor(inst: Version, value: int, winner: int) -> Record:
    return Record((inst[0], inst[1], inst[2] + 1), (value,), 0, ((inst[2] + 1, winner),))


def said(replicas: list[Replica], record: Record) -> list[str]:
    return [replica.mutate(0, record).said for replica in replicas]


def votes(replicas: list[Replica], inst: Version, ballot: tuple[int, int], new: Record) -> int:
    """How many accept."""
    return [replica.accept(0, inst, ballot, new).said for replica in replicas].count("accepted")


def collect(replicas: list[Replica], boundary: int) -> None:
    """All agree, lock, and drop."""
    assert all([replica.lock_at(boundary) for replica in replicas])
    for replica in replicas:
        replica.collect(boundary)


NOT_RAISED = ("", "lock_with_open_votes")
NOT_TAKEN_BACK = ("", "unlock_with_open_votes")


@pytest.mark.parametrize("left_out", NOT_RAISED)
def test_a_lock_is_not_raised_over_what_may_be_decided(left_out: str) -> None:
    """Else it is decided, and refused for ever; and "nothing" has a second successor."""
    replicas = three(left_out)
    collect(replicas, LOCK)
    first = successor(phantom(LOCK), 1, winner=1)
    for replica in replicas:
        assert replica.prepare(0, None, OURS).base.version == phantom(LOCK)
    assert votes(replicas[:2], phantom(LOCK), OURS, first) == 2
    raised = [replica.lock_at(LOCK + 20) for replica in replicas]
    assert raised == [bool(left_out), bool(left_out), True]
    second = successor(phantom(LOCK + 20), 2, winner=2)
    assert votes(replicas, phantom(LOCK + 20), OURS, second) == (3 if left_out else 1)
    assert said(replicas, first).count("refused") == (3 if left_out else 1)


@pytest.mark.parametrize("left_out", NOT_TAKEN_BACK)
def test_a_lock_is_not_taken_back_under_what_may_be_decided(left_out: str) -> None:
    """Else a put below it is done and read, and then buried by what was built on nothing."""
    replicas = three(left_out)
    assert all([replica.lock_at(LOCK) for replica in replicas[:2]])
    new = successor(phantom(LOCK), 2, winner=1)
    assert votes(replicas[:2], phantom(LOCK), OURS, new) == 2
    assert [replica.unlock() for replica in replicas[:2]] == [bool(left_out)] * 2
    assert said(replicas, OLD_PUT).count("held") == (3 if left_out else 1)
    assert said(replicas, new) == ["held", "held", "held"]


@pytest.mark.parametrize("left_out", ["", "accept_without_lock"])
def test_what_is_built_on_a_lock_is_accepted_by_who_has_it(left_out: str) -> None:
    """Else the one that accepted without the lock, and the one that took it back, take a put."""
    replicas = three(left_out)
    assert all([replica.lock_at(LOCK) for replica in replicas[:2]])
    for replica in replicas[:2]:
        assert replica.prepare(0, None, OURS).said == "promised"
    new = successor(phantom(LOCK), 2, winner=1)
    accepted = votes([replicas[0], replicas[2]], phantom(LOCK), OURS, new)
    assert accepted == (2 if left_out else 1)
    assert replicas[1].unlock()
    assert said(replicas[1:], OLD_PUT) == ["held", "held"]


@pytest.mark.parametrize("left_out", ["", "ahead_of_phantom"])
def test_what_was_built_on_nothing_has_overtaken_no_put(left_out: str) -> None:
    """The put comes when its time was collected. An ack would say that it is ordered before what
    was built on a lock since; but reads have said in between that there was nothing."""
    replicas = three(left_out)
    collect(replicas, LOCK)
    said(replicas, successor(phantom(LOCK), 2, winner=1))
    assert said(replicas, OLD_PUT) == ["ahead" if left_out else "refused"] * 3


@pytest.mark.parametrize("left_out", ["", "votes_below_accepted"])
def test_who_accepts_on_a_lock_takes_no_part_below_it(left_out: str) -> None:
    """Else, when the lock is taken back, who prepared before it succeeds on nothing as well."""
    replicas = three(left_out)
    for replica in replicas:
        assert replica.prepare(0, ABSENT, THEIRS).said == "promised"
    assert all([replica.lock_at(LOCK) for replica in replicas[:2]])
    new = successor(phantom(LOCK), 2, winner=1)
    assert votes(replicas[:2], phantom(LOCK), OURS, new) == 2
    assert said(replicas[:2], new) == ["held", "held"]
    assert all([replica.unlock() for replica in replicas[:2]])
    late = successor(ABSENT, 3, winner=2)
    assert votes(replicas, ABSENT, THEIRS, late) == (3 if left_out else 1)
    assert said(replicas, late).count("ahead") == 2


@pytest.mark.parametrize("left_out", ["", "votes_after_collection"])
def test_a_row_that_lives_again_does_not_vote_on_its_former_life(left_out: str) -> None:
    """Else a second successor of one version is decided, which the first life's votes forbid."""
    replicas = three(left_out)
    base = Record((50, 1, 0), (1,))
    said(replicas, base)
    for replica in replicas:
        assert replica.prepare(0, None, THEIRS).said == "promised"
        assert replica.prepare(0, base.version, OURS).said == "promised"
    first = successor(base.version, 2, winner=1)
    assert votes(replicas, base.version, OURS, first) == 3
    said(replicas, first)
    said(replicas, Record((55, 1, 0), None))
    collect(replicas, LOCK)
    said(replicas, Record((120, 1, 0), (3,)))
    late = successor(base.version, 4, winner=2)
    assert votes(replicas, base.version, THEIRS, late) == (3 if left_out else 0)
    assert said(replicas, late) == ["ahead", "ahead", "ahead"]


@pytest.mark.parametrize("left_out", ["", "collect_with_open_votes"])
def test_votes_on_the_horizon_stay_when_its_garbage_goes(left_out: str) -> None:
    """Else one version is decided twice."""
    replicas = three(left_out)
    said(replicas, Record((55, 1, 0), None))
    assert all([replica.lock_at(LOCK) for replica in replicas])
    first = successor(phantom(LOCK), 1, winner=1)
    assert votes(replicas[:2], phantom(LOCK), THEIRS, first) == 2
    for replica in replicas:
        assert replica.collect(LOCK) == 1
    told = [replica.prepare(0, None, OURS) for replica in replicas]
    assert [vote.said for vote in told] == ["promised"] * 3
    own = successor(phantom(LOCK), 2, winner=2)
    assert chosen_of(told, own) == (own if left_out else first)


@pytest.mark.parametrize("left_out", ["", "accepts_refused"])
def test_nothing_is_accepted_that_the_lock_refuses(left_out: str) -> None:
    """Else it is decided, and nobody can hold it: no update of the key ends any more. So the
    tombstone of an update has a time that is not before the lock."""
    replicas = three(left_out)
    base = Record((50, 1, 0), (1,))
    said(replicas, base)
    assert all([replica.lock_at(LOCK) for replica in replicas])
    slow = Record((50, 1, 1), None, expires=LOCK - 1)
    assert votes(replicas, base.version, OURS, slow) == (3 if left_out else 0)
    assert said(replicas, slow) == ["refused"] * 3
    deleted = slow._replace(expires=LOCK)
    assert votes(replicas, base.version, OURS, deleted) == 3
    assert said(replicas, deleted) == ["held"] * 3


@pytest.mark.parametrize("left_out", NOT_RAISED)
def test_a_delete_that_is_accepted_does_not_become_garbage_before_it_is_held(left_out: str) -> None:
    replicas = three(left_out)
    base = Record((50, 1, 0), (1,))
    said(replicas, base)
    deleted = Record((50, 1, 1), None, expires=LOCK - 1)
    assert votes(replicas, base.version, OURS, deleted) == 3
    assert [replica.lock_at(LOCK) for replica in replicas] == [bool(left_out)] * 3
    assert said(replicas, deleted) == (["refused"] if left_out else ["held"]) * 3


@pytest.mark.parametrize("left_out", ["", "no_proof"])
def test_what_was_built_on_a_tombstone_comes_to_who_has_dropped_it(left_out: str) -> None:
    """It has the tombstone's stamp, and was made after the boundary: so digests are equal there."""
    replicas = three(left_out)
    deleted = Record((60, 1, 0), None)
    said(replicas, deleted)
    made = Record((60, 1, LOCK + 1), (1,))
    said(replicas[:2], made)
    assert len({replica.digest(LOCK) for replica in replicas}) == 1
    collect(replicas, LOCK)
    late = replicas[2]
    assert late.mutate(0, made).said == "refused"
    told = late.mutate(0, made, replicas[0].lock).said
    assert told == ("refused" if left_out else "held")
    if not left_out:
        said(replicas, Record((LOCK + 5, 1, 0), None))
        collect(replicas, LOCK + 20)
        assert late.mutate(0, made, LOCK).said == "refused"


@pytest.mark.parametrize("left_out", ["", "lone_lock"])
def test_a_lock_that_others_took_back_keeps_nothing_out_of_a_copy(left_out: str) -> None:
    """Who has it refuses an update that the others acknowledge. If who gains the copy dropped it,
    too, too few would be left that have it."""
    locked, free, gaining = three(left_out)
    assert locked.lock_at(LOCK)
    update = successor(ABSENT, 1, winner=1)
    assert gaining.mutate(0, update).said == "held"
    gaining.take([locked.tell_all(), free.tell_all()])
    assert (gaining.records[0] == update) == (not left_out)
    assert free.lock_at(LOCK)
    gaining.take([locked.tell_all(), free.tell_all()])
    assert gaining.records[0].version == ABSENT


@pytest.mark.parametrize("left_out", ["", "refuses_own"])
def test_who_is_left_in_a_shorter_row_keeps_what_the_others_missed(left_out: str) -> None:
    """It was built on a tombstone that all had dropped. Two of three have it; the third leaves."""
    replicas = three(left_out)
    collect(replicas, LOCK)
    made = Record((60, 1, LOCK + 1), (1,))
    for holder in replicas[:2]:
        assert holder.mutate(0, made, LOCK).said == "held"
    leaving = replicas[2].tell_all()
    for holder in replicas[:2]:
        holder.take([leaving], is_replica=True)
    kept = [holder.records[0] == made for holder in replicas[:2]]
    assert kept == [not left_out] * 2


@pytest.mark.parametrize("left_out", ["", "ahead_is_denial"])
def test_who_held_a_put_and_is_ahead_by_now_does_not_deny_it(left_out: str) -> None:
    """It was read there, and built on: stamped again it would bury that."""
    replica = three(left_out)[0]
    for stamp in (7, 9, 11):
        replica.mutate(0, Record((stamp, 1, 0), (stamp,)))
    assert replica.mutate(0, Record((8, 1, 0), (8,))).is_denied
    assert replica.mutate(0, Record((9, 1, 0), (9,))).is_denied == bool(left_out)


@pytest.mark.parametrize("left_out", ["", "forgets"])
def test_who_may_have_voted_and_forgot_says_so(left_out: str) -> None:
    """Else what was decided is decided once more."""
    replica = Replica(0, Kind(1, 1, True), {}, Broken(left_out))
    base = Record((50, 1, 0), (1,))
    replica.mutate(0, base)
    assert votes([replica], base.version, OURS, successor(base.version, 2, winner=1)) == 1
    replica.mutate(0, Record((60, 1, 0), (3,)))
    assert replica.prepare(0, None, OURS).said == "promised"
    again = replica.prepare(0, base.version, THEIRS)
    assert again.said == ("promised" if left_out else "gone")
    assert again.accepted is None


def test_who_holds_something_newer_may_have_accepted() -> None:
    """It accepted, took a put, and its lock was taken back: its vote may have been the one."""
    first, second, third = three("")
    assert first.lock_at(LOCK)
    assert second.lock_at(LOCK)
    new = successor(phantom(LOCK), 1, winner=1)
    assert votes([first, second], phantom(LOCK), OURS, new) == 2
    second.mutate(0, Record((130, 1, 0), (2,)))
    assert second.unlock()
    passed = Report(LOCK + 20, (ABSENT,), 0, None, 0)
    answers = [each.prepare(0, phantom(LOCK), THEIRS) for each in (second, third)]
    assert [vote.said for vote in answers] == ["gone", "gone"]
    assert [never_accepts(vote, passed, phantom(LOCK), new) for vote in answers] == [False, True]
    not_yet = passed._replace(boundary=LOCK)
    assert not never_accepts(answers[1], not_yet, phantom(LOCK), new)
