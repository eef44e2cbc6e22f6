# SPDX-License-Identifier: GPL-3.0-or-later
"""A list does not wait for one replica where others can answer."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.scans import CHUNK, LATE_MS
from quorate.core.values.events import Scan, ScanResult
from quorate.core.values.messages import ScannedRow, ScannedRows, ScanRows
from quorate.core.values.slots import PARTITION_COUNT, key_of, row_of
from quorate.core.values.versions import pack_version
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.unit.core.alone import Alone, Asker


@pytest.mark.parametrize("silent", [1, 2])
def test_a_silent_replica_is_waited_for_once_where_others_can_answer(silent: int) -> None:
    """A scan of few keys goes through all partitions, 16 at a time."""
    cluster = SimCluster(6, 3)
    keys = [b"k%d" % number for number in range(30)]
    asking.finish(cluster, *(asking.put(cluster, 0, key, b"v") for key in keys))
    cluster.pause(silent)
    handle = asking.scan(cluster, 0)
    asking.finish(cluster, handle)
    result = handle.of(ScanResult)
    assert result.complete
    assert [key_of(each.row) for each in result.rows] == sorted(keys, key=row_of)
    assert handle.took_ms < 2 * LATE_MS


def _tell(alone: Alone, peer: int, asked: list[ScanRows]) -> int:
    """The peer has no rows of what it was asked for; how many partitions that are."""
    for each in asked:
        alone.hear(peer, ScannedRows(each.batch, [], more=False))
    return len(asked)


def _scanning(*peers: int) -> tuple[Alone, Asker, dict[int, list[ScanRows]]]:
    """A scan of one of three nodes, R=2, and what it asked these peers for, none twice."""
    alone, asker = Alone(3), Asker()
    alone.link(*peers)
    alone.step(Scan(asker, r=2, timeout_ms=5_000))
    asked = {peer: alone.take(peer, ScanRows) for peer in peers}
    assert all(asked.values())
    assert sum(map(len, asked.values())) == CHUNK
    return alone, asker, asked


def _go_on(alone: Alone, asker: Asker, peer: int) -> ScanResult:
    """Have this peer answer to the end."""
    for _ in range(PARTITION_COUNT // CHUNK):
        _tell(alone, peer, alone.take(peer, ScanRows))
        alone.step()
    assert isinstance(asker.result, ScanResult)
    return asker.result


def test_what_a_late_replica_says_of_a_chunk_that_is_done_is_nothing() -> None:
    """Else rows would be listed twice, or from the middle of what was listed."""
    alone, asker, asked = _scanning(1, 2)
    _tell(alone, 2, asked[2])
    alone.step(after_ms=LATE_MS - 1)
    assert alone.take(2, ScanRows) == []
    alone.step(after_ms=1)
    assert _tell(alone, 2, alone.take(2, ScanRows)) == len(asked[1])
    for each in asked[1]:
        told = [ScannedRow(row_of(b"k"), pack_version(2, 2), True, 0)]
        alone.hear(1, ScannedRows(each.batch, told, more=True))
    result = _go_on(alone, asker, 2)
    assert (result.rows, result.complete, result.cursor) == ([], True, b"")
    assert alone.take(1, ScanRows) == [], "it was late, and others could answer"


def test_all_that_were_late_are_asked_last() -> None:
    alone, asker = Alone(5, replication=5), Asker()
    alone.link(1, 2, 3, 4)
    alone.step(Scan(asker, r=3, timeout_ms=5_000))
    for peer in (3, 4):
        assert _tell(alone, peer, alone.take(peer, ScanRows))
    for peer in (1, 2):
        assert alone.take(peer, ScanRows)
    alone.step(after_ms=LATE_MS)
    for _ in range(2 * PARTITION_COUNT // CHUNK):
        for peer in (3, 4):
            _tell(alone, peer, alone.take(peer, ScanRows))
        alone.step()
    assert asker.result == ScanResult([], b"", complete=True)
    assert (alone.take(1, ScanRows), alone.take(2, ScanRows)) == ([], [])


def test_in_place_of_a_replica_that_is_lost_another_is_asked_at_once() -> None:
    alone, asker, asked = _scanning(1, 2)
    _tell(alone, 2, asked[2])
    alone.unlink(1)
    assert _tell(alone, 2, alone.take(2, ScanRows)) == len(asked[1])
    assert _go_on(alone, asker, 2).complete


def test_where_nobody_else_can_answer_a_late_replica_is_waited_for() -> None:
    alone, asker, asked = _scanning(1)
    alone.step(after_ms=3 * LATE_MS)
    assert not asker.results
    _tell(alone, 1, asked[1])
    alone.step()
    assert _go_on(alone, asker, 1).complete


def _go_through(alone: Alone, asker: Asker, *peers: int) -> ScanResult:
    """Have these peers answer all that they are asked, to the end."""
    for _ in range(3 * PARTITION_COUNT // CHUNK):
        for peer in peers:
            _tell(alone, peer, alone.take(peer, ScanRows))
        alone.step()
    assert isinstance(asker.result, ScanResult)
    return asker.result


def test_in_place_of_a_replica_that_cannot_read_its_copy_another_is_asked() -> None:
    """Two of three copies can be read, and R is two."""
    alone, asker, asked = _scanning(1, 2)
    _tell(alone, 2, asked[2])
    for each in asked[1]:
        alone.hear(1, ScannedRows(each.batch, [], more=False, failed=True))
    assert _go_through(alone, asker, 1, 2).complete


def test_who_was_late_is_asked_after_all_where_the_others_are_lost() -> None:
    alone, asker, asked = _scanning(1, 2)
    _tell(alone, 2, asked[2])
    alone.step(after_ms=LATE_MS)
    assert _tell(alone, 2, alone.take(2, ScanRows)) == len(asked[1])
    alone.step()
    assert alone.take(2, ScanRows)
    assert not alone.take(1, ScanRows), "it was late"
    alone.unlink(2)
    assert _go_through(alone, asker, 1).complete
