# SPDX-License-Identifier: GPL-3.0-or-later
"""What `scripts/crowd` calls harm."""

from __future__ import annotations

import pytest

from tests.crowd.__main__ import is_harm


@pytest.mark.parametrize(("beside_ms", "harm"), [(0.5, False), (19.9, False), (20.0, True)])
def test_who_waits_ten_times_as_long_beside_a_crowd_is_harmed(beside_ms: float, harm: bool) -> None:
    assert is_harm(2.0, beside_ms) is harm
