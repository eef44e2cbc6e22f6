# SPDX-License-Identifier: GPL-3.0-or-later
"""A run goes through its phases, and tells what became of it."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys

import pytest
from msgspec.structs import replace

from quorate.core.exchanges.reads import Reads
from quorate.core.values.events import Change
from quorate.core.values.slots import row_of
from quorate.core.values.wish import Wish
from quorate.sim.cluster import SimCluster
from quorate.sim.draw import Options, draw
from quorate.sim.history import Kind
from quorate.sim.layouts import rows_of
from quorate.sim.plan import Fault, Plan, Request, Visit
from quorate.sim.run import RunResult, run
from quorate.sim.trace import Trace
from tests.simulation.asking import Handle

CALM = draw(10, Options(5, 3, 0, 0, faults=frozenset()))
SMALL = Options(5, 3, 0, 0, operations=60)
_PROGRAM = """
from quorate.sim.draw import Options, draw
from quorate.sim.run import run
for seed in range(3):
    print(run(draw(seed, Options(5, 3, 0, 0, operations=60))).digest)
"""


def _small(seed: int, *faults: Fault, **changes: object) -> Plan:
    plan = replace(draw(seed, SMALL._replace(faults=frozenset())), faults=faults, stays_dead=None)
    return replace(plan, **changes)


def test_a_run_without_faults_succeeds_in_everything() -> None:
    outcome = run(replace(CALM, settings={**CALM.settings, "timeout_ms": 1_000}))
    assert outcome.operations == 200
    assert not outcome.violations
    assert outcome.in_budget
    assert outcome.results == {"ok": outcome.operations}
    assert sum(fine for fine, _ in outcome.availability) == outcome.operations
    assert outcome.convergence_ms is not None
    assert not outcome.faults
    assert outcome.node_steps > 200


def test_a_world_that_is_over_leaves_nothing_in_memory() -> None:
    """Ten thousand are run by one process."""

    def clusters() -> list[object]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is SimCluster]

    before = clusters()  # Held, so that none of another test's is taken for one of these.
    for seed in range(4):
        run(draw(seed, SMALL))
    assert not [each for each in clusters() if not any(each is other for other in before)]


def test_an_outcome_crosses_processes() -> None:
    outcome = run(draw(1, SMALL))
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_the_same_plan_is_the_same_run_in_every_process() -> None:
    """I29: also where hashes are salted otherwise."""
    here = [run(draw(seed, SMALL)).digest for seed in range(3)]
    assert len(set(here)) == 3
    for salt in ("0", "4711"):
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == here, f"another run under PYTHONHASHSEED={salt}"


def test_a_trace_changes_nothing() -> None:
    lines: list[str] = []
    plan = draw(2, SMALL)
    assert run(plan, trace=Trace(lines.append)) == run(plan)
    assert lines


def test_a_dead_node_stays_dead_through_the_liveness_phase() -> None:
    lines: list[str] = []
    outcome = run(_small(1, stays_dead=2), trace=Trace(lines.append))
    assert not outcome.violations
    told = [line.split()[1:] for line in lines]
    ends = (["n2", "fault", "power", "cut"], ["n2", "fault", "kill"])
    assert any(end in told for end in ends)
    assert ["n2", "fault", "restart"] in told


def test_a_world_that_lost_too_much_says_so() -> None:
    wipes = tuple(Fault("rollback", 10.0 + index, 150.0, (index,)) for index in range(5))
    outcome = run(_small(1, *wipes))
    assert not outcome.in_budget
    assert not outcome.violations
    assert outcome.faults == {"rollback": 5}


def test_lost_disks_of_fewer_than_a_majority_lose_nothing() -> None:
    """Of those that are emptied once there is no majority left to lose theirs."""
    wipes = tuple(
        Fault("wipe", 100.0 + 50 * index, 120.0 + 50 * index, (index,)) for index in range(5)
    )
    outcome = run(_small(1, *wipes))
    assert outcome.in_budget
    assert not outcome.violations


def _new(nodes: int, *faults: Fault, stays_dead: int | None = None) -> Plan:
    """A plan whose nodes have yet to find together, in a load of 4 s. Two need one answer each."""
    quorum = 1 if nodes == 2 else 0
    plan = draw(7, Options(nodes, 3, quorum, quorum, faults=frozenset()))
    return replace(plan, faults=faults, stays_dead=stays_dead, is_new=True)


@pytest.mark.parametrize(
    "plan",
    [
        _new(2, Fault("isolate", 0.0, 3_999.0, (1,)), stays_dead=1),
        _new(3, Fault("isolate", 0.0, 3_999.0, (2,)), stays_dead=1),
        _new(3, Fault("isolate", 0.0, 3_999.0, (2,)), Fault("wipe", 3_000.0, 3_100.0, (1,))),
    ],
    ids=["a founder of two", "who bound the others", "the disk of one of them"],
)
def test_nobody_is_lost_without_whom_the_founders_cannot_be_bound(plan: Plan) -> None:
    """Two bind each other; the third, that comes late, is bound by both or never."""
    assert not run(plan).violations


def test_a_founder_that_was_never_there_may_stay_dead() -> None:
    lines: list[str] = []
    plan = _new(3, Fault("kill", 0.0, 3_999.0, (2,)), stays_dead=2)
    assert not run(plan, trace=Trace(lines.append)).violations
    decided = [line.split()[-2] for line in lines if "layout_decided" in line]
    assert decided == ["bound=2", "bound=3"]


def test_no_copy_is_damaged_that_who_gains_it_has_to_ask_for() -> None:
    plan = draw(6, Options(3, 3, 0, 0, faults=frozenset()))
    faults = (Fault("wipe", 100.0, 120.0, (0,)), Fault("rot", 290.0, 295.0, (1,), 100.0))
    outcome = run(replace(plan, faults=faults))
    assert not outcome.violations
    assert outcome.in_budget
    assert outcome.convergence_ms is not None


def test_a_coordinator_that_dies_leaves_clients_without_an_answer() -> None:
    outcomes = [run(_small(seed, Fault("coordinator", 0.0, 300.0, (1,)))) for seed in range(8)]
    assert sum(outcome.results["no answer"] for outcome in outcomes) > 0
    assert not any(outcome.violations for outcome in outcomes)


def _torn_reads(plan: Plan) -> Plan:
    """A plan whose weak reads can miss writes."""
    get = Request(2, Kind.GET, b"k", r=1)
    put = Request(1, Kind.PUT, b"k")
    script = (Visit(0.0, 0, (put,)), Visit(50.0, 0, (put,)), *[Visit(1.0, 1, (get,))] * 9)
    return replace(plan, scripts=(script,))


def test_where_quorums_overlap_no_read_is_weak() -> None:
    assert run(_small(1)).weak_reads == 0


def test_weak_reads_are_counted_and_the_stale_among_them_aged() -> None:
    cut = Fault("isolate", 40.0, 300.0, (1,))
    settings = {**CALM.settings, "w": 0, "r": 0, "replication": 3}
    plan = replace(_torn_reads(_small(1, cut)), nodes=3, settings=settings)
    plan = replace(plan, offsets_ms=(0,) * 3, syncs_ms=((0.1, 0.2),) * 3)
    outcome = run(replace(plan, latencies_ms=((1.0,),) * 9, load_ms=300.0))
    assert outcome.weak_reads == 9
    assert outcome.stale_ages_ms
    assert min(outcome.stale_ages_ms) >= 0
    assert not outcome.violations


@pytest.mark.plain
def test_a_lie_of_the_store_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_answer(self: Reads, look: object) -> None:
        self._answer(look)  # type: ignore[arg-type]

    monkeypatch.setattr(Reads, "_judge", first_answer)
    found: list[RunResult] = [run(draw(seed, Options())) for seed in range(4)]
    assert any(outcome.violations for outcome in found)


@pytest.mark.plain
def test_a_node_that_breaks_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Reads, event: object, parked: object = None) -> None:
        del self, event, parked
        raise ZeroDivisionError

    monkeypatch.setattr(Reads, "begin", broken)
    outcome = run(draw(1, SMALL))
    assert {violation.invariant for violation in outcome.violations} >= {"P8"}


@pytest.mark.plain
def test_a_silent_node_may_be_the_one_that_copies_are_on_their_way_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is decided after it was looked up who could be done without: as n3 falls silent n0
    leaves. With W = R = 2 of two copies, nothing can succeed before n3 goes on."""
    key, pause, gaining = b"25", SimCluster.pause, []

    def leave_and_pause(cluster: SimCluster, silent: int) -> None:
        first, other, _, last = cluster.machines
        assert last is cluster.machines[silent]
        other.receive(Change(Handle(cluster.world), Wish(leave=(first.url,))))
        cluster.run_until(lambda: len(rows_of(cluster.layout(), row_of(key))) == 2)
        gaining.append(rows_of(cluster.layout(), row_of(key))[1].gaining)
        assert gaining == [{last.settings.node_id}], "choose another key, which it gains"
        pause(cluster, silent)

    monkeypatch.setattr(SimCluster, "pause", leave_and_pause)
    plan = draw(3, Options(4, 2, 2, 2, faults=frozenset()))
    script = (Visit(0.0, 0, (Request(1, Kind.PUT, key),)),)
    lines: list[str] = []
    outcome = run(
        replace(plan, stays_dead=None, scripts=(script,), load_ms=50.0), trace=Trace(lines.append)
    )
    assert not outcome.violations
    assert gaining
    assert any(" fails: " in line for line in lines)


@pytest.mark.parametrize("dead", [None, 2])
def test_nothing_is_asked_before_a_node_has_started_whose_clock_is_far_behind(
    dead: int | None,
) -> None:
    """Else its hints would come after the reads that bring replicas together; and where another
    stays dead, too few would be left to ask."""
    plan = _small(1, Fault("kill", 300.0, 400.0, (1,)), stays_dead=dead)
    offsets = (90_000, *[0] * (plan.nodes - 1))
    settings = {**plan.settings, "max_clock_skew_ms": 100_000}
    lines: list[str] = []
    assert not run(
        replace(plan, offsets_ms=offsets, settings=settings), trace=Trace(lines.append)
    ).violations
    refusals = [float(line.split()[0]) for line in lines if "n1   fault    start refused" in line]
    asked = [float(line.split()[0]) for line in lines if " = 1000|" in line]
    assert len(refusals) > 3
    assert refusals[-1] < asked[0]
