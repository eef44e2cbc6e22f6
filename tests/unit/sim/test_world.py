# SPDX-License-Identifier: GPL-3.0-or-later
"""One heap, one seed, one time."""

from __future__ import annotations

from functools import partial
from random import Random

from quorate.sim.world import World, draw_up_to


def test_calls_are_made_in_the_order_of_their_times() -> None:
    world, made = World(1), list[float]()
    for ms in (5.0, 1.0, 3.0):
        world.at(ms, lambda: made.append(world.now))
    world.run_to(10)
    assert (made, world.now) == ([1.0, 3.0, 5.0], 10)


def test_ties_fall_in_an_order_that_the_seed_draws() -> None:
    def order(seed: int) -> list[int]:
        world, made = World(seed), list[int]()
        for number in range(10):
            world.at(1.0, partial(made.append, number))
        world.run_to(1)
        return made

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) == 5


def test_a_call_may_make_others_for_now() -> None:
    world, made = World(1), list[str]()
    world.after(2, lambda: world.after(0, lambda: made.append("later")))
    world.run_to(2)
    assert made == ["later"]


def test_a_wait_ends_when_its_condition_holds_or_its_time_is_over() -> None:
    world, made = World(1), list[int]()
    world.at(3, lambda: made.append(1))
    world.at(4, lambda: made.append(2))
    assert world.run_until(lambda: made, 10)
    assert (world.now, made) == (3, [1])
    assert not world.run_until(lambda: len(made) > 2, 10)
    assert world.now == 10


def test_a_generator_depends_on_the_seed_and_its_name_and_on_no_other_draw() -> None:
    world = World(1)
    first = world.generator("a").random()
    world.random.random()
    world.at(1, lambda: None)
    assert world.generator("a").random() == first
    assert len({first, world.generator("b").random(), World(2).generator("a").random()}) == 3


def test_a_duration_has_a_heavy_tail_where_one_limit_is_far_higher() -> None:
    random = Random(1)
    drawn = [draw_up_to(random, (1.0, 1.0, 1.0, 100.0)) for _ in range(4_000)]
    assert min(drawn) >= 0
    assert max(drawn) < 100
    assert 700 < sum(ms > 1 for ms in drawn) < 1_300
    assert max(draw_up_to(random, (2.0,)) for _ in range(100)) < 2
