# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches that the engine does not take, and what the node and the log hear of it."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Batch, Note, StorageState
from quorate.core.values.slots import row_of
from quorate.errors import Corrupt, DiskFull, StorageBusy, StorageError
from quorate.host.storing import (
    BUSY_RETRY_MS,
    CALM_MS,
    FULL_RETRY_MS,
    MERGED_BYTES_MAX,
    RETRY_BYTES_MAX,
)
from quorate.storage.engine import ENTRY_BYTES, bytes_of
from tests.unit.host.batches import BUSY, FULL, WELL, Batches, batch, rows


@pytest.fixture
def stage() -> Batches:
    return Batches()


# --- batches that wait -------------------------------------------------------------------------


@pytest.mark.parametrize("needs_sync", [True, False])
@pytest.mark.parametrize("refusal", [BUSY, FULL], ids=["busy", "full"])
def test_what_the_engine_does_not_take_waits_in_order(
    refusal: StorageBusy | DiskFull, *, needs_sync: bool
) -> None:
    stage = Batches(needs_sync=needs_sync)
    stage.engine.refusal = refusal
    stage.store(1, 2, 3, 4)
    assert stage.states == [StorageState(refusal.code, str(refusal))]
    stage.engine.refusal = None
    # Not before those that wait, though the engine would take it.
    stage.store(5)
    assert stage.engine.keys == []
    stage.system.run(BUSY_RETRY_MS if refusal is BUSY else FULL_RETRY_MS)
    assert stage.engine.keys == rows(1, 5)
    assert stage.states[1:] == [WELL]
    stage.system.end_syncs()
    assert stage.marks == [5]
    assert stage.storing.store(batch(6), 6) is not needs_sync
    assert stage.engine.keys == rows(1, 6)


@pytest.mark.parametrize(
    ("refusal", "retry_ms"), [(BUSY, BUSY_RETRY_MS), (FULL, FULL_RETRY_MS)], ids=["busy", "full"]
)
def test_it_is_tried_again_and_again_and_no_sooner(
    stage: Batches, refusal: StorageError, retry_ms: float
) -> None:
    stage.engine.refusal = refusal
    stage.store(1)
    stage.system.run(10 * retry_ms)
    assert len(stage.states) == 1
    stage.engine.refusal = None
    stage.system.run(retry_ms - 1)
    assert stage.engine.writes == 0
    stage.system.run(1)
    assert stage.engine.writes == 1
    stage.system.end_syncs()
    stage.system.run(60_000)
    assert (stage.engine.writes, stage.marks) == (1, [1])


def test_what_is_taken_in_parts_becomes_durable_in_order_and_the_rest_goes_on_waiting() -> None:
    stage = Batches(needs_sync=False)
    stage.engine.refusal = BUSY
    stage.store(1, size=MERGED_BYTES_MAX)
    stage.store(2)
    stage.engine.writes_left = 1
    stage.system.run(BUSY_RETRY_MS)
    assert (stage.engine.keys, stage.marks, stage.codes) == (rows(1, 1), [1], ["storage_busy"])
    assert stage.storing.waiting_bytes == bytes_of(batch(2))
    stage.engine.refusal = None
    stage.system.run(BUSY_RETRY_MS)
    assert (stage.engine.keys, stage.marks) == (rows(1, 2), [1, 2])
    assert (stage.codes, stage.storing.waiting_bytes) == (["storage_busy", ""], 0)


def test_waiting_batches_are_merged_up_to_a_size_and_leave_the_node_its_lists(
    stage: Batches,
) -> None:
    stage.engine.refusal = BUSY
    first = batch(1)
    assert not stage.storing.store(first, 1)
    size = MERGED_BYTES_MAX // 8
    stage.store(*range(2, 101), size=size)
    assert (len(first.records), len(first.hints), len(first.meta)) == (1, 0, 0)
    stage.engine.refusal = None
    stage.system.run(BUSY_RETRY_MS)
    assert stage.engine.keys == rows(1, 100)
    # The first with eight of the next; then eight that are more than a megabyte each time.
    assert stage.engine.writes == 1 + 12
    stage.system.end_sync()
    stage.system.end_sync()
    assert stage.marks[-1] == 100


@pytest.mark.parametrize(("spare", "writes"), [(1, 1), (0, 2)])
def test_a_batch_of_just_the_size_takes_no_other_in(
    stage: Batches, *, spare: int, writes: int
) -> None:
    stage.engine.refusal = BUSY
    size = MERGED_BYTES_MAX - bytes_of(batch(1, size=0)) - spare
    stage.store(1, size=size)
    stage.store(2)
    stage.engine.refusal = None
    stage.system.run(BUSY_RETRY_MS)
    assert (stage.engine.keys, stage.engine.writes) == (rows(1, 2), writes)


