# SPDX-License-Identifier: GPL-3.0-or-later
"""What one replica votes, by what it holds, promised and locked."""

from __future__ import annotations

from itertools import permutations

import pytest

from quorate.core.replica import Replica
from quorate.core.values.messages import NO_BALLOT, Ballot, RowVote, Said
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.stored import StoredVotes
from quorate.core.values.versions import ABSENT, HybridClock, pack_version, stamp_at, successor
from quorate.core.votes import (
    INSTANCES_MAX,
    NOTED_MAX,
    VOTES_BYTES_MAX,
    Votes,
    is_phantom,
)
from quorate.errors import Corrupt
from quorate.sim.disk import Disk

ROW = row_of(b"k")
P = partition_of(ROW)
SLICE_MS = 1_000
LOW, MIDDLE, HIGH = (1, 5), (2, 1), (2, 9)


def version(ms: int) -> bytes:
    return pack_version(stamp_at(ms), 7)


def record(ms: int, value: bytes | None = b"v", expires_ms: int = 0) -> Record:
    return Record(version(ms), value, expires_ms)


def after(base: bytes, value: bytes | None = b"new", number: int = 1) -> Record:
    return Record(successor(base, number), value, winners=((0, number),))


def phantom(ms: int) -> bytes:
    return pack_version(stamp_at(ms), 0)


class Voter:
    """A replica and its votes, over a disk that keeps what steps store."""

    def __init__(self, *held: Record, disk: Disk | None = None) -> None:
        self.disk = disk or Disk()
        self.damage: list[Corrupt] = []
        self.replica = Replica(self.disk, self.damage.append, slice_ms=SLICE_MS)
        self.now_ms = 100_000
        self.clock = HybridClock(ceiling=stamp_at(self.now_ms), skew_ms_max=1_000)
        self.clock.begin(self.now_ms)
        self.votes = Votes(self.replica, self.clock)
        for each in held:
            self.hold(each)

    def hold(self, held: Record, row: bytes = ROW) -> None:
        self.replica.apply(row, held)
        self.store()

    def store(self) -> None:
        batch, mark = self.replica.close_turn()
        if batch is not None:
            self.disk.write(batch)
            self.disk.sync()
            self.replica.on_durable(mark)

    def restarted(self) -> Voter:
        self.store()
        return Voter(disk=self.disk)

    def prepare(self, ballot: Ballot, base: bytes | None = None, known: bytes = ABSENT) -> RowVote:
        return self.votes.prepare(ROW, base, ballot, known)

    def accept(self, ballot: Ballot, base: bytes, record: Record | None = None) -> RowVote:
        return self.votes.accept(ROW, base, ballot, record or after(base))

    def stored(self) -> StoredVotes:
        return self.votes.remembered(ROW)

    def open_below(self, boundary: int) -> list[bytes]:
        self.look()
        return self.votes.open_below(P, boundary)

    def open_on(self) -> list[bytes]:
        self.look()
        return [row for row, _ in self.votes.open_on(P)]

    def look(self) -> None:
        """Go through what it does not know."""
        while not self.votes.is_known(P):
            self.votes.go_through(P, 10)


OLD, NEW = record(1_000), record(2_000)


# --- promises and acceptances ------------------------------------------------------------------


def test_a_promise_tells_what_is_held_unless_that_is_known() -> None:
    voter = Voter(OLD)
    assert voter.prepare(LOW) == RowVote(Said.PROMISED, OLD.version, LOW, held=OLD)
    known = voter.prepare(HIGH, known=OLD.version)
    assert known == RowVote(Said.PROMISED, OLD.version, HIGH)
    assert voter.prepare((9, 9), known=NEW.version).held == OLD


