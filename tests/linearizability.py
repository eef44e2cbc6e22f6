# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a history of one key linearizable? A search over all orders (Wing, Gong 1993; Lowe 2017).

The register is read and written; a delete writes None, which is also the first value. An order
explains the history if every operation takes effect between its start and its end, and each read
returns what the write before it wrote. Three kinds of writes need not take effect once: one whose
outcome is unknown may at any later time or never; one that was re-stamped may twice within its
duration (DESIGN, P2); an unknown one may have been re-stamped too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from operator import attrgetter
from typing import NamedTuple


class Operation(NamedTuple):
    """One operation as its client saw it. A read that got no answer says nothing: leave it out."""

    start: float
    end: float
    is_read: bool
    value: bytes | None
    """What was read or written."""
    must: bool = True
    """Whether it surely took effect."""


def read(start: float, end: float, value: bytes | None) -> Operation:
    """A read that was answered."""
    return Operation(start, end, True, value)


def write(
    start: float, end: float, value: bytes | None, *, is_restamped: bool = False
) -> list[Operation]:
    """A write that was answered."""
    once = Operation(start, end, False, value)
    return [once, once._replace(must=False)] if is_restamped else [once]


def unknown_write(start: float, value: bytes | None) -> list[Operation]:
    """A write that may have happened, or may happen yet."""
    return [Operation(start, math.inf, False, value, must=False)] * 2


def is_linearizable(history: Iterable[Operation]) -> bool:
    """Whether some order explains the history of a key that held nothing."""
    ops = sorted(history, key=attrgetter("start"))
    needed = sum(1 << index for index, op in enumerate(ops) if op.must)

    @cache
    def search(done: int, value: bytes | None) -> bool:
        """Whether the operations that are not in `done` can follow a register with `value`."""
        if done & needed == needed:
            return True
        left = [(index, op) for index, op in enumerate(ops) if not done >> index & 1]
        # Whoever starts after another had to be over cannot come before it.
        limit = min(op.end for _, op in left if op.must)
        for index, op in left:
            if op.start > limit:
                break
            if op.is_read and op.value != value:
                continue
            if search(done | 1 << index, op.value):
                return True
        return False

    return search(0, None)
