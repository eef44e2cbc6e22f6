# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may go on without members that are given up, and who must not."""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import Layout, Member
from quorate.core.topology.wishes import given_up
from quorate.core.values.messages import Ping
from quorate.core.values.wish import Wish
from quorate.errors import InvalidRequest
from quorate.sim.cluster import id_of, url_of
from tests.unit.core.alone import Alone
from tests.unit.core.founders import disk_of
from tests.unit.core.moving import shared, stable, with_member


def _waiting(*there: int, waits: bool) -> Alone:
    """One of ten members, and of their seven voters, that was just started: it has heard too few to
    know how far its disk was. Of those that are there, as many wait themselves."""
    alone = Alone(10, disk=disk_of(stable(10)), heartbeat_ms=3_600_000)
    assert set(alone.node.membership.voters()) == {id_of(index) for index in range(7)}
    alone.link(*there)
    for index in there:
        alone.hear(index, Ping(1, [], 0, 0, waits=waits))
    assert not alone.node.membership.marks.counts
    return alone


def _recovery(alone: Alone, *lost: int) -> Layout:
    wish = Wish(recover=tuple(map(url_of, lost)))
    return given_up(alone.node.membership, wish, replaced={})


def _why_not(alone: Alone, *lost: int) -> str:
    with pytest.raises(InvalidRequest) as caught:
        _recovery(alone, *lost)
    return str(caught.value)


def test_who_waits_does_not_go_on_alone_beside_voters_that_can_decide() -> None:
    """Four of seven voters go on, and this node, half cut off, hears them and not the lost one."""
    assert "decide without this node" in _why_not(_waiting(1, 2, 3, 4, waits=False), 9)


def test_voters_that_are_neither_there_nor_given_up_may_decide_with_those_that_are() -> None:
    alone = _waiting(1, 2, 3, waits=False)
    assert "decide without this node" in _why_not(alone, 6)
    assert "decide without this node" in _why_not(alone, 6, 9)
    assert _recovery(alone, 4, 5, 6).recovery == 1, "three of seven decide nothing"


def test_where_all_that_are_there_wait_only_recovery_is_left() -> None:
    assert _recovery(_waiting(1, 2, 3, 4, waits=True), 5, 6, 7, 8, 9).recovery == 1


def test_who_counts_does_not_go_on_alone_while_a_majority_of_the_voters_is_there() -> None:
    alone = _waiting(1, 2, 3, 4, waits=True)
    alone.link(5)
    alone.unlink(5)
    assert alone.node.membership.marks.counts
    assert "voters wait to hear how far their disks were" in _why_not(alone, 9)
    for index in (1, 2, 3):
        alone.hear(index, Ping(2, [], 0, 0, waits=False))
    assert "a majority of the voters is there" in _why_not(alone, 9)


def test_the_second_disk_that_was_lost_at_one_url_is_named_by_its_id() -> None:
    """The URL means the first."""
    first = shared(stable(3), 2, lost=(2,))
    layout = with_member(first, Member(id_of(7), url_of(2)))
    alone = Alone(3, disk=disk_of(layout), heartbeat_ms=3_600_000)
    name = f"{id_of(7):012x}"
    assert f"{name} would have to vote" in _why_not(alone, 1, 2)
    (advice,) = [each for each in alone.node.status().waits if "quorate recover" in each]
    assert advice.endswith(f"quorate recover {name},{url_of(1)}")
    wish = Wish(recover=(name, url_of(1)))
    assert given_up(alone.node.membership, wish, replaced={}).recovery == 1
