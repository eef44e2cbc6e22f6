# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens: that one lets in so many and no more is decided by the cluster, whoever is asked."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Change, ChangeResult, Result
from quorate.core.values.wish import Admission, Wish
from quorate.errors import Unauthenticated
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from quorate.sim.rest import is_at_rest

NOW_S = EPOCH_MS // 1000


class Asked:
    """Notes the answer (`events.Waiter`)."""

    result: Result | None = None

    def done(self, result: Result) -> None:
        self.result = result


def _ask(cluster: SimCluster, node: int, claim: int, *, uses: int = 1) -> Asked:
    """A newcomer asks a node to be let in."""
    asked = Asked()
    admission = Admission(
        nonce=b"n" * 16, expires_s=NOW_S + 3_600, uses=uses, claim=bytes([claim]) * 16
    )
    cluster.machines[node].receive(Change(asked, Wish(admits=admission)))
    return asked


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_one_token_used_by_four_at_once_lets_in_as_many_as_it_may(seed: int, uses: int) -> None:
    """Through four coordinators, in one and the same moment."""
    cluster = SimCluster(seed, 5)
    cluster.run_until(lambda: is_at_rest(cluster))
    answers = [_ask(cluster, node, claim=node + 1, uses=uses) for node in range(4)]
    cluster.run_until(lambda: all(each.result is not None for each in answers))
    let_in = [
        bytes([node + 1]) * 16
        for node, each in enumerate(answers)
        if isinstance(each.result, ChangeResult)
    ]
    refused = [each for each in answers if isinstance(each.result, Unauthenticated)]
    assert (len(let_in), len(refused)) == (uses, 4 - uses)
    cluster.run(1_000)
    for machine in cluster.machines:
        layout = machine.node.membership.layout
        assert layout is not None
        (token,) = layout.spent
        assert token.claims == tuple(let_in)


def test_a_token_that_was_used_lets_in_nobody_after_all_nodes_were_killed() -> None:
    cluster = SimCluster(1, 3)
    cluster.run_until(lambda: is_at_rest(cluster))
    first = _ask(cluster, 0, claim=1)
    cluster.run_until(lambda: first.result is not None)
    for index in range(3):
        cluster.kill(index)
    for index in range(3):
        cluster.restart(index)
    cluster.run_until(cluster.is_connected)
    cluster.run_until(lambda: is_at_rest(cluster))
    thief, again = _ask(cluster, 1, claim=2), _ask(cluster, 2, claim=1)
    cluster.run_until(lambda: thief.result is not None and again.result is not None)
    assert isinstance(thief.result, Unauthenticated)
    assert isinstance(again.result, ChangeResult), "who was let in may ask again"


def test_copies_that_move_go_on_after_somebody_was_let_in() -> None:
    cluster = SimCluster(1, 4, grow_after_ms=0)
    cluster.run_until(lambda: is_at_rest(cluster))
    leaving = cluster.machines[3].url
    cluster.machines[0].receive(Change(Asked(), Wish(leave=(leaving,))))
    cluster.run_until(lambda: bool(cluster.layout().moves))
    first = _ask(cluster, 1, claim=1)
    cluster.run_until(lambda: first.result is not None)
    assert isinstance(first.result, ChangeResult)
    cluster.run_until(lambda: leaving not in cluster.layout().urls(), 120_000)
    assert len(cluster.layout().spent) == 1
