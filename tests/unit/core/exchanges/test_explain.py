# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a key lives and what each replica has of it."""

from __future__ import annotations

from random import Random

from quorate.core.values.events import Batch, Explain, ExplainResult
from quorate.core.values.messages import ScannedRow, ScannedRows, ScanRows
from quorate.core.values.slots import row_of, slot_of
from quorate.core.values.versions import ABSENT
from quorate.errors import NotReady
from quorate.sim.cluster import SimCluster, url_of
from tests.simulation import asking
from tests.unit.core.alone import Alone, Asker, record_at

KEY = b"foo"


def _ask(alone: Alone) -> Asker:
    asker = Asker()
    alone.step(Explain(asker, KEY, timeout_ms=100))
    return asker


def _versions(asker: Asker) -> dict[str, bytes | None]:
    assert isinstance(asker.result, ExplainResult)
    return {view.url: view.version for view in asker.result.replicas}


def _held(key: bytes) -> ScannedRow:
    return ScannedRow(row_of(key), record_at(1).version, live=True, expires_ms=0)


def test_every_replica_is_asked_and_shown_in_order_of_preference() -> None:
    cluster = SimCluster(1, 4)
    written = asking.must_put(cluster, 0, KEY, b"v", w=3)
    for index in range(4):
        handle = asking.ask(cluster, index, lambda waiter: Explain(waiter, KEY))
        asking.finish(cluster, handle)
        result = handle.of(ExplainResult)
        assert (result.slot, result.partition, result.epoch) == (12182, 12182 // 16, 2)
        assert [view.url for view in result.replicas] == [url_of(i) for i in cluster.replicas(KEY)]
        assert {view.version for view in result.replicas} == {written.version}
        states = {view.url: view.state for view in result.replicas}
        assert states.pop(url_of(index), "self") == "self"
        assert set(states.values()) == {"up"}


def test_a_replica_that_has_nothing_is_told_from_one_that_does_not_answer() -> None:
    alone = Alone(3)
    alone.link(1)
    asker = _ask(alone)
    (scan,) = alone.take(1, ScanRows)
    alone.hear(1, ScannedRows(scan.batch, [], more=False))
    assert _versions(asker) == {url_of(0): ABSENT, url_of(1): ABSENT, url_of(2): None}


def test_at_the_deadline_it_is_told_with_what_came() -> None:
    alone = Alone(3)
    alone.link(1, 2)
    asker = _ask(alone)
    (scan,) = alone.take(2, ScanRows)
    alone.hear(2, ScannedRows(scan.batch, [_held(KEY)], more=False))
    assert not asker.results
    alone.step(after_ms=100)
    assert _versions(asker)[url_of(1)] is None
    assert _versions(asker)[url_of(2)] == record_at(1).version


def test_a_lost_replica_is_not_waited_for() -> None:
    alone = Alone(2)
    alone.link(1)
    asker = _ask(alone)
    alone.unlink(1)
    assert _versions(asker) == {url_of(0): ABSENT, url_of(1): None}


def test_damaged_copies_are_shown_as_such() -> None:
    alone = Alone(2)
    alone.link(1)
    alone.disk.format(Batch([(row_of(KEY), record_at(1))], [], []))
    assert alone.disk.rot(row_of(KEY), Random(1))
    asker = _ask(alone)
    (scan,) = alone.take(1, ScanRows)
    alone.hear(1, ScannedRows(scan.batch, [], more=False, failed=True))
    assert set(_versions(asker).values()) == {None}
    assert isinstance(asker.result, ExplainResult)
    assert [view.damaged for view in asker.result.replicas] == [True, True]


def test_damage_behind_a_key_is_not_the_keys() -> None:
    alone = Alone(1)
    other = KEY + b"bar"
    longer = row_of(KEY)[:2] + row_of(other)[2:]
    alone.disk.format(Batch([(row_of(KEY), record_at(1)), (longer, record_at(1))], [], []))
    assert alone.disk.rot(longer, Random(1))
    asker = _ask(alone)
    assert _versions(asker) == {url_of(0): record_at(1).version}
    assert isinstance(asker.result, ExplainResult)
    assert [view.damaged for view in asker.result.replicas] == [False]


def test_a_deleted_key_and_one_that_expires_are_told_from_one_that_is_there() -> None:
    alone = Alone(1)
    for value, expires_ms, live in ((b"v", 10**15, True), (None, 0, False)):
        alone.put(KEY, value, expires_ms=expires_ms)
        asker = _ask(alone)
        assert isinstance(asker.result, ExplainResult)
        (view,) = asker.result.replicas
        assert view.version
        assert (view.live, view.expires_ms) == (live, expires_ms)


def test_another_key_that_begins_alike_is_not_taken_for_it() -> None:
    alone = Alone(2)
    alone.link(1)
    longer = row_of(KEY) + b"bar"
    alone.disk.format(Batch([(longer, record_at(1))], [], []))
    asker = _ask(alone)
    (scan,) = alone.take(1, ScanRows)
    told = ScannedRow(longer, record_at(2).version, live=True, expires_ms=0)
    alone.hear(1, ScannedRows(scan.batch, [told], more=False))
    assert set(_versions(asker).values()) == {ABSENT}


def test_a_key_is_answered_for_once_all_replicas_told_and_not_before() -> None:
    alone = Alone(3)
    alone.link(1, 2)
    asker = _ask(alone)
    for index in (1, 2):
        assert not asker.results
        (scan,) = alone.take(index, ScanRows)
        assert (scan.after, scan.prefix, scan.limit) == (b"", KEY, 1)
        alone.hear(index, ScannedRows(scan.batch, [_held(KEY)], more=False))
    assert _versions(asker) == {
        url_of(0): ABSENT,
        **dict.fromkeys(map(url_of, (1, 2)), record_at(1).version),
    }


def test_waiting_hints_are_counted() -> None:
    alone = Alone(3)
    alone.link(1)
    alone.put(KEY, b"v")
    asker = _ask(alone)
    alone.step(after_ms=100)
    assert isinstance(asker.result, ExplainResult)
    assert {view.url: view.hints for view in asker.result.replicas}[url_of(2)] == 1
    assert asker.result.slot == slot_of(KEY)


def test_without_a_layout_there_is_nothing_to_explain() -> None:
    assert isinstance(_ask(Alone(listed=[1])).result, NotReady)
