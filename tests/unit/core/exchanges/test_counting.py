# SPDX-License-Identifier: GPL-3.0-or-later
"""Going through what a node holds, when an operator asks for it."""

from __future__ import annotations

from quorate.core.exchanges.counting import ROWS_PER_STEP, SEEK_ROWS
from quorate.core.values.events import Check, CheckResult
from quorate.core.values.messages import Mutate
from quorate.core.values.settings import SLICE_MS
from quorate.core.values.slots import PARTITION_COUNT, partition_of, row_of
from tests.unit.core.alone import Alone, Asker, record_at

KEYS = [b"{tag}%d" % number for number in range(20)]
PARTITION = partition_of(row_of(KEYS[0]))


def holding() -> Alone:
    """A node that has digests of all its partitions."""
    alone = Alone(3, heartbeat_ms=86_400_000)
    alone.link(1, 2)
    alone.hear(1, Mutate(1, [(row_of(key), record_at(10)) for key in KEYS]))
    alone.mono_ms += 3 * SLICE_MS
    digests = alone.node.parts.replica.digests
    while not all(map(digests.is_whole, range(PARTITION_COUNT))):
        alone.step(after_ms=50)
    return alone


def checked(alone: Alone, *, is_asked: bool = False) -> CheckResult:
    """How far the check is."""
    asker = Asker()
    alone.step(Check(asker, is_asked))
    assert isinstance(asker.result, CheckResult)
    return asker.result


def finished(alone: Alone) -> CheckResult:
    """What a check came to."""
    assert checked(alone, is_asked=True).left
    steps = 0
    while (result := checked(alone)).left:
        alone.step(after_ms=50)
        steps += 1
    assert steps >= PARTITION_COUNT * SEEK_ROWS // ROWS_PER_STEP // 2
    return result


def test_before_one_was_asked_for_nothing_is_told() -> None:
    assert checked(holding()) == CheckResult(0, 0, 0, 0)


def test_a_check_goes_through_all_some_rows_in_a_step() -> None:
    alone = holding()
    assert finished(alone) == CheckResult(PARTITION_COUNT, 0, 0, 0)
    assert finished(alone) == CheckResult(PARTITION_COUNT, 0, 0, 0)


def test_a_second_operator_joins_the_check_that_is_under_way() -> None:
    alone = holding()
    checked(alone, is_asked=True)
    alone.step(after_ms=50)
    left = checked(alone).left
    assert 0 < left < PARTITION_COUNT
    assert checked(alone, is_asked=True).left <= left


def test_a_digest_that_is_wrong_is_told_and_made_anew() -> None:
    alone = holding()
    digests = alone.node.parts.replica.digests
    row = row_of(KEYS[3])
    digests.feed(row, record_at(10).version, record_at(11).version)
    assert finished(alone) == CheckResult(PARTITION_COUNT, 0, 1, 0)
    assert "digest_differed" in alone.notes
    assert not digests.is_whole(PARTITION)
    for _ in range(600):
        alone.step(after_ms=50)
    assert finished(alone) == CheckResult(PARTITION_COUNT, 0, 0, 0)
