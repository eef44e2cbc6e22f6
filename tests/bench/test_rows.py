# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from itertools import groupby

from bench.rounds import NO_BOUND
from bench.rows import ROWS


def test_a_row_is_chosen_by_a_name_of_its_own() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert not [name for name in names if " " in name]


def test_goals_come_first() -> None:
    assert [has_goal for has_goal, _ in groupby(row.bound != NO_BOUND for row in ROWS)] == [
        *(True, False)
    ]
