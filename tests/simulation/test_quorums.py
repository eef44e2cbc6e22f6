# SPDX-License-Identifier: GPL-3.0-or-later
"""W and R are enforced, for every number of replicas and of dead ones."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.values.events import GetResult, PutResult, Result
from quorate.errors import DeadlineExceeded, InvalidRequest, Outcome, QuorumUnreachable
from quorate.sim.cluster import SimCluster
from tests.simulation import asking

WRITE_WAIT_MS = 3_000
READ_WAIT_MS = 500
_CELLS = [(n, dead) for n in range(1, 6) for dead in range(n)]


def _survivors(n: int, dead: int, **settings: Any) -> SimCluster:
    """`n` replicas that all hold "k", of which the last `dead` are dead."""
    cluster = SimCluster(n * 10 + dead, n, replication=n, **settings)
    asking.must_put(cluster, 0, b"k", b"old", w=n)
    for index in range(n - dead, n):
        cluster.kill(index)
    cluster.run(20)
    return cluster


def _is_refused_write(result: Result | None) -> bool:
    return isinstance(result, QuorumUnreachable) and result.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize(("n", "dead"), _CELLS)
def test_a_write_succeeds_if_and_only_if_w_replicas_live(n: int, dead: int) -> None:
    """I5, I25: every W, and what was refused is never read."""
    cluster = _survivors(n, dead)
    live = n - dead
    handles = {w: asking.put(cluster, 0, b"w%d" % w, b"new", w=w) for w in range(1, n + 1)}
    asking.finish(cluster, *handles.values())
    for w, handle in handles.items():
        if w <= live:
            result = handle.of(PutResult)
            assert w <= result.acks <= live
            assert handle.took_ms < 100
            assert asking.value(cluster, 0, b"w%d" % w, r=live) == b"new"
        else:
            assert _is_refused_write(handle.result)
            assert WRITE_WAIT_MS - 1 < handle.took_ms < WRITE_WAIT_MS + 500
            assert all(asking.held(cluster, i, b"w%d" % w) is None for i in range(n))


@pytest.mark.parametrize(("n", "dead"), _CELLS)
def test_a_read_succeeds_if_and_only_if_r_replicas_live(n: int, dead: int) -> None:
    """P3: every R; unreachable is never absent."""
    cluster = _survivors(n, dead)
    live = n - dead
    for key, value in ((b"k", b"old"), (b"absent", None)):
        handles = {r: asking.get(cluster, 0, key, r=r) for r in range(1, n + 1)}
        asking.finish(cluster, *handles.values())
        for r, handle in handles.items():
            if r > live:
                handle.of(QuorumUnreachable)
                assert handle.took_ms < READ_WAIT_MS + 500
                continue
            result = handle.of(GetResult)
            assert result.answers >= r
            assert (result.record and result.record.value) == value


@pytest.mark.parametrize("n", range(1, 6))
@pytest.mark.parametrize("count", [-1, 6])
def test_more_replicas_than_there_are_is_the_callers_mistake(n: int, count: int) -> None:
    """Refused at once, never clamped."""
    cluster = SimCluster(n, n, replication=n)
    for handle in (
        asking.put(cluster, 0, b"k", b"v", w=count),
        asking.get(cluster, 0, b"k", r=count),
    ):
        asking.finish(cluster, handle)
        assert isinstance(handle.result, InvalidRequest)
        assert handle.took_ms < 1


@pytest.mark.parametrize("n", range(1, 6))
def test_the_configured_quorums_count_where_a_request_names_none(n: int) -> None:
    """W = N and R = 1 here."""
    cluster = SimCluster(n, n, replication=n, w=n, r=1)
    assert asking.must_put(cluster, 0, b"k", b"v").acks == n
    if n > 1:
        cluster.kill(n - 1)
        cluster.run(20)
        handle = asking.put(cluster, 0, b"k", b"w")
        asking.finish(cluster, handle)
        assert _is_refused_write(handle.result)
    assert asking.must_get(cluster, 0, b"k").answers == 1


def test_a_w_that_was_given_is_never_lowered_to_the_nodes_there_are() -> None:
    cluster = SimCluster(1, 2, replication=3, w=3)
    handle = asking.put(cluster, 0, b"k", b"v")
    asking.finish(cluster, handle)
    assert _is_refused_write(handle.result)


@pytest.mark.parametrize("silent", [1, 2])
def test_replicas_that_fall_silent_after_they_were_asked_leave_the_outcome_unknown(
    silent: int,
) -> None:
    """I24: they look alive, so the write was sent; the answer comes by the deadline."""
    cluster = SimCluster(silent, 3)
    for index in range(3 - silent, 3):
        cluster.pause(index)
    put, get = asking.put(cluster, 0, b"k", b"v"), asking.get(cluster, 0, b"k")
    asking.finish(cluster, put, get)
    if silent == 1:
        put.of(PutResult)
        get.of(GetResult)
        return
    assert put.of(DeadlineExceeded).outcome is Outcome.UNKNOWN
    get.of(DeadlineExceeded)
    assert max(put.took_ms, get.took_ms) < 5_200


def test_a_node_that_starts_while_a_write_waits_makes_it_succeed() -> None:
    cluster = _survivors(3, 2)
    handle = asking.put(cluster, 0, b"k", b"new")
    cluster.run(2_000)
    assert handle.result is None
    cluster.restart(2)
    asking.finish(cluster, handle)
    handle.of(PutResult)
    assert 2_000 < handle.took_ms < 2_300


@pytest.mark.parametrize("coordinator", [0, 1, 2])
def test_any_node_serves_every_key_with_one_replica_down(coordinator: int) -> None:
    """I25."""
    cluster = SimCluster(9, 5)
    keys = [b"key%d" % number for number in range(40)]
    cluster.kill(4)
    cluster.run(20)
    puts = [asking.put(cluster, coordinator, key, key) for key in keys]
    asking.finish(cluster, *puts)
    for put in puts:
        put.of(PutResult)
    assert [asking.value(cluster, 3, key) for key in keys] == keys
