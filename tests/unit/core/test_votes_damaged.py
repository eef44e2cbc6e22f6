# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica votes that cannot read what it voted before."""

from __future__ import annotations

import pytest

from quorate.core.values.messages import Instance, RowVote, Said
from quorate.core.values.slots import row_of
from quorate.core.values.stored import StoredVotes
from quorate.core.values.versions import ABSENT, stamp_at, successor
from quorate.core.votes import INSTANCES_MAX, decode_votes, encode_votes
from quorate.errors import Corrupt
from tests.unit.core.test_votes import HIGH, LOW, NEW, OLD, ROW, P, Voter, version


def test_of_damaged_votes_anything_up_to_now_may_have_been_one() -> None:
    voter = Voter(OLD)
    voter.replica.votes.put(ROW, b"\xc1")
    voter.store()
    for base in (OLD.version, NEW.version, version(voter.now_ms)):
        assert voter.prepare(HIGH, base).said == Said.GONE
    voter.now_ms += 10_000
    later = version(voter.now_ms - 5_000)
    assert voter.prepare(HIGH, later).said == Said.PROMISED, "stamped after that was seen"
    assert voter.prepare((3, 1), NEW.version).said == Said.GONE
    assert voter.restarted().prepare((3, 1), NEW.version).said == Said.GONE


def test_what_damage_may_have_been_is_not_forgotten_with_what_was_voted_since() -> None:
    voter = Voter(OLD)
    voter.replica.votes.put(ROW, b"\xc1")
    for n in range(INSTANCES_MAX + 1):
        later = successor(OLD.version, stamp_at(voter.now_ms + 1 + n))
        assert voter.accept(HIGH, later).said == Said.ACCEPTED
    assert voter.stored().floor > OLD.version, "the lowest went"
    assert voter.prepare(HIGH, NEW.version).said == Said.GONE
    voter.votes.give_up(ROW, voter.stored().instances[0])
    assert voter.prepare(HIGH, NEW.version).said == Said.GONE


def test_who_promises_nothing_tells_what_it_holds_all_the_same() -> None:
    """Who asks may build on it, where a majority holds it."""
    voter = Voter(OLD)
    voter.prepare(HIGH)
    assert voter.prepare(LOW) == RowVote(Said.OUTBID, OLD.version, HIGH, held=OLD)
    voter.replica.votes.put(ROW, b"\xc1")
    assert voter.prepare(HIGH) == RowVote(Said.GONE, OLD.version, held=OLD)


def test_votes_that_have_no_such_shape_are_damage() -> None:
    for blob in (b"", b"\x00", b"\x93\x01"):
        with pytest.raises(Corrupt):
            decode_votes(blob)
    votes = StoredVotes(version(5), [Instance(version(9), LOW)])
    assert decode_votes(encode_votes(votes)) == votes


def test_damaged_votes_of_one_row_do_not_keep_those_of_others() -> None:
    voter = Voter()
    rows = [row_of(b"{k}%d" % n) for n in range(3)]
    for row in rows:
        voter.votes.prepare(row, version(5_000), LOW, ABSENT)
    voter.replica.votes.put(rows[0], b"no votes")
    voter.store()
    voter.replica.fences.lock(P, 20, 99)
    voter.replica.fences.advance(P, 20)
    voter.votes.forget(min(rows), max(rows) + b"\0", limit=9)
    voter.store()
    assert [voter.disk.get_votes(row) is not None for row in rows] == [True, False, False]
