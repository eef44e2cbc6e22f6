# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease and wrong clocks: a node whose clock is ahead takes it for over early, by no more than
that, and its token tells (`QUORATE.LEASE`, `Client.lock`)."""

from __future__ import annotations

from typing import Final

import pytest

from quorate.core.values.events import Edit, Edited, UpdateResult
from quorate.core.values.record import Record
from quorate.sim.cluster import SimCluster
from tests.simulation import asking

KEY: Final = b"lease"
SKEW_MS: Final = 500
AHEAD_MS: Final = 450
"""Nine tenths of the guard."""
TTL_MS: Final = 5_000
STEP_MS: Final = 10
RIGHT, ALSO_RIGHT, AHEAD = range(3)


def _expires_ms(cluster: SimCluster, index: int) -> int:
    return cluster.machines[index].clock.instant.wall_ms + TTL_MS


def _acquiring(holder: bytes, expires_ms: int) -> Edit:
    return lambda found: Edited(holder, expires_ms) if found is None else None


def _renewing(token: bytes, expires_ms: int) -> Edit:
    def edit(found: Record | None) -> Edited | None:
        is_held = found is not None and found.version == token
        return Edited(found.value, expires_ms) if found is not None and is_held else None

    return edit


def _asked(cluster: SimCluster, index: int, edit: Edit) -> Record | None:
    """What a client of a node took or renewed."""
    handle = asking.update(cluster, index, KEY, edit)
    asking.finish(cluster, handle)
    return handle.of(UpdateResult).after


def _acquired(cluster: SimCluster, index: int, holder: bytes) -> Record | None:
    return _asked(cluster, index, _acquiring(holder, _expires_ms(cluster, index)))


@pytest.mark.parametrize("seed", range(3))
def test_a_lease_is_taken_early_by_as_much_as_a_clock_is_ahead_and_the_token_is_higher(
    seed: int,
) -> None:
    cluster = SimCluster(seed, 3, max_clock_skew_ms=SKEW_MS)
    cluster.step_clock(AHEAD, AHEAD_MS)
    cluster.run(1_000)
    asked_ms = cluster.world.now
    first = _acquired(cluster, RIGHT, b"first")
    assert first is not None
    # When the first holder stops to use it: counted from when it asked, and so much before the end.
    used_until_ms = asked_ms + TTL_MS - SKEW_MS
    second = None
    while second is None:
        cluster.run(STEP_MS)
        assert _acquired(cluster, ALSO_RIGHT, b"third") is None
        tried_ms = cluster.world.now
        second = _acquired(cluster, AHEAD, b"second")
    taken_ms = cluster.world.now
    assert used_until_ms < tried_ms
    assert asked_ms + TTL_MS - AHEAD_MS - 1 <= taken_ms, "no earlier than its clock says"
    assert taken_ms < asked_ms + TTL_MS, "though nobody else says so yet"
    assert second.version > first.version
    # Who held it is told so by a node that has not seen its end, and sees who holds it now.
    renewing = _renewing(first.version, _expires_ms(cluster, RIGHT))
    assert _asked(cluster, RIGHT, renewing) is None
    assert asking.value(cluster, RIGHT, KEY) == b"second"
    renewing = _renewing(second.version, _expires_ms(cluster, AHEAD))
    renewed = _asked(cluster, AHEAD, renewing)
    assert renewed is not None
    assert renewed.version > second.version


@pytest.mark.parametrize("seed", range(3))
def test_a_lease_that_a_clock_ahead_gave_is_not_taken_before_its_holder_stops_to_use_it(
    seed: int,
) -> None:
    """It ends later than its ttl says by other clocks, never sooner."""
    cluster = SimCluster(seed, 3, max_clock_skew_ms=SKEW_MS)
    cluster.step_clock(AHEAD, AHEAD_MS)
    cluster.run(1_000)
    asked_ms = cluster.world.now
    first = _acquired(cluster, AHEAD, b"first")
    assert first is not None
    second = None
    while second is None:
        cluster.run(STEP_MS)
        tried_ms = cluster.world.now
        second = _acquired(cluster, RIGHT, b"second")
    assert asked_ms + TTL_MS + AHEAD_MS - 1 <= cluster.world.now
    assert tried_ms < asked_ms + TTL_MS + AHEAD_MS + 10 * STEP_MS
    assert second.version > first.version
    renewing = _renewing(first.version, _expires_ms(cluster, AHEAD))
    assert _asked(cluster, AHEAD, renewing) is None
