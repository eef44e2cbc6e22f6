# SPDX-License-Identifier: GPL-3.0-or-later
"""A smoke run of the simulator: some seeds of every kind of world, no violation, and every rare
branch reached (I30). `quorate sim` runs as many as one likes."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import msgspec
import pytest

from quorate.core.topology.liveness import MESH_MAX
from quorate.sim.draw import Options, draw
from quorate.sim.plan import Plan
from quorate.sim.run import RunResult, run
from quorate.sim.sometimes import BRANCHES

SEEDS = (*range(50), 61, 197, 320, 334, 1715)
"""The last are those of branches which few of the others reach: a clock that is not trusted, a
write that stalls, a recovery, an answer that is too far ahead, a late write that a lock refuses."""
LARGE = (0, 1, 2, 3)
"""Seeds of worlds in which no node pings all others."""
REGRESSIONS = sorted(Path(__file__).parent.glob("regressions/*.json"))


class Regression(msgspec.Struct, forbid_unknown_fields=True):
    """A seed that failed once."""

    what: str
    """What was wrong, and with what."""
    seed: int
    plan: Plan
    """What is left of it after shrinking: what a seed draws changes, a plan does not."""


@cache
def _run(seed: int) -> RunResult:
    return run(draw(seed, Options()))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_finds_a_violation(seed: int) -> None:
    assert not _run(seed).violations


@pytest.mark.parametrize("seed", LARGE)
def test_no_seed_of_a_large_cluster_finds_a_violation(seed: int) -> None:
    plan = draw(seed, Options(nodes=MESH_MAX + 1 + seed))
    assert not run(plan).violations


def test_the_seeds_reach_every_rare_branch() -> None:
    """I30."""
    outcomes = [_run(seed) for seed in SEEDS]
    reached: Counter[str] = Counter()
    for outcome in outcomes:
        reached.update(outcome.reached)
    assert not [branch for branch in BRANCHES if not reached[branch]]
    assert sum(outcome.in_budget for outcome in outcomes) >= len(outcomes) / 2


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_failed_once_does_not_fail_again(path: Path) -> None:
    regression = msgspec.json.decode(path.read_bytes(), type=Regression)
    assert not run(regression.plan).violations, regression.what
