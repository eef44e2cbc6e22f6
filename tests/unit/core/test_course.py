# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a change of the cluster is, and what waits: for whom, why, for how long, what to do."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.course import WAITS_MAX, Phase, phase_of
from quorate.core.topology.layout import Course, first_layout
from quorate.core.values.events import Change, Join
from quorate.core.values.wish import Wish
from quorate.sim.cluster import SimCluster, founded, id_of, url_of
from tests.simulation import asking
from tests.unit.core.alone import Alone


def waits(cluster: SimCluster, index: int = 0) -> list[str]:
    return cluster.machines[index].node.status().waits


def met() -> SimCluster:
    """Three nodes whose layout knows them all, and where nothing is to do."""
    cluster = SimCluster(1, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.run(5_000)
    assert waits(cluster) == []
    return cluster


@pytest.mark.parametrize(
    ("course", "phase"),
    [
        (Course.REST, Phase.STABLE),
        (Course.SOON, Phase.WAITING),
        (Course.MOVE, Phase.MOVING),
    ],
)
def test_a_cluster_is_at_what_its_layout_says(course: Course, phase: Phase) -> None:
    layout = founded(tuple((url_of(n), id_of(n)) for n in range(3)), 3)
    assert phase_of(msgspec.structs.replace(layout, course=course)) == phase
    if course == Course.REST:
        joint = msgspec.structs.replace(layout, moves=((0, (0, 1)),))
        assert phase_of(joint) == Phase.MOVING


def test_a_cluster_that_has_yet_to_meet_is_forming_and_says_how_many_are_needed() -> None:
    assert phase_of(None) == phase_of(first_layout([url_of(0)], replication=3)) == Phase.FORMING
    status = Alone(is_new=True).node.status()
    assert (status.phase, status.moving, status.left) == ("forming", False, 0)
    assert status.waits == [
        "a new cluster: 2 of its 3 nodes have to meet before it serves; here 1 have"
    ]


def test_without_a_majority_of_voters_it_says_who_has_to_be_up() -> None:
    cluster = met()
    cluster.kill(1)
    cluster.run(10_000)
    assert waits(cluster) == [], "two of three decide"
    cluster.kill(2)
    cluster.run(10_000)
    assert waits(cluster) == [
        "no change can be decided: 1 of 3 voters can be reached from here, and 2 are needed; have "
        f"more of these up: {url_of(1)}, {url_of(2)}; or if their disks are lost for good: quorate "
        f"recover {url_of(1)},{url_of(2)}"
    ]


def test_who_was_asked_to_join_and_is_not_there_is_named_with_both_ways_out() -> None:
    cluster = met()
    absent = "http://10.0.0.99:8000"
    asking.finish(cluster, asking.ask(cluster, 0, lambda waiter: Join(waiter, absent)))
    (line,) = waits(cluster)
    assert line.startswith(f"{absent} is to become a member and is not there: no link to it, ")
    assert line.endswith(f"or if that was a mistake: quorate forget {absent}")


def test_who_is_no_member_says_whom_to_ask_for_one_more() -> None:
    nodes = {index: range(3) for index in range(3)}
    cluster = SimCluster(1, 5, nodes={**nodes, 3: [0], 4: [0]})
    cluster.run(10_000)
    asking.finish(cluster, asking.ask(cluster, 3, lambda waiter: Join(waiter, url_of(4))))
    cluster.run(5_000)
    assert waits(cluster, 3) == [
        f"{url_of(4)} is to become a member, and this node is none that could propose it: quorate "
        f"join {url_of(4)} --target={url_of(0).removeprefix('http://')}"
    ]


def test_a_member_that_is_away_while_copies_move_is_named_with_how_long_and_what_to_do() -> None:
    cluster = met()
    cluster.kill(2)
    cluster.run(10_000)
    wish = Wish(weights=((url_of(1), 2),))
    asking.finish(cluster, asking.ask(cluster, 0, lambda waiter: Change(waiter, wish)))
    status = cluster.machines[0].node.status()
    assert (status.phase, status.moving) == ("moving", True)
    (line,) = status.waits
    assert line.startswith(
        f"{url_of(2)} is not there, and what it is to get, to give up or to vote "
    )
    assert ": it is down, unheard for 1" in line
    assert line.endswith(f"quorate leave {url_of(2)} --force")


def test_no_more_lines_are_told_than_people_read() -> None:
    cluster = met()
    for n in range(WAITS_MAX + 5):
        url = f"http://10.0.1.{n + 1}:8000"
        asking.finish(cluster, asking.ask(cluster, 0, lambda waiter, url=url: Join(waiter, url)))  # type: ignore[misc]
    lines = waits(cluster)
    assert (len(lines), lines[-1]) == (WAITS_MAX, "and 6 more")
