# SPDX-License-Identifier: GPL-3.0-or-later
"""A derived write undoes nothing: whatever was written since what it carries on wins over it (P2).

By the order of versions: no other write is ordered between a derived one and the version that it
carries on, but writes that are derived too, as two may carry on one version. So it is never stamped
again.
"""

from __future__ import annotations

from quorate.core.values.events import PutResult
from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History, Operation


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Derived writes over what they did not read."""
    del evidence
    found = []
    for key, operations in history.by_key().items():
        acked = [op for op in operations if isinstance(op.result, PutResult)]
        others = [op for op in acked if op.derived_from is None]
        for op in acked:
            if op.derived_from is None:
                continue
            found += [
                Violation("P2", key, f"{op} undoes {other}")
                for other in others
                if _is_between(op, op.derived_from, _result(other).version)
            ]
    return found


def _is_between(derived: Operation, seen: bytes, version: bytes) -> bool:
    return seen < version < _result(derived).version


def _result(op: Operation) -> PutResult:
    assert isinstance(op.result, PutResult)
    return op.result
