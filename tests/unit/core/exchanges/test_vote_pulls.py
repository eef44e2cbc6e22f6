# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting what the sources of a copy voted; the sources are the test."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.pulls import AGAIN_MS
from quorate.core.exchanges.vote_pulls import PAGE_VOTES_MAX
from quorate.core.moved_votes import ToldVote
from quorate.core.values.events import StorageState
from quorate.core.values.messages import (
    Instance,
    PrepareRows,
    PulledVotes,
    RowsVoted,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.versions import successor
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.moving import (
    JOINT,
    OLD,
    P,
    Q,
    Source,
    asked_to_list,
    gaining,
    has_pulled,
    hear,
    node,
    records_of,
    rows_in,
    settle,
    sources_of,
    work,
)

ROWS = rows_in(P, 8)
BASE = record_at(1)
NEXT = Record(successor(BASE.version), b"next", winners=((0, 5),))
OTHER = Record(successor(BASE.version), b"other", winners=((0, 6),))


def accepted(row: bytes, record: Record = NEXT, count: int = 1) -> ToldVote:
    """That was accepted as the successor of `BASE` by ballot `count`."""
    return row, b"", 0, Instance(BASE.version, (count, 7), (count, 7), record)


def with_votes(alone: Alone, *votes: ToldVote) -> list[Source]:
    """Sources that hold `BASE` under all rows, and tell these votes."""
    sources = sources_of(alone, records_of(*ROWS))
    for source in sources:
        source.votes = list(votes)
    return sources


def promise(alone: Alone, row: bytes = ROWS[0]) -> RowVote:
    """What the node says of a high ballot."""
    alone.hear(1, PrepareRows(1, [(row, BASE.version, (9, 9), BASE.version)]))
    ((vote,),) = [answer.votes for answer in alone.take(1, RowsVoted)]
    return vote


def test_what_a_majority_had_accepted_is_known_to_who_comes_in_for_one_of_it() -> None:
    """Else it and a third that knows nothing decide on another one, and a write is lost."""
    alone = node()
    hear(alone, JOINT)
    work(alone, *with_votes(alone, accepted(ROWS[0], count=2)))
    assert has_pulled(alone)
    assert promise(alone) == RowVote(Said.PROMISED, BASE.version, (9, 9), (2, 7), NEXT)
    assert alone.node.parts.turn.counters["pulled_votes"] > 0


def test_every_source_that_counts_is_asked() -> None:
    """Two of three: one of them has it, and either may be who it is."""
    for who in (0, 1, 2):
        alone = node()
        hear(alone, JOINT)
        sources = sources_of(alone, records_of(*ROWS))
        sources[who].votes = [accepted(ROWS[0])]
        work(alone, *sources)
        assert (promise(alone).record == NEXT) == (bool(sources[who].votes_asked))
        assert sum([bool(source.votes_asked) for source in sources]) == 2


def test_it_has_not_pulled_before_they_have_told() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone, accepted(ROWS[0]))
    for source in sources:
        source.is_silent_on_votes = True
    work(alone, *sources, ms=5_000)
    assert not has_pulled(alone)
    assert alone.node.pulls.left == [P]
    for source in sources:
        source.is_silent_on_votes = False
    work(alone, *sources)
    assert has_pulled(alone)
    assert promise(alone).record == NEXT


def test_they_are_asked_for_with_the_first_rows_and_taken_when_all_rows_are_here() -> None:
    """What is resolved is so for who holds what resolved it."""
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone, accepted(ROWS[0]))
    pulls = asked_to_list(alone)
    assert [[pull.base is None for pull in each] for each in pulls.values()] == [[True, False]] * 2
    for index, (_, votes) in pulls.items():
        assert votes.base is not None
        alone.hear(index, sources[index - 1].told(votes, votes.base))
    assert alone.node.parts.turn.counters["pulled_votes"] == 0
    for index, (rows, _) in pulls.items():
        alone.hear(index, sources[index - 1].listed(rows))
    work(alone, *sources)
    assert has_pulled(alone)
    assert promise(alone).record == NEXT
    assert [source.votes_asked for source in sources] == [[], [], []]


def test_many_come_in_pages_each_from_where_the_one_before_ended() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone, *[accepted(row) for row in ROWS])
    for source in sources:
        source.page = 3
    work(alone, *sources)
    assert has_pulled(alone)
    for row in ROWS:
        assert promise(alone, row).record == NEXT
    assert {len(source.votes_asked) for source in sources} == {0, 3}