def test_much_that_waits_is_tried_a_part_in_each_turn(stage: Batches) -> None:
    stage.engine.refusal = BUSY
    count = 4 * RETRY_BYTES_MAX // MERGED_BYTES_MAX
    stage.store(*range(1, count + 1), size=MERGED_BYTES_MAX)
    stage.engine.refusal = None
    taken = []
    stage.engine.on_write = lambda: taken.append(stage.system.timers)
    stage.system.run(BUSY_RETRY_MS)
    assert stage.engine.keys == rows(1, count)
    assert max(taken.count(each) for each in taken) <= RETRY_BYTES_MAX // MERGED_BYTES_MAX
    assert stage.codes == ["storage_busy", ""]


def test_hints_meta_and_votes_are_merged_with_the_rest(stage: Batches) -> None:
    stage.engine.refusal = BUSY
    for mark in (1, 2):
        name = b"%d" % mark
        given = Batch([], [(name, b"hint")], [(name, b"meta")], votes=[(name, b"votes")])
        assert not stage.storing.store(given, mark)
        assert len(given.votes) == 1, "the node still reads it"
    stage.engine.refusal = None
    stage.system.run(BUSY_RETRY_MS)
    assert stage.engine.writes == 1
    assert [stage.engine.get_meta(b"%d" % mark) for mark in (1, 2)] == [b"meta", b"meta"]
    assert list(stage.engine.scan_hints(b"", b"\xff")) == [(b"1", b"hint"), (b"2", b"hint")]
    assert list(stage.engine.scan_votes(b"", b"\xff")) == [(b"1", b"votes"), (b"2", b"votes")]


def test_what_a_waiting_batch_drops_is_what_waits_before_it(stage: Batches) -> None:
    """Merged into the one before, its range would go before what is to be dropped."""
    stage.engine.refusal = BUSY
    span = (row_of(b"row-2"), row_of(b"row-2") + b"\0")
    stage.store(1, 2)
    assert not stage.storing.store(Batch([], [(b"1", b"old"), (b"2", b"old")], []), 3)
    dropping = Batch(batch(1).records, [(b"2", b"new")], [], [span], [(b"1", b"3")])
    assert not stage.storing.store(dropping, 4)
    stage.store(2, 3)
    assert (len(dropping.records), len(dropping.hints)) == (1, 1), "the node still reads it"
    stage.engine.refusal = None
    stage.system.run(BUSY_RETRY_MS)
    assert stage.engine.writes == 2
    assert stage.engine.keys == [b"row-1", b"row-2", b"row-1", b"row-2", b"row-3"]
    assert list(stage.engine.scan_hints(b"", b"\xff")) == [(b"2", b"new")]
    assert stage.engine.get(row_of(b"row-2")) is not None
    assert stage.storing.waiting_bytes == 0


def test_meta_entries_that_wait_take_the_place_of_those_before(stage: Batches) -> None:
    """P7. The clock's ceiling goes on being stored while a disk is full, for days."""
    stage.engine.refusal = FULL
    for mark in range(1, 1_001):
        meta: list[tuple[bytes, bytes | None]] = [(b"ceiling", b"%d" % mark), (b"%d" % mark, None)]
        assert not stage.storing.store(Batch([], [], meta[: 1 + (mark % 100 == 0)]), mark)
    assert stage.storing.waiting_bytes < 11 * 2 * bytes_of(Batch([], [], [(b"ceiling", b"1000")]))
    stage.engine.refusal = None
    stage.system.run(FULL_RETRY_MS)
    assert stage.engine.get_meta(b"ceiling") == b"1000"
    assert stage.storing.waiting_bytes == 0


@pytest.mark.parametrize("refusal", [BUSY, FULL], ids=["busy", "full"])
def test_more_than_the_stated_maximum_may_not_wait(refusal: StorageError) -> None:
    """P7. What may is counted to the byte."""
    bytes_max = bytes_of(batch(1, size=9_000)) + bytes_of(batch(2, size=1_000))
    stage = Batches(waiting_bytes_max=bytes_max)
    stage.engine.refusal = refusal
    stage.store(1, size=9_000)
    stage.store(2, size=1_000)
    assert stage.storing.waiting_bytes == bytes_max
    assert stage.failures == []
    assert not stage.storing.store(Batch([], [], []), 3)
    assert stage.failures == []
    stage.store(4)
    assert stage.failures == [f"more than {bytes_max} bytes wait for the storage engine"]
    stage.engine.refusal = None
    stage.system.run(60_000)
    assert stage.engine.keys == []
    assert (len(stage.failures), stage.system.due_ms) == (1, [])


def test_a_batch_that_is_too_large_to_wait_ends_it() -> None:
    stage = Batches(waiting_bytes_max=ENTRY_BYTES)
    stage.engine.refusal = FULL
    stage.store(1)
    assert stage.failures == [f"more than {ENTRY_BYTES} bytes wait for the storage engine"]
    assert (stage.states, stage.system.syncs, stage.system.due_ms) == ([], 0, [])


