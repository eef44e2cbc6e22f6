# SPDX-License-Identifier: GPL-3.0-or-later
"""The deletes that other stores resurrect, as scenarios (`test_scenarios`)."""

from __future__ import annotations

from typing import Final

from tests.simulation import asking
from tests.simulation.collecting import SLICE_MS
from tests.simulation.stage import Stage

_QUIET: Final = (" Ping", " Pong")


def a_deleted_key_that_one_replica_missed() -> Stage:
    """A delete is missed by one of three replicas, which comes back with the old value.

    Hints are not to be had here: there is no room for any. While that replica is away the tombstone
    stays, for as long as it takes, and the others say for whom it waits. Back again, its old copy
    loses against the tombstone wherever the two meet. Then all hold the same, lock it, and drop it;
    nothing is left to come back.

    A minute of stamp time is two seconds.
    """
    stage = Stage(hidden=_QUIET, slice_ms=SLICE_MS, hint_bytes_max=0)
    cluster = stage.cluster
    cluster.run(3 * SLICE_MS)
    stage.given(b"k", b"old")
    stage.tell("n2 is away when k is deleted, and for many minutes more.")
    cluster.kill(2)
    cluster.run(20)
    stage.put(0, b"k", None)
    cluster.run(20 * SLICE_MS)
    stage.says(0)
    assert asking.held(cluster, 0, b"k") is not None
    stage.tell("It is back with the old value. Whoever reads it there is told of the delete.")
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    held = asking.held(cluster, 2, b"k")
    assert held is not None
    assert held.value == b"old"
    stage.assert_read(2, b"k", None)
    stage.tell("All hold the tombstone. They lock it, then drop it.")
    stage.until_nobody_holds(b"k")
    cluster.run(20)
    stage.assert_read(2, b"k", None)
    return stage


def a_hint_that_comes_after_collection() -> Stage:
    """A hint with a value is replayed when its key is deleted, and that dropped, long since.

    n0 could not read its hints for n2 all that time. n2 got the value from a reader, and then the
    delete, as all did. When the hint comes at last, nothing is held that it would have to beat; it
    is refused all the same, for it is older than what was dropped, and so is counted and forgotten.

    A minute of stamp time is two seconds.
    """
    stage = Stage(hidden=_QUIET, slice_ms=SLICE_MS)
    cluster = stage.cluster
    cluster.run(3 * SLICE_MS)
    stage.lines.clear()
    stage.tell("n2 is away, and n0 keeps a hint for it, which it cannot read for now.")
    cluster.kill(2)
    cluster.run(20)
    stage.put(0, b"k", b"old")
    cluster.machines[0].disk.are_hints_unreadable = True
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    stage.tell("n2 is back, reads the value, and takes part in its delete. All drop the tombstone.")
    stage.assert_read(2, b"k", b"old")
    cluster.run(20)
    asking.must_put(cluster, 1, b"k", None, w=3)
    stage.until_nobody_holds(b"k")
    cluster.run(20)
    assert cluster.machines[0].node.hints.total == 1
    stage.tell("Now n0 can read the hint.")
    cluster.machines[0].disk.are_hints_unreadable = False
    stage.until_hints_are_gone()
    assert asking.counter(cluster, "hints_refused") == 1
    stage.until_nobody_holds(b"k")
    cluster.run(20)
    stage.assert_read(2, b"k", None)
    return stage


def a_node_that_is_away_for_long() -> Stage:
    """One of three nodes is away for so long that it may as well be a month.

    What was deleted before is gone: it had agreed to that. Nothing that is deleted meanwhile goes,
    in any partition of which it has a copy: it waits, and costs what tombstones cost. Nobody gives
    the node up, and no time is too long: it returns with a value that was deleted, is given what it
    missed by hints, and then all is dropped.

    A minute of stamp time is two seconds, and it is away for 60 of them.
    """
    stage = Stage(hidden=_QUIET, slice_ms=SLICE_MS)
    cluster = stage.cluster
    cluster.run(3 * SLICE_MS)
    stage.given(b"before", b"1")
    stage.given(b"k", b"2")
    stage.put(1, b"before", None)
    stage.until_nobody_holds(b"before")
    cluster.run(20)
    stage.lines.clear()
    stage.tell("A key was deleted, and dropped by all. n2 goes away. Another key is deleted.")
    cluster.kill(2)
    cluster.run(20)
    stage.put(0, b"k", None)
    cluster.run(60 * SLICE_MS)
    stage.says(0)
    stage.says(1)
    assert asking.held(cluster, 0, b"k") is not None
    stage.assert_read(1, b"k", None)
    stage.tell("It is back, with the value, and is given what it missed.")
    cluster.restart(2)
    held = asking.held(cluster, 2, b"k")
    assert held is not None
    assert held.value == b"2"
    cluster.run_until(cluster.is_connected)
    stage.until_hints_are_gone()
    stage.tell("All hold the tombstone. They lock it, then drop it.")
    stage.until_nobody_holds(b"k")
    cluster.run(20)
    stage.assert_read(2, b"k", None)
    return stage


ALL: Final = (
    a_deleted_key_that_one_replica_missed,
    a_hint_that_comes_after_collection,
    a_node_that_is_away_for_long,
)
