# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes whose stamp is too old for some replicas: nothing below a lock may win there (I11)."""

from __future__ import annotations

from quorate.core.values.events import PutResult
from quorate.core.values.messages import Mutate, Mutated
from quorate.core.values.record import Record
from quorate.errors import Outcome, QuorumUnreachable
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.write_stage import ack, alone_of, error_of

KEY = b"k"


def _fence(alone: Alone, index: int, bound: bytes) -> list[Record]:
    """Peer `index` refuses what it was told to keep, as nothing below `bound` may win there."""
    kept = []
    for mutate in alone.take(index, Mutate):
        kept += [record for _, record in mutate.items]
        fenced = [(at, bound) for at in range(len(mutate.items))]
        alone.hear(index, Mutated(mutate.batch, [], [], fenced=fenced))
    return kept


def test_a_stamp_that_is_refused_as_too_old_is_no_ack_and_stamped_again_until_it_is_taken() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v", w=3)
    bound = record_at(alone.mono_ms + 50).version
    (first,) = ack(alone, 1)
    _fence(alone, 2, bound)
    assert not asker.results
    (second,) = ack(alone, 1)
    assert second.version > max(bound, first.version)
    higher = record_at(alone.mono_ms + 100).version
    _fence(alone, 2, higher)
    assert not asker.results
    (third,) = ack(alone, 1)
    assert third.version > higher
    ack(alone, 2)
    assert isinstance(asker.result, PutResult)
    assert asker.result.version == third.version
    assert alone.node.hints.total == 0


def test_a_write_that_enough_took_is_not_stamped_again_for_one_that_did_not() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    (record,) = ack(alone, 1)
    _fence(alone, 2, record_at(alone.mono_ms + 50).version)
    assert isinstance(asker.result, PutResult)
    assert asker.result.version == record.version
    assert alone.take(1, Mutate) == []


def test_a_derived_write_that_is_too_old_everywhere_fails_honestly() -> None:
    alone = alone_of()
    seen = record_at(alone.mono_ms).version
    asker = alone.put(KEY, b"v", derived_from=seen)
    for index in (1, 2):
        _fence(alone, index, record_at(alone.mono_ms + 50).version)
    error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
    assert alone.take(1, Mutate) == []
