# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict against every way that the missing replies may still go."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.topology.topology import (
    Consistency,
    Group,
    Groups,
    Verdict,
    consistency,
    lacking,
    needed_of,
    verdict,
)
from quorate.core.values.settings import majority

REPLICAS = range(6)

_sets = st.sets(st.sampled_from(REPLICAS))


@st.composite
def _group(draw: st.DrawFn) -> tuple[frozenset[int], int]:
    members = draw(st.sets(st.sampled_from(REPLICAS), min_size=1))
    return frozenset(members), draw(st.integers(1, len(members)))


_tables = st.lists(_group(), min_size=1, max_size=2)


def _mask(members: set[int] | frozenset[int]) -> int:
    return sum(1 << each for each in members)


def _groups(tables: list[tuple[frozenset[int], int]]) -> Groups:
    return tuple(Group(_mask(members), needed) for members, needed in tables)


def _is_met(done: set[int], tables: list[tuple[frozenset[int], int]]) -> bool:
    return all(len(members & done) >= needed for members, needed in tables)


def _slow(done: set[int], failed: set[int], tables: list[tuple[frozenset[int], int]]) -> Verdict:
    """Play every future: met if it is now, lost if it is in none."""
    if _is_met(done, tables):
        return Verdict.MET
    silent = set(REPLICAS) - done - failed
    futures = chain.from_iterable(
        combinations(sorted(silent), count) for count in range(len(silent) + 1)
    )
    could_be = any(_is_met(done | set(more), tables) for more in futures)
    return Verdict.PENDING if could_be else Verdict.LOST


@given(_sets, _sets, _tables)
def test_the_verdict_is_what_all_futures_agree_on(
    done: set[int], failed: set[int], tables: list[tuple[frozenset[int], int]]
) -> None:
    """Of one table, and of two that are both in force."""
    found = verdict(_mask(done), _mask(failed), _groups(tables))
    assert found is _slow(done, failed, tables)


@given(_sets, _tables)
def test_only_members_of_groups_that_are_not_met_are_lacking(
    done: set[int], tables: list[tuple[frozenset[int], int]]
) -> None:
    unmet = [members for members, needed in tables if len(members & done) < needed]
    assert lacking(_mask(done), _groups(tables)) == _mask(set().union(*unmet))


def test_a_replica_counts_once_however_often_it_answers() -> None:
    """I7."""
    acks = 0
    for _ in range(5):
        acks |= 0b001
    assert verdict(acks, 0, (Group(0b111, 2),)) is Verdict.PENDING


def test_a_replica_that_is_in_both_tables_counts_for_both() -> None:
    groups = (Group(0b0111, 2), Group(0b1110, 2))
    assert verdict(0b0110, 0, groups) is Verdict.MET
    assert verdict(0b0011, 0, groups) is Verdict.PENDING
    assert verdict(0b0011, 0b1100, groups) is Verdict.LOST


def test_what_people_are_told_is_the_most_that_any_table_needs() -> None:
    assert needed_of((Group(0b111, 2), Group(0b11111000, 3))) == 3


@pytest.mark.parametrize("n", range(1, 10))
def test_two_majorities_share_a_replica_and_none_smaller_does(n: int) -> None:
    assert 2 * majority(n) > n >= 2 * (majority(n) - 1)


@pytest.mark.parametrize(
    ("n", "r", "w", "promise"),
    [
        (1, 1, 1, Consistency.LINEARIZABLE),
        (3, 2, 2, Consistency.LINEARIZABLE),
        (3, 3, 2, Consistency.LINEARIZABLE),
        (3, 1, 3, Consistency.REGULAR),
        (3, 3, 1, Consistency.REGULAR),
        (3, 1, 2, Consistency.EVENTUAL),
        (5, 2, 4, Consistency.REGULAR),
        (5, 3, 3, Consistency.LINEARIZABLE),
    ],
)
def test_what_reads_promise(n: int, r: int, w: int, promise: Consistency) -> None:
    assert consistency(n=n, r=r, w=w) is promise


@pytest.mark.parametrize("n", range(1, 6))
def test_the_word_is_never_better_than_the_quorums(n: int) -> None:
    """P2: two strict majorities, else any overlap, else nothing."""
    for r in range(1, n + 1):
        for w in range(1, n + 1):
            word = consistency(n=n, r=r, w=w)
            if min(r, w) > n / 2:
                assert word is Consistency.LINEARIZABLE
            elif r + w > n:
                assert word is Consistency.REGULAR
            else:
                assert word is Consistency.EVENTUAL
