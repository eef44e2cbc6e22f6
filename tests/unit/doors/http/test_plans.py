# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans that a door showed: the last ones, by a name that says from where they start."""

from __future__ import annotations

import pytest

from quorate.core.values.wish import Wish
from quorate.doors.http.plans import PLANS_MAX, Plans
from quorate.doors.http.problems import Refused


def test_a_plan_is_found_by_its_name_with_the_layout_that_it_starts_from() -> None:
    plans, wish = Plans(), Wish(leave=("http://a:1",))
    name = plans.keep(7, wish)
    assert plans.find(name) == (7, wish)
    assert plans.keep(7, wish) == name
    assert len({name, plans.keep(8, wish), plans.keep(7, Wish())}) == 3


def test_the_plan_that_was_shown_longest_ago_is_given_up_for_a_new_one() -> None:
    plans = Plans()
    first, *others = [plans.keep(epoch, Wish()) for epoch in range(PLANS_MAX)]
    assert plans.keep(0, Wish()) == first, "shown again: now the last"
    plans.keep(PLANS_MAX, Wish())
    with pytest.raises(Refused, match="keeps the last 16") as refused:
        plans.find(others[0])
    for asked_by in ("quorate plan", "POST /plan"):
        assert asked_by in refused.value.detail
    assert plans.find(first) == (0, Wish())
