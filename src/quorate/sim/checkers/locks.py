# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock is never held by two with one token, and tokens increase (P2).

The token is the version of who took it. Two hold it at once only if the first has run out by a
clock that is not wrong by more than machines' clocks are. Judged are keys that are only locks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from quorate.sim.history import ClientOperation, Evidence, History, Kind, Violation

_JUDGED = frozenset((Kind.GET, Kind.LOCK, Kind.UNLOCK))


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Locks that two had."""
    for key, operations in history.by_key().items():
        kinds = {op.kind for op in operations}
        if Kind.LOCK not in kinds or not kinds <= _JUDGED or key in evidence.forgot_ms:
            continue
        taken = [op for op in operations if op.kind is Kind.LOCK and op.wrote is not None]
        taken.sort(key=lambda op: op.version)
        given_back = [op for op in operations if op.kind is Kind.UNLOCK and not op.is_refused]
        for one, other in itertools.pairwise(taken):
            fault = _fault(one, other, given_back, evidence)
            if fault:
                yield Violation("P2", key, f"{one}, then {other}: {fault}")


def _fault(
    one: ClientOperation,
    other: ClientOperation,
    given_back: list[ClientOperation],
    evidence: Evidence,
) -> str:
    """What is wrong with two locks of which the first has the lower token."""
    if one.version == other.version:
        return "they have one token"
    if other.over_ms < one.asked_ms:
        return "the earlier has the higher token"
    may_be_back = any(
        op.asked_ms < other.over_ms and op.over_ms > one.asked_ms for op in given_back
    )
    # By the fastest clock that judged the first.
    latest_ms = evidence.epoch_ms + other.over_ms + evidence.wall_skew_ms + 1
    if not may_be_back and one.expires_ms and latest_ms < one.expires_ms:
        return "the first had not run out"
    return ""
