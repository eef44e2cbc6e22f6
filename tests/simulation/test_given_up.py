# SPDX-License-Identifier: GPL-3.0-or-later
"""After a recovery: who was given up, who is left, who comes back, and what status advises."""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import Course
from quorate.core.values.events import Change, ChangeResult, Join, Result
from quorate.core.values.wish import Wish
from quorate.errors import Conflict
from quorate.sim.cluster import SimCluster, url_of
from quorate.sim.rest import is_at_rest
from tests.simulation import asking
from tests.unit.core.alone import Asker

KEYS = [b"key%d" % number for number in range(60)]
AWAY_MS = 12_000


def _wish(cluster: SimCluster, index: int, wish: Wish, **fields: bool) -> Result | None:
    asker = Asker()
    cluster.machines[index].receive(Change(asker, wish, **fields))
    cluster.run(2_000)
    return asker.result


def _give_up(cluster: SimCluster, at: int, *lost: int) -> ChangeResult:
    told = _wish(cluster, at, Wish(recover=tuple(map(url_of, lost))))
    assert isinstance(told, ChangeResult), told
    return told


def _rests(cluster: SimCluster, *indices: int) -> bool:
    layouts = [cluster.machines[index].node.membership.layout for index in indices]
    return all(
        each is not None and each.course == Course.REST and not each.lost for each in layouts
    )


def _written(count: int, *, replication: int = 3) -> SimCluster:
    cluster = SimCluster(1, count, replication=replication)
    for number, key in enumerate(KEYS):
        asking.must_put(cluster, number % count, key, b"v")
    cluster.run(3_000)
    return cluster


def _advised(cluster: SimCluster) -> list[tuple[int, list[str]]]:
    return [
        (index, line.rsplit("quorate recover ", 1)[1].split(","))
        for index, machine in enumerate(cluster.machines)
        if machine.is_running
        for line in machine.node.status().waits
        if "quorate recover" in line
    ]


def test_who_was_given_up_joins_again_and_is_ready() -> None:
    cluster = _written(3)
    cluster.kill(0)
    cluster.kill(1)
    cluster.run(AWAY_MS)
    _give_up(cluster, 2, 0, 1)
    cluster.run_until(lambda: _rests(cluster, 2), 60_000)
    cluster.restart(0)
    cluster.run(AWAY_MS)
    cluster.machines[2].receive(Join(Asker(), url_of(0)))
    cluster.run(5_000)
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    assert cluster.machines[0].node.membership.is_in
    status = cluster.machines[0].node.status()
    assert status.ready, status.reason


def test_a_join_of_one_that_is_still_listed_as_lost_is_not_forgotten() -> None:
    cluster = _written(5)
    for index in (0, 1, 4):
        cluster.kill(index)
    cluster.run(AWAY_MS)
    _give_up(cluster, 2, 0, 1)
    cluster.restart(0)
    cluster.run(5_000)
    asker = Asker()
    cluster.machines[2].receive(Join(asker, url_of(0)))
    cluster.run(1_000)
    cluster.restart(4)
    cluster.run_until(lambda: _rests(cluster, 2, 3, 4), 120_000)
    cluster.run(60_000)
    layout = cluster.machines[2].node.membership.layout
    assert layout is not None
    assert url_of(0) in layout.urls()


@pytest.mark.parametrize(("count", "lost"), [(4, (0, 1)), (5, (0, 1, 2))])
def test_what_one_of_two_that_are_left_has_is_not_missed(count: int, lost: tuple[int, ...]) -> None:
    """Of N copies all but two are lost, and one of the two has a write that the other lacks. A
    third gets copies of the two. When they are at rest, one disk of three is lost and refilled."""
    cluster = _written(count, replication=count)
    has, lacks = count - 1, count - 2
    cluster.kill(lacks)
    cluster.run(AWAY_MS)
    for key in KEYS:
        asking.must_put(cluster, lost[0], key, b"new")
    assert all(record.value == b"new" for key in KEYS if (record := asking.held(cluster, has, key)))
    for index in (*lost, has):
        cluster.kill(index)
    for index in (lost[0], lacks, has):
        cluster.restart(index, is_empty=index == lost[0])
    cluster.run(AWAY_MS)
    told = _wish(cluster, lacks, Wish(recover=tuple([f"{1 + each:012x}" for each in lost])))
    assert isinstance(told, ChangeResult), told
    cluster.run_until(lambda: _rests(cluster, lost[0], lacks, has), 120_000)
    assert {len(row) for row in cluster.layout().table} == {3}
    cluster.kill(has)
    cluster.restart(has, is_empty=True)
    cluster.run(5_000)
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    assert [key for key in KEYS if asking.value(cluster, lacks, key) != b"new"] == []


