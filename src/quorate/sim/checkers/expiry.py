# SPDX-License-Identifier: GPL-3.0-or-later
"""No value is served after it has expired, but for what the machines' clocks are wrong by (I16).

When a value expires is taken from the requests that wrote it, not from the record that was read: so
an expiry that got lost on the way is noticed. Of those that may have given the record one, the
latest counts. What a read-modify-write says that it found was served to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.values.events import GetResult, UpdateResult
from quorate.core.values.record import Record
from quorate.sim.history import ClientOperation, Evidence, History, Violation

ROUNDING_MS = 1
"""Clocks are read in whole milliseconds."""


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Reads of what had expired."""
    for op in history.operations:
        served = _served(op)
        if served is None:
            continue
        # An update judges it some time before it is answered, a door at the answer.
        judged_ms = op.asked_ms if op.is_update else op.over_ms
        expires_ms = max([each or float("inf") for each in history.expiries(served)])
        late_ms = evidence.epoch_ms + judged_ms - expires_ms
        if late_ms > evidence.wall_skew_ms + ROUNDING_MS:
            yield Violation("I16", op.key, f"{op}: expired {late_ms:.0f} ms before")


def _served(op: ClientOperation) -> Record | None:
    """What its client was given as live."""
    if isinstance(op.result, UpdateResult):
        return op.result.before
    if isinstance(op.result, GetResult) and op.served is not None:
        return op.result.record
    return None