def test_votes_of_one_partition_are_not_taken_for_those_of_the_next() -> None:
    alone = node()
    hear(alone, gaining(OLD, P, Q))
    row = rows_in(Q, 1)[0]
    sources = sources_of(alone, {**records_of(*ROWS), **records_of(row)})
    for source in sources:
        source.votes = [accepted(ROWS[0]), accepted(row)]
    work(alone, *sources)
    assert has_pulled(alone)
    assert [promise(alone, each).record for each in (ROWS[0], row)] == [NEXT, NEXT]


@pytest.mark.parametrize(
    ("votes", "more"),
    [
        ([], True),
        ([accepted(ROWS[1]), accepted(ROWS[0])], False),
        ([accepted(ROWS[0]), accepted(ROWS[0])], False),
        ([accepted(rows_in(Q, 1)[0])], False),
    ],
    ids=["nothing and more", "out of order", "twice", "of another partition"],
)
def test_a_mistaken_answer_counts_as_none(votes: list[ToldVote], more: bool) -> None:
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone, accepted(ROWS[0], OTHER))
    mistaken = 0
    for source in sources:
        source.is_silent_on_votes = True
    work(alone, *sources, ms=200)
    for source in sources:
        for pull in source.votes_asked:
            alone.hear(source.index, PulledVotes(pull.batch, votes, more))
            mistaken += 1
        source.is_silent_on_votes = False
    assert mistaken == 2
    settle(alone)
    assert not has_pulled(alone)
    work(alone, *sources)
    assert has_pulled(alone)
    assert promise(alone).record == OTHER


def test_who_cannot_read_its_votes_is_replaced_by_another() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone, accepted(ROWS[0]))
    sources[0].are_votes_damaged = True
    work(alone, *sources)
    assert has_pulled(alone)
    assert promise(alone).record == NEXT


def test_a_leaver_that_cannot_read_its_votes_is_not_asked_for_ever() -> None:
    """It counts as none of N - majority + 1; the two others do."""
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone, accepted(ROWS[0]))
    leaver = sources[2]
    leaver.are_votes_damaged = True
    for _ in range(100):
        if not any([source.answer() for source in sources]):
            alone.step(after_ms=AGAIN_MS)
    assert has_pulled(alone)
    assert len(leaver.votes_asked) == 1
    assert promise(alone).record == NEXT


def test_where_too_few_can_read_their_votes_the_partition_is_done_without() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone)
    for source in sources[:2]:
        source.are_votes_damaged = True
    work(alone, *sources, ms=20_000)
    assert alone.node.pulls.unreadable == [P]
    assert "partition_unreadable" in alone.notes


def test_what_was_voted_here_meanwhile_stays() -> None:
    """A promise of a higher ballot, say."""
    alone = node()
    hear(alone, JOINT)
    assert promise(alone).said == Said.PROMISED
    work(alone, *with_votes(alone, accepted(ROWS[0], count=2)))
    assert promise(alone).promised == (9, 9)
    alone.hear(1, PrepareRows(1, [(ROWS[0], BASE.version, (10, 1), b"")]))
    (vote,) = alone.take(1, RowsVoted)[0].votes
    assert (vote.said, vote.accepted, vote.record) == (Said.PROMISED, (2, 7), NEXT)


def test_while_the_own_disk_takes_nothing_it_does_not_come_forward() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone, accepted(ROWS[0]))
    for source in sources:
        source.is_silent_on_votes = True
    work(alone, *sources, ms=200)
    for source in sources:
        source.is_silent_on_votes = False
    alone.step(StorageState("disk_full", "no space left"))
    work(alone, *sources, ms=3_000)
    assert not has_pulled(alone)
    alone.step(StorageState())
    work(alone, *sources)
    assert has_pulled(alone)
    assert promise(alone).record == NEXT


def test_a_page_is_bounded() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone)
    work(alone, *sources)
    pulls = [pull for source in sources for pull in source.votes_asked]
    assert {pull.limit for pull in pulls} == {PAGE_VOTES_MAX}


def test_a_restart_asks_once_more_for_all_of_the_partition_that_was_under_way() -> None:
    alone = node()
    hear(alone, JOINT)
    sources = with_votes(alone, *[accepted(row) for row in ROWS])
    for source in sources:
        source.page = 3
    for _ in range(30):
        if any([len(source.votes_asked) == 2 for source in sources]):
            break
        for source in sources:
            source.answer()
        settle(alone)
    assert not has_pulled(alone)
    again = node(disk=alone.disk)
    sources = with_votes(again, *[accepted(row) for row in ROWS])
    work(again, *sources)
    assert has_pulled(again)
    assert [promise(again, row).record for row in ROWS] == [NEXT] * len(ROWS)