def test_a_promise_is_kept_against_all_lower_ballots_and_that_one() -> None:
    voter = Voter(OLD)
    voter.prepare(MIDDLE)
    for ballot in (LOW, MIDDLE):
        said = voter.prepare(ballot)
        assert (said.said, said.promised, said.held) == (Said.OUTBID, MIDDLE, OLD)
    assert voter.accept(LOW, OLD.version).said == Said.OUTBID
    assert voter.accept(MIDDLE, OLD.version).said == Said.ACCEPTED
    assert voter.prepare(HIGH).said == Said.PROMISED
    assert voter.accept(MIDDLE, OLD.version).said == Said.OUTBID


def test_what_was_accepted_is_told_with_each_promise_and_by_its_ballot() -> None:
    voter = Voter(OLD)
    mine, other = after(OLD.version, b"a"), after(OLD.version, b"b", number=2)
    assert voter.accept(LOW, OLD.version, mine).accepted == LOW
    said = voter.prepare(MIDDLE)
    assert (said.accepted, said.record) == (LOW, mine)
    voter.accept(MIDDLE, OLD.version, other)
    said = voter.prepare(HIGH)
    assert (said.promised, said.accepted, said.record) == (HIGH, MIDDLE, other)


def test_to_accept_is_to_promise() -> None:
    """Else a lower one could be accepted over a higher one (ScyllaDB 6139)."""
    voter = Voter(OLD)
    voter.accept(HIGH, OLD.version)
    assert voter.prepare(MIDDLE).said == Said.OUTBID
    assert voter.accept(MIDDLE, OLD.version).said == Said.OUTBID


def test_the_ballot_of_who_stamped_the_base_needs_no_promise_and_loses_to_any() -> None:
    voter = Voter(OLD)
    assert voter.accept((0, 3), OLD.version).said == Said.ACCEPTED
    voter = Voter(OLD)
    voter.prepare(LOW)
    assert voter.accept((0, 3), OLD.version).said == Said.OUTBID


@pytest.mark.parametrize("order", list(permutations((LOW, MIDDLE, HIGH))))
def test_no_two_ballots_are_promised_in_falling_order(order: tuple[Ballot, ...]) -> None:
    voter, promised = Voter(OLD), NO_BALLOT
    for ballot in order:
        said = voter.prepare(ballot).said
        assert (said == Said.PROMISED) == (ballot > promised)
        promised = max(promised, ballot)


def test_votes_outlive_a_restart() -> None:
    voter = Voter(OLD)
    voter.prepare(MIDDLE)
    mine = after(OLD.version)
    voter.accept(HIGH, OLD.version, mine)
    again = voter.restarted()
    assert again.prepare(MIDDLE).said == Said.OUTBID
    said = again.prepare((9, 9))
    assert (said.accepted, said.record) == (HIGH, mine)


def test_a_superseded_replica_goes_on_voting() -> None:
    """Who proposed could otherwise neither finish nor give up."""
    voter = Voter(OLD)
    voter.prepare(LOW)
    voter.hold(NEW)
    said = voter.prepare(MIDDLE, OLD.version)
    assert (said.said, said.base, said.held) == (Said.PROMISED, NEW.version, NEW)
    assert voter.accept(MIDDLE, OLD.version).said == Said.ACCEPTED
    assert voter.replica.latest(ROW) == NEW, "nobody sees what is accepted"


def test_a_replica_that_lacks_the_base_votes_on_it() -> None:
    voter = Voter(OLD)
    assert voter.prepare(LOW, NEW.version).said == Said.PROMISED
    assert voter.accept(LOW, NEW.version).said == Said.ACCEPTED


# --- resolved ----------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [1, 2, 9])
def test_a_base_of_whose_chain_a_later_link_is_held_is_resolved(links: int) -> None:
    held = Record(successor(OLD.version, links), b"large", winners=((0, 11), (1, 12)))
    voter = Voter(held)
    told = Record(held.version, None, winners=held.winners)
    for said in (voter.prepare(HIGH, OLD.version), voter.accept(HIGH, OLD.version)):
        assert (said.said, said.record) == (Said.RESOLVED, told)


