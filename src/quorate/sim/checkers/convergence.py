# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that could talk until nothing was left to do hold the same bytes (I2, I23; P6)."""

from __future__ import annotations

from quorate.sim.checkers.violation import Violation
from quorate.sim.history import Evidence, History


def check(history: History, evidence: Evidence) -> list[Violation]:
    """Keys whose replicas differ, or are damaged still."""
    del history
    if not evidence.is_quiet:
        return []
    found = []
    for key, copies in evidence.settled.items():
        if len({repr(record) for record in copies.values()}) > 1:
            found.append(Violation("I2", key, f"replicas differ: {copies}"))
        missing = [
            node
            for node in evidence.replicas.get(key, [])
            if node not in copies and node not in evidence.unreadable.get(key, [])
        ]
        if missing:
            found.append(Violation("I2", key, f"nothing is known of its replicas {missing}"))
    if evidence.in_budget:
        for key, nodes in evidence.unreadable.items():
            if nodes:
                found.append(Violation("I23", key, f"still damaged on {nodes}"))
    return found
