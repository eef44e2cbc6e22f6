# SPDX-License-Identifier: GPL-3.0-or-later
"""Rare branches are counted when they are reached, and only then."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from quorate.core.topology.layout import Course, Layout, Member, unmet_id
from quorate.core.topology.steps import completed, raised, recovered, stepped
from quorate.core.topology.wants import with_course
from quorate.core.values.events import GetResult, Join, PutResult, Result, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version, successor
from quorate.errors import (
    ClockUntrusted,
    DeadlineExceeded,
    DiskFull,
    Outcome,
    QuorateError,
    QuorumUnreachable,
    StorageBusy,
)
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster, url_of
from quorate.sim.history import ClientOperation, Evidence, Kind
from quorate.sim.layouts import Holders, Layouts
from quorate.sim.rest import is_at_rest
from quorate.sim.sometimes import (
    BRANCHES,
    COUNTERS,
    FAULTS,
    LAYOUTS,
    OPERATIONS,
    SOLE,
    Lives,
    reached,
)
from tests.simulation import asking
from tests.unit.core.moving import (
    gaining,
    held_by,
    later,
    replace,
    shared,
    stable,
    with_member,
    without,
)

VERSION = pack_version(1, 1)
ROWS = [[Holders((0, 1, 2))], [Holders((0, 1, 3))]]
EVIDENCE = Evidence(n=3, r=2, w=2, epoch_ms=EPOCH_MS, had=lambda op: ROWS if op.wrote else [])


def _operation(result: Result | None, *, kind: Kind = Kind.PUT) -> ClientOperation:
    assert result is None or isinstance(result, GetResult | PutResult | UpdateResult | QuorateError)
    operation = ClientOperation(1, 0, 0, kind, b"k", asked_ms=0.0)
    operation.result = result
    operation.wall_ms = 1_000
    return operation


def _get(record: Record | None, *, repaired: int = 0) -> ClientOperation:
    return _operation(GetResult(record, 2, repaired), kind=Kind.GET)


def _update(result: Result) -> ClientOperation:
    return _operation(result, kind=Kind.APPEND)


MADE = Record(successor(VERSION, 5), b"v")
MADE_OF_NOTHING = Record(successor(pack_version(1, 0), 5), b"v")
SAMPLES = {
    "a quorum was met exactly": [_operation(PutResult(VERSION, 2, 3))],
    "a second stamp was superseded": [_operation(PutResult(VERSION, 3, 3, True, True))],
    "an update was built on a phantom": [_update(UpdateResult(None, MADE_OF_NOTHING, 2, 3))],
    "an update went on under another layout": [_update(UpdateResult(None, MADE, 2, 3))],
    "a request was found to be done": [
        _update(UpdateResult(None, None, 0, 3, is_repeated=True)),
        _update(UpdateResult(None, MADE, 0, 3, is_repeated=True)),
    ],
    "an update left things alone": [_update(UpdateResult(None, None, 0, 0))],
    "an update ended unknown": [_update(DeadlineExceeded("", outcome=Outcome.UNKNOWN))],
    "a read repaired one replica": [_get(None, repaired=1)],
    "a read repaired several": [_get(None, repaired=2)],
    "a tombstone was read": [_get(Record(VERSION, None))],
    "an expired record was read": [_get(Record(VERSION, b"v", 1_000))],
    "a clock was not trusted": [_operation(ClockUntrusted(""))],
    "a quorum could not be reached": [_operation(QuorumUnreachable(""))],
    "the time was over": [_operation(DeadlineExceeded(""))],
    "the disk was full": [_operation(DiskFull(""))],
    "a write stalled": [_operation(StorageBusy(""))],
    "a write was refused unapplied": [
        _operation(QuorumUnreachable("", outcome=Outcome.NOT_APPLIED))
    ],
    "a write ended unknown": [_operation(DeadlineExceeded("", outcome=Outcome.UNKNOWN))],
    "a coordinator died": [_operation(None)],
}
DULL = [
    _operation(PutResult(VERSION, 3, 3)),
    _operation(PutResult(VERSION, 3, 3, True)),
    _operation(PutResult(VERSION, 3, 3, superseded=True)),
    _get(None),
    _get(Record(VERSION, b"v")),
    _get(Record(VERSION, b"v", 1_001)),
]


def test_each_branch_has_a_name_of_its_own() -> None:
    count = len(COUNTERS) + len(FAULTS) + len(OPERATIONS) + len(LAYOUTS) + 1
    assert len(BRANCHES) == len(set(BRANCHES)) == count
    assert set(SAMPLES) == set(OPERATIONS)
    assert set(FOLLOWED) == set(LAYOUTS)


@pytest.mark.parametrize("branch", SAMPLES)
def test_what_clients_saw_reaches_a_branch(branch: str) -> None:
    is_so = OPERATIONS[branch]
    assert all(is_so(operation, EVIDENCE) for operation in SAMPLES[branch])
    assert not any(is_so(operation, EVIDENCE) for operation in DULL)


OLD = stable()
P = without(OLD, 0)[0]
JOINT = gaining(OLD, P)
DONE = completed(JOINT)
LOST = shared(OLD, 3, lost=(3,))
LONGER = stepped(OLD, {P: (*OLD.table[P], 0)})
Q = held_by(OLD, 0, 1, 2)[0]
SHORTER = stepped(OLD, {Q: OLD.table[Q][:2]})
FRESH = Member(77, url_of(3))
REPLACED = with_member(LOST, FRESH)
CUT = recovered(OLD, OLD.ids((0, 1)))
K = next(each for each, row in enumerate(CUT.table) if len(row) == 1)
LEFT = stepped(CUT, {K: (*CUT.table[K], next(i for i in (2, 3) if i not in CUT.table[K]))})
UNMET = Member(unmet_id(url_of(4)), url_of(4))
FOLLOWED: dict[str, list[tuple[Layout, Layout]]] = {
    "copies moved": [(JOINT, DONE), (LONGER, completed(LONGER))],
    "copies moved without a lost source": [(gaining(LOST, P), completed(gaining(LOST, P)))],
    "a move was called off": [(JOINT, with_course(JOINT, Course.REST))],
    "a row grew": [(LONGER, completed(LONGER))],
    "a row shrank": [(SHORTER, completed(SHORTER))],
    "a plan was made while another was under way": [(OLD, shared(OLD, 2))],
    "a member was replaced while copies moved": [
        (JOINT, replace(shared(JOINT, 3), members=REPLACED.members))
    ],
    "an empty disk took the place of a lost one": [(OLD, REPLACED)],
    "copies moved beside a founder that never came": [
        (replace(JOINT, members=(*JOINT.members, UNMET)), DONE)
    ],
    "a founder that never came was given up": [(with_member(OLD, UNMET), later(OLD))],
    "a recovery gave up more disks than can be lost": [(OLD, recovered(OLD, OLD.ids((0, 1))))],
    "copies moved from what a recovery left of a row": [(LEFT, completed(LEFT))],
    "a feature level was raised": [(OLD, raised(OLD, OLD.level + 1))],
    "a lost disk was refilled": [(LOST, replace(LOST, lost=()))],
}
DULL_PAIRS = [
    (OLD, JOINT),
    (JOINT, completed(JOINT, without={P})),
    (DONE, later(DONE)),
    (LOST, later(LOST)),
    (OLD, with_course(OLD, Course.REST)),
]


@pytest.mark.parametrize("branch", FOLLOWED)
def test_what_layouts_followed_on_each_other_reaches_a_branch(branch: str) -> None:
    is_so = LAYOUTS[branch]
    assert all(is_so(old, new) for old, new in FOLLOWED[branch])
    if branch != "a move was called off":
        assert not any(is_so(old, new) for old, new in DULL_PAIRS)
    assert not is_so(OLD, JOINT)


def _reached(cluster: SimCluster, lives: Lives, layouts: Layouts) -> Counter[str]:
    return reached(lives, layouts, cluster, [], EVIDENCE)


def _moving_cluster(**settings: Any) -> tuple[SimCluster, Lives, Layouts]:
    """Of each key there is one copy, on three nodes; a fourth is to join."""
    cluster = SimCluster(1, 4, spares=1, grow_after_ms=0, replication=1, **settings)
    lives, layouts = Lives(), Layouts(cluster.machines)
    cluster.observers += [lives, layouts]
    return cluster, lives, layouts


def test_a_pull_that_goes_on_after_a_restart_is_counted() -> None:
    cluster, lives, layouts = _moving_cluster()
    joining = cluster.machines[3]
    cluster.machines[0].receive(Join(asking.Handle(cluster.world), joining.url))
    cluster.run_until(lambda: 0 < len(joining.node.pulls.left) < 30)
    assert lives.resumed == 0
    cluster.kill(3, is_power_cut=False)
    cluster.restart(3)
    cluster.run(10)
    assert _reached(cluster, lives, layouts)["a pull went on after a restart"] == 1
    cluster.kill(0)
    cluster.restart(0)
    cluster.run(10)
    assert lives.resumed == 1


def test_an_acknowledged_write_that_moves_from_the_only_one_that_has_it_is_counted() -> None:
    cluster, lives, layouts = _moving_cluster()
    handles = [asking.put(cluster, 0, b"key%d" % number, b"v") for number in range(60)]
    asking.finish(cluster, *handles)
    operations = []
    for handle in handles:
        operation = _operation(handle.of(PutResult))
        operation.done_ms = handle.done_ms
        operations.append(operation)
    cluster.machines[0].receive(Join(asking.Handle(cluster.world), cluster.machines[3].url))
    cluster.run_until(lambda: cluster.layout().moves)
    cluster.run_until(lambda: is_at_rest(cluster))
    found = reached(lives, layouts, cluster, operations, EVIDENCE)
    assert 0 < found[SOLE] < 60
    assert found["copies moved"] > 1
    for operation in operations:
        operation.done_ms = cluster.world.now
    assert reached(lives, layouts, cluster, operations, EVIDENCE)[SOLE] == 0


def test_counters_are_added_up_over_lives() -> None:
    cluster = SimCluster(1)
    lives = Lives()
    layouts = Layouts(cluster.machines)
    cluster.observers.append(lives)
    cluster.kill(2)
    asking.must_put(cluster, 0, b"k", b"v")
    cluster.run(100)
    stored = asking.counter(cluster, "hints_stored")
    assert stored == 1
    cluster.kill(0)
    cluster.restart(0)
    cluster.run_until(cluster.is_connected)
    assert asking.counter(cluster, "hints_stored") == 0
    found = _reached(cluster, lives, layouts)
    assert found["a hint was stored"] == 1
    assert found["a hint was replayed"] == 0
    assert set(found) == set(BRANCHES)


def test_requests_that_wait_are_counted_and_when_they_no_longer_do() -> None:
    cluster = SimCluster(1)
    lives = Lives()
    cluster.observers.append(lives)
    for index in (1, 2):
        cluster.kill(index)
    cluster.run(20)
    asking.put(cluster, 0, b"k", b"v")
    cluster.run(200)
    before = lives.parked - lives.unparked
    cluster.restart(1)
    cluster.run_until(cluster.is_connected)
    cluster.run(200)
    assert before == 1
    assert lives.parked == lives.unparked


def test_damage_that_was_found_is_counted() -> None:
    cluster = SimCluster(1)
    lives = Lives()
    cluster.observers.append(lives)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.run(100)
    layouts = Layouts(cluster.machines)
    assert _reached(cluster, lives, layouts)["damaged bytes were found"] == 0
    cluster.rot(0, b"k")
    asking.must_get(cluster, 0, b"k")
    assert _reached(cluster, lives, layouts)["damaged bytes were found"] > 0
