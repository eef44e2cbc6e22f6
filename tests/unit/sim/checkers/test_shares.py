# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts that no plan makes are found (I17): planted tables, each wrong in one thing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from quorate.core.topology.layout import Course, Layout, Row
from quorate.core.topology.steps import stepped
from quorate.core.topology.wants import goal_of
from quorate.sim.checkers.placement import Placing
from quorate.sim.checkers.shares import misshaped, uneven
from quorate.sim.checkers.watch import Machines
from quorate.sim.cluster import SimCluster
from quorate.sim.rest import wrong_at_rest
from tests.unit.core.moving import held_by, later, shared, stable, swapped
from tests.unit.sim.checkers.steps import Stage

STABLE = stable(5, course=Course.REST)
MOVING = later(STABLE, course=Course.MOVE)
P = held_by(STABLE, 0)[0]
STRANGER = next(index for index in range(5) if index not in STABLE.table[P])


def _with_row(row: Row, layout: Layout = STABLE) -> Layout:
    table = list(layout.table)
    table[P] = row
    return replace(layout, table=tuple(table))


def _zoned(zones: str) -> Layout:
    """A layout of one node in each zone of these letters, two copies, all where they belong."""
    layout = stable(len(zones), replication=2, course=Course.REST)
    members = [replace(each, zone=zone) for each, zone in zip(layout.members, zones, strict=True)]
    layout = replace(layout, members=tuple(members))
    return replace(layout, table=tuple(goal_of(layout)))


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("replication", range(1, 5))
def test_what_is_planned_is_fine(count: int, replication: int) -> None:
    layout = stable(count, replication=replication)
    assert misshaped(layout) == uneven(layout) == []


def test_what_is_planned_by_weights_and_zones_is_fine_and_on_the_way_there_it_is_not() -> None:
    old = shared(STABLE, 4)
    assert misshaped(old) == []
    assert uneven(old)
    table = tuple(goal_of(old))
    assert uneven(replace(old, table=table)) == []
    members = [replace(each, weight=2 + i) for i, each in enumerate(STABLE.members)]
    heavy = replace(STABLE, members=tuple(members))
    assert [told.partition("shares are")[0] for told in uneven(heavy)] == [
        f"members have {list(STABLE.copies().values())} copies, and their "
    ]
    assert uneven(replace(heavy, table=tuple(goal_of(heavy)))) == []


@pytest.mark.parametrize("row", [(0, 0, 1), (0, 1, 1), (0, 1, 5), (0, 1, -1)])
def test_a_row_that_lists_no_distinct_members_is_found(row: Row) -> None:
    (told,) = misshaped(_with_row(row))
    assert told == f"a row lists {row}, not distinct members"
    (told,) = misshaped(replace(STABLE, moves=((P, row),)))
    assert told == f"a row lists {row}, not distinct members"


def test_a_row_that_is_too_short_or_too_long_at_rest_is_found() -> None:
    row = STABLE.table[P]
    for wrong in (row[:2], row[:1], (*row, STRANGER)):
        layout = _with_row(wrong)
        assert misshaped(layout) == []
        assert f"a row lists {wrong}" in uneven(layout)[0]


def test_a_row_moves_only_toward_as_many_copies_as_there_shall_be() -> None:
    row = STABLE.table[P]

    def moved(held: Row, shall: Row, replication: int) -> list[str]:
        layout = replace(_with_row(held), replication=replication)
        return misshaped(stepped(layout, {P: shall}))

    assert moved(row, swapped(STABLE, P, 0, STRANGER), 3) == []
    assert moved(row, row[:2], 2) == moved(row, row[:2], 1) == []
    assert moved(row[:2], row, 3) == moved(row, (*row, STRANGER), 5) == []
    assert moved(row, row[:2], 3) == [f"partition {P} moves from 3 copies to 2, and shall have 3"]
    assert moved(row, (*row, STRANGER), 3)
    assert moved(row[:2], row[:1], 3)
    assert moved(row[:2], row[:1], 2)
    assert moved(row[:2], row, 1)


def test_a_row_has_no_more_copies_than_there_are_members_to_hold_any() -> None:
    row = STABLE.table[P]
    alone = shared(STABLE, *[each for each in range(5) if each not in row[:2]])
    assert misshaped(stepped(alone, {P: row[:2]})) == []


def test_members_that_are_alike_and_hold_two_copies_more_than_others_are_found() -> None:
    full = max(range(5), key=lambda index: STABLE.copies()[STABLE.members[index].id])
    poor = min(range(5), key=lambda index: STABLE.copies()[STABLE.members[index].id])
    giving = next(each for each in held_by(STABLE, poor) if full not in STABLE.table[each])
    table = list(STABLE.table)
    table[giving] = swapped(STABLE, giving, poor, full)
    (told,) = uneven(replace(STABLE, table=tuple(table)))
    assert told.startswith("members that are alike have [")


def test_copies_in_one_zone_are_found_where_they_could_be_in_two() -> None:
    layout = _zoned("aabb")
    assert uneven(layout) == []
    apart = next(each for each, row in enumerate(layout.table) if set(row) == {0, 2})
    other = next(each for each, row in enumerate(layout.table) if set(row) == {1, 3})
    table = list(layout.table)
    table[apart], table[other] = (0, 1), (2, 3)
    found = uneven(replace(layout, table=tuple(table)))
    assert len(found) == 2, "all have their shares still"
    assert all("in zones as distinct as can be" in told for told in found)
    assert uneven(_zoned("aaab")) == []


def _blamed(*layouts: Layout) -> list[str]:
    """What is found when a node has one of these after another."""
    stage = Stage(5)
    judge = Placing(Machines(stage.machines))
    for layout in layouts:
        stage.machines[0].node.membership.layout = layout
        judge.look(stage.step(0))
    assert {each.invariant for each in judge.found} <= {"I17"}
    return [each.told for each in judge.found]


def test_each_layout_that_a_node_adopts_is_judged() -> None:
    joint = stepped(MOVING, {P: swapped(MOVING, P, 0, STRANGER)})
    assert _blamed(STABLE, MOVING, joint) == []
    shorter = stepped(MOVING, {P: MOVING.table[P][1:]})
    (told,) = _blamed(MOVING, shorter)
    assert "moves from 3 copies to 2" in told
    twice, _ = _blamed(STABLE, later(_with_row((0, 0, 1))))
    assert "not distinct members" in twice
    (told,) = _blamed(STABLE, later(_with_row(joint.moves[0][1])))
    assert "may not follow" in told
    (told,) = _blamed(STABLE, replace(STABLE, replication=2))
    assert "another table of epoch" in told


def test_the_first_layout_has_as_many_copies_as_it_shall_in_even_shares() -> None:
    short, few = _blamed(_with_row(STABLE.table[P][:2]))
    assert "which are not 3 members" in short
    assert "members that are alike" in few


def test_shares_that_are_uneven_at_rest_are_found_when_a_run_ends() -> None:
    cluster = SimCluster(0, 5)
    assert wrong_at_rest(cluster, within_ms=1_000) == []
    for machine in cluster.machines:
        machine.node.membership.layout = _with_row(STABLE.table[P][:2])
    (found, *_) = wrong_at_rest(cluster, within_ms=1_000)
    assert found.invariant == "I17"
    assert "which are not 3 members" in found.told
