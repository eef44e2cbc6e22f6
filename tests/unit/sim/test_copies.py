# SPDX-License-Identifier: GPL-3.0-or-later
"""When the loss of a copy is within budget."""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import FIRST_EPOCH
from quorate.core.values.events import Edited
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from tests.simulation import asking

KEY = b"k"


def _lose(cluster: SimCluster, copies: Copies, index: int) -> None:
    """Replace a machine's disk."""
    cluster.kill(index)
    before = copies.held(index)
    cluster.restart(index, is_empty=True)
    copies.judge(index, before)


def _written(*, by: int = 3) -> SimCluster:
    """A cluster of three, of which so many hold the key."""
    cluster = SimCluster(1, 3)
    for index in range(by, 3):
        cluster.kill(index)
    asking.must_put(cluster, 0, KEY, b"v", w=by)
    cluster.run(100)
    return cluster


@pytest.mark.parametrize("by", [2, 3])
def test_an_empty_disk_votes_no_more_so_every_quorum_meets_another_copy(by: int) -> None:
    cluster = _written(by=by)
    copies = Copies(cluster, [KEY], quorum=2, w=2)
    _lose(cluster, copies, 0)
    assert not copies.forgot_ms
    assert copies.lost_ms == {KEY: [cluster.world.now]}, "but what is under way met it"
    assert sorted(copies.replicas[KEY]) == [1, 2]


@pytest.mark.parametrize(("by", "is_missed"), [(3, False), (2, True)])
def test_small_quorums_need_more_copies(by: int, is_missed: bool) -> None:
    cluster = _written(by=by)
    copies = Copies(cluster, [KEY], quorum=1, w=2)
    _lose(cluster, copies, 0)
    assert (KEY in copies.forgot_ms) is is_missed


def test_a_second_disk_is_judged_by_what_the_first_left() -> None:
    """The last copy is not forgotten, though it is too few to be read."""
    cluster = _written(by=2)
    copies = Copies(cluster, [KEY], quorum=2, w=2)
    for index, is_missed in ((0, False), (1, True)):
        _lose(cluster, copies, index)
        assert (KEY in copies.forgot_ms) is is_missed
    cluster = _written()
    copies = Copies(cluster, [KEY], quorum=2, w=2)
    for index, is_missed in ((0, False), (1, False), (2, True)):
        _lose(cluster, copies, index)
        assert (KEY in copies.forgot_ms) is is_missed


def test_an_old_disk_is_missed_when_a_quorum_may_not_meet_another_copy() -> None:
    """It votes by what it held."""
    for by in (2, 3):
        cluster = SimCluster(1, 3)
        image = cluster.machines[0].image()
        for index in range(by, 3):
            cluster.kill(index)
        asking.must_put(cluster, 0, KEY, b"v", w=by)
        cluster.run(100)
        copies = Copies(cluster, [KEY], quorum=2, w=2)
        cluster.kill(0)
        before = copies.held(0)
        cluster.restart(0, image=image)
        copies.judge(0, before)
        assert (KEY in copies.forgot_ms) is (by == 2)


def test_an_old_disk_costs_only_what_came_since() -> None:
    cluster = _written(by=2)
    copies = Copies(cluster, [KEY, b"later"], quorum=2, w=2)
    image = cluster.machines[0].image()
    asking.must_put(cluster, 0, b"later", b"v", w=2)
    cluster.kill(0)
    before = copies.held(0)
    cluster.restart(0, image=image)
    copies.judge(0, before)
    assert list(copies.forgot_ms) == [b"later"]


def test_the_first_loss_is_the_one_that_counts() -> None:
    cluster = _written(by=2)
    copies = Copies(cluster, [KEY], quorum=1, w=2)
    _lose(cluster, copies, 0)
    since_ms = copies.forgot_ms[KEY]
    cluster.run(100)
    _lose(cluster, copies, 1)
    assert copies.forgot_ms[KEY] == since_ms


def test_a_disk_that_held_nothing_of_a_key_is_no_loss() -> None:
    cluster = _written(by=2)
    copies = Copies(cluster, [KEY], quorum=2, w=2)
    cluster.restart(2)
    _lose(cluster, copies, 2)
    assert not copies.forgot_ms


