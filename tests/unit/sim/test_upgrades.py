# SPDX-License-Identifier: GPL-3.0-or-later
"""A world in which the next release is installed, by all or by half of its nodes."""

from __future__ import annotations

from msgspec.structs import replace

from quorate.core.values.messages import FEATURE_LEVEL
from quorate.sim.draw import Options, draw
from quorate.sim.plan import Plan
from quorate.sim.run import run
from quorate.sim.trace import Trace
from quorate.sim.upgrades import NEXT_LEVEL

UPGRADE = draw(0, Options(nodes=4, replication=3, operations=40, faults=frozenset(("upgrade",))))


def _played(share: float) -> tuple[list[str], int]:
    """The transcript, and how often a level was raised; no promise may be broken."""
    faults = tuple([replace(each, amount=share) for each in UPGRADE.faults])
    plan: Plan = replace(UPGRADE, faults=faults)
    lines: list[str] = []
    outcome = run(plan, trace=Trace(lines.append))
    assert not outcome.violations
    return lines, outcome.reached["a feature level was raised"]


def _starts(lines: list[str], level: int) -> int:
    return len([line for line in lines if f"that knows level {level}" in line])


def test_all_nodes_start_in_the_next_release_and_then_its_level_is_in_force() -> None:
    lines, raised = _played(1.0)
    assert _starts(lines, NEXT_LEVEL) == 4
    assert raised == 1


def test_an_operator_who_is_too_early_is_refused_and_half_of_them_go_back() -> None:
    lines, raised = _played(0.5)
    assert _starts(lines, NEXT_LEVEL) == _starts(lines, FEATURE_LEVEL) == 2
    assert any("operator raises_level True" in " ".join(line.split()) for line in lines)
    assert raised == 0
