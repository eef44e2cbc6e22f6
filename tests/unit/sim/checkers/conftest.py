# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from tests.unit.sim.checkers.steps import Stage


@pytest.fixture
def stage() -> Stage:
    return Stage()
