# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of unfinished requests are counted exactly."""

from __future__ import annotations

from quorate.doors.budget import ByteBudget


def test_the_budget_is_exact() -> None:
    budget = ByteBudget(10)
    assert budget.take(10)
    assert not budget.take(1)
    budget.give_back(4)
    assert not budget.take(5)
    assert budget.take(4)
    assert budget.used == 10