def test_who_has_a_later_layout_than_who_recovered_drops_nothing() -> None:
    """Two of five are cut off while copies move from n1 to n0. Then n1 and n2 are lost; n0 is only
    down, and nobody names it. Who was cut off goes on, and does not know what n0 has."""
    cluster = _written(5, replication=2)
    _wish(cluster, 0, Wish(weights=tuple([(url_of(each), 2) for each in range(5)])))
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    asking.split(cluster, (0, 1, 2), (3, 4))
    cluster.run(AWAY_MS)
    keys = [b"more%d" % number for number in range(400)]
    before = {key: set(cluster.replicas(key)) for key in keys}
    told = _wish(cluster, 0, Wish(weights=((url_of(1), 1), (url_of(0), 3))))
    assert isinstance(told, ChangeResult), told
    cluster.run(20_000)
    mine = [key for key in keys if before[key] == {1, 2} and set(cluster.replicas(key)) == {0, 2}]
    assert mine
    for key in mine:
        asking.must_put(cluster, 0, key, b"new")
    for index in (0, 1, 2):
        cluster.kill(index)
    asking.heal(cluster)
    cluster.run(AWAY_MS)
    told = _give_up(cluster, 3, 1, 2)
    cluster.restart(0)
    cluster.run(60_000)
    has = [key for key in mine if (each := asking.held(cluster, 0, key)) and each.value == b"new"]
    assert has == mine
    assert "has gone on without" in cluster.machines[0].node.status().reason


def test_the_command_that_status_advises_where_copies_are_left_alone_is_taken() -> None:
    """As in test_recovery, but by the words of status: empty disks are where the lost ones were."""
    cluster = _written(5)
    for index in (0, 1):
        cluster.kill(index)
    for index in (0, 1):
        cluster.restart(index, is_empty=True)
    cluster.run(60_000)
    found = _advised(cluster)
    assert found
    at, names = found[0]
    told = _wish(cluster, at, Wish(recover=tuple(names)))
    assert isinstance(told, ChangeResult), (names, told)


def test_two_that_were_forced_out_and_are_back_can_be_given_up() -> None:
    """Rows of which they had two of three copies cannot be filled; status says: recover n0,n1."""
    cluster = _written(5)
    asking.split(cluster, (0, 1), (2, 3, 4))
    cluster.run(AWAY_MS)
    told = _wish(cluster, 2, Wish(leave=(url_of(0), url_of(1)), is_forced=True))
    assert isinstance(told, ChangeResult), told
    asking.heal(cluster)
    cluster.run(60_000)
    advised = [each for each in _advised(cluster) if each[0] > 1]
    assert advised
    at, names = advised[0]
    answers = [_wish(cluster, at, Wish(recover=tuple(names)))]
    answers += [_wish(cluster, at, Wish(leave=(name,))) for name in names]
    answers += [_wish(cluster, at, Wish(leave=(name,), is_forced=True)) for name in names]
    answers.append(_wish(cluster, at, Wish(recover=(f"{1:012x}", f"{2:012x}"))))
    assert any([isinstance(each, ChangeResult) for each in answers]), answers


def test_those_who_met_a_mistaken_recovery_are_ready_when_it_is_undone() -> None:
    """One of three was cut off, and recovered by mistake. It is given an empty disk, and takes its
    old place. The other two have served all the time."""
    cluster = _written(3)
    asking.split(cluster, (0, 1), (2,))
    cluster.run(AWAY_MS)
    _give_up(cluster, 2, 0, 1)
    asking.heal(cluster)
    cluster.run(AWAY_MS)
    cluster.kill(2)
    cluster.run(AWAY_MS)
    cluster.restart(2, is_empty=True)
    cluster.run(5_000)
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    reasons = [machine.node.status().reason for machine in cluster.machines]
    assert reasons == ["", "", ""]