def test_a_damaged_copy_counts_as_lost() -> None:
    cluster = _written(by=2)
    copies = Copies(cluster, [KEY], quorum=2, w=2)
    before = copies.held(0)
    assert cluster.rot(0, KEY)
    copies.judge(0, before)
    assert KEY in copies.forgot_ms


@pytest.mark.parametrize(("w", "is_beyond"), [(2, True), (3, False)])
def test_a_damaged_copy_is_beyond_repair_where_a_lost_disk_leaves_too_few_sound_ones(
    w: int, is_beyond: bool
) -> None:
    """No vote can mislead: the key is excused from the repair of that copy alone."""
    cluster = _written()
    copies = Copies(cluster, [KEY], quorum=2, w=w)
    _lose(cluster, copies, 0)
    assert not copies.is_beyond_repair(KEY)
    before = copies.held(1)
    assert cluster.rot(1, KEY)
    copies.judge(1, before)
    assert copies.readable(KEY) == [2]
    assert not copies.forgot_ms
    assert copies.is_beyond_repair(KEY) is is_beyond


def test_a_damaged_copy_beside_a_quorum_of_sound_ones_is_to_be_repaired() -> None:
    cluster = _written()
    copies = Copies(cluster, [KEY], quorum=2, w=2)
    assert cluster.rot(1, KEY)
    assert not copies.is_beyond_repair(KEY)


def test_who_cannot_read_its_votes_is_not_of_the_majority_that_decides_until_it_notices() -> None:
    """Then it votes again on what is made from then on."""
    cluster = _written()
    copies = Copies(cluster, [KEY], quorum=2, w=2)
    asking.update(cluster, 0, KEY, lambda _: Edited(b"w"))
    cluster.run(100)
    assert cluster.rot_votes(0, KEY)
    assert [copies.can_decide_without(KEY, index) for index in range(3)] == [True, False, False]
    asking.update(cluster, 0, KEY, lambda _: Edited(b"x"))
    cluster.run(100)
    assert all(copies.can_decide_without(KEY, index) for index in range(3))


@pytest.mark.parametrize("is_held", [True, False])
def test_only_what_a_disk_held_when_it_was_put_aside_is_excused(*, is_held: bool) -> None:
    """What it had dropped by itself before is a fault of the store, however often the disk is put
    back."""
    cluster = SimCluster(1, 3)
    older, old = cluster.machines[0].image(), cluster.machines[0].image()
    cluster.kill(2)
    asking.must_put(cluster, 0, KEY, b"v", w=2)
    cluster.run(100)
    copies = Copies(cluster, [KEY], quorum=2, w=2)
    cluster.kill(0)
    if is_held:
        copies.put_aside(0)
    cluster.machines[0].replace_disk(old)
    copies.put_aside(0)
    cluster.machines[0].replace_disk(older)
    copies.judge_aside(0)
    assert (KEY in copies.forgot_ms) is is_held


@pytest.mark.parametrize(("n", "may_be_lost"), [(1, []), (2, [0, 2]), (3, [0])])
def test_a_disk_that_may_yet_be_bound_counts_as_lost_in_its_rows(
    n: int, may_be_lost: list[int]
) -> None:
    """Of five founders whom nobody has bound. With N = 2 there is no row with both 0 and 2."""
    cluster = SimCluster(1, 5, nodes={}, replication=n)
    copies = Copies(cluster, [], quorum=1, w=1)
    lost = []
    for index in range(5):
        if copies.can_lose(index):
            cluster.kill(index)
            cluster.restart(index, is_empty=True)
            lost.append(index)
    assert cluster.layout().epoch == FIRST_EPOCH
    assert lost == may_be_lost


@pytest.mark.parametrize(("n", "is_possible"), [(1, False), (2, True)])
def test_so_does_that_of_a_founder_who_comes_late(n: int, is_possible: bool) -> None:
    cluster = SimCluster(1, 3, nodes={}, replication=n)
    cluster.kill(2)
    cluster.run_until(lambda: cluster.layout().epoch > FIRST_EPOCH, 10_000)
    assert not all(each.is_bound for each in cluster.layout().members)
    copies = Copies(cluster, [], quorum=1, w=1)
    assert copies.can_lose(2) is is_possible
