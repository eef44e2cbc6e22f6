# SPDX-License-Identifier: GPL-3.0-or-later
"""Monotonic time never goes back, whatever becomes of the wall clock."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.values.events import Instant
from quorate.sim.clock import EPOCH_MS, Clock
from quorate.sim.world import World


@pytest.fixture
def world() -> World:
    return World(1)


@pytest.fixture
def clock(world: World) -> Clock:
    return Clock(world, "n0")


def test_both_clocks_run_with_the_world(world: World, clock: Clock) -> None:
    before = clock.instant
    world.run_to(1_500)
    assert clock.instant.mono_ms == before.mono_ms + 1_500
    assert clock.instant.wall_ms == EPOCH_MS + 1_500


def test_a_step_moves_the_wall_clock_alone(clock: Clock) -> None:
    before = clock.instant
    clock.offset_ms = -10_000
    assert clock.instant == Instant(before.mono_ms, before.wall_ms - 10_000)


def test_monotonic_time_never_goes_back(world: World, clock: Clock) -> None:
    random = Random(1)
    last = clock.instant.mono_ms
    for _ in range(500):
        world.run_to(world.now + random.random() * 5)
        clock.rate = random.choice((0.5, 1.0, 1.001, 2.0))
        clock.offset_ms = random.randint(-100_000, 100_000)
        assert clock.instant.mono_ms >= last
        last = clock.instant.mono_ms


def test_what_a_fast_clock_gained_stays_when_it_is_right_again(world: World, clock: Clock) -> None:
    clock.rate = 1.5
    world.run_to(1_000)
    clock.rate = 1.0
    world.run_to(2_000)
    assert clock.error_ms == 500
    assert clock.instant.wall_ms == EPOCH_MS + 2_500


def test_the_largest_error_is_remembered_when_it_is_over(world: World, clock: Clock) -> None:
    clock.offset_ms = -800
    clock.offset_ms = 300
    clock.rate = 0.5
    world.run_to(2_000)
    assert clock.worst_ms == 800
    world.run_to(4_000)
    clock.rate = 1.0
    assert clock.worst_ms == 1_700


def test_machines_count_monotonic_time_from_different_numbers(world: World) -> None:
    assert len({Clock(world, name).instant.mono_ms for name in ("n0", "n1", "n2")}) == 3