def test_room_is_counted_again_once_the_engine_has_taken_what_waited() -> None:
    stage = Batches(waiting_bytes_max=10_000, needs_sync=False)
    for mark in range(1, 5):
        stage.engine.refusal = BUSY
        stage.store(mark, size=9_000)
        stage.engine.refusal = None
        stage.system.run(BUSY_RETRY_MS)
        assert stage.marks[-1] == mark
    assert stage.failures == []


def test_another_kind_of_trouble_is_told(stage: Batches) -> None:
    stage.engine.refusal = BUSY
    stage.store(1)
    stage.engine.refusal = FULL
    stage.system.run(BUSY_RETRY_MS)
    assert stage.codes == ["storage_busy", "disk_full"]
    stage.engine.refusal = BUSY
    stage.system.run(FULL_RETRY_MS)
    assert stage.codes == ["storage_busy", "disk_full", "storage_busy"]
    stage.engine.refusal = None
    stage.system.run(BUSY_RETRY_MS)
    assert stage.codes == ["storage_busy", "disk_full", "storage_busy", ""]


@pytest.mark.parametrize("is_later", [False, True], ids=["at once", "on a later try"])
def test_a_broken_engine_ends_it_at_once_or_on_a_later_try(
    stage: Batches, *, is_later: bool
) -> None:
    if is_later:
        stage.engine.refusal = BUSY
        stage.store(1)
    stage.engine.refusal = Corrupt("bad block")
    if not is_later:
        stage.store(1)
    stage.system.run(BUSY_RETRY_MS)
    assert stage.failures == ["the storage engine failed: bad block"]
    stage.engine.refusal = None
    stage.system.run(60_000)
    assert (stage.marks, stage.engine.writes, stage.system.syncs) == ([], 0, 0)


def test_an_error_that_no_engine_should_raise_is_not_caught_on_a_later_try_either(
    stage: Batches,
) -> None:
    """Whoever makes the timers ends the node for it (`driver.Supervised`)."""
    stage.engine.refusal = BUSY
    stage.store(1)
    stage.engine.refusal = MemoryError()
    with pytest.raises(MemoryError):
        stage.system.run(BUSY_RETRY_MS)


def test_a_full_disk_is_synced_meanwhile_which_is_where_an_engine_gets_over_it() -> None:
    stage = Batches(needs_sync=False)
    stage.engine.refusal = FULL
    stage.store(1)
    for syncs in (1, 2, 3):
        assert stage.system.syncs == syncs
        stage.system.end_sync()
        assert stage.system.syncs == syncs
        stage.system.run(FULL_RETRY_MS)
    assert stage.marks == []


def test_a_write_stall_is_not_synced(stage: Batches) -> None:
    stage.engine.refusal = BUSY
    stage.store(1)
    stage.system.run(10 * BUSY_RETRY_MS)
    assert stage.system.syncs == 0


def test_nothing_is_tried_or_told_after_close(stage: Batches) -> None:
    stage.engine.refusal = BUSY
    stage.store(1)
    stage.storing.close()
    stage.engine.refusal = None
    assert stage.system.due_ms == []
    stage.system.run(60_000)
    assert (stage.engine.writes, stage.codes, stage.marks) == (0, ["storage_busy"], [])


# --- the log -----------------------------------------------------------------------------------


def test_a_shower_of_stalls_is_two_lines_in_the_log(stage: Batches) -> None:
    for mark in range(1, 6):
        stage.engine.refusal = BUSY
        stage.store(mark)
        stage.engine.refusal = None
        stage.system.run(BUSY_RETRY_MS)
        stage.system.end_sync()
        stage.system.run(CALM_MS - 1)
    assert stage.codes == ["storage_busy", ""] * 5
    assert stage.lines == ["storage_refuses_writes"]
    stage.system.run(1)
    assert stage.notes == [
        Note("warning", "storage_refuses_writes", {"reason": str(BUSY)}),
        Note("info", "storage_takes_writes", {}),
    ]
    stage.system.run(60_000)
    assert len(stage.notes) == 2


def test_the_next_shower_is_logged_again_and_so_is_another_kind_of_trouble(stage: Batches) -> None:
    for refusal in (BUSY, FULL):
        stage.engine.refusal = refusal
        stage.store(1)
        stage.engine.refusal = None
        stage.system.run(FULL_RETRY_MS)
        stage.system.end_syncs()
    reasons = [note.facts["reason"] for note in stage.notes]
    assert reasons == [str(BUSY), str(FULL)]
    stage.system.run(CALM_MS)
    assert stage.lines[2:] == ["storage_takes_writes"]
    stage.engine.refusal = FULL
    stage.store(2)
    assert stage.lines[3:] == ["storage_refuses_writes"]


def test_what_is_calm_at_the_end_is_not_logged(stage: Batches) -> None:
    stage.engine.refusal = BUSY
    stage.store(1)
    stage.engine.refusal = None
    stage.system.run(BUSY_RETRY_MS)
    stage.storing.close()
    stage.system.run(CALM_MS)
    assert stage.lines == ["storage_refuses_writes"]
