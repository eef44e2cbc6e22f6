# SPDX-License-Identifier: GPL-3.0-or-later
"""Gets, puts and deletes of a key are linearizable (P2): wild clocks, slow messages, dying
coordinators, small and large caches, checked history by history."""

from __future__ import annotations

import pytest

from tests.simulation import asking
from tests.simulation.register_world import RegisterWorld

SEEDS = range(300)
SEEDS_PER_TEST = 50


@pytest.mark.parametrize("first", SEEDS[::SEEDS_PER_TEST])
def test_every_history_of_a_key_is_linearizable(first: int) -> None:
    """P2, I6."""
    for seed in range(first, first + SEEDS_PER_TEST):
        violations = RegisterWorld(seed).run().violations()
        assert not violations, f"RegisterWorld({seed}): {violations}"


def test_the_worlds_reach_what_they_are_to_test() -> None:
    """I30: conflicts, repairs, second looks, hedges, hints, deaths."""
    names = ("writes_moved", "reads_looked_again", "reads_repaired", "hints_replayed")
    reached = dict.fromkeys((*names, "reads_hedged", "coordinator_died"), 0)
    for seed in range(1_000, 1_040):
        world = RegisterWorld(seed).run()
        for name in (*names, "reads_hedged"):
            reached[name] += asking.counter(world.cluster, name)
        died = [h for client in world.clients for h, _, _ in client.seen if h.result is None]
        reached["coordinator_died"] += len(died)
    assert min(reached.values()) >= 5, reached
