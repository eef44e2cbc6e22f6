# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's part in founding a cluster, message by message; worlds of them are in
`tests/simulation/test_founding.py`."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.topology.founding import ASK_MS, HOLD_MS, TURN_MS, Founder, Founding
from quorate.core.values.messages import Foundation, FoundStage

A, B, C, D = [(number, f"http://n{number}:1") for number in range(1, 5)]
LIST = [A, B, C]


def node(own: Founder = A, stored: bytes | None = None, count: int = 3) -> Founding:
    return Founding(own, count=count, replication=3, stored=stored, random=Random(1))


def said(stage: FoundStage, founders: list[Founder] = LIST, replication: int = 3) -> Foundation:
    return Foundation(stage, founders, replication)


def keep(founding: Founding) -> bytes:
    """Take what is to be kept, as the disk does."""
    kept, founding.keep = founding.keep, None
    assert kept is not None
    return kept


def test_a_cluster_is_founded_once_all_have_promised_durably() -> None:
    a = node()
    assert a.look(0, [B]) == []
    assert a.look(0, [C, B]) == [(2, said(FoundStage.ASK)), (3, said(FoundStage.ASK))]
    assert a.hear(2, said(FoundStage.FREE), 1) == []
    assert a.hear(3, said(FoundStage.FREE), 1) == [
        (2, said(FoundStage.PROMISE)),
        (3, said(FoundStage.PROMISE)),
    ]
    keep(a)
    a.hear(2, said(FoundStage.PROMISED), 2)
    a.hear(3, said(FoundStage.PROMISED), 2)
    assert a.founded == (), "its own promise is not durable"
    assert a.kept() == [(2, said(FoundStage.PROMISED)), (3, said(FoundStage.PROMISED))]
    assert a.founded == tuple(LIST)
    assert a.look(9_999, [B, C]) == []


def test_nothing_is_said_of_a_promise_before_it_is_durable() -> None:
    b = node(B)
    assert b.hear(1, said(FoundStage.PROMISE), 0) == []
    kept = keep(b)
    assert b.hear(1, said(FoundStage.PROMISE), 0) == []
    assert b.kept() == [(1, said(FoundStage.PROMISED)), (3, said(FoundStage.PROMISED))]
    again = node(B, kept)
    assert again.hear(1, said(FoundStage.PROMISE), 0) == [(1, said(FoundStage.PROMISED))]


def test_a_promise_is_for_life() -> None:
    b = node(B)
    b.hear(1, said(FoundStage.PROMISE), 0)
    again = node(B, keep(b))
    other = [A, B, D]
    for stage in (FoundStage.ASK, FoundStage.PROMISE):
        assert again.hear(1, said(stage, other), 10 * HOLD_MS) == []
        assert again.keep is None
    assert again.promised == tuple(LIST)
    assert again.waits_for() == [A[1], C[1]]


def test_who_promised_asks_those_who_have_not_said_that_they_did() -> None:
    b = node(B)
    b.hear(1, said(FoundStage.PROMISE), 0)
    keep(b)
    b.kept()
    b.hear(1, said(FoundStage.PROMISED), 0)
    assert b.look(1, []) == [(3, said(FoundStage.PROMISE))]
    assert b.look(2, []) == []


def test_a_node_is_free_for_one_list_at_a_time_and_after_a_while_for_another() -> None:
    c = node(C)
    assert c.hear(1, said(FoundStage.ASK), 0) == [(1, said(FoundStage.FREE))]
    other = [B, C, D]
    for stage in (FoundStage.ASK, FoundStage.PROMISE):
        assert c.hear(2, said(stage, other), HOLD_MS - 1) == []
    assert c.promised == ()
    assert c.hear(2, said(FoundStage.ASK, other), HOLD_MS) == [(2, said(FoundStage.FREE, other))]


def test_who_asks_gives_way_to_a_lower_id_and_to_no_higher_one() -> None:
    b = node(B)
    assert b.look(0, [C, D]) != []
    assert b.hear(4, said(FoundStage.ASK, [B, C, D]), 1) == [
        (4, said(FoundStage.FREE, [B, C, D]))
    ], "it is the same list"
    assert b.hear(3, said(FoundStage.ASK, [A, B, C]), 1) == []
    assert b.hear(1, said(FoundStage.ASK), 1) == [(1, said(FoundStage.FREE))]
    assert b.hear(3, said(FoundStage.FREE, [B, C, D]), 2) == []
    assert b.promised == ()


def test_others_ask_later_than_the_lowest_and_who_was_not_answered_tries_again() -> None:
    b = node(B)
    assert b.look(0, [A, C]) == []
    assert b.look(TURN_MS, [A, C]) != []
    assert b.look(TURN_MS + ASK_MS - 1, [A, C]) == []
    later = [b.look(now, [A, C]) for now in range(TURN_MS + ASK_MS, 20_000, 100)]
    assert sum(map(bool, later)) >= 2


def test_whoever_is_not_of_the_lowest_asks_for_a_list_with_itself_at_last() -> None:
    d = node(D)
    d.look(0, [A, B, C])
    assert {message.stage: message.founders for _, message in d.look(3 * TURN_MS, [A, B, C])} == {
        FoundStage.ASK: [A, B, D]
    }


@pytest.mark.parametrize(
    ("sender", "founders", "replication"),
    [
        (1, [A, C, D], 3),
        (1, [A, B], 3),
        (1, [A, B, C, D], 3),
        (4, LIST, 3),
        (2, LIST, 3),
        (1, [A, (2, "http://elsewhere:1"), C], 3),
        (1, [A, (9, B[1]), C], 3),
        (1, [B, A, C], 3),
        (1, [A, B, B], 3),
        (1, [A, B, (3, A[1])], 3),
        (1, LIST, 5),
    ],
)
def test_of_a_list_that_is_not_for_this_node_nothing_is_said(
    sender: int, founders: list[Founder], replication: int
) -> None:
    b = node(B)
    for stage in FoundStage:
        assert b.hear(sender, said(stage, founders, replication), 0) == []
    assert (b.promised, b.keep) == ((), None)


def test_an_answer_to_nothing_is_nothing() -> None:
    a = node()
    for stage in (FoundStage.FREE, FoundStage.PROMISED):
        for sender in (2, 3):
            assert a.hear(sender, said(stage), 0) == []
    assert (a.promised, a.founded) == ((), ())
