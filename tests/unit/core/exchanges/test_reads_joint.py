# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads of a key whose copies move: two of 1, 2 and 3 must answer, and two of 1, 2 and 4."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.core.topology.steps import stepped
from quorate.core.values.events import GetResult
from quorate.core.values.messages import Read, ReadAnswer
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.moving import hear, node, stable

OLD = stable(5)
KEY = next(k for n in range(9999) if OLD.table[partition_of(row_of(k := b"%d" % n))] == (1, 2, 3))
JOINT = stepped(OLD, {partition_of(row_of(KEY)): (1, 2, 4)})
HELD = record_at(5)


def _answer(alone: Alone, index: int) -> int:
    """Peer `index` answers what it was asked; how often."""
    asked = alone.take(index, Read)
    for read in asked:
        versions = [HELD.version] * len(read.brief)
        alone.hear(index, ReadAnswer(read.batch, [HELD] * len(read.full), versions))
    return len(asked)


def _be_silent(alone: Alone) -> None:
    alone.step(after_ms=200)


def _be_lost(alone: Alone) -> None:
    alone.unlink(2)


def _be_damaged(alone: Alone) -> None:
    for read in alone.take(2, Read):
        versions = [ABSENT] * (len(read.full) + len(read.brief))
        alone.hear(2, ReadAnswer(read.batch, [], versions, [*read.full, *read.brief]))


def test_a_read_of_all_replicas_asks_all_of_the_next_layout() -> None:
    alone = node(count=5, layout_of=OLD)
    asker = alone.get(KEY, r=3)
    for index in (1, 2, 3):
        alone.take(index, Read)
    hear(alone, JOINT)
    for index in (1, 2, 3):
        _answer(alone, index)
        assert not asker.results
    _answer(alone, 4)
    assert asker.result == GetResult(HELD, answers=4)


@pytest.mark.parametrize("happens", [_be_silent, _be_lost, _be_damaged])
def test_one_in_each_row_stands_in_for_a_replica_of_both(happens: Callable[[Alone], None]) -> None:
    alone = node(count=5, layout_of=JOINT)
    asker = alone.get(KEY)
    assert _answer(alone, 1) == 1
    happens(alone)
    assert [_answer(alone, index) for index in (3, 4)] == [1, 1], "neither alone is enough"
    assert isinstance(asker.result, GetResult)
    assert (asker.result.record, asker.result.answers) == (HELD, 3)