def test_who_won_is_told_after_something_newer_came() -> None:
    """Once it voted on the row while the winner was held."""
    voter = Voter(OLD)
    voter.accept(LOW, OLD.version)
    held = after(OLD.version, b"won", number=4)
    voter.hold(held)
    voter.prepare(LOW)
    voter.hold(NEW)
    voter.prepare(MIDDLE)
    said = voter.prepare(HIGH, OLD.version)
    assert said.said == Said.RESOLVED
    assert said.record == Record(held.version, None, winners=held.winners)
    (resolved, *_) = voter.stored().instances
    assert resolved.is_resolved
    assert resolved.record == said.record, "without the value"


# --- gone --------------------------------------------------------------------------------------


def _votes_on(voter: Voter, count: int, *, start_ms: int = 1_000) -> list[bytes]:
    bases = [version(start_ms + 1_000 * n) for n in range(count)]
    for base in bases:
        assert voter.prepare(LOW, base).said == Said.PROMISED
    return bases


def test_the_lowest_instance_goes_when_there_are_too_many_and_is_gone_for_good() -> None:
    voter = Voter()
    bases = _votes_on(voter, INSTANCES_MAX + 1)
    assert len(voter.stored().instances) == INSTANCES_MAX
    assert voter.stored().floor == bases[0]
    for base in (bases[0], version(500)):
        assert voter.prepare(HIGH, base).said == Said.GONE
        assert voter.accept(HIGH, base).said == Said.GONE
    for base in bases[1:]:
        assert voter.prepare(HIGH, base).said == Said.PROMISED
    assert voter.restarted().prepare(HIGH, bases[0]).said == Said.GONE


def test_of_a_counter_that_is_counted_on_few_instances_are_kept() -> None:
    voter = Voter(OLD)
    base = OLD.version
    for link in range(1, 30):
        voter.accept(LOW, base, after(OLD.version, number=link))
        voter.hold(after(OLD.version, number=link))
        base = after(OLD.version, number=link).version
    assert len(voter.stored().instances) <= 2
    assert voter.prepare(HIGH, base).said == Said.PROMISED


