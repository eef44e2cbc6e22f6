# SPDX-License-Identifier: GPL-3.0-or-later
"""Where all replicas can be reached, no hint waits for ever (I13, I24).

That a hint is only forgotten once it was delivered, or counted as dropped, is judged step by step:
`handoff`.
"""

from __future__ import annotations

from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Hints that were never delivered though nothing stood in their way."""
    del history
    if not evidence.is_quiet:
        return []
    return [
        Violation("I13", b"", f"{count} hints still wait on n{node}")
        for node, count in evidence.hints_left.items()
        if count
    ]
