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
