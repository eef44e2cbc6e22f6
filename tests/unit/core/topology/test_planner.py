# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans keep their rules, move little, and are carried out in small steps (I17)."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quorate.core.topology.planner import Site, crowded, next_rows, plan, quotas
from quorate.core.values.slots import PARTITION_COUNT

Rows: TypeAlias = Sequence[Sequence[int]]

NOTHING: Rows = [()] * PARTITION_COUNT
FIRST_TABLES = "6117ad75f1dc4c1514c0b845760acd44"
"""The hash of the first tables of 1 to 12 nodes with 1 to 5 copies, and of 40 with 3."""


def _plain(count: int) -> list[Site]:
    return [Site("", 1)] * count


def _in_zones(zones: str, weights: dict[int, int] | None = None) -> list[Site]:
    """A node for each letter, in the zone that it names."""
    weights = weights or {}
    return [Site(zone, weights.get(index, 1)) for index, zone in enumerate(zones)]


def _held(rows: Rows, count: int) -> list[int]:
    held = Counter(index for row in rows for index in row)
    return [held[index] for index in range(count)]


def _moves(old: Rows, new: Rows) -> int:
    return sum(len(set(row) - set(was)) for was, row in zip(old, new, strict=True))


def _wanted(old: Rows, sites: list[Site], replication: int) -> list[int]:
    held = [
        count if site.weight else 0
        for count, site in zip(_held(old, len(sites)), sites, strict=True)
    ]
    return quotas(sites, replication=replication, held=held)


def _needed(old: Rows, sites: list[Site], replication: int) -> int:
    """Copies that must move for the quotas alone."""
    pairs = zip(_wanted(old, sites, replication), _held(old, len(sites)), strict=True)
    return sum(max(quota - held, 0) for quota, held in pairs)


def _zone_copies_max(sites: list[Site], copies: int) -> int:
    """Rule 2, by trial: the least number of copies in one zone with which all have a place."""
    sizes = Counter(site.zone for site in sites if site.weight).values()
    return next(
        most for most in range(PARTITION_COUNT) if sum(min(most, size) for size in sizes) >= copies
    )


def _check(old: Rows, new: Rows, sites: list[Site], replication: int) -> None:
    """All that a plan promises but few moves."""
    copies = min(replication, sum(site.weight > 0 for site in sites))
    most = _zone_copies_max(sites, copies)
    assert len(new) == PARTITION_COUNT
    for was, row in zip(old, new, strict=True):
        assert len(row) == len(set(row)) == copies
        assert all(sites[index].weight for index in row)
        assert max(Counter(sites[index].zone for index in row).values(), default=0) <= most
        if set(was) == set(row):
            assert tuple(was) == row, "another order is no reason to touch a row"
        if len(was) == len(row):
            assert all(row[was.index(index)] == index for index in set(was) & set(row))
    assert _held(new, len(sites)) == _wanted(old, sites, replication)
    assert plan(new, sites, replication=replication) == new


def test_the_first_tables_are_those_of_every_release() -> None:
    """Else two nodes of different releases, started for the first time, would not agree."""
    sizes = [(nodes, copies) for nodes in range(1, 13) for copies in range(1, 6)]
    tables = [plan(NOTHING, _plain(n), replication=copies) for n, copies in [*sizes, (40, 3)]]
    assert hashlib.blake2b(msgspec.msgpack.encode(tables)).hexdigest()[:32] == FIRST_TABLES


NINE = _in_zones("abcabcabc")


