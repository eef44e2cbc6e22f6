# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that could talk until nothing was left to do hold the same bytes (I2, I23; P6), and no
hint waits for ever (I13, I24).

That a hint is only forgotten once it was delivered, or counted as dropped, is judged step by step:
`handoff`.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.sim.history import Evidence, History, Violation


def check(_history: History, evidence: Evidence) -> Iterator[Violation]:
    """Keys whose replicas differ, or are damaged still; and hints that were never delivered though
    nothing stood in their way."""
    if not evidence.is_quiet:
        return
    for node, count in evidence.hints_left.items():
        if count:
            yield Violation("I13", b"", f"hints still wait on n{node}: {count}")
    for key, copies in evidence.settled.items():
        if len({repr(record) for record in copies.values()}) > 1:
            yield Violation("I2", key, f"replicas differ: {copies}")
        missing = [
            node
            for node in evidence.replicas.get(key, [])
            if node not in copies and node not in evidence.unreadable.get(key, [])
        ]
        if missing:
            yield Violation("I2", key, f"nothing is known of its replicas {missing}")
    if evidence.in_budget:
        for key, nodes in evidence.unreadable.items():
            if nodes and key not in evidence.beyond_repair:
                yield Violation("I23", key, f"still damaged on {nodes}")
