# SPDX-License-Identifier: GPL-3.0-or-later
"""Two releases in one cluster: node by node to the next, back before it is finished, never after.

The next release is the same one, which knows one feature level more.
"""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.steps import raised
from quorate.core.values.events import Change, ChangeResult
from quorate.core.values.messages import FEATURE_LEVEL
from quorate.core.values.wish import Wish
from quorate.errors import Conflict, Outcome, Unavailable
from quorate.sim.cluster import SimCluster, url_of
from quorate.sim.rest import is_at_rest
from tests.simulation import asking

NEXT = FEATURE_LEVEL + 1


def _release(cluster: SimCluster, index: int, level: int) -> None:
    """Have a node start in this release from now on."""
    machine = cluster.machines[index]
    machine.settings = msgspec.structs.replace(machine.settings, level=level)


def _restart(cluster: SimCluster, index: int, level: int) -> None:
    """Restart a node in this release, while another is asked to write."""
    cluster.kill(index)
    asking.must_put(cluster, (index + 1) % 3, b"during %d" % index, b"v")
    _release(cluster, index, level)
    cluster.restart(index)
    cluster.run_until(cluster.is_connected)


def _finish(cluster: SimCluster, index: int) -> asking.Handle:
    wish = Wish(raises_level=True)
    handle = asking.ask(cluster, index, lambda waiter: Change(waiter, wish))
    asking.finish(cluster, handle)
    return handle


def _levels(cluster: SimCluster) -> list[int]:
    return [machine.node.status().level for machine in cluster.machines if machine.is_running]


@pytest.mark.parametrize("seed", range(3))
def test_an_upgrade_goes_node_by_node_and_back_until_it_is_finished(seed: int) -> None:
    cluster = SimCluster(seed, 3)
    for index in range(3):
        _restart(cluster, index, NEXT)
        if index < 2:
            refusal = _finish(cluster, 0).of(Conflict)
            assert url_of(2) in refusal.detail
            assert refusal.outcome is None or refusal.outcome is Outcome.NOT_APPLIED
    assert _levels(cluster) == [FEATURE_LEVEL] * 3, "it does not rise by itself"
    _restart(cluster, 1, FEATURE_LEVEL)
    assert url_of(1) in _finish(cluster, 2).of(Conflict).detail
    _restart(cluster, 1, NEXT)
    assert _finish(cluster, 2).of(ChangeResult).plan.level == NEXT
    cluster.run_until(lambda: _levels(cluster) == [NEXT] * 3)
    assert _finish(cluster, 0).of(ChangeResult).epoch == 0, "nothing is left to do"
    for key in (b"during 0", b"during 1", b"during 2"):
        assert asking.value(cluster, 0, key) == b"v"


def test_after_the_upgrade_nobody_goes_back() -> None:
    cluster = SimCluster(1, 3, level=NEXT)
    _finish(cluster, 0).of(ChangeResult)
    cluster.run(1_000)
    cluster.kill(1)
    _release(cluster, 1, FEATURE_LEVEL)
    cluster.restart(1)
    cluster.run(1_000)
    assert not cluster.machines[1].is_running, "it refuses to start"
    _release(cluster, 1, NEXT)
    cluster.run_until(cluster.is_running)
    assert _levels(cluster) == [NEXT] * 3


def test_who_slept_through_the_end_of_an_upgrade_starts_in_the_new_release_alone() -> None:
    """Its directory is of the level before, so it starts, and is refused by all others."""
    cluster = SimCluster(1, 4, level=NEXT, spares=1)
    _release(cluster, 3, FEATURE_LEVEL)
    cluster.kill(3)
    cluster.restart(3)
    cluster.run(1_000)
    assert url_of(3) in _finish(cluster, 0).of(Conflict).detail, "it is there, and knows less"
    cluster.kill(3)
    cluster.run(10_000)
    _finish(cluster, 0).of(ChangeResult)
    cluster.run_until(lambda: _levels(cluster) == [NEXT] * 3)
    cluster.restart(3)
    cluster.run(3_000)
    newest, late = cluster.machines[0].node, cluster.machines[3].node
    told = f"{url_of(3)} (release {late.settings.version}) knows feature level {FEATURE_LEVEL}"
    assert late.status().reason.startswith(told)
    seen = next(each for each in newest.status().members if each.url == url_of(3))
    assert seen.refusal.startswith(told)
    cluster.kill(3)
    _release(cluster, 3, NEXT)
    cluster.restart(3)
    cluster.run_until(cluster.is_connected)
    assert _levels(cluster) == [NEXT] * 4


def test_who_runs_an_old_release_when_the_level_rises_is_cut_off_and_says_why() -> None:
    """It came while the others decided, so nobody knew of it; a newer release goes on from it."""
    cluster = SimCluster(1, 3, level=NEXT)
    _release(cluster, 2, FEATURE_LEVEL)
    cluster.kill(2)
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    for machine in cluster.machines[:2]:
        membership = machine.node.membership
        assert membership.layout is not None
        membership.adopt(raised(membership.layout, NEXT))
    asking.must_put(cluster, 0, b"k", b"v")
    put = asking.put(cluster, 2, b"k", b"w")
    asking.finish(cluster, put)
    assert isinstance(put.result, Unavailable)
    late = cluster.machines[2]
    assert "start a newer one" in late.node.status().reason
    assert "level_unknown" in [note.event for note in late.notes]
    assert late.node.membership.epoch < cluster.layout().epoch
    cluster.kill(2)
    _release(cluster, 2, NEXT)
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    assert _levels(cluster) == [NEXT] * 3
    assert asking.value(cluster, 2, b"k") in (b"v", b"w")


@pytest.mark.parametrize(
    ("levels", "begun"),
    [((NEXT, NEXT, NEXT), NEXT), ((NEXT, FEATURE_LEVEL, NEXT), FEATURE_LEVEL)],
)
def test_a_new_cluster_begins_at_the_level_that_all_who_found_it_know(
    levels: tuple[int, ...], begun: int
) -> None:
    cluster = SimCluster(1, 3, nodes={})
    for index, level in enumerate(levels):
        cluster.kill(index)
        _release(cluster, index, level)
    for index in range(3):
        cluster.restart(index, is_empty=True)
    cluster.run_until(lambda: is_at_rest(cluster) and cluster.is_connected())
    assert _levels(cluster) == [begun] * 3