@pytest.mark.parametrize(
    ("before", "after", "copies", "moves"),
    [
        pytest.param([], NINE, 3, 3072, id="nine nodes in three zones"),
        pytest.param(NINE, [*NINE, Site("a", 1)], 3, 256, id="one more in one zone"),
        pytest.param(NINE, [*NINE, *_in_zones("abc")], 3, 768, id="one more in each zone"),
        pytest.param(NINE, _in_zones("abcabcabc", {0: 0}), 3, 342, id="one leaves"),
        pytest.param(NINE, _in_zones("abcabcabc", {0: 2}), 3, 170, id="one of weight 2"),
        pytest.param(NINE, NINE, 5, 2048, id="five copies"),
        pytest.param(NINE, NINE, 2, 0, id="two copies"),
        pytest.param([], _plain(9), 3, 3072, id="nine nodes in no zones"),
        pytest.param(_plain(9), NINE, 3, 0, id="zones that appear late"),
        pytest.param([], _in_zones("ababab"), 3, 3072, id="two zones"),
        pytest.param(
            [],
            [Site("a", 4), Site("a", 4), Site("b", 1), Site("b", 1), Site("c", 1)],
            3,
            3072,
            id="one big zone",
        ),
        pytest.param([], _plain(3), 3, 3072, id="three nodes"),
        pytest.param(_plain(3), _plain(4), 3, 768, id="three to four"),
        pytest.param(_plain(4), _plain(6), 3, 1024, id="four to six"),
        pytest.param(_plain(10), _plain(11), 3, 279, id="ten to eleven"),
        pytest.param(NINE, _plain(9), 3, 0, id="zones that disappear"),
        pytest.param(_plain(100), _plain(150), 3, 1000, id="half as many again"),
        pytest.param([], [Site("a", 1), *_in_zones("bbbb")], 4, 4096, id="a zone too small"),
    ],
)
def test_a_plan_moves_what_the_quotas_need(
    before: list[Site], after: list[Site], copies: int, moves: int
) -> None:
    old = plan(NOTHING, before, replication=3)
    new = plan(old, after, replication=copies)
    _check(old, new, after, copies)
    assert _moves(old, new) == _needed(old, after, copies) == moves


def test_three_nodes_more_give_each_row_at_most_one_new_copy() -> None:
    old = plan(NOTHING, NINE, replication=3)
    new = plan(old, [*NINE, *_in_zones("abc")], replication=3)
    assert max(_moves([was], [row]) for was, row in zip(old, new, strict=True)) == 1


def test_when_all_leave_nobody_is_left_to_hold_anything_and_no_step_drops_a_last_copy() -> None:
    old = plan(NOTHING, _plain(2), replication=1)
    new = plan(old, [Site("", 0)] * 2, replication=1)
    assert new == list(NOTHING)
    assert next_rows(old, new, limit=64, may_gain=range(2)) == {}


def test_a_copy_goes_by_way_of_a_third_node_if_there_is_no_other() -> None:
    """Node 0 has too much, and node 3 has a copy of all that it has."""
    sites = _plain(4)
    old = [(0, 3)] * 512 + [(0, 1)] * 64 + [(1, 2)] * 448
    new = plan(old, sites, replication=2)
    _check(old, new, sites, 2)


def test_a_node_shares_partitions_with_all_of_the_other_zones() -> None:
    """So that when its disk is lost many can refill it."""
    rows = plan(NOTHING, NINE, replication=3)
    together = {index for row in rows if 0 in row for index in row}
    assert together == {0, 1, 2, 4, 5, 7, 8}


SITES = st.lists(
    st.builds(Site, st.sampled_from(["a", "b", "c", ""]), st.sampled_from([0, 1, 1, 1, 2, 9])),
    min_size=1,
    max_size=9,
)


@settings(max_examples=25, deadline=None)
@given(SITES, SITES, st.integers(1, 5), st.integers(1, 5))
def test_any_change_ends_with_every_quota_met_and_no_zone_crowded(
    before: list[Site], after: list[Site], first: int, then: int
) -> None:
    after = after + [Site("", 0)] * (len(before) - len(after))
    old = plan(NOTHING, before, replication=first)
    _check(NOTHING, old, before, first)
    _check(old, plan(old, after, replication=then), after, then)


