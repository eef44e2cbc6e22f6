# SPDX-License-Identifier: GPL-3.0-or-later
"""Rare branches are counted when they are reached, and only then."""

from __future__ import annotations

import pytest

from quorate.core.values.events import GetResult, PutResult, Result
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
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
from quorate.sim.cluster import SimCluster
from quorate.sim.history import ClientOperation, Evidence, Kind
from quorate.sim.sometimes import BRANCHES, COUNTERS, FAULTS, OPERATIONS, Lives, reached
from tests.simulation import asking

VERSION = pack_version(1, 1)
EVIDENCE = Evidence(n=3, r=2, w=2, epoch_ms=EPOCH_MS)


def _operation(
    result: Result | None, *, kind: Kind = Kind.PUT, derived_from: bytes | None = None
) -> ClientOperation:
    assert result is None or isinstance(result, GetResult | PutResult | QuorateError)
    operation = ClientOperation(1, 0, 0, kind, b"k", asked_ms=0.0, derived_from=derived_from)
    operation.result = result
    operation.wall_ms = 1_000
    return operation


def _get(record: Record | None, *, repaired: int = 0) -> ClientOperation:
    return _operation(GetResult(record, 2, repaired), kind=Kind.GET)


SAMPLES = {
    "a quorum was met exactly": [_operation(PutResult(VERSION, 2, 3))],
    "a second stamp was superseded": [_operation(PutResult(VERSION, 3, 3, True, True))],
    "a derived write was superseded": [
        _operation(PutResult(VERSION, 2, 3, superseded=True), derived_from=VERSION)
    ],
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
    _operation(PutResult(VERSION, 3, 3), derived_from=VERSION),
    _get(None),
    _get(Record(VERSION, b"v")),
    _get(Record(VERSION, b"v", 1_001)),
]


def test_each_branch_has_a_name_of_its_own() -> None:
    assert len(BRANCHES) == len(set(BRANCHES)) == len(COUNTERS) + len(FAULTS) + len(OPERATIONS)
    assert set(SAMPLES) == set(OPERATIONS)


@pytest.mark.parametrize("branch", SAMPLES)
def test_what_clients_saw_reaches_a_branch(branch: str) -> None:
    is_so = OPERATIONS[branch]
    assert all(is_so(operation, EVIDENCE) for operation in SAMPLES[branch])
    assert not any(is_so(operation, EVIDENCE) for operation in DULL)


def test_counters_are_added_up_over_lives() -> None:
    cluster = SimCluster(1)
    lives = Lives()
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
    found = reached(lives, cluster, [], EVIDENCE)
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
    assert reached(lives, cluster, [], EVIDENCE)["damaged bytes were found"] == 0
    cluster.rot(0, b"k")
    asking.must_get(cluster, 0, b"k")
    assert reached(lives, cluster, [], EVIDENCE)["damaged bytes were found"] > 0