@pytest.mark.parametrize("is_overtaken", [True, False])
def test_large_values_that_something_newer_overtook_are_not_kept_for_long(
    is_overtaken: bool,
) -> None:
    """Each vote would read and write them all."""
    voter = Voter()
    bases = [version(1_000 + number) for number in range(4)]
    for base in bases:
        voter.accept(LOW, base, after(base, bytes(VOTES_BYTES_MAX // 2)))
        if is_overtaken:
            voter.hold(record(5_000))
    kept = [each.base for each in voter.stored().instances]
    assert kept == (bases[2:] if is_overtaken else bases)
    assert voter.prepare(HIGH, bases[0]).said == (Said.GONE if is_overtaken else Said.PROMISED)


def test_an_instance_below_all_that_are_kept_would_be_the_first_to_go() -> None:
    voter = Voter()
    bases = _votes_on(voter, INSTANCES_MAX, start_ms=2_000)
    before = voter.stored()
    assert voter.prepare(HIGH, version(1_000)).said == Said.GONE
    assert voter.stored() == before
    assert voter.prepare(HIGH, bases[0]).said == Said.PROMISED


# --- phantoms ----------------------------------------------------------------------------------


def _locked(*held: Record, lock: int = 20, horizon: int = 0) -> Voter:
    voter = Voter(*held)
    voter.replica.fences.lock(P, lock, 99)
    if horizon:
        voter.replica.fences.advance(P, horizon)
    return voter


def test_the_base_of_nothing_and_of_garbage_is_the_beginning_of_the_lock() -> None:
    assert Voter().prepare(LOW).base == bytes(14)
    for voter in (_locked(), _locked(record(5_000, None)), _locked(record(5_000, b"v", 6_000))):
        said = voter.prepare(LOW)
        assert (said.said, said.base) == (Said.PROMISED, phantom(20_000))
        assert is_phantom(said.base)
        assert voter.accept(LOW, said.base).said == Said.ACCEPTED
        assert voter.replica.apply(ROW, after(said.base)) == ABSENT, "the lock lets it in"


@pytest.mark.parametrize("held", [record(5_000), record(30_000, None), record(30_000)])
def test_what_is_live_or_not_below_the_lock_is_a_base_itself(held: Record) -> None:
    assert _locked(held).prepare(LOW).base == held.version


@pytest.mark.parametrize("other", [phantom(10_000), phantom(30_000), bytes(14)])
def test_a_vote_on_a_phantom_counts_only_while_the_lock_is_that_one(other: bytes) -> None:
    voter = _locked()
    assert voter.prepare(LOW, phantom(20_000)).said == Said.PROMISED
    assert voter.prepare(LOW, other).said == Said.GONE
    assert voter.accept(LOW, other).said == Said.GONE


def test_a_replica_with_something_live_below_the_phantom_does_not_vote_on_it() -> None:
    """That may have been finished, with this replica."""
    assert _locked(record(5_000)).prepare(LOW, phantom(20_000)).said == Said.GONE
    above = _locked(record(30_000))
    assert above.prepare(LOW, phantom(20_000)).said == Said.PROMISED, "only superseded"


def test_what_is_below_the_lock_where_nothing_is_held_is_gone() -> None:
    voter = _locked()
    assert voter.prepare(LOW, version(19_000)).said == Said.GONE
    assert voter.prepare(LOW, version(21_000)).said == Said.PROMISED


def test_who_accepted_on_a_lock_votes_on_nothing_below_it_though_it_is_taken_back() -> None:
    voter = _locked()
    assert voter.accept(LOW, phantom(20_000)).said == Said.ACCEPTED
    voter.replica.fences.unlock(P)
    assert voter.prepare(HIGH, version(19_000)).said == Said.GONE
    assert voter.restarted().prepare(HIGH, version(19_000)).said == Said.GONE


def test_a_row_that_lives_again_votes_on_nothing_from_before_its_collection() -> None:
    voter = _locked(record(30_000), horizon=20)
    assert voter.prepare(LOW, version(19_000)).said == Said.GONE
    later, held = successor(version(5_000), 2), after(version(5_000))
    assert _locked(held, horizon=20).prepare(LOW, later).said == Said.PROMISED, "of what is held"


def test_nothing_is_accepted_that_the_lock_would_refuse() -> None:
    """Were it decided it could not be stored."""
    voter = _locked(record(5_000))
    base = version(5_000)
    assert voter.prepare(LOW, base).said == Said.PROMISED
    garbage = Record(successor(base), None, 6_000, winners=((0, 1),))
    assert voter.accept(LOW, base, garbage).said == Said.REFUSED
    fresh = Record(successor(base), None, 90_000, winners=((0, 1),))
    assert voter.accept(LOW, base, fresh).said == Said.ACCEPTED


# --- open votes --------------------------------------------------------------------------------


def test_a_lock_waits_for_what_is_accepted_and_would_be_refused_below_it() -> None:
    voter = Voter()
    base = bytes(14)
    voter.accept(LOW, base)
    assert voter.open_below(20) == [ROW]
    voter.hold(after(base))
    assert voter.open_below(20) == []


def test_a_promise_is_no_open_vote() -> None:
    voter = Voter()
    voter.prepare(LOW)
    assert voter.open_below(20) == []


@pytest.mark.parametrize("is_newer", [False, True])
def test_an_accepted_record_that_would_win_over_a_live_one_is_let_in(is_newer: bool) -> None:
    voter = Voter(OLD)
    voter.accept(LOW, OLD.version)
    assert voter.open_below(20) == []
    if is_newer:
        voter.hold(NEW)
        assert voter.open_below(20) == []


def test_a_lock_is_not_taken_back_while_something_was_accepted_on_its_ground() -> None:
    voter = _locked()
    base = phantom(20_000)
    voter.accept(LOW, base)
    assert voter.open_on() == [ROW]
    assert voter.restarted().open_on() == [ROW]
    voter.hold(after(base))
    assert voter.open_on() == []


def test_what_was_accepted_on_other_grounds_does_not_keep_a_lock() -> None:
    voter = _locked()
    voter.accept(LOW, version(21_000))
    assert voter.open_on() == []


def test_open_votes_are_found_whatever_was_noted_of_them() -> None:
    """Of many rows of one partition only some are noted; then all are gone through again."""
    voter = Voter()
    assert voter.open_below(20) == []
    rows = [row_of(b"{k}%d" % n) for n in range(NOTED_MAX + 2)]
    for row in rows:
        voter.votes.accept(row, bytes(14), LOW, after(bytes(14)))
    assert sum(len(noted) for noted in voter.votes._accepted.values()) <= NOTED_MAX
    assert sorted(voter.open_below(20)) == sorted(rows)


def test_what_was_accepted_and_is_held_by_now_is_not_noted() -> None:
    """Else all votes of a partition would be gone through whenever it is locked."""
    voter = Voter()
    assert voter.open_below(20) == []
    for n in range(10 * NOTED_MAX):
        row = row_of(b"{k}%d" % n)
        voter.votes.accept(row, bytes(14), LOW, after(bytes(14)))
        voter.replica.apply(row, after(bytes(14)))
    assert len(voter.votes._accepted[partition_of(row_of(b"{k}0"))]) <= NOTED_MAX


def test_what_is_accepted_while_those_that_are_held_are_cleared_away_is_noted() -> None:
    voter = Voter()
    assert voter.open_below(20) == []
    for n in range(NOTED_MAX):
        row = row_of(b"{k}%d" % n)
        voter.votes.accept(row, bytes(14), LOW, after(bytes(14)))
        voter.replica.apply(row, after(bytes(14)))
    last = row_of(b"{k}last")
    voter.votes.accept(last, bytes(14), LOW, after(bytes(14)))
    assert len(voter.votes._accepted[P]) == 1, "the others were cleared away"
    assert voter.open_below(20) == [last]


# --- forgetting --------------------------------------------------------------------------------


def _swept(voter: Voter) -> bool:
    voter.votes.forget(ROW, ROW + b"\xff", limit=10)
    voter.store()
    return voter.disk.get_votes(ROW) is None


def test_votes_of_a_collected_row_go_once_the_horizon_makes_them_gone() -> None:
    voter = Voter()
    voter.prepare(LOW, version(5_000))
    voter.store()
    voter.replica.fences.lock(P, 20, 99)
    assert not _swept(voter), "the lock may be taken back"
    voter.replica.fences.advance(P, 20)
    assert _swept(voter)
    assert voter.prepare(HIGH, version(5_000)).said == Said.GONE


def test_votes_of_a_row_that_is_held_stay() -> None:
    voter = _locked(OLD, horizon=20)
    voter.prepare(LOW)
    voter.store()
    assert not _swept(voter)


def test_votes_on_what_is_above_the_horizon_stay() -> None:
    voter = _locked(horizon=20)
    for base in (phantom(20_000), version(30_000)):
        voter.prepare(LOW, base)
        voter.store()
        assert not _swept(voter)


def test_of_a_long_list_so_many_are_forgotten_at_once() -> None:
    voter = Voter()
    rows = [row_of(b"{k}%d" % n) for n in range(5)]
    for row in rows:
        voter.votes.prepare(row, version(5_000), LOW, ABSENT)
    voter.store()
    voter.replica.fences.lock(P, 20, 99)
    voter.replica.fences.advance(P, 20)
    start, end = min(rows), max(rows) + b"\0"
    voter.votes.forget(start, end, limit=3)
    voter.store()
    assert sum(voter.disk.get_votes(row) is not None for row in rows) == 2
