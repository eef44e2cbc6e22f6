# SPDX-License-Identifier: GPL-3.0-or-later
"""No value is served after it has expired, but for what the machines' clocks are wrong by (I16).

When a value expires is taken from the request that wrote it, not from the record that was read: so
an expiry that got lost on the way is noticed. If its expiry was changed, the value has several
writers; of those that may have written the record the latest expiry counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.values.events import GetResult
from quorate.sim.history import ClientOperation, Evidence, History, Violation

ROUNDING_MS = 1
"""Clocks are read in whole milliseconds."""


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Reads of what had expired."""
    writers = history.by_value()
    for op in history.operations:
        if not isinstance(op.result, GetResult) or op.served is None:
            continue
        late_ms = evidence.epoch_ms + op.over_ms - _expires_ms(op, writers.get(op.served, []))
        if late_ms > evidence.wall_skew_ms + ROUNDING_MS:
            yield Violation("I16", op.key, f"{op}: expired {late_ms:.0f} ms before")


def _expires_ms(read: ClientOperation, writers: list[ClientOperation]) -> float:
    """The latest expiry that anybody asked for who may have written what was read."""
    assert isinstance(read.result, GetResult)
    record = read.result.record
    assert record is not None, "nothing is served of nothing"
    said = [op.expires_ms or float("inf") for op in writers if op.may_have_written(record)]
    return max(said, default=float("inf"))