def test_who_was_forced_out_long_after_a_recovery_and_joins_again_is_ready() -> None:
    cluster = _written(4)
    for index in (0, 1):
        cluster.kill(index)
    cluster.run(AWAY_MS)
    _give_up(cluster, 2, 0, 1)
    for index in (0, 1):
        cluster.restart(index, is_empty=True)
        cluster.run(3_000)
        cluster.machines[2].receive(Join(Asker(), url_of(index)))
    cluster.run(5_000)
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    cluster.kill(3)
    cluster.run(AWAY_MS)
    told = _wish(cluster, 2, Wish(leave=(url_of(3),), is_forced=True))
    assert isinstance(told, ChangeResult), told
    cluster.run_until(lambda: _rests(cluster, 0, 1, 2), 120_000)
    cluster.restart(3)
    cluster.run(5_000)
    first = cluster.machines[3].node.status().reason
    cluster.machines[2].receive(Join(Asker(), url_of(3)))
    cluster.run(5_000)
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    assert cluster.machines[3].node.status().ready, (
        first,
        cluster.machines[3].node.status().reason,
    )


def test_of_what_a_recovery_left_one_more_disk_may_be_lost() -> None:
    """Four of seven copies are given up, and who has one of the other three is found to have lost
    its disk as well: it gets what the two have that are left."""
    cluster = _written(7, replication=7)
    for index in (1, 2, 3, 4, 6):
        cluster.kill(index)
    cluster.restart(6, is_empty=True)
    cluster.run(AWAY_MS)
    _give_up(cluster, 0, 1, 2, 3, 4)
    cluster.run_until(lambda: _rests(cluster, 0, 5, 6), 120_000)
    assert [key for key in KEYS if asking.value(cluster, 6, key) != b"v"] == []


def test_where_a_voter_waits_for_members_that_are_lost_status_advises_what_is_taken() -> None:
    """Of six one is to leave, and has no vote. With it two others are lost, and who starts anew
    hears from three of the six how far its disk was: too few. So three of five voters are there, of
    which two have a vote."""
    cluster = _written(6)
    cluster.machines[1].receive(Change(Asker(), Wish(leave=(url_of(0),))))
    cluster.run_until(lambda: not cluster.layout().members[0].weight, 2_000)
    for index in (0, 1, 3, 4):
        cluster.kill(index)
    cluster.restart(4)
    cluster.run(AWAY_MS)
    assert not cluster.machines[4].node.membership.marks.counts
    found = _advised(cluster)
    assert {at for at, _ in found} == {2, 4, 5}
    at, names = found[0]
    told = _wish(cluster, at, Wish(recover=tuple(names)))
    assert isinstance(told, ChangeResult), told
    cluster.run_until(lambda: _rests(cluster, 2, 4, 5), 120_000)
    assert all(cluster.machines[index].node.status().ready for index in (2, 4, 5))


@pytest.mark.parametrize("comes_last", [False, True])
def test_what_one_of_two_that_are_left_has_is_not_missed_by_who_joins(comes_last: bool) -> None:
    """As above, of four; but the third joins when the two have been at rest for a while."""
    cluster = _written(4, replication=4)
    cluster.kill(2)
    cluster.run(AWAY_MS)
    for key in KEYS:
        asking.must_put(cluster, 0, key, b"new")
    for index in (0, 1, 3):
        cluster.kill(index)
    for index in (2, 3):
        cluster.restart(index)
    cluster.run(AWAY_MS)
    _give_up(cluster, 2, 0, 1)
    cluster.run_until(lambda: _rests(cluster, 2, 3), 120_000)
    told = _wish(cluster, 2, Wish(replication=3 if comes_last else 2))
    assert isinstance(told, Conflict), told
    cluster.restart(0, is_empty=True)
    cluster.run(2_000)
    cluster.machines[2].receive(Join(Asker(), url_of(0)))
    cluster.run(1_000)
    _wish(cluster, 2, Wish(replication=2, is_forced=True) if comes_last else Wish())
    cluster.run_until(lambda: _rests(cluster, 0, 2, 3), 300_000)
    cluster.run_until(lambda: cluster.layout().course == Course.REST, 300_000)
    held = [asking.held(cluster, 0, key) for key in KEYS if 0 in cluster.replicas(key)]
    assert held
    assert all([each is not None and each.value == b"new" for each in held])
