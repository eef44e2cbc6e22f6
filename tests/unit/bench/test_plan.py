# SPDX-License-Identifier: GPL-3.0-or-later
"""Every scenario is a plan that can be run."""

from __future__ import annotations

import msgspec
import pytest

from quorate.bench.distributions import keys_of
from quorate.bench.plan import SCENARIOS, LoadPlan, with_scenario
from tests.unit.bench.plans import plan


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_makes_a_valid_plan_and_keys(name: str) -> None:
    of = with_scenario(plan(), name)
    assert of.scenario == name
    assert msgspec.convert(msgspec.to_builtins(of), LoadPlan) == of
    keys = keys_of(of, worker=0)
    assert 0 <= keys.read() < of.keys
    assert keys.write() >= 0


def test_a_scenario_leaves_alone_what_it_does_not_name() -> None:
    of = with_scenario(plan(pipeline=3, rate=7.0), "ycsb-f")
    assert (of.pipeline, of.rate, of.writes, of.distribution) == (3, 7.0, "modify", "zipfian")
