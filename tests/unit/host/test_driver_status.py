# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node looks like to its doors: how old that may be, and what it never lags behind."""

from __future__ import annotations

from quorate.core.values.events import Join
from quorate.host.store import STATUS_AGE_MS_MAX
from tests.unit.host.stage import Stage


def test_a_status_is_made_once_in_its_time_however_often_and_by_whom_it_is_asked_for() -> None:
    """With 1,000 members it is milliseconds of work, and strangers may ask for `/readyz`."""
    stage = Stage(1000)
    first = stage.driver.status()
    assert len(first.members) == 1000
    assert all(stage.driver.status() is first for _ in range(100))
    stage.system.run(STATUS_AGE_MS_MAX - 1)
    assert stage.driver.status() is first
    stage.system.run(1)
    second = stage.driver.status()
    assert second is not first
    assert stage.driver.status() is second


def test_a_status_is_of_the_layout_in_force_and_of_all_nodes_that_are_known() -> None:
    """Who changes the members and asks at once sees what it did."""
    stage = Stage()
    before = len(stage.driver.status().members)
    stage.driver.submit(Join(stage.client, "http://node.invalid:8000"))
    stage.turn()
    assert len(stage.driver.status().members) == before + 1
    membership = stage.driver.node.membership
    membership.layout = None
    assert stage.driver.status().phase == "forming"
