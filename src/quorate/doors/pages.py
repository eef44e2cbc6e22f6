# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of keys, as both doors ask for them and show them."""

from __future__ import annotations

from quorate.core.values.messages import ScannedRow
from quorate.core.values.slots import key_of


def live_keys(rows: list[ScannedRow], *, wall_ms: int) -> list[bytes]:
    """The keys of rows that a reader would find."""
    return [key_of(row.row) for row in rows if row.is_live(wall_ms=wall_ms)]
