# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica's trouble never delays a request that can do without it."""

from __future__ import annotations

import pytest

from quorate.core.values.events import GetResult, PutResult
from quorate.sim.cluster import SimCluster, url_of
from tests.simulation import asking
from tests.simulation.asking import Handle


def _slow(cluster: SimCluster, index: int, ms: float) -> None:
    """Make all links of a machine slow, both ways."""
    for link_ends in [(index, other) for other in range(len(cluster.machines)) if other != index]:
        for source, target in (link_ends, link_ends[::-1]):
            cluster.wire(source, target).latency_ms = (ms,)


def _quantile(handles: list[Handle], share: float) -> float:
    times = sorted(handle.took_ms for handle in handles)
    return times[int(share * (len(times) - 1))]


def test_a_slow_replica_slows_neither_writes_of_two_nor_reads_of_one() -> None:
    cluster = SimCluster(1, 3)
    _slow(cluster, 2, 400)
    asking.must_put(cluster, 0, b"first write", b"v")
    writes = [asking.put(cluster, 0, b"key%d" % n, b"w", w=2) for n in range(50)]
    reads = [asking.get(cluster, 0, b"key%d" % n, r=1) for n in range(50)]
    asking.finish(cluster, *writes, *reads)
    assert all(isinstance(write.result, PutResult) for write in writes)
    assert _quantile(writes, 1.0) < 20
    assert _quantile(reads, 1.0) < 2


def test_a_full_disk_is_in_the_way_of_no_request_that_the_others_can_serve() -> None:
    """I25: through the node whose disk it is. Its own copies come back with reads, where nothing
    else brings them."""
    cluster = SimCluster(4, 3, repair_rate=0)
    asking.must_put(cluster, 0, b"before", b"v", w=3)
    cluster.machines[0].disk.is_full = True
    asking.put(cluster, 0, b"fills", b"v")
    cluster.run(100)
    assert not cluster.machines[0].driver.status().ready
    writes = [asking.put(cluster, 0, b"key%d" % n, b"w") for n in range(20)]
    asking.finish(cluster, *writes)
    assert all(isinstance(write.result, PutResult) for write in writes)
    assert asking.value(cluster, 0, b"key0") == asking.value(cluster, 1, b"key0") == b"w"
    cluster.run(3_600_000)
    assert cluster.machines[0].driver.status().inflight == 0
    cluster.machines[0].disk.is_full = False
    cluster.run(1_000)
    assert cluster.machines[0].driver.status().ready
    assert asking.held(cluster, 0, b"key0") is None
    for n in range(20):
        assert asking.value(cluster, 0, b"key%d" % n) == b"w"
    cluster.run(1_000)
    assert asking.held(cluster, 0, b"key19") is not None


def test_local_reads_are_as_fast_beside_a_slow_peer_as_without_one() -> None:
    """The 99th percentile."""
    times = []
    for is_slow in (False, True):
        cluster = SimCluster(2, 3)
        asking.must_put(cluster, 0, b"k", b"v", w=3)
        if is_slow:
            _slow(cluster, 2, 2_000)
            cluster.machines[2].sync_ms = (500.0, 1_000.0)
        handles: list[Handle] = []
        for number in range(300):
            asking.put(cluster, 0, b"w%d" % number, b"v", w=3)
            handles.append(asking.get(cluster, 0, b"k", r=1))
            cluster.run(1)
        asking.finish(cluster, *handles)
        times.append(_quantile(handles, 0.99))
    assert times[1] < 2 * times[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_read_whose_first_peer_falls_silent_is_answered_by_another(seed: int) -> None:
    """After about that peer's p95, not at the deadline."""
    cluster = SimCluster(seed, 4)
    key = b"key%d" % seed
    asking.must_put(cluster, 0, key, b"v", w=3)
    outsider = next(index for index in range(4) if index not in cluster.replicas(key))
    for _ in range(300):
        asking.must_get(cluster, outsider, key)
    first = cluster.replicas(key)[0]
    node = cluster.machines[outsider].node
    peer = node.membership.roster.at(url_of(first))
    assert peer is not None
    p95_ms = node.outboxes[peer.index].p95_ms
    cluster.pause(first)
    handle = asking.get(cluster, outsider, key)
    asking.finish(cluster, handle)
    assert handle.of(GetResult).record is not None
    assert handle.took_ms < p95_ms + 15


def test_a_read_whose_peer_dies_is_answered_by_another_at_once() -> None:
    cluster = SimCluster(3, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.pause(1)
    cluster.pause(2)
    handle = asking.get(cluster, 0, b"k")
    cluster.run(2)
    cluster.resume(2)
    cluster.kill(1)
    asking.finish(cluster, handle)
    assert handle.of(GetResult).record is not None
    assert handle.took_ms < 10


def test_no_request_fails_while_one_of_three_nodes_dies_and_returns() -> None:
    """I25: W = R = 2, through the nodes that live."""
    cluster = SimCluster(4, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    handles: list[Handle] = []
    for tick in range(400):
        if tick == 100:
            cluster.kill(2)
        if tick == 300:
            cluster.restart(2)
        key = b"key%d" % (tick % 40)
        handles += [
            asking.put(cluster, tick % 2, key, b"%d" % tick),
            asking.get(cluster, 1 - tick % 2, key),
        ]
        cluster.run(2)
    asking.finish(cluster, *handles)
    failed = [handle.result for handle in handles if isinstance(handle.result, Exception)]
    assert failed == []
    assert _quantile(handles, 1.0) < 100


def test_many_reads_of_the_largest_values_are_all_answered() -> None:
    """A frame has a maximum; what is asked for in one turn has not."""
    value = bytes(8 << 20)
    cluster = SimCluster(5, 3, timeout_ms=1_000)
    keys = [b"key%d" % number for number in range(6)]
    for key in keys:
        asking.must_put(cluster, 0, key, value, w=3)
    cluster.kill(1)
    cluster.restart(1, is_empty=True)
    cluster.run_until(cluster.is_connected)
    handles = [asking.get(cluster, 1, key) for key in keys]
    asking.finish(cluster, *handles)
    for handle in handles:
        record = handle.of(GetResult).record
        assert record is not None
        assert record.value == value


def test_after_all_faults_a_node_is_back_to_its_base_level() -> None:
    """I24, I26: requests, messages, memory of them; and everything is answered in time."""
    cluster = SimCluster(6, 5, timeout_ms=500, write_wait_ms=200)
    random = cluster.world.random
    handles: list[Handle] = []
    for tick in range(300):
        index = tick % 3
        key = b"key%d" % random.randrange(20)
        put = random.random() < 0.5
        handles.append(
            asking.put(cluster, index, key, b"v") if put else asking.get(cluster, index, key)
        )
        if tick % 50 == 10:
            cluster.pause(3)
            cluster.cut(0, 4)
        if tick % 50 == 40:
            cluster.resume(3)
            asking.heal(cluster)
        cluster.run(5)
    asking.finish(cluster, *handles)
    assert max(handle.took_ms for handle in handles) < 1_500
    cluster.run(10_000)
    for machine in cluster.machines:
        outboxes = machine.node.outboxes
        assert [outbox.unanswered_bytes for outbox in outboxes] == [0] * 4
        assert not any(outbox.sent for outbox in outboxes)
        requests = machine.node.parts.requests
        assert (requests.count, requests.bytes, requests.has_parked) == (0, 0, False)
        assert machine.node.hints.total == 0
