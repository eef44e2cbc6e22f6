# SPDX-License-Identifier: GPL-3.0-or-later
"""What a finished run adds up to."""

from __future__ import annotations

from quorate.core.values.events import Batch, GetResult, PutResult
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.errors import DeadlineExceeded, Outcome, QuorateError
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from quorate.sim.disk import Disk
from quorate.sim.history import ClientOperation, Evidence, History, Kind
from quorate.sim.judging import by_second, counted, hints_left, judged, settled, stale_ages
from quorate.sim.tokens import token_of
from tests.simulation import asking

KEY = b"k"


def _operation(
    serial: int, kind: Kind, start_ms: float, end_ms: float | None, *, r: int = 0, key: bytes = KEY
) -> ClientOperation:
    value = token_of((0, serial, 0), key) if kind is Kind.PUT else None
    operation = ClientOperation(serial, 0, 0, kind, key, asked_ms=start_ms, value=value, r=r)
    operation.done_ms = end_ms
    return operation


def _put(serial: int, start_ms: float, end_ms: float, *, key: bytes = KEY) -> ClientOperation:
    operation = _operation(serial, Kind.PUT, start_ms, end_ms, key=key)
    operation.result = PutResult(pack_version(serial, 1), 2, 3)
    return operation


def _get(
    serial: int, start_ms: float, found: ClientOperation | None, *, r: int = 0
) -> ClientOperation:
    operation = _operation(serial, Kind.GET, start_ms, start_ms + 1, r=r)
    record = None
    if found is not None:
        assert isinstance(found.result, PutResult)
        record = Record(found.result.version, found.value)
    operation.result = GetResult(record, max(r, 1))
    return operation


def _failed(serial: int, error: QuorateError | None) -> ClientOperation:
    operation = _operation(serial, Kind.PUT, 1_500.0, None)
    operation.result = error
    return operation


def _history(*operations: ClientOperation) -> History:
    history = History()
    history.operations += operations
    return history


def _evidence(*, w: int = 2, r: int = 2) -> Evidence:
    return Evidence(n=3, r=r, w=w, epoch_ms=EPOCH_MS)


def test_endings_are_counted_by_what_the_client_was_told() -> None:
    unknown = DeadlineExceeded("late", outcome=Outcome.UNKNOWN)
    told = counted([_put(1, 0, 1), _put(2, 0, 1), _failed(3, unknown), _failed(4, None)])
    assert told == {"ok": 2, "deadline_exceeded unknown": 1, "no answer": 1}


def test_availability_is_by_the_second_of_asking() -> None:
    operations = [_put(1, 100, 101), _put(2, 3_200, 3_201), _failed(3, None)]
    assert by_second(operations, 100) == [(1, 1), (0, 1), (0, 0), (1, 1)]
    assert by_second([], 0) == []


def test_a_weak_read_that_missed_a_write_is_as_old_as_the_first_that_it_missed() -> None:
    first, second, third = _put(1, 0, 10), _put(2, 10, 20), _put(3, 20, 30)
    reads = [_get(4, 50, first, r=1), _get(5, 50, third, r=1), _get(6, 25, second, r=1)]
    assert stale_ages(_history(first, second, third, *reads), _evidence(w=1)) == (3, [30.0])


def test_a_read_of_nothing_missed_everything() -> None:
    assert stale_ages(_history(_put(1, 0, 10), _get(2, 15, None, r=1)), _evidence()) == (1, [5.0])


def test_reads_that_overlap_writes_are_not_weak() -> None:
    assert stale_ages(_history(_put(1, 0, 10), _get(2, 15, None)), _evidence()) == (0, [])


def test_what_is_settled_is_read_from_the_disks() -> None:
    cluster = SimCluster(1)
    asking.must_put(cluster, 0, KEY, b"v", w=3)
    cluster.run(100)
    cluster.rot(1, KEY)
    found, unreadable = settled(cluster, dict.fromkeys((KEY, b"other"), range(3)))
    assert {index: record and record.value for index, record in found[KEY].items()} == {
        0: b"v",
        2: b"v",
    }
    assert unreadable == {KEY: [1]}
    assert found[b"other"] == dict.fromkeys(range(3))


def test_only_keys_that_lost_too_much_may_lose_writes() -> None:
    lost, forgiven = _put(1, 0, 10), _put(2, 0, 10, key=b"f")
    evidence = _evidence()
    evidence.replicas = {KEY: [0, 1, 2], b"f": [0, 1, 2]}
    evidence.settled = {KEY: dict.fromkeys(range(3)), b"f": dict.fromkeys(range(3))}
    evidence.forgot_ms = {b"f": 20.0}
    found = judged(_history(lost, forgiven), evidence)
    assert {violation.key for violation in found} == {KEY}
    assert {violation.invariant for violation in found} >= {"I1"}


def test_keys_that_lost_too_much_may_not_hold_lies() -> None:
    evidence = _evidence()
    evidence.replicas = {KEY: [0]}
    evidence.settled = {KEY: {0: Record(pack_version(9, 1), b"invented")}}
    evidence.forgot_ms = {KEY: 0.0}
    assert {violation.invariant for violation in judged(_history(), evidence)} >= {"I4"}


def test_hints_that_a_disk_holds_are_left_but_for_damaged_ones() -> None:
    disk = Disk()
    disk.write(Batch([], [(b"hint1", b"x"), (b"hint2", b"y"), (b"hint3", b"z")], []))
    disk.write(Batch([], [(b"hint1", None)], []))
    assert hints_left(disk, ()) == 2
    disk.rot_hint(b"hint2")
    assert hints_left(disk, ()) == 1
