# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes say to each other."""

from __future__ import annotations

import pytest

from quorate.core.values.messages import ScannedRow
from quorate.core.values.record import Record, is_live


@pytest.mark.parametrize("value", [None, b"", b"x"])
@pytest.mark.parametrize("expires_ms", [0, 999, 1000, 1001])
def test_a_listing_shows_what_a_read_would_find(value: bytes | None, expires_ms: int) -> None:
    """I16."""
    record = Record(b"v", value, expires_ms)
    row = ScannedRow(b"row", b"v", value is not None, expires_ms)
    assert row.is_live(wall_ms=1000) is is_live(record, wall_ms=1000)