def _carry_out(old: Rows, sites: list[Site], replication: int) -> tuple[Rows, int]:
    """What is there when plans, made anew before each step, ask for no other; copies moved."""
    now, moves = list(old), 0
    for _ in range(200):
        goal = plan(now, sites, replication=replication)
        step = next_rows(now, goal, limit=64, may_gain=range(len(sites)))
        if not step:
            assert now == goal
            return now, moves
        for partition, row in step.items():
            was = now[partition]
            assert max(len(set(row) - set(was)), len(set(was) - set(row))) == 1
            moves += len(set(row) - set(was))
            now[partition] = row
    raise AssertionError("the plans never end")


def _both(before: list[Site], after: list[Site], first: int, then: int) -> tuple[int, int]:
    """Copies moved where each step is planned anew, and by one plan."""
    after = [*after, Site("b", 1)] + [Site("", 0)] * (len(before) - len(after) - 1)
    old = plan(NOTHING, before, replication=first)
    goal = plan(old, after, replication=then)
    return _carry_out(old, after, then)[1], _moves(old, goal)


@settings(max_examples=6, deadline=None)
@given(SITES, SITES, st.integers(1, 4), st.integers(1, 4))
@example(
    [Site("a", 0), Site("a", 1), Site("a", 1)],
    [Site("a", 1), Site("a", 2), Site("", 2), Site("c", 1)],
    *(4, 2),
)
def test_plans_made_anew_before_each_step_end_and_never_move_much_more(
    before: list[Site], after: list[Site], first: int, then: int
) -> None:
    anew, once = _both(before, after, first, then)
    assert anew <= 1.25 * once + 5, "16 % more is the most that was seen"


def test_plans_made_anew_before_each_step_move_hardly_more_on_average() -> None:
    drawn = random.Random(1)
    anew, once = 0, 0
    for _ in range(12):
        before, after = (
            [Site(drawn.choice("abc"), drawn.randrange(1, 4)) for _ in range(drawn.randint(3, 7))]
            for _ in range(2)
        )
        moved = _both(before, after, drawn.randint(1, 4), drawn.randint(1, 4))
        anew, once = anew + moved[0], once + moved[1]
    assert once > 1_000, "something was moved"
    assert anew <= 1.01 * once


@pytest.mark.parametrize(
    ("before", "after", "first", "then"),
    [
        (_plain(3), _plain(5), 3, 3),
        (_plain(5), [*_plain(3), Site("", 0), Site("", 0)], 3, 3),
        (_plain(5), _plain(5), 3, 5),
        (_plain(5), _plain(5), 5, 3),
        (NINE, [*NINE, Site("a", 1)], 3, 3),
    ],
)
def test_plans_made_anew_before_each_step_move_what_the_quotas_need(
    before: list[Site], after: list[Site], first: int, then: int
) -> None:
    old = plan(NOTHING, before, replication=first)
    _, moves = _carry_out(old, after, then)
    assert moves == _needed(old, after, then)


def test_a_step_takes_no_more_rows_than_it_may_and_loads_all_alike() -> None:
    old = plan(NOTHING, _plain(6), replication=3)
    goal = plan(old, _plain(8), replication=3)
    step = next_rows(old, goal, limit=60, may_gain=range(8))
    assert len(step) == 60
    assert all(row == goal[partition] for partition, row in step.items())
    gained = Counter(index for p, row in step.items() for index in set(row) - set(old[p]))
    asked = Counter(index for partition in step for index in old[partition])
    assert gained.total() == 60
    assert abs(gained[6] - gained[7]) <= 2
    assert max(asked.values()) - min(asked.values()) <= 4


def test_rows_of_a_lost_disk_come_first_and_it_goes_first() -> None:
    old = plan(NOTHING, _plain(4), replication=3)
    sites = [Site("", 0), *_plain(5)]
    goal = plan(old, sites, replication=3)
    step = next_rows(old, goal, limit=64, may_gain=range(6), first={0})
    assert len(step) == 64
    assert all(0 in old[partition] and 0 not in row for partition, row in step.items())
    two = next_rows([(1, 0)] * 1024, [(2, 3)] * 1024, limit=1, may_gain=[2, 3], first=[0])
    assert list(two.values()) == [(1, 2)]


