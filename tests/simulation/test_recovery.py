# SPDX-License-Identifier: GPL-3.0-or-later
"""More disks are lost than a cluster can decide without: it goes on by command, and only so."""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import RECOVERY_EPOCHS, Course
from quorate.core.values.events import Change, ChangeResult, Result
from quorate.core.values.wish import Wish
from quorate.errors import InvalidRequest, QuorumUnreachable
from quorate.sim.cluster import SimCluster, url_of
from tests.simulation import asking
from tests.unit.core.alone import Asker

KEYS = [b"key%d" % number for number in range(60)]


def _wish(cluster: SimCluster, index: int, wish: Wish, **fields: bool) -> Result | None:
    asker = Asker()
    cluster.machines[index].receive(Change(asker, wish, **fields))
    cluster.run(2_000)
    return asker.result


def _give_up(cluster: SimCluster, at: int, *lost: int) -> Result | None:
    return _wish(cluster, at, Wish(recover=tuple(map(url_of, lost))))


def _is_at_rest(cluster: SimCluster, *indices: int) -> bool:
    layouts = [cluster.machines[index].node.membership.layout for index in indices]
    return all(
        each is not None and each.course == Course.REST and not each.lost for each in layouts
    )


def _written(count: int) -> SimCluster:
    cluster = SimCluster(1, count)
    for number, key in enumerate(KEYS):
        asking.must_put(cluster, number % count, key, b"v%d" % number)
    cluster.run(3_000)
    return cluster


def _missing(cluster: SimCluster, index: int) -> int:
    values = [asking.value(cluster, index, key) for key in KEYS]
    return sum([value != b"v%d" % number for number, value in enumerate(values)])


def test_one_of_two_that_lost_its_disk_is_replaced_by_command() -> None:
    """Two voters need both: without the command nothing could ever be decided again."""
    cluster = _written(2)
    cluster.kill(1)
    cluster.restart(1, is_empty=True)
    cluster.run(20_000)
    assert not cluster.machines[1].node.membership.is_in
    told = _wish(cluster, 0, Wish(recover=(f"{2:012x}",)))
    assert isinstance(told, ChangeResult)
    assert (told.epoch, told.plan.endangered, told.plan.gone) == (RECOVERY_EPOCHS, 0, 0)
    cluster.run_until(lambda: cluster.machines[1].node.membership.is_in, 20_000)
    cluster.run_until(lambda: _is_at_rest(cluster, 0, 1), 60_000)
    cluster.kill(0)
    assert [asking.value(cluster, 1, key, r=1) for key in KEYS[:3]] == [b"v0", b"v1", b"v2"]


def test_what_a_majority_of_the_disks_leaves_behind_is_served_again() -> None:
    cluster = _written(5)
    for index in (0, 1, 4):
        cluster.kill(index)
    cluster.run(12_000)
    assert isinstance(_give_up(cluster, 2, 0), InvalidRequest), "1 and 4 would have to vote"
    preview = _wish(cluster, 2, Wish(recover=(url_of(0), url_of(1))), is_preview=True)
    assert isinstance(preview, ChangeResult)
    assert preview.epoch == 0
    assert 0 < preview.plan.endangered < 1024
    assert cluster.machines[2].node.membership.epoch == 2, "nothing changed"
    assert isinstance(_give_up(cluster, 2, 0, 1), ChangeResult)
    cluster.restart(4)
    cluster.run_until(lambda: _is_at_rest(cluster, 2, 3, 4), 60_000)
    assert _missing(cluster, 2) == 0, "each had a copy on one of these"


def test_who_was_given_up_keeps_what_it_has_and_says_so() -> None:
    cluster = _written(3)
    cluster.kill(0)
    cluster.kill(1)
    cluster.run(12_000)
    assert isinstance(_give_up(cluster, 2, 0, 1), ChangeResult)
    cluster.run_until(lambda: _is_at_rest(cluster, 2), 60_000)
    cluster.restart(0)
    cluster.run(5_000)
    node = cluster.machines[0].node
    assert (node.membership.epoch, node.parts.replica.keys) == (2, len(KEYS))
    assert "gone on without this node" in node.status().reason
    handle = asking.put(cluster, 0, b"k", b"v")
    asking.finish(cluster, handle)
    assert isinstance(handle.result, QuorumUnreachable)


def test_rows_that_lost_most_of_their_copies_are_filled_again_by_command() -> None:
    """Five voters can decide still; but nobody can pull from the one copy that is left."""
    cluster = _written(5)
    shared = [key for key in KEYS if {0, 1} <= set(cluster.replicas(key))]
    for index in (0, 1):
        cluster.kill(index)
    for index in (0, 1):
        cluster.restart(index, is_empty=True)
    cluster.run(60_000)
    waits = [machine.node.pulls.waits_for for machine in cluster.machines]
    assert any("waits for 2 of its replicas" in each for each in waits)
    told = _wish(cluster, 2, Wish(recover=(f"{1:012x}", f"{2:012x}")))
    assert isinstance(told, ChangeResult)
    assert told.plan.endangered > 0
    cluster.run_until(lambda: _is_at_rest(cluster, *range(5)), 120_000)
    assert shared
    assert _missing(cluster, 3) == 0, "each had a copy on a third"


