# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans by which keys have fewer copies than some node's W or R are refused, or name that node."""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import Course
from quorate.core.topology.wishes import plan_of, wished
from quorate.core.values.wish import Wish
from quorate.errors import InvalidRequest
from quorate.sim.cluster import url_of
from tests.unit.core.alone import Alone
from tests.unit.core.moving import node, stable

OLD = stable(4, course=Course.REST)
NOW_S = 1_700_000_000


def _node() -> Alone:
    """Node 0 of four that hold three copies; node 1 needs all three for a write."""
    alone = node(layout_of=OLD)
    alone.peer(1).told.w = 3
    return alone


@pytest.mark.parametrize(
    ("wish", "unanswered"),
    [
        (Wish(), ["http://n3:8000 was started with -R=4, and 3 could never answer that"]),
        (Wish(leave=(url_of(3),)), []),
        (
            Wish(leave=(url_of(2), url_of(3)), is_forced=True),
            ["http://n1:8000 was started with -W=3, and 2 could never answer that"],
        ),
        (Wish(replication=9), []),
    ],
    ids=["none", "as many stay", "too few stay", "more than there are"],
)
def test_a_plan_names_whose_w_or_r_the_copies_that_will_be_could_never_answer(
    wish: Wish, unanswered: list[str]
) -> None:
    """Which are fewer than are asked for, where fewer nodes are left. Who leaves needs none."""
    alone = _node()
    alone.peer(3).told.r = 4
    membership = alone.node.membership
    fresh = wished(membership, wish, now_s=NOW_S) or OLD
    assert plan_of(membership, fresh).unanswered == unanswered


@pytest.mark.parametrize("is_forced", [False, True])
def test_fewer_copies_than_somebodys_w_are_refused_whatever_the_force(is_forced: bool) -> None:
    with pytest.raises(InvalidRequest, match="n1:8000 was started with -W=3, and 2 could never"):
        wished(_node().node.membership, Wish(replication=2, is_forced=is_forced), now_s=NOW_S)


@pytest.mark.parametrize(
    ("w", "r", "replication", "weakened"),
    [
        (2, 0, 4, ["-W=2, and a majority of 4 copies is 3: what it writes may be missed by reads"]),
        (3, 2, 4, ["-R=2, and a majority of 4 copies is 3: it may miss what was written"]),
        (1, 1, 4, []),
        (2, 2, 3, []),
        (3, 0, 4, []),
    ],
)
def test_a_plan_for_more_copies_names_whose_w_or_r_is_a_majority_no_more(
    w: int, r: int, replication: int, weakened: list[str]
) -> None:
    """Who asked for less than a majority all along knows what it does; 0 is always one."""
    alone = node(layout_of=OLD)
    for index in (1, 3):
        alone.peer(index).told.w, alone.peer(index).told.r = w, r
    membership = alone.node.membership
    wish = Wish(replication=replication, leave=(url_of(3),), is_forced=True)
    forced = wished(membership, wish, now_s=NOW_S)
    assert forced is not None
    assert plan_of(membership, forced).weakened == [], "three nodes stay"
    fresh = wished(membership, Wish(replication=replication), now_s=NOW_S) or OLD
    told = plan_of(membership, fresh).weakened
    assert len(told) == 2 * len(weakened)
    for line, url in zip(sorted(told), (url_of(1), url_of(3)), strict=False):
        assert line.startswith(f"{url} was started with {weakened[0]}")
