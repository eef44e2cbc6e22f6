# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that coordinates writes, and what its peers answer."""

from __future__ import annotations

from typing import Any

from quorate.core.values.messages import Mutate, Mutated
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.errors import Outcome, QuorateError
from tests.unit.core.alone import Alone, Asker


def alone_of(count: int = 3, **settings: Any) -> Alone:
    """Node 0 of `count`, which hold every key, after its first write."""
    alone = Alone(count, replication=count, **settings)
    alone.link(*range(1, count))
    alone.put(b"first write", b"v")
    for index in range(1, count):
        ack(alone, index)
    return alone


def ack(
    alone: Alone,
    index: int,
    *,
    higher: bytes = ABSENT,
    is_denied: bool = False,
    refused: bool = False,
    busy: bool = False,
) -> list[Record]:
    """Peer `index` answers what it was told to keep; the records. `is_denied`: it knows that it
    never held any of them."""
    kept = []
    for mutate in alone.take(index, Mutate):
        kept += [record for _, record in mutate.items]
        count = range(len(mutate.items))
        superseded = [(at, higher) for at in count] if higher else []
        reasons = [(at, "no") for at in count] if refused else []
        denied = list(count) if is_denied else []
        alone.hear(index, Mutated(mutate.batch, superseded, reasons, busy, [], denied))
    return kept


def error_of(asker: Asker, kind: type[QuorateError], outcome: Outcome) -> QuorateError:
    """The error with which a write ended."""
    result = asker.result
    assert isinstance(result, kind), result
    assert result.outcome is outcome
    return result
