# SPDX-License-Identifier: GPL-3.0-or-later
"""Listing keys: complete, in order, page by page, and never for long in one step."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.exchanges.scans import (
    CHUNK,
    CHUNK_ROWS,
    CHUNKS_PER_STEP,
    EXAMINED_MAX,
    LOCAL_PARTITIONS_MAX,
)
from quorate.core.values.events import SCAN_ROWS_MAX, Batch, LocalScan, Scan, ScanResult
from quorate.core.values.messages import ScannedRow, ScannedRows, ScanRows
from quorate.core.values.record import Record
from quorate.core.values.slots import (
    PARTITION_COUNT,
    key_of,
    partition_bounds,
    partition_of,
    row_of,
)
from quorate.core.values.versions import pack_version
from quorate.errors import DeadlineExceeded, InvalidRequest
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from quorate.storage.memory import MemoryEngine
from tests.simulation import asking
from tests.unit.core.alone import Alone, Asker


def _fill(alone: Alone, *keys: bytes, value: bytes | None = b"v", expires_ms: int = 0) -> None:
    """Records on the node's own disk, as if from long ago."""
    record = Record(pack_version(1, 1), value, expires_ms)
    alone.disk.format(Batch([(row_of(key), record) for key in keys], [], []))


def _scan(alone: Alone, **options: object) -> ScanResult:
    """A scan to its end."""
    asker = Asker()
    alone.step(Scan(asker, **options))  # type: ignore[arg-type]
    steps = 0
    while not asker.results:
        assert alone.wake_ms == alone.mono_ms, "it does not go on by itself"
        alone.step()
        steps += 1
    assert steps <= PARTITION_COUNT // CHUNK + 1000
    assert isinstance(asker.result, ScanResult)
    return asker.result


def _local(alone: Alone, **options: object) -> ScanResult:
    """A page of the node's own keys."""
    asker = Asker()
    alone.step(LocalScan(asker, **options))  # type: ignore[arg-type]
    assert isinstance(asker.result, ScanResult)
    return asker.result


def _keys(result: ScanResult) -> list[bytes]:
    return [key_of(each.row) for each in result.rows]


def _in_order(keys: list[bytes]) -> list[bytes]:
    return sorted(keys, key=row_of)


def test_a_scan_lists_live_keys_of_all_partitions_in_row_order() -> None:
    alone = Alone(1)
    keys = [b"%d" % number for number in range(300)]
    _fill(alone, *keys)
    _fill(alone, b"dead", value=None)
    _fill(alone, b"gone", expires_ms=EPOCH_MS)
    _fill(alone, b"soon", expires_ms=EPOCH_MS + 1)
    result = _scan(alone)
    assert _keys(result) == _in_order([*keys, b"soon"])
    assert result.complete
    assert result.cursor == b""


@pytest.mark.parametrize("limit", [1, 7, 299, 300, 301])
def test_pages_put_together_are_the_whole_list(limit: int) -> None:
    alone = Alone(1)
    keys = [b"%d" % number for number in range(300)]
    _fill(alone, *keys)
    listed: list[bytes] = []
    cursor = b""
    while True:
        page = _scan(alone, limit=limit, cursor=cursor)
        assert len(page.rows) <= limit
        listed += _keys(page)
        cursor = page.cursor
        if not cursor:
            break
    assert listed == _in_order(keys)


