# SPDX-License-Identifier: GPL-3.0-or-later
"""What a seed decides."""

from __future__ import annotations

import msgspec
import pytest

from quorate.sim.draw import Options, draw
from quorate.sim.faults import FAULTS
from quorate.sim.history import Kind
from quorate.sim.plan import Plan, Request

PLANS = [draw(seed, Options()) for seed in range(300)]


def _requests(plan: Plan) -> list[Request]:
    return [each for script in plan.scripts for visit in script for each in visit.requests]


def test_a_seed_gives_one_plan_and_another_seed_another() -> None:
    assert draw(7, Options()) == draw(7, Options())
    assert draw(7, Options()) != draw(8, Options())


@pytest.mark.parametrize("operations", [0, 1, 7, 200])
def test_clients_do_as_many_operations_as_were_asked_for(operations: int) -> None:
    plan = draw(1, Options(operations=operations))
    requests = _requests(plan)
    assert len(requests) == operations
    assert sorted(request.serial for request in requests) == [*range(1, operations + 1)]


def test_what_a_person_chooses_is_kept() -> None:
    options = Options(nodes=7, replication=5, w=4, r=2, faults=frozenset({"kill", "rot"}))
    for seed in range(50):
        plan = draw(seed, options)
        assert plan.nodes == 7
        assert [plan.settings[name] for name in ("replication", "w", "r")] == [5, 4, 2]
        assert {fault.name for fault in plan.faults} <= {"kill", "rot"}
        assert plan.faults


def test_without_faults_nothing_goes_wrong() -> None:
    for seed in range(50):
        plan = draw(seed, Options(faults=frozenset()))
        assert not plan.faults
        assert plan.stays_dead is None
        assert not any(plan.offsets_ms)


def test_faults_do_not_change_what_clients_do() -> None:
    """Each concern has a generator of its own."""
    calm = draw(3, Options(faults=frozenset()))
    wild = draw(3, Options())
    assert wild.scripts == calm.scripts
    assert wild.latencies_ms == calm.latencies_ms
    assert wild.cache_entries == calm.cache_entries


def test_a_plan_names_only_nodes_that_there_are() -> None:
    for plan in PLANS:
        nodes = range(plan.nodes)
        assert plan.settings["replication"] <= plan.nodes
        assert len(plan.offsets_ms) == len(plan.syncs_ms) == plan.nodes
        assert len(plan.latencies_ms) == plan.nodes**2
        for fault in plan.faults:
            assert 0 <= fault.begin_ms <= fault.end_ms <= plan.load_ms
            assert len(set(fault.nodes)) == len(fault.nodes) > 0
            assert all(node in nodes for node in fault.nodes)
        assert all(visit.node in nodes for script in plan.scripts for visit in script)


def test_the_swarm_switches_every_fault_on_and_off() -> None:
    for name in FAULTS:
        having = [plan for plan in PLANS if any(fault.name == name for fault in plan.faults)]
        assert 0 < len(having) < len(PLANS), name


def test_the_swarm_uses_every_feature() -> None:
    requests = [request for plan in PLANS for request in _requests(plan)]
    assert {request.kind for request in requests} == set(Kind)
    for name in ("value_bytes", "ttl_ms", "r", "w", "timeout_ms"):
        assert any(getattr(request, name) for request in requests), name
    assert any(len(visit.requests) > 1 for p in PLANS for s in p.scripts for visit in s)
    assert {plan.nodes - plan.spares for plan in PLANS} == {1, 2, 3, 4, 5, 6, 7}
    for copies in (1, 2, 3, 4, 5, 7):
        quorums = {
            (plan.settings["w"], plan.settings["r"])
            for plan in PLANS
            if plan.settings["replication"] == copies
        }
        assert (0, 0) in quorums
        assert len(quorums) > 1
    assert {plan.needs_sync for plan in PLANS} == {True, False}
    assert {len(plan.keys()) == 1 for plan in PLANS} == {True, False}
    assert {plan.is_narrow() for plan in PLANS} == {True, False}
    assert any(plan.settings["w"] for plan in PLANS)
    assert any(plan.stays_dead is not None for plan in PLANS)
    late = [plan for plan in PLANS if plan.late]
    assert {plan.gives_up for plan in late} == {True, False}
    for plan in late:
        founders = plan.nodes - plan.spares
        assert plan.is_new
        assert 2 * len(set(plan.late)) < founders > max(plan.late)
        assert not plan.gives_up or not (plan.settings["w"] or plan.settings["r"])


def test_a_plan_is_plain_data() -> None:
    for plan in PLANS[:20]:
        assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
