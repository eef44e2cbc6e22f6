# SPDX-License-Identifier: GPL-3.0-or-later
"""A smoke run of the simulator: some seeds of every kind of world, no violation, and every rare
branch reached (I30). `quorate sim` runs as many as one likes."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import msgspec
import pytest

from quorate.sim.draw import FREE, Options, draw
from quorate.sim.plan import Plan
from quorate.sim.run import RunResult, run
from quorate.sim.sometimes import BRANCHES

DEFAULT_SEEDS = range(40)
FREE_SEEDS = range(1_050, 1_090)
REGRESSIONS = sorted(Path(__file__).parent.glob("regressions/*.json"))


class Regression(msgspec.Struct, forbid_unknown_fields=True):
    """A seed that failed once."""

    what: str
    """What was wrong, and with what."""
    seed: int
    is_free: bool = False
    """Whether the seed drew everything, as `FREE` lets it."""
    plan: Plan | None = None
    """What is left of it after shrinking: what a seed draws changes, a plan does not."""


@cache
def _run(seed: int, options: Options) -> RunResult:
    return run(draw(seed, options))


@pytest.mark.parametrize("seed", DEFAULT_SEEDS)
def test_no_seed_of_the_default_world_finds_a_violation(seed: int) -> None:
    assert not _run(seed, Options()).violations


@pytest.mark.parametrize("seed", FREE_SEEDS)
def test_no_seed_that_draws_everything_finds_a_violation(seed: int) -> None:
    assert not _run(seed, FREE).violations


def test_the_seeds_reach_every_rare_branch() -> None:
    """I30."""
    outcomes = [_run(seed, Options()) for seed in DEFAULT_SEEDS]
    outcomes += [_run(seed, FREE) for seed in FREE_SEEDS]
    reached: Counter[str] = Counter()
    for outcome in outcomes:
        reached.update(outcome.reached)
    assert not [branch for branch in BRANCHES if not reached[branch]]
    assert sum(outcome.in_budget for outcome in outcomes) >= len(outcomes) / 2


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_failed_once_does_not_fail_again(path: Path) -> None:
    regression = msgspec.json.decode(path.read_bytes(), type=Regression)
    plan = regression.plan or draw(regression.seed, FREE if regression.is_free else Options())
    assert not run(plan).violations, regression.what
