# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that are others but for a field."""

from __future__ import annotations

from quorate.core.values.record import Record


def altered(
    record: Record, *, version: bytes | None = None, expires_ms: int | None = None
) -> Record:
    """The record with another version, or another expiry."""
    return Record(
        record.version if version is None else version,
        record.value,
        record.expires_ms if expires_ms is None else expires_ms,
        record.prior,
        record.winners,
    )
