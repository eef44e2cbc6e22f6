# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of keys."""

from __future__ import annotations

from quorate.core.values.messages import ScannedRow
from quorate.core.values.slots import row_of
from quorate.doors.pages import live_keys


def test_a_page_lists_what_a_reader_would_find() -> None:
    rows = [
        ScannedRow(row_of(b"live"), b"", True, 0),
        ScannedRow(row_of(b"dead"), b"", False, 0),
        ScannedRow(row_of(b"expired"), b"", True, 100),
        ScannedRow(row_of(b"expires"), b"", True, 101),
    ]
    assert live_keys(rows, wall_ms=100) == [b"live", b"expires"]