def test_a_row_becomes_shorter_only_where_all_that_hold_it_are_there() -> None:
    rows = [(0, 1, 2)] * 1024
    assert next_rows(rows, [(0, 1)] * 1024, limit=1, may_gain=(), absent=[2]) == {}
    assert next_rows(rows, [(0, 1)] * 1024, limit=1, may_gain=(), absent=[1]) == {}
    step = next_rows(rows, [(0, 1)] * 1024, limit=1, may_gain=(), absent=[3])
    assert list(step.values()) == [(0, 1)]
    swapped = next_rows(rows, [(0, 1, 3)] * 1024, limit=1, may_gain=[3], absent=[1, 2])
    assert list(swapped.values()) == [(0, 1, 3)], "else one that is away may be replaced"


@pytest.mark.parametrize(
    ("now", "goal", "may_gain", "expected"),
    [
        ((0, 1, 2), (0, 3, 2), [3], (0, 3, 2)),
        ((0, 1, 2), (0, 3, 2), [], None),
        ((0, 1, 2), (3, 4, 2), [3, 4], (3, 1, 2)),
        ((0, 1, 2), (3, 4, 2), [4], (4, 1, 2)),
        ((4, 1, 2), (3, 4, 2), [3], (3, 4, 2)),
        ((), (0, 1), [0, 1], (0,)),
        ((0, 1), (0, 1, 2, 3), [3], (0, 1, 3)),
        ((0, 1), (0, 1, 2, 3), [], None),
        ((0, 1, 2), (1,), [], (1, 2)),
        ((0, 1, 2), (0, 1), [], (0, 1)),
        ((0, 1), (1, 0), [0, 1], None),
    ],
)
def test_a_step_changes_one_copy_of_a_row(
    now: tuple[int, ...],
    goal: tuple[int, ...],
    may_gain: list[int],
    expected: tuple[int, ...] | None,
) -> None:
    step = next_rows([now] * 1024, [goal] * 1024, limit=1, may_gain=may_gain)
    assert list(step.values()) == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("sites", "copies", "expected"),
    [
        (_plain(3), 3, [1024, 1024, 1024]),
        (_plain(3), 1, [342, 341, 341]),
        ([Site("", 1), Site("", 3)], 1, [256, 768]),
        ([Site("", 9), Site("", 1), Site("", 1)], 2, [1024, 512, 512]),
        ([Site("", 0), Site("", 1)], 2, [0, 1024]),
        (_in_zones("aab"), 2, [512, 512, 1024]),
        (_in_zones("aab", {2: 9}), 2, [512, 512, 1024]),
        (_in_zones("aaab"), 3, [683, 683, 682, 1024]),
        ([Site("a", 0)], 3, [0]),
        ([], 3, []),
    ],
)
def test_quotas_follow_the_weights_as_far_as_zones_and_distinct_nodes_allow(
    sites: list[Site], copies: int, expected: list[int]
) -> None:
    assert quotas(sites, replication=copies) == expected


def test_odd_copies_stay_where_they_are() -> None:
    assert quotas(_plain(3), replication=1, held=[341, 341, 342]) == [341, 341, 342]


def test_crowded_zones_are_told_with_the_reason() -> None:
    two = _in_zones("ababab")
    rows = plan(NOTHING, two, replication=3)
    assert crowded(rows, two, replication=3) == [
        "512 partitions have 2 copies in zone a: 3 copies need 3 zones, and there are 2",
        "512 partitions have 2 copies in zone b: 3 copies need 3 zones, and there are 2",
    ]
    assert crowded(rows, _in_zones("xxxxxx"), replication=3) == [
        "1024 partitions have 3 copies in zone x: 3 copies need 3 zones, and there is 1"
    ]
    assert crowded([(0, 1)], [Site("", 1), Site("", 1), Site("a", 1)], replication=2) == [
        "1 partitions have 2 copies in no zone: a plan would spread them"
    ]
    assert crowded(rows, _plain(6), replication=3) == []
    assert crowded(plan(NOTHING, NINE, replication=3), NINE, replication=3) == []
