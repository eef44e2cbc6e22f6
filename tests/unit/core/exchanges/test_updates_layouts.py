# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-modify-writes under way when another layout comes: from nodes 1, 2 and 3 to 1, 2 and 4, none
of which is this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest

from quorate.core.topology.layout import Layout
from quorate.core.topology.steps import completed, stepped
from quorate.core.values.messages import (
    AcceptRows,
    Mutate,
    Mutated,
    PrepareRows,
    RowsVoted,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.errors import InvalidRequest, Outcome
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.moving import hear, node, stable
from tests.unit.core.update_stage import OLD, done, pass_ms, successor_of, update, values
from tests.unit.core.vote_stage import Prepared, accept, promise
from tests.unit.core.write_stage import ack, error_of

LAYOUT = stable(5)
KEY = next(
    k for n in range(9999) if LAYOUT.table[partition_of(row_of(k := b"%d" % n))] == (1, 2, 3)
)
JOINT = stepped(LAYOUT, {partition_of(row_of(KEY)): (1, 2, 4)})
NEW = completed(JOINT)
LONGER = stepped(LAYOUT, {partition_of(row_of(KEY)): (1, 2, 3, 4)})
"""Two are a majority of the three that hold the key, and not of the four that shall."""


def _begun(layout: Layout = LAYOUT, **settings: Any) -> tuple[Alone, Asker]:
    alone = node(count=5, layout_of=layout, write_wait_ms=300, **settings)
    return alone, update(alone, key=KEY)


def _finish(alone: Alone, asker: Asker, *, held: Record = OLD) -> None:
    """Both rows promise, accept and keep; one of each is not enough."""
    for answer in STAGES:
        for index in (1, 3):
            assert answer(alone, index)
        assert not asker.results, "no majority of the row to come"
        assert answer(alone, 2)
    assert values(asker)[0] == held.value


def _promise(alone: Alone, index: int) -> list[Prepared]:
    return promise(alone, index, OLD)


STAGES: Final[tuple[Callable[[Alone, int], Sequence[object]], ...]] = (_promise, accept, ack)


def test_an_update_needs_both_rows_while_they_are_two() -> None:
    alone, asker = _begun(JOINT)
    _finish(alone, asker)


def test_a_question_that_another_layout_meets_is_asked_anew() -> None:
    alone, asker = _begun()
    before = {index: alone.take(index, PrepareRows) for index in (1, 2, 3)}
    hear(alone, JOINT)
    pass_ms(alone, 5)
    for index in (1, 2):
        for message in before[index]:
            votes = [
                RowVote(Said.PROMISED, OLD.version, item[2], held=OLD) for item in message.items
            ]
            alone.hear(index, RowsVoted(message.batch, votes))
    assert alone.take(1, AcceptRows) == [], "these are of the layout before"
    _finish(alone, asker)


def test_a_proposal_that_another_layout_meets_begins_with_promises_of_its_replicas() -> None:
    alone, asker = _begun()
    for index in (1, 2):
        promise(alone, index, OLD)
    before = {index: alone.take(index, AcceptRows) for index in (1, 2)}
    hear(alone, JOINT)
    for index in (1, 2):
        (message,) = before[index]
        vote = RowVote(Said.ACCEPTED, OLD.version, message.items[0][2], message.items[0][2])
        alone.hear(index, RowsVoted(message.batch, [vote]))
    assert alone.take(1, Mutate) == []
    mine = before[1][0].items[0][3]
    for index in (1, 3):
        *_, (_, base, ballot, _) = promise(alone, index, OLD, accepted=(1, 1), record=mine)
        assert base == OLD.version
        assert ballot > before[1][0].items[0][2]
    assert alone.take(1, AcceptRows) == []
    promise(alone, 4, OLD)
    for index in (1, 3, 4):
        *_, (_, _, _, record) = accept(alone, index)
        assert record == mine
    for index in (1, 3, 4):
        assert ack(alone, index) == [mine]
    assert values(asker) == (b"41", b"42")


def test_a_decided_record_that_another_layout_meets_is_written_to_its_replicas() -> None:
    alone, asker = _begun()
    for index in (1, 2):
        promise(alone, index, OLD)
    for index in (1, 2):
        accept(alone, index)
    before = {index: alone.take(index, Mutate) for index in (1, 2, 3)}
    hear(alone, JOINT)
    for index in (1, 2, 3):
        (message,) = before[index]
        alone.hear(index, Mutated(message.batch, [], []))
    assert not asker.results, "these acks are of the layout before"
    for index in (1, 3):
        ack(alone, index)
    assert not asker.results
    ack(alone, 4)
    assert values(asker) == (b"41", b"42")
    assert alone.node.inflight == 0


def test_who_held_it_before_another_layout_came_is_sent_it_again_under_that() -> None:
    """It waited for its next try when the layout came."""
    alone, asker = _begun()
    for index in (1, 2):
        promise(alone, index, OLD)
    for index in (1, 2):
        accept(alone, index)
    (mine,) = ack(alone, 1)
    for index in (2, 3):
        ack(alone, index, busy=True)
    hear(alone, JOINT)
    pass_ms(alone, 300)
    assert ack(alone, 1) == [mine]
    ack(alone, 3)
    assert not asker.results
    ack(alone, 4)
    assert values(asker) == (b"41", b"42")


def test_a_base_that_is_written_back_when_another_layout_comes_is_looked_for_again() -> None:
    alone, asker = _begun()
    newer = successor_of(OLD, b"42", number=3)
    promise(alone, 1, OLD)
    promise(alone, 2, newer)
    assert len(alone.take(1, Mutate)) == 1
    hear(alone, JOINT)
    pass_ms(alone, 5)
    for index in (1, 3, 4):
        promise(alone, index, newer)
    for index in (1, 3, 4):
        accept(alone, index)
    for index in (1, 3, 4):
        ack(alone, index)
    assert values(asker) == (b"42", b"43")


def test_a_layout_that_comes_while_it_waits_to_ask_again_makes_it_ask_once() -> None:
    alone, asker = _begun()
    for _ in range(4):
        for index in (1, 2):
            promise(alone, index, OLD, said=Said.REFUSED)
        promise(alone, 3, OLD, said=Said.REFUSED)
    hear(alone, JOINT)
    pass_ms(alone, 2_000)
    _answer_all(alone)
    assert values(asker) == (b"41", b"42")


def _answer_all(alone: Alone) -> None:
    for _ in range(9):
        for index in (1, 2, 3, 4):
            asked = promise(alone, index, OLD)
            assert len(asked) <= 1
            accept(alone, index)
            ack(alone, index)
        pass_ms(alone, 5)


def test_both_layouts_may_come_at_each_stage() -> None:
    alone, asker = _begun()
    for layout in (JOINT, NEW):
        hear(alone, layout)
    pass_ms(alone, 5)
    for answer in STAGES:
        for index in (2, 4):
            assert answer(alone, index)
    assert values(asker) == (b"41", b"42")


@pytest.mark.parametrize("setting", ["w", "r"])
def test_where_a_quorum_is_no_majority_of_the_row_to_come_updates_are_refused(
    setting: str,
) -> None:
    _, asker = _begun(LONGER, **{setting: 2})
    error = error_of(asker, InvalidRequest, Outcome.NOT_APPLIED)
    assert error.facts == {"given": 2, "needed": 3}


def test_an_update_that_meets_a_longer_row_is_done_when_a_majority_of_it_holds_it() -> None:
    """W is 2, which was a majority when it began."""
    alone, asker = _begun(w=2, r=2)
    for answer in (_promise, accept):
        for index in (1, 2):
            assert answer(alone, index)
    hear(alone, LONGER)
    for index in (1, 2):
        assert ack(alone, index)
    assert not asker.results, "two of four"
    assert ack(alone, 4)
    assert values(asker) == (b"41", b"42")
    assert (done(asker).acks, done(asker).replicas) == (3, 4)
