# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes whose stamp is too old for some replicas: nothing below a lock may win there (I11)."""

from __future__ import annotations

from itertools import permutations

import pytest

from quorate.core.values.events import PutResult
from quorate.core.values.messages import AcceptRows, Mutate, Mutated, Said
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version, stamp_of, successor
from quorate.errors import Outcome, QuorumUnreachable
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.read_stage import KEY as KEY_OF_OTHERS
from tests.unit.core.read_stage import outsider
from tests.unit.core.vote_stage import accept
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


def test_a_stamp_that_nobody_took_as_it_is_too_old_is_stamped_again_until_it_is_taken() -> None:
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v")
    bounds = [record_at(alone.mono_ms + ms).version for ms in (50, 100)]
    versions: list[bytes] = []
    for bound in bounds:
        for index in holders:
            (record,) = _fence(alone, index, bound)
        versions.append(record.version)
        assert not asker.results
    for index in holders[:2]:
        (record,) = ack(alone, index)
    assert versions[0] < bounds[0] < versions[1] < bounds[1] < record.version
    assert asker.result == PutResult(record.version, acks=2, replicas=3), "no other writer was met"
    assert alone.node.hints.total == 0


@pytest.mark.parametrize("order", list(permutations((50, 100, 150))))
def test_the_next_stamp_is_above_the_highest_bound_whoever_told_it_last(
    order: tuple[int, ...],
) -> None:
    alone, holders = outsider()
    alone.put(KEY_OF_OTHERS, b"v")
    bounds = [record_at(alone.mono_ms + ms).version for ms in order]
    for index, bound in zip(holders, bounds, strict=True):
        _fence(alone, index, bound)
    (second,) = ack(alone, holders[0])
    assert second.version > max(bounds)


def test_a_stamp_that_some_took_and_is_too_old_for_one_that_is_needed_is_moved() -> None:
    """It may have been read at the two."""
    alone = alone_of()
    asker = alone.put(KEY, b"v", w=3)
    bound = record_at(alone.mono_ms + 50).version
    (first,) = ack(alone, 1)
    _fence(alone, 2, bound)
    assert not asker.results
    assert alone.take(1, Mutate) == []
    (item,) = accept(alone, 1)
    assert item[1] == first.version
    (second,) = ack(alone, 1)
    assert item[3] == second
    assert second.version > max(bound, first.version)
    assert not asker.results
    ack(alone, 2)
    assert asker.result == PutResult(second.version, 3, 3, restamped=True, moved=True)
    assert alone.node.hints.total == 0


def test_a_write_that_enough_took_is_not_stamped_again_for_one_that_did_not() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    (record,) = ack(alone, 1)
    _fence(alone, 2, record_at(alone.mono_ms + 50).version)
    assert isinstance(asker.result, PutResult)
    assert asker.result.version == record.version
    assert alone.take(1, Mutate) == []


def test_what_was_built_on_nothing_at_a_lock_has_overtaken_no_write() -> None:
    """A write under its second stamp is so late that there is a lock above it. Nobody had it when
    that was set, reads have said so, and an INCR began anew: were these acks, the write would be
    answered and be nowhere."""
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v")
    for index in holders:
        ack(alone, index, higher=record_at(alone.mono_ms + 10).version)
    lock = pack_version(stamp_of(record_at(alone.mono_ms + 50).version), 0)
    for index in holders:
        (second,) = ack(alone, index, higher=successor(lock, 1))
        assert second.version < lock
        assert not asker.results
    for index in holders[:2]:
        (third,) = ack(alone, index)
    assert third.version > lock
    assert isinstance(asker.result, PutResult)
    assert asker.result.version == third.version


def test_what_somebody_built_on_is_not_stamped_again_though_all_refuse_it_by_now() -> None:
    """An INCR read it at the first, and was answered; the key was deleted, and that dropped, before
    the write is sent once more. Stamped again it would take effect twice."""
    alone, (first, second, third) = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v")
    (written,) = ack(alone, first)
    for index in (second, third):
        ack(alone, index, higher=record_at(200).version)
    built = Record(successor(written.version, 1), b"more", winners=((0, 7),))
    accept(alone, first, said=Said.RESOLVED, record=built)
    bound = record_at(alone.mono_ms + 50).version
    for index in (first, second):
        assert _fence(alone, index, bound) == [written]
    error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
    for index in (first, second, third):
        assert alone.take(index, AcceptRows) == [] or index != first
        assert [each for each in alone.take(index, Mutate) if index != third] == []
