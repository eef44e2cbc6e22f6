# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for all tests."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy with other work is no fault of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_NODE: Final = find_spec("quorate.core.node")
IS_COMPILED: Final = _NODE is not None and not (_NODE.origin or "").endswith(".py")


def pytest_configure(config: pytest.Config) -> None:
    what = "changes, extends or follows code of the store, which compiled modules do not allow"
    config.addinivalue_line("markers", f"plain: {what}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is for plain modules where they are compiled."""
    if IS_COMPILED:
        for item in items:
            if item.get_closest_marker("plain"):
                item.add_marker(pytest.mark.skip(reason="the modules are compiled"))