def test_a_prefix_lists_only_keys_that_have_it() -> None:
    alone = Alone(1)
    near = [b"user", b"user9", b"user;", b"user<", b"user;1", b"users", b"use\xff"]
    _fill(alone, b"user:1", b"user:2", *near, b"\xff\xff", b"\xff")
    assert _keys(_scan(alone, prefix=b"user:")) == _in_order([b"user:1", b"user:2"])
    assert _keys(_scan(alone, prefix=b"\xff")) == _in_order([b"\xff\xff", b"\xff"])


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=3).map(lambda tail: b"{t}" + tail), st.booleans()
    ),
    st.integers(1, 5),
    st.binary(max_size=1),
)
def test_cursors_are_exact_against_a_model(
    keys: dict[bytes, bool], limit: int, prefix: bytes
) -> None:
    """One partition, so that pages end within it; dead keys among the live."""
    alone = Alone(1)
    for key, is_live in keys.items():
        _fill(alone, key, value=b"v" if is_live else None)
    wanted = b"{t}" + prefix
    expected = sorted(key for key, is_live in keys.items() if is_live and key.startswith(wanted))
    listed: list[bytes] = []
    cursor = b""
    for _ in range(len(expected) // limit + 2):
        page = _scan(alone, limit=limit, cursor=cursor, prefix=wanted)
        listed += _keys(page)
        cursor = page.cursor
        if not cursor:
            break
    assert listed == expected
    assert cursor == b""


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    alone = Alone(1)
    for event in (Scan(Asker(), limit=limit), LocalScan(Asker(), limit=limit)):
        alone.step(event)
        assert isinstance(event.waiter.result, InvalidRequest)  # type: ignore[attr-defined]


@pytest.mark.parametrize("cursor", [b"x", b"\x04\x00", b"\xff\xff\0\0k"])
def test_a_cursor_that_is_none_of_ours_is_refused(cursor: bytes) -> None:
    alone = Alone(1)
    for event in (Scan(Asker(), cursor=cursor), LocalScan(Asker(), cursor=cursor)):
        alone.step(event)
        assert isinstance(event.waiter.result, InvalidRequest)  # type: ignore[attr-defined]


def test_a_huge_limit_is_clamped() -> None:
    alone = Alone(1)
    _fill(alone, *[b"%d" % number for number in range(SCAN_ROWS_MAX + 1)])
    page = _scan(alone, limit=10**9)
    assert len(page.rows) == SCAN_ROWS_MAX
    assert page.cursor == page.rows[-1].row


def test_damaged_bytes_make_a_list_incomplete() -> None:
    """A partition that cannot be read is never taken for an empty one."""
    alone = Alone(1)
    _fill(alone, b"a", b"b")
    assert alone.disk.rot(row_of(b"a"), Random(1))
    assert not _scan(alone).complete
    assert "copy_damaged" in alone.notes
    assert not _local(alone, cursor=row_of(b"a")[:2]).complete


def test_what_is_before_damage_is_listed() -> None:
    alone = Alone(1)
    keys = [b"{same}%d" % number for number in range(10)]
    _fill(alone, *keys)
    assert alone.disk.rot(row_of(keys[5]), Random(1))
    page = _scan(alone)
    assert _keys(page) == keys[:5]
    assert not page.complete
    local = _local(alone, cursor=row_of(keys[0]))
    assert (_keys(local), local.complete) == (keys[1:5], True)
    assert local.cursor == row_of(keys[4])
    assert not _local(alone, cursor=local.cursor).complete


def test_a_local_scan_pages_through_this_nodes_copies() -> None:
    alone = Alone(1)
    keys = [b"%d" % number for number in range(50)]
    _fill(alone, *keys)
    _fill(alone, b"dead", value=None)
    listed: list[bytes] = []
    cursor = b""
    for _ in range(20):
        asker = Asker()
        alone.step(LocalScan(asker, cursor=cursor, limit=7))
        assert isinstance(asker.result, ScanResult)
        listed += _keys(asker.result)
        cursor = asker.result.cursor
        if not cursor:
            break
    assert listed == _in_order(keys)


# --- many replicas -----------------------------------------------------------------------------


def test_a_row_that_one_replica_missed_is_listed_all_the_same() -> None:
    cluster = SimCluster(1, 3)
    cluster.kill(2)
    asking.must_put(cluster, 0, b"k", b"v")
    cluster.restart(2, is_empty=True)
    cluster.run_until(cluster.is_connected)
    handle = asking.scan(cluster, 2)
    asking.finish(cluster, handle)
    result = handle.of(ScanResult)
    assert _keys(result) == [b"k"]
    assert result.complete


def test_a_delete_that_one_replica_missed_hides_the_key_all_the_same() -> None:
    cluster = SimCluster(2, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    asking.split(cluster, [0, 1], [2])
    asking.must_put(cluster, 0, b"k", None)
    asking.heal(cluster)
    handle = asking.scan(cluster, 2, r=3)
    asking.finish(cluster, handle)
    assert handle.of(ScanResult).rows == []


@pytest.mark.parametrize("is_own_newer", [True, False])
@pytest.mark.parametrize("is_newer_live", [True, False])
def test_of_copies_that_differ_the_newest_decides_whoever_has_it(
    *, is_own_newer: bool, is_newer_live: bool
) -> None:
    """A deleted key is not listed for an old copy's sake, nor is one hidden by an old tombstone."""
    alone = Alone(2)
    alone.link(1)
    row, stamps = row_of(b"k"), (2, 1) if is_own_newer else (1, 2)
    own, other = [pack_version(stamp, 1) for stamp in stamps]
    is_own_live = is_newer_live == is_own_newer
    value = b"v" if is_own_live else None
    alone.disk.format(Batch([(row, Record(own, value))], [], []))
    asker = Asker()
    alone.step(Scan(asker, r=2))
    for _ in range(PARTITION_COUNT // CHUNK):
        for asked in alone.take(1, ScanRows):
            is_there = asked.partition == partition_of(row)
            rows = [ScannedRow(row, other, not is_own_live, 0)] if is_there else []
            alone.hear(1, ScannedRows(asked.batch, rows, more=False))
    result = asker.result
    assert isinstance(result, ScanResult)
    assert [(each.version, each.live) for each in result.rows] == (
        [(max(own, other), True)] if is_newer_live else []
    )
    assert result.complete


def test_a_list_with_too_few_replicas_says_that_it_is_not_complete() -> None:
    """P3."""
    cluster = SimCluster(3, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.kill(1)
    cluster.kill(2)
    cluster.run(100)
    handle = asking.scan(cluster, 0)
    asking.finish(cluster, handle)
    result = handle.of(ScanResult)
    assert not result.complete
    assert _keys(result) == [b"k"]
    handle = asking.scan(cluster, 0, r=1)
    asking.finish(cluster, handle)
    assert handle.of(ScanResult).complete


def test_a_scan_that_a_silent_peer_holds_up_ends_at_its_deadline() -> None:
    """I24."""
    cluster = SimCluster(4, 2)
    cluster.pause(1)
    handle = asking.scan(cluster, 0, timeout_ms=700)
    asking.finish(cluster, handle)
    handle.of(DeadlineExceeded)
    assert 699 < handle.took_ms < 725
    cluster.resume(1)
    cluster.run(1_000)
    assert cluster.machines[0].node.inflight == 0


def test_rows_that_stay_are_listed_while_others_come_and_go() -> None:
    """Paging under writes."""
    cluster = SimCluster(5, 3)
    stay = [b"stay%d" % number for number in range(60)]
    handles = [asking.put(cluster, 0, key, b"v") for key in stay]
    handles += [asking.put(cluster, 0, b"go%d" % number, b"v") for number in range(60)]
    asking.finish(cluster, *handles)
    listed: list[bytes] = []
    cursor = b""
    for page in range(100):
        asking.put(cluster, page % 3, b"go%d" % page, None if page % 2 else b"again")
        asking.put(cluster, page % 3, b"new%d" % page, b"v")
        handle = asking.scan(cluster, 1, limit=9, cursor=cursor)
        asking.finish(cluster, handle)
        result = handle.of(ScanResult)
        assert result.complete
        listed += _keys(result)
        cursor = result.cursor
        if not cursor:
            break
    assert len(listed) == len(set(listed)), "a key twice"
    assert [key for key in listed if key in stay] == _in_order(stay)


def test_a_list_longer_than_one_answer_is_asked_for_again_from_where_it_was_cut() -> None:
    """Each replica lacks some rows and cuts at another: none between the cuts may be lost."""
    alone = Alone(3, w=1)
    alone.link(1, 2)
    asker = Asker()
    alone.step(Scan(asker, r=3, prefix=b"{t}"))
    partition = row_of(b"{t}")[:2]
    rows = [
        ScannedRow(partition + b"\0\0{t}%03d" % number, pack_version(2, 2), True, 0)
        for number in range(160)
    ]
    asked = 0
    while not asker.results:
        for peer in (1, 2):
            for message in alone.take(peer, ScanRows):
                mine = [r for r in rows if r.row[:2] == message.partition.to_bytes(2, "big")]
                held = [r for i, r in enumerate(mine) if i % 3 != peer and r.row > message.after]
                told = held[: 50 if peer == 1 else 30]
                asked += bool(told)
                alone.hear(peer, ScannedRows(message.batch, told, more=len(told) < len(held)))
        alone.step()
    assert asked >= 8
    assert isinstance(asker.result, ScanResult)
    assert [each.row for each in asker.result.rows] == [each.row for each in rows]


def test_an_answer_that_was_cut_before_its_first_row_is_no_answer() -> None:
    alone = Alone(2)
    alone.link(1)
    asker = Asker()
    alone.step(Scan(asker))
    while not asker.results:
        for message in alone.take(1, ScanRows):
            alone.hear(1, ScannedRows(message.batch, [], more=True))
        alone.step()
    assert isinstance(asker.result, ScanResult)
    assert not asker.result.complete


def test_a_scan_asks_for_no_more_replicas_than_there_are() -> None:
    alone = Alone(1)
    asker = Asker()
    alone.step(Scan(asker, r=2))
    assert isinstance(asker.result, InvalidRequest)


def test_a_scan_out_of_time_tells_how_far_it_came() -> None:
    """Else what lies behind a great many tombstones could never be listed."""
    alone = Alone(2)
    alone.link(1)
    asker = Asker()
    alone.step(Scan(asker, limit=10, timeout_ms=100))
    for scan in alone.take(1, ScanRows):
        alone.hear(1, ScannedRows(scan.batch, [], more=False))
    alone.step(after_ms=100)
    assert isinstance(asker.result, ScanResult)
    assert asker.result.rows == []
    assert asker.result.cursor == partition_bounds(CHUNK)[0]


def test_a_scan_that_was_answered_asks_for_nothing_more() -> None:
    """What it had asked for before its time was over comes late."""
    alone = Alone(2)
    alone.link(1)
    asker = Asker()
    alone.step(Scan(asker, timeout_ms=100))
    late = alone.take(1, ScanRows)
    alone.step(after_ms=100)
    assert len(asker.results) == 1
    for scan in late:
        alone.hear(1, ScannedRows(scan.batch, [], more=False))
    alone.step()
    assert alone.take(1, ScanRows) == []


# --- dead rows -----------------------------------------------------------------------------------


class Counting(MemoryEngine):
    """An engine that counts the rows that scans give out, and the scans."""

    rows = 0
    scans = 0

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        self.scans += 1
        for each in super().scan(start, end):
            self.rows += 1
            yield each


def _dead(count: int, dead: Record, *, live: list[bytes]) -> tuple[Alone, Counting]:
    """A node that holds so many dead rows and some live ones."""
    alone, engine = Alone(1), Counting()
    rows = [(row_of(b"dead%d" % number), dead) for number in range(count)]
    rows += [(row_of(key), Record(pack_version(1, 1), b"v")) for key in live]
    engine.write(Batch([*rows], [], []))
    alone.node.parts.replica._engine = engine
    return alone, engine


DEAD = [Record(pack_version(1, 1), None), Record(pack_version(1, 1), b"v", EPOCH_MS - 1)]
ROWS_OF_A_STEP = CHUNK_ROWS + CHUNK


@pytest.mark.parametrize("dead", DEAD, ids=["deleted", "expired"])
@pytest.mark.parametrize("prefix", [b"", b"d"])
def test_the_rows_that_one_page_looks_at_are_bounded_however_many_are_dead(
    dead: Record, prefix: bytes
) -> None:
    """P7. Empty pages with a cursor are good answers; the pages together miss nothing."""
    keys = [b"d-live%d" % number for number in range(5)]
    alone, engine = _dead(105_000, dead, live=keys)
    listed, cursor, pages = [], b"", 0
    while True:
        engine.rows = engine.scans = 0
        page = _scan(alone, limit=10, cursor=cursor, prefix=prefix)
        assert engine.rows <= EXAMINED_MAX + ROWS_OF_A_STEP + PARTITION_COUNT
        assert engine.scans <= PARTITION_COUNT + CHUNK
        listed += _keys(page)
        pages += 1
        if not page.cursor:
            break
        cursor = page.cursor
    assert listed == _in_order(keys)
    assert 30 < pages < 200


def test_many_dead_rows_in_one_partition_are_passed_page_by_page() -> None:
    alone, engine = _dead(0, DEAD[0], live=[])
    rows = [(row_of(b"{same}%05d" % number), DEAD[0]) for number in range(10_000)]
    last = row_of(b"{same}z"), Record(DEAD[0].version, b"v")
    engine.write(Batch([*rows, last], [], []))
    cursor, pages = b"", 0
    while True:
        engine.rows = 0
        page = _scan(alone, limit=1, cursor=cursor)
        assert engine.rows <= EXAMINED_MAX + ROWS_OF_A_STEP
        pages += 1
        if page.rows:
            break
        cursor = page.cursor
    assert _keys(page) == [b"{same}z"]
    assert pages > 3


def test_a_page_of_the_nodes_own_keys_looks_through_some_partitions_in_its_step() -> None:
    alone, engine = _dead(20_000, DEAD[0], live=[b"k"])
    listed, cursor = [], b""
    while True:
        engine.rows = engine.scans = 0
        asker = Asker()
        alone.step(LocalScan(asker, cursor=cursor, limit=100))
        assert isinstance(asker.result, ScanResult)
        assert engine.rows <= 100 + LOCAL_PARTITIONS_MAX
        assert engine.scans <= LOCAL_PARTITIONS_MAX
        listed += _keys(asker.result)
        cursor = asker.result.cursor
        if not cursor:
            break
    assert listed == [b"k"]


def test_many_scans_at_once_share_the_steps() -> None:
    """P7: a hundred clients that list keys must not hold up the others of their node."""
    alone, engine = _dead(60_000, DEAD[0], live=[b"k"])
    askers = [Asker() for _ in range(60)]
    alone.step(
        *[Scan(asker) for asker in askers[:30]], *[LocalScan(asker) for asker in askers[30:]]
    )
    steps = 0
    while not all(asker.results for asker in askers):
        assert engine.rows <= CHUNKS_PER_STEP * ROWS_OF_A_STEP
        engine.rows = 0
        assert alone.wake_ms == alone.mono_ms
        alone.step()
        steps += 1
    assert steps >= 60 // CHUNKS_PER_STEP
    assert alone.node.inflight == 0