def test_a_cluster_that_can_decide_is_not_recovered() -> None:
    cluster = _written(3)
    cluster.kill(0)
    cluster.run(12_000)
    assert "a majority of the voters is there" in str(_give_up(cluster, 2, 0))
    assert "it is there" in str(_give_up(cluster, 2, 1))
    assert "no member" in str(_give_up(cluster, 2, 7))
    mixed = Wish(recover=(url_of(0),), leave=(url_of(1),))
    assert "nothing else" in str(_wish(cluster, 2, mixed))


@pytest.mark.parametrize("are_done", [True, False])
def test_two_operators_on_two_sides_make_two_clusters_that_do_not_talk(are_done: bool) -> None:
    """Also where they meet while one still moves copies: both have one number of recovery, and the
    side that is further on has the higher epoch."""
    cluster = _written(4)
    for source in (0, 1):
        for target in (2, 3):
            cluster.cut(source, target)
            cluster.cut(target, source)
    cluster.run(20_000)
    assert isinstance(_give_up(cluster, 0, 2, 3), ChangeResult)
    assert isinstance(_give_up(cluster, 3, 0, 1), ChangeResult)
    if are_done:
        cluster.run_until(lambda: _is_at_rest(cluster, 0, 1) and _is_at_rest(cluster, 2, 3))
    for source in (0, 1):
        for target in (2, 3):
            cluster.mend(source, target)
            cluster.mend(target, source)
    cluster.run(40_000)
    for index, others in ((0, (2, 3)), (3, (0, 1))):
        membership = cluster.machines[index].node.membership
        assert membership.layout is not None
        assert not {url_of(each) for each in others} & set(membership.layout.urls())
    assert _missing(cluster, 0) == _missing(cluster, 2) == 0


def test_an_empty_disk_that_comes_after_the_command_is_not_who_was_given_up() -> None:
    """It is started with the founders' list, and by that alone is a member of the first layout."""
    cluster = _written(3)
    cluster.kill(1)
    cluster.kill(2)
    cluster.run(20_000)
    assert isinstance(_give_up(cluster, 0, 1, 2), ChangeResult)
    cluster.restart(1, is_empty=True)
    cluster.run(20_000)
    membership = cluster.machines[1].node.membership
    assert membership.epoch == cluster.machines[0].node.membership.epoch
    assert not membership.given_up
    assert cluster.machines[1].node.status().ready
    assert _missing(cluster, 1) == _missing(cluster, 0)


def _with_half_of_the_members_lost() -> SimCluster:
    """Five, of which one is being replaced by a sixth, lose the two and a third; then another one
    starts again. Of those that vote three of five are left, and of the members three of six."""
    cluster = SimCluster(1, 6, spares=1, replication=5)
    for number, key in enumerate(KEYS):
        asking.must_put(cluster, number % 5, key, b"v%d" % number)
    cluster.run(3_000)
    told = _wish(cluster, 0, Wish(replace=((url_of(4), url_of(5)),)))
    assert isinstance(told, ChangeResult)
    layout = cluster.layout()
    assert (len(layout.members), len(layout.voters), layout.course) == (6, 5, Course.MOVE)
    for index in (3, 4, 5, 2):
        cluster.kill(index)
    cluster.restart(2)
    cluster.run(10_000)
    return cluster


def test_half_of_the_members_are_replaced_by_empty_disks_if_most_of_those_that_vote_are_left() -> (
    None
):
    cluster = _with_half_of_the_members_lost()
    assert not cluster.machines[2].node.membership.marks.counts
    for index in (3, 4, 5):
        cluster.restart(index, is_empty=True)
    cluster.run_until(lambda: cluster.machines[2].node.membership.marks.counts, 20_000)
    cluster.run_until(lambda: cluster.layout().lost, 20_000)
    layout = cluster.layout()
    assert {each.url for each in layout.members if each.id in layout.lost} == set(
        map(url_of, (3, 4, 5))
    )
    assert {each.url for each in layout.members if each.weight} == set(map(url_of, (0, 1, 2, 3, 5)))
    assert _missing(cluster, 2) == 0


@pytest.mark.parametrize("at", [0, 2])
def test_half_of_the_members_are_given_up_where_one_waits_to_hear_of_its_disk(at: int) -> None:
    """There are three of five that vote, and one of them may not: nothing else could be decided."""
    cluster = _with_half_of_the_members_lost()
    heavier = Wish(weights=((url_of(0), 2),))
    asker = Asker()
    cluster.machines[0].receive(Change(asker, heavier, timeout_ms=1_000))
    cluster.run(2_000)
    assert isinstance(asker.result, QuorumUnreachable)
    assert isinstance(_give_up(cluster, 0, 3, 4), InvalidRequest), "four could tell it"
    assert isinstance(_give_up(cluster, at, 3, 4, 5), ChangeResult)
    cluster.run_until(lambda: _is_at_rest(cluster, 0, 1, 2), 600_000)
    assert cluster.machines[2].node.membership.marks.counts
    assert _missing(cluster, 2) == 0
