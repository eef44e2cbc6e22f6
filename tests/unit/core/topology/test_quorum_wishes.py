# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for fewer copies meet the W and R that nodes were started with."""

from __future__ import annotations

import pytest

from quorate.core.topology.wishes import wished
from quorate.core.values.events import LinkUp
from quorate.core.values.messages import Ping
from quorate.core.values.wish import Wish
from quorate.errors import InvalidRequest
from quorate.sim.cluster import id_of, url_of
from tests.unit.core.alone import Alone
from tests.unit.core.moving import hear, node, stable


def _grant(alone: Alone, copies: int) -> None:
    """A plan for so many copies is granted, and decided."""
    fresh = wished(alone.node.membership, Wish(replication=copies), now_s=0)
    assert fresh is not None
    assert fresh.replication == copies
    hear(alone, fresh)


def _refuse(alone: Alone, copies: int, url: str, flag: str) -> None:
    """Such a plan is refused for what a node was started with."""
    with pytest.raises(InvalidRequest) as caught:
        wished(alone.node.membership, Wish(replication=copies), now_s=0)
    assert str(caught.value).startswith(
        f"{url} was started with {flag}, and {copies} could never answer that: start it with less "
        "first"
    )


def test_a_quorum_that_was_given_is_kept_though_it_is_what_a_majority_was() -> None:
    """Of one copy it would ask two, for good."""
    _refuse(node(w=2), 1, url_of(0), "-W=2")
    alone = node()
    alone.step(alone.met(2, r=2))
    _refuse(alone, 1, url_of(2), "-R=2")
    five = node(layout_of=stable(5, replication=5), count=5, w=3)
    _refuse(five, 2, url_of(0), "-W=3")
    _grant(five, 3)


def test_a_majority_that_nobody_gave_follows_the_copies() -> None:
    """Links stay up, so nobody introduces itself anew."""
    alone = node(layout_of=stable(5, replication=5), count=5)
    for copies in (3, 2, 1):
        _grant(alone, copies)


def test_what_a_node_that_is_gone_was_started_with_is_nobodys_concern() -> None:
    alone = node()
    alone.step(alone.met(4, w=3), LinkUp(id_of(4)))
    alone.hear(4, Ping(1, [], 0, 0))
    _refuse(alone, 2, url_of(4), "-W=3")
    alone.unlink(4)
    _grant(alone, 2)
