# SPDX-License-Identifier: GPL-3.0-or-later
"""Shrinking: what is left fails still, and nothing in it can be left out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from quorate.sim.draw import Options, draw
from quorate.sim.faults import FAULTS
from quorate.sim.history import Kind
from quorate.sim.plan import Fault, Plan, Request, Visit
from quorate.sim.shrink import shrink


def requests(plan: Plan) -> list[Request]:
    """Every request of a plan."""
    return [each for visit in visits(plan) for each in visit.requests]


def visits(plan: Plan) -> list[Visit]:
    """Every visit of a plan."""
    return [visit for script in plan.scripts for visit in script]


def faults_of(plan: Plan) -> set[str]:
    """The names of a plan's faults."""
    return {fault.name for fault in plan.faults}


def always(_plan: Plan) -> bool:
    """A failure that needs nothing at all."""
    return True


def _large() -> Plan:
    plans = (draw(seed, Options(7, 3, 0, 0, operations=300)) for seed in range(100))
    return next(plan for plan in plans if len(faults_of(plan)) > 4 and has_puts(plan))


def has_puts(plan: Plan) -> bool:
    """Whether not all of its keys are counters and locks."""
    return any(each.kind is Kind.PUT for each in requests(plan))


LARGE = _large()
NEEDED = frozenset({LARGE.faults[3].name, LARGE.faults[-1].name})
KEY = next(each.key for each in requests(LARGE) if each.kind is Kind.PUT)


def fails(plan: Plan) -> bool:
    """A failure that needs two faults, a put of a key, and a read of the same."""
    kinds = {each.kind for each in requests(plan) if each.key == KEY}
    return faults_of(plan) >= NEEDED and kinds >= {Kind.PUT, Kind.GET}


def test_only_what_the_failure_needs_is_left() -> None:
    assert fails(LARGE)
    small = shrink(LARGE, fails)
    assert fails(small)
    assert len(small.faults) == len(NEEDED)
    assert sorted(each.kind.value for each in requests(small)) == ["get", "put"]
    assert all(visit.requests for visit in visits(small))
    assert all(small.scripts)


def test_a_failure_that_needs_nothing_leaves_as_many_nodes_as_there_are_copies() -> None:
    small = shrink(LARGE, always)
    assert (small.faults, small.scripts) == ((), ())
    assert small.nodes == small.settings["replication"] == 3
    assert len(small.latencies_ms) == 9


def test_nodes_keep_what_is_theirs_when_others_are_left_out() -> None:
    """A request through the last of seven nodes, whose clock is wrong."""
    script = (Visit(0.0, 6, (Request(1, Kind.GET, b"k"),)),)
    fault = Fault("pause", 0.0, 1.0, (6, 2))
    before = replace(
        LARGE,
        spares=0,
        offsets_ms=(0, 0, 5, 0, 0, 0, 9),
        scripts=(script,),
        faults=(fault,),
        stays_dead=None,
    )

    def is_wrong(plan: Plan) -> bool:
        clocks = plan.offsets_ms
        asked = [clocks[visit.node] for visit in visits(plan)]
        hit = [[clocks[node] for node in fault.nodes] for fault in plan.faults]
        return (asked, hit) == ([9], [[9, 5]])

    small = shrink(before, is_wrong)
    assert is_wrong(small)
    assert small.nodes == 3


def test_what_is_left_is_plain() -> None:
    small = shrink(LARGE, fails)
    assert set(small.latencies_ms) == {(1.0,)}
    assert set(small.offsets_ms) == {0}
    assert set(small.syncs_ms) == {(0.3, 3.0)}
    assert (small.cache_entries, small.stays_dead) == (0, None)
    for request in requests(small):
        assert request == Request(request.serial, request.kind, request.key)
    for fault in small.faults:
        counts = FAULTS[fault.name].nodes
        assert len(fault.nodes) == min(count or len(fault.nodes) for count in counts)
        assert fault.end_ms - fault.begin_ms < 10
    assert small.load_ms <= max(fault.end_ms for fault in LARGE.faults) + 1


def test_what_the_failure_needs_is_not_made_plain() -> None:
    def needs_padding_and_slow_links(plan: Plan) -> bool:
        is_slow = any(max(limits) > 50 for limits in plan.latencies_ms)
        return is_slow and any(each.value_bytes for each in requests(plan))

    plans = (draw(seed, Options(operations=30)) for seed in range(100))
    plan = next(plan for plan in plans if needs_padding_and_slow_links(plan))
    small = shrink(plan, needs_padding_and_slow_links)
    assert needs_padding_and_slow_links(small)
    assert len(requests(small)) == 1


@pytest.mark.parametrize("tries_max", [0, 1, 7])
def test_it_runs_no_more_worlds_than_it_may(tries_max: int) -> None:
    tried: list[Plan] = []

    def counted(plan: Plan) -> bool:
        tried.append(plan)
        return False

    assert shrink(LARGE, counted, tries_max=tries_max) == LARGE
    assert len(tried) == tries_max


def test_it_tells_of_every_smaller_plan_and_ends_with_the_last() -> None:
    told: list[Plan] = []
    small = shrink(LARGE, fails, tell=told.append)
    assert told[-1] == small
    assert all(map(fails, told))
    assert len(told) == len(set(map(repr, told)))


def test_shrinking_a_smallest_plan_changes_nothing() -> None:
    small = shrink(LARGE, fails)
    assert shrink(small, fails) == small
