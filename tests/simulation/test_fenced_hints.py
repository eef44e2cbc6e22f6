# SPDX-License-Identifier: GPL-3.0-or-later
"""Hints for a replica that has locked what is older: they wait behind the others until it takes the
lock back, and come then; and all the while the judges of steps look on (I13)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from quorate.core.exchanges.hints import Hints
from quorate.core.topology.peer import Peer
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ms_of, pack_version, stamp_of
from quorate.sim.checkers import Handed, watch
from quorate.sim.checkers.watch import Watch
from quorate.sim.cluster import SimCluster
from quorate.sim.rest import drain, hints_left
from tests.simulation import asking
from tests.simulation.collecting import SLICE_MS, held, hint, world, write
from tests.simulation.plants.plant import Plant, planted

PARTITION: Final = partition_of(row_of(b"k"))


def _lock(cluster: SimCluster, index: int) -> int:
    return cluster.machines[index].node.parts.replica.fences.boundary(PARTITION)


def _fenced() -> tuple[SimCluster, Watch]:
    """0 and 2 have locked that `k` was deleted, and 1, which did not hear of 0, has a newer write.
    That waits at 2, as a hint for 0 that its lock refused."""
    cluster = world(heartbeat_ms=60_000)
    seen = watch(cluster.machines, Handed())
    cluster.observers.append(seen)
    stamp = stamp_of(write(cluster, 0, b"k", None, w=3))
    agreements = [machine.node.agreement for machine in cluster.machines]
    cluster.run_until(lambda: all(each.boundary * SLICE_MS > ms_of(stamp) for each in agreements))
    cluster.cut(0, 1)
    cluster.run_until(
        lambda: all(_lock(cluster, each) * SLICE_MS > ms_of(stamp) for each in (0, 2))
    )
    late = Record(pack_version(stamp + 1, 9), b"late")
    hint(cluster, 2, 1, late)
    hint(cluster, 2, 0, late)
    assert [each and each.value for each in held(cluster, b"k")].count(b"late") == 1
    return cluster, seen


def _left(cluster: SimCluster) -> int:
    return sum(hints_left(cluster).values())


def _is_late_everywhere(cluster: SimCluster) -> bool:
    return [each and each.value for each in held(cluster, b"k")] == [b"late"] * 3


def test_a_hint_that_a_lock_keeps_out_waits_and_comes_once_it_is_taken_back() -> None:
    cluster, seen = _fenced()
    assert asking.counter(cluster, "peer_writes_fenced") > 0
    assert _left(cluster) == 1
    asking.heal(cluster)
    drain(cluster, were_fenced=False)
    assert _left(cluster) == 1, "as if none was fenced, it waits for longer than that"
    drain(cluster, were_fenced=True)
    assert _left(cluster) == 0
    assert _is_late_everywhere(cluster)
    assert asking.counter(cluster, "hints_dropped") == asking.counter(cluster, "hints_refused") == 0
    assert seen.violations() == []


def _forget_it(self: Hints, *told: Any) -> None:
    del self, told


def _replay_without_alarm(self: Hints, peer: Peer) -> None:
    if self._queues[peer.index].due_ms <= self._turn.mono_ms:
        _replay(self, peer)


_replay: Final = Hints.replay


@pytest.mark.plain
def test_one_that_is_not_put_behind_is_found() -> None:
    with planted(Plant("it is forgotten", Hints, "_put_behind", _forget_it)) as ran:
        _, seen = _fenced()
    assert ran
    assert {each.invariant for each in seen.violations()} == {"I13"}


@pytest.mark.plain
def test_one_that_is_never_sent_again_is_left() -> None:
    with planted(Plant("it has no alarm", Hints, "replay", _replay_without_alarm)):
        cluster, _ = _fenced()
        asking.heal(cluster)
        drain(cluster, were_fenced=True)
    assert _left(cluster) == 1
