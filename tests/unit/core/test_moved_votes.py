# SPDX-License-Identifier: GPL-3.0-or-later
"""Votes that go along with a copy: all that was promised or accepted, and no more."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.moved_votes import ToldVote, take_votes, told_votes
from quorate.core.topology.steps import stepped
from quorate.core.values.events import StorageState
from quorate.core.values.messages import (
    AcceptRows,
    Instance,
    Mutate,
    PrepareRows,
    Pull,
    PulledVotes,
    RowsVoted,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import PAGE_BYTES
from quorate.core.values.stored import StoredVotes
from quorate.core.values.versions import successor
from quorate.core.votes import INSTANCES_MAX
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.moving import hear, held_by, node, rows_in, stable, swapped

OLD = stable()
P = next(each for each in held_by(OLD, 0) if 3 not in OLD.table[each])
"""This node and two others hold it; node 3 is to."""
JOINT = stepped(OLD, {P: swapped(OLD, P, 0, 3)})
ROWS = rows_in(P, 6)
ROW = ROWS[0]
BASE = record_at(1)


def after(base: Record, number: int = 5, value: bytes | None = b"new") -> Record:
    """What a proposal of this number makes of a record."""
    return Record(successor(base.version), value, winners=((0, number),))


def accepted(record: Record, count: int = 1) -> Instance:
    """An instance of `BASE` of which that was accepted under ballot `count`."""
    return Instance(BASE.version, (count, 7), (count, 7), record)


def voter(*rows: bytes, value: bytes | None = b"new") -> Alone:
    """A node that holds `BASE` under these rows and accepted a successor for each, by ballot 3."""
    alone = node()
    alone.hear(1, Mutate(1, [(row, BASE) for row in rows]))
    base = BASE.version
    alone.hear(1, PrepareRows(2, [(row, base, (3, 7), base) for row in rows]))
    alone.hear(1, AcceptRows(3, [(row, base, (3, 7), after(BASE, value=value)) for row in rows]))
    said = [vote.said for answer in alone.take(1, RowsVoted) for vote in answer.votes]
    assert said == [Said.PROMISED] * len(rows) + [Said.ACCEPTED] * len(rows)
    return alone


def told_by(alone: Alone, after: bytes = b"", base: bytes = b"", limit: int = 100) -> PulledVotes:
    """What it tells who shall hold its copy."""
    alone.hear(3, Pull(9, P, after, limit, base))
    (told,) = alone.take(3, PulledVotes)
    assert told.batch == 9
    return told


def merged(*told: ToldVote) -> StoredVotes:
    """What a node that had no votes remembers of its row when it was told these."""
    alone = node()
    for each in told:
        take_votes(alone.node.parts.votes, each)
    alone.step()
    return alone.node.parts.votes.remembered(ROW)


# --- telling -----------------------------------------------------------------------------------


def test_what_was_accepted_is_told_with_its_ballots() -> None:
    alone = voter(*ROWS[:2])
    hear(alone, JOINT)
    record = after(BASE)
    each = Instance(BASE.version, (3, 7), (3, 7), record)
    assert told_by(alone).votes == [(row, b"", 0, each) for row in ROWS[:2]]
    assert told_by(alone, ROWS[0], BASE.version).votes == [(ROWS[1], b"", 0, each)]
    assert told_by(alone, ROWS[1], BASE.version) == PulledVotes(9, [], more=False)


def test_of_what_is_decided_the_value_is_not_told_once_more() -> None:
    alone = voter(ROW)
    alone.hear(1, Mutate(4, [(ROW, after(BASE))]))
    hear(alone, JOINT)
    ((_, _, _, told),) = told_by(alone).votes
    assert told is not None
    assert (told.is_resolved, told.record) == (True, after(BASE, value=None))


def test_a_row_of_which_nothing_is_held_has_votes_too() -> None:
    """They stand for the one that may be about to be written."""
    alone = node()
    phantom = bytes(14)
    first = Record(successor(phantom), b"1", winners=((0, 5),))
    alone.hear(1, AcceptRows(3, [(ROW, phantom, (1, 7), first)]))
    assert alone.take(1, RowsVoted)[0].votes[0].said == Said.ACCEPTED
    hear(alone, JOINT)
    assert told_by(alone).votes == [(ROW, b"", 0, Instance(phantom, (1, 7), (1, 7), first))]


@settings(max_examples=20, deadline=None)
@given(limit=st.integers(1, 9), counts=st.lists(st.integers(0, INSTANCES_MAX), max_size=6))
def test_pages_add_up_to_all_whatever_their_length(limit: int, counts: list[int]) -> None:
    alone = node()
    parts = alone.node.parts
    wanted: list[ToldVote] = []
    for row, count in zip(ROWS, counts, strict=False):
        instances = [Instance(record_at(ms).version, (ms, 1)) for ms in range(1, count + 1)]
        parts.votes.put(row, StoredVotes(b"", instances, lost=1))
        wanted += [(row, b"", 1, each) for each in instances] or [(row, b"", 1, None)]
    found: list[ToldVote] = []
    row, base, more = b"", b"", True
    while more:
        page, more = told_votes(parts.replica, parts.votes, P, after=row, base=base, limit=limit)
        assert len(page) <= limit
        assert page or not more
        found += page
        if page:
            row, base = page[-1][0], page[-1][3].base if page[-1][3] else b""
    assert found == wanted


def test_of_large_values_few_are_told_at_once() -> None:
    alone = voter(*ROWS, value=bytes(PAGE_BYTES // 2))
    hear(alone, JOINT)
    told = told_by(alone)
    assert (len(told.votes), told.more) == (2, True)
    last = told.votes[-1]
    assert [row for row, *_ in told_by(alone, last[0], BASE.version).votes] == list(ROWS[2:4])


def test_who_has_no_copy_or_cannot_read_it_tells_nothing() -> None:
    alone = node()
    hear(alone, JOINT)
    other = next(each for each, row in enumerate(OLD.table) if 0 not in row)
    alone.hear(3, Pull(9, other, b"", 100, b""))
    assert alone.take(3, PulledVotes) == [PulledVotes(9, [], more=False, failed=True)]
    alone.disk.is_unreadable = True
    assert told_by(alone) == PulledVotes(9, [], more=False, failed=True)


def test_a_disk_that_takes_nothing_tells_nothing_for_it_may_be_asked_for_hours() -> None:
    alone = node()
    hear(alone, JOINT)
    alone.step(StorageState("storage_busy", "stuck"))
    alone.hear(3, Pull(9, P, b"", 100, b""), epoch=JOINT.epoch)
    assert alone.take(3, PulledVotes) == []


# --- damage ------------------------------------------------------------------------------------


def test_damaged_votes_may_have_been_votes_on_anything_made_up_to_now() -> None:
    """Held here or not: who proposes need not wait for all to hold the base."""
    alone = voter(ROW)
    newer = record_at(5)
    alone.hear(1, AcceptRows(4, [(ROW, newer.version, (1, 7), after(newer))]))
    alone.take(1, RowsVoted)
    assert alone.disk.rot_votes(ROW, Random(1))
    for base in (BASE, newer):
        alone.hear(1, PrepareRows(5, [(ROW, base.version, (9, 9), b"")]))
        assert alone.take(1, RowsVoted)[0].votes[0].said == Said.GONE


def test_after_damage_it_votes_on_what_is_made_later_by_a_put_or_in_a_chain() -> None:
    alone = voter(ROW)
    assert alone.disk.rot_votes(ROW, Random(1))
    alone.hear(1, PrepareRows(5, [(ROW, None, (9, 9), b"")]))
    assert alone.take(1, RowsVoted)[0].votes[0].said == Said.GONE
    skew_ms = alone.node.settings.max_clock_skew_ms
    alone.step(after_ms=2 * skew_ms + 1_000)
    made = alone.node.parts.clock.next()
    alone.hear(1, Mutate(6, [(ROW, Record(successor(BASE.version, made), b"v"))]))
    alone.hear(1, PrepareRows(7, [(ROW, None, (9, 9), b"")]))
    assert alone.take(1, RowsVoted)[0].votes[0].said == Said.PROMISED


def test_damage_is_told_of_as_what_is_lost() -> None:
    alone = voter(*ROWS[:2])
    hear(alone, JOINT)
    assert alone.disk.rot_votes(ROWS[0], Random(1))
    (_, floor, lost, none), sound = told_by(alone).votes
    assert (floor, none, sound[2]) == (b"", None, 0)
    assert lost >= alone.node.parts.clock.last


# --- taking ------------------------------------------------------------------------------------


def test_who_has_taken_votes_votes_as_if_they_were_its_own() -> None:
    """A minority of the earlier replicas and it are a majority of the later ones."""
    alone = node()
    record = after(BASE)
    alone.hear(1, Mutate(1, [(ROW, BASE)]))
    take_votes(alone.node.parts.votes, (ROW, b"", 0, accepted(record, 3)))
    alone.hear(1, PrepareRows(2, [(ROW, BASE.version, (2, 9), BASE.version)]))
    (outbid,) = alone.take(1, RowsVoted)[0].votes
    assert (outbid.said, outbid.promised) == (Said.OUTBID, (3, 7))
    alone.hear(1, PrepareRows(3, [(ROW, BASE.version, (4, 9), BASE.version)]))
    vote = RowVote(Said.PROMISED, BASE.version, (4, 9), (3, 7), record)
    assert alone.take(1, RowsVoted)[0].votes == [vote]


def test_of_two_the_higher_promise_and_what_was_accepted_under_the_higher_ballot_count() -> None:
    low, high = after(BASE, 5), after(BASE, 6)
    promised = Instance(BASE.version, (9, 1), (1, 7), low)
    both = merged((ROW, b"", 0, promised), (ROW, b"", 0, accepted(high, 2)))
    assert both.instances == [Instance(BASE.version, (9, 1), (2, 7), high)]
    assert both == merged((ROW, b"", 0, accepted(high, 2)), (ROW, b"", 0, promised))


def test_what_one_knows_to_be_decided_is() -> None:
    decided = Instance(BASE.version, (1, 7), (1, 7), after(BASE, value=None), True)
    for told in ((decided, accepted(after(BASE), 5)), (accepted(after(BASE), 5), decided)):
        assert merged(*[(ROW, b"", 0, each) for each in told]).instances == [decided]


def test_below_the_highest_floor_nothing_is_remembered() -> None:
    older, newer = record_at(2), record_at(3)
    told = merged(
        (ROW, b"", 0, accepted(after(BASE))),
        (ROW, b"", 0, Instance(newer.version, (1, 1))),
        (ROW, older.version, 7, None),
        (ROW, BASE.version, 3, Instance(older.version, (1, 1))),
    )
    assert told == StoredVotes(older.version, [Instance(newer.version, (1, 1))], 7)


@given(order=st.permutations(range(INSTANCES_MAX + 3)))
@settings(max_examples=20, deadline=None)
def test_of_too_many_the_lowest_go_and_the_floor_is_above_them(order: list[int]) -> None:
    bases = [record_at(ms).version for ms in range(1, INSTANCES_MAX + 4)]
    told = merged(*[(ROW, b"", 0, Instance(bases[place], (1, 1))) for place in order])
    assert [each.base for each in told.instances] == bases[3:]
    assert told.floor == bases[2]


def test_what_is_told_once_more_changes_nothing() -> None:
    alone = node()
    told = ROW, b"", 0, accepted(after(BASE))
    take_votes(alone.node.parts.votes, told)
    alone.step()
    before = alone.disk.written
    take_votes(alone.node.parts.votes, told)
    alone.step()
    assert alone.disk.written == before


def test_votes_without_a_record_are_found_by_who_looks_what_is_left() -> None:
    alone = node()
    assert P not in alone.node.parts.replica.partitions()
    take_votes(alone.node.parts.votes, (ROW, b"", 0, accepted(after(BASE))))
    alone.step()
    assert P in alone.node.parts.replica.partitions()
