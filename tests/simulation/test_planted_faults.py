# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator bites: it notices each fault that is planted in the store (`planted`)."""

from __future__ import annotations

import pytest

from tests.simulation.planted import PLANTS, SEEDS_MAX, known, with_plant, without
from tests.simulation.plants.plant import Plant

AGAIN = "search again: python -m tests.simulation.planted"
KNOWN = known()


def test_a_seed_is_known_for_each_plant_and_no_other() -> None:
    assert list(KNOWN) == list(PLANTS), AGAIN
    assert max(notice.seed for notice in KNOWN.values()) < SEEDS_MAX


@pytest.mark.plain
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_planted_fault_is_noticed(plant: Plant) -> None:
    notice = KNOWN[plant.name]
    before = plant.found()
    outcome, ran = with_plant(plant, notice.seed)
    assert plant.found() is before, "it was not removed"
    assert ran, "faulty code did not run"
    noticed = {violation.invariant for violation in outcome.violations}
    assert noticed >= set(notice.broken), AGAIN


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_the_same_run_without_the_fault_is_green(plant: Plant) -> None:
    assert not without(KNOWN[plant.name].seed, plant.options).violations, AGAIN
