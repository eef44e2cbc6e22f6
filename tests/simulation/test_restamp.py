# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule of the register protocol in the one schedule that needs it (P2).

Six nodes; three of them hold the key, in order of preference first, second and third; the others
coordinate and hold nothing. Cuts hold messages back until the heal, so every order can be made.
"""

from __future__ import annotations

import pytest

from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.slots import row_of
from quorate.core.values.versions import stamp_of
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.simulation.asking import Handle

KEY = b"k"
SEEDS = range(5)


class Stage:
    """The cluster, and who plays what."""

    def __init__(self, seed: int) -> None:
        self.cluster = SimCluster(seed, 6, max_clock_skew_ms=60_000)
        self.first, self.second, self.third = self.cluster.replicas(KEY)
        others = [index for index in range(6) if index not in self.cluster.replicas(KEY)]
        self.reader, self.writer, self.late = others
        for index in range(6):
            asking.must_put(self.cluster, index, b"other", b"v")
        self.cluster.run(1_000)

    def hold(self, source: int, *targets: int) -> None:
        """Hold back what `source` says to these."""
        for target in targets:
            self.cluster.cut(source, target)

    def let_go(self, source: int, *targets: int) -> None:
        """Deliver it."""
        for target in targets:
            self.cluster.wire(source, target).heal()

    def set_behind(self, index: int) -> None:
        """Give a node a slow clock that nobody has told the time for a second."""
        self.cluster.machines[index].clock.offset_ms = -5_000

    def until(self, index: int, value: bytes) -> None:
        """Wait for a replica to hold a value for sure."""
        node = self.cluster.machines[index].node

        def holds() -> bool:
            record = node.parts.replica.shown(row_of(KEY))
            return record is not None and record.value == value

        self.cluster.run_until(holds, 200)


@pytest.fixture(params=SEEDS)
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


def _value(handle: Handle) -> bytes | None:
    record = handle.of(GetResult).record
    return None if record is None else record.value


def test_a_write_under_a_slow_clock_wins_over_one_that_was_finished(stage: Stage) -> None:
    """It is stamped again, above what it met."""
    cluster = stage.cluster
    stage.set_behind(stage.late)
    finished = asking.must_put(cluster, stage.writer, KEY, b"finished", w=3)
    result = asking.must_put(cluster, stage.late, KEY, b"later")
    assert result.restamped
    assert not result.superseded
    assert stamp_of(result.version) > stamp_of(finished.version)
    assert asking.value(cluster, stage.reader, KEY) == b"later"


def test_a_value_that_was_read_is_not_unread(stage: Stage) -> None:
    """Write-back: a reader that saw an unfinished write leaves it at a majority."""
    cluster = stage.cluster
    asking.must_put(cluster, stage.writer, KEY, b"old", w=3)
    stage.hold(stage.late, stage.second, stage.third)
    unfinished = asking.put(cluster, stage.late, KEY, b"new")
    stage.until(stage.first, b"new")
    assert asking.value(cluster, stage.reader, KEY) == b"new"
    assert unfinished.result is None
    stage.hold(stage.writer, stage.first)
    assert asking.value(cluster, stage.writer, KEY) == b"new"


def test_a_value_that_is_already_old_when_it_is_written_back_is_not_answered(
    stage: Stage,
) -> None:
    """The second look: the reader meets an unfinished write below a finished one."""
    cluster = stage.cluster
    # The read is asked of the first and the second; the first hears of it only later.
    stage.hold(stage.reader, stage.first)
    read = asking.get(cluster, stage.reader, KEY)
    cluster.run(5)
    # A write is finished that the first has not heard of.
    stage.hold(stage.writer, stage.first)
    asking.must_put(cluster, stage.writer, KEY, b"finished")
    stage.until(stage.second, b"finished")
    # One begins under a slow clock and reaches the first only.
    stage.set_behind(stage.late)
    stage.hold(stage.late, stage.second, stage.third)
    begun = asking.put(cluster, stage.late, KEY, b"begun")
    stage.until(stage.first, b"begun")
    stage.let_go(stage.reader, stage.first)
    asking.finish(cluster, read, deadline_ms=15)
    assert _value(read) == b"finished"
    assert asking.counter(cluster, "reads_looked_again") == 1
    assert begun.result is None
    # Whoever comes next finds what was finished too, and never goes back.
    stage.hold(stage.reader, stage.first)
    assert asking.value(cluster, stage.reader, KEY) == b"finished"


def test_without_a_conflict_nothing_is_paid(stage: Stage) -> None:
    cluster = stage.cluster
    for number in range(20):
        result = asking.must_put(cluster, number % 6, KEY, b"%d" % number)
        assert not (result.restamped)
        assert not (result.superseded)
    assert asking.counter(cluster, "writes_restamped") == 0


def test_concurrent_writes_end_with_one_value_everywhere(stage: Stage) -> None:
    """I2, I3: whatever was answered last is not lost to one that came before it."""
    cluster = stage.cluster
    handles = [
        asking.put(cluster, index, KEY, b"%d" % index) for index in range(6) for _ in range(3)
    ]
    asking.finish(cluster, *handles)
    assert all(isinstance(handle.result, PutResult) for handle in handles)
    cluster.run(1_000)
    held = {repr(asking.held(cluster, index, KEY)) for index in cluster.replicas(KEY)}
    assert len(held) == 1
    newest = max(handle.of(PutResult).version for handle in handles)
    record = asking.held(cluster, stage.first, KEY)
    assert record is not None
    assert record.version == newest
