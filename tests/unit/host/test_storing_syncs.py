# SPDX-License-Identifier: GPL-3.0-or-later
"""Group commit: what a sync covers, and what becomes of a failed or a stuck one."""

from __future__ import annotations

import pytest

from quorate.core.values.events import StorageState
from quorate.errors import StorageError
from quorate.host.storing import FULL_RETRY_MS
from tests.unit.host.batches import FULL, STUCK, STUCK_MS, WELL, Batches, batch, rows


@pytest.fixture
def stage() -> Batches:
    return Batches()


# --- group commit ------------------------------------------------------------------------------


def test_a_batch_is_durable_at_once_without_syncs_and_after_one_with_them(stage: Batches) -> None:
    without = Batches(needs_sync=False)
    assert without.storing.store(batch(1), 1)
    assert (without.system.syncs, without.marks) == (0, [])
    stage.store(1)
    assert (stage.system.syncs, stage.marks) == (1, [])
    stage.system.end_sync()
    assert (stage.system.syncs, stage.marks, stage.states) == (1, [1], [])


def test_marks_of_one_sync_are_reported_once_and_those_that_came_during_it_with_the_next(
    stage: Batches,
) -> None:
    stage.store(1, 2, 3, 4)
    assert (stage.system.syncs, stage.marks) == (1, [])
    stage.system.end_sync()
    assert (stage.system.syncs, stage.marks) == (2, [1])
    stage.system.end_sync()
    assert (stage.system.syncs, stage.marks) == (2, [1, 4])
    stage.store(5)
    stage.system.end_sync()
    assert (stage.system.syncs, stage.marks) == (3, [1, 4, 5])


def test_a_sync_that_no_mark_waits_for_reports_nothing(stage: Batches) -> None:
    stage.store(1)
    stage.system.end_sync()
    stage.engine.refusal = FULL
    stage.store(2)
    assert stage.system.syncs == 2
    stage.system.end_sync()
    assert stage.marks == [1]
    stage.engine.refusal = None
    stage.system.run(FULL_RETRY_MS)
    assert (stage.system.syncs, stage.marks) == (3, [1])
    stage.system.end_sync()
    assert stage.marks == [1, 2]


def test_a_batch_that_the_engine_takes_during_a_sync_that_none_waits_for_has_one_of_its_own(
    stage: Batches,
) -> None:
    stage.engine.refusal = FULL
    stage.store(1)
    stage.engine.refusal = None
    stage.system.run(FULL_RETRY_MS)
    assert (stage.engine.keys, stage.system.syncs) == (rows(1, 1), 1)
    stage.system.end_sync()
    assert (stage.system.syncs, stage.marks) == (2, [])
    stage.system.end_sync()
    assert stage.marks == [1]


def test_a_failed_sync_is_final_and_never_tried_again(stage: Batches) -> None:
    """An I/O error is final."""
    stage.store(1, 2)
    stage.system.end_sync(StorageError("Input/output error"))
    assert stage.failures == ["the disk did not confirm a sync: Input/output error"]
    stage.store(3)
    stage.engine.refusal = FULL
    stage.store(4)
    stage.system.run(60_000)
    assert (stage.system.syncs, stage.marks, len(stage.failures)) == (1, [], 1)
    assert stage.states == []


def test_an_error_that_no_engine_should_raise_is_as_final(stage: Batches) -> None:
    stage.store(1)
    stage.system.end_sync(ValueError("odd"))
    assert stage.failures == ["the disk did not confirm a sync: ValueError('odd')"]


def test_closing_does_not_wait_and_nothing_is_begun_or_told_after_it(stage: Batches) -> None:
    stage.store(1, 2)
    stage.storing.close()
    assert stage.system.due_ms == []
    stage.system.run(2 * STUCK_MS)
    stage.system.end_sync()
    stage.store(3)
    stage.system.run(2 * STUCK_MS)
    assert stage.system.syncs == 1
    assert (stage.marks, stage.states, stage.failures, stage.lines) == ([], [], [], [])


def test_a_sync_that_fails_after_the_end_is_not_told(stage: Batches) -> None:
    stage.store(1)
    stage.storing.close()
    stage.system.end_sync(StorageError("Input/output error"))
    assert stage.failures == []


# --- what is durable is noted ------------------------------------------------------------------


NOTE_MS = 10_000


@pytest.mark.parametrize("needs_sync", [True, False])
def test_some_time_after_a_write_it_is_noted_though_nothing_else_happens(
    *, needs_sync: bool
) -> None:
    stage = Batches(needs_sync=needs_sync)
    stage.engine.note_ms = NOTE_MS
    assert stage.storing.store(batch(1), 1) is not needs_sync
    stage.system.end_syncs()
    stage.system.run(NOTE_MS - 1)
    assert stage.engine.notes == 0
    stage.system.run(1)
    assert (stage.engine.notes, stage.system.is_syncing) == (1, True)
    stage.system.end_syncs()
    stage.system.run(100 * NOTE_MS)
    assert (stage.engine.notes, stage.system.due_ms) == (1, [])


def test_a_write_after_a_note_is_noted_in_its_turn(stage: Batches) -> None:
    stage.engine.note_ms = NOTE_MS
    for mark in (1, 2, 3):
        stage.store(mark)
        stage.system.end_syncs()
        stage.system.run(NOTE_MS)
        stage.system.end_syncs()
        assert stage.engine.notes == mark
    assert stage.marks == [1, 2, 3]


def test_a_note_that_falls_due_during_a_sync_is_made_in_the_next_one(stage: Batches) -> None:
    """The one under way may be past the place where it looks."""
    stage.engine.note_ms = NOTE_MS
    stage.store(1)
    stage.system.end_syncs()
    stage.system.run(NOTE_MS - 1)
    stage.store(2)
    stage.system.run(1)
    assert (stage.engine.notes, stage.system.syncs) == (0, 2)
    stage.system.end_sync()
    assert (stage.engine.notes, stage.system.syncs) == (1, 3)
    stage.system.end_sync()
    assert (stage.marks, stage.system.is_syncing) == ([1, 2], False)


def test_writes_that_wait_for_no_sync_are_not_refused_for_a_stuck_note() -> None:
    stage = Batches(needs_sync=False)
    stage.engine.note_ms = NOTE_MS
    assert stage.storing.store(batch(1), 1)
    stage.system.run(NOTE_MS + 10 * STUCK_MS)
    assert stage.system.is_syncing
    assert stage.storing.store(batch(2), 2)
    assert stage.states == []


# --- syncs that take long ----------------------------------------------------------------------


def test_a_sync_that_takes_too_long_is_told_and_so_is_its_end(stage: Batches) -> None:
    """Storage is stuck. Writes are refused until it is done."""
    stage.store(1)
    stage.system.run(STUCK_MS - 1)
    assert stage.states == []
    stage.system.run(1)
    assert (stage.states, stage.marks) == ([STUCK], [])
    stage.system.run(10 * STUCK_MS)
    assert stage.states == [STUCK]
    stage.system.end_sync()
    assert (stage.states, stage.marks) == ([STUCK, WELL], [1])


def test_the_next_sync_that_takes_too_long_is_told_as_well(stage: Batches) -> None:
    for mark in (1, 2):
        stage.store(mark)
        stage.system.run(STUCK_MS)
        stage.system.end_sync()
    assert stage.states == [STUCK, WELL, STUCK, WELL]


def test_many_short_syncs_are_not_taken_for_a_long_one(stage: Batches) -> None:
    for mark in range(1, 100):
        stage.store(mark)
        stage.system.run(STUCK_MS / 10)
        stage.system.end_sync()
        stage.system.run(STUCK_MS / 10)
    assert stage.marks == list(range(1, 100))
    assert stage.states == []
    stage.store(100)
    stage.system.run(STUCK_MS - 1)
    assert stage.states == []
    stage.system.run(1)
    assert stage.states == [STUCK]
    stage.system.end_sync()
    assert stage.marks[-1] == 100


def test_syncs_that_follow_each_other_share_one_timer_and_each_has_its_own_time(
    stage: Batches,
) -> None:
    stage.store(1)
    stage.system.run(STUCK_MS / 2)
    stage.system.end_sync()
    stage.store(2)
    assert stage.system.due_ms == [STUCK_MS / 2]
    stage.system.run(STUCK_MS / 2)
    assert (stage.states, stage.system.due_ms) == ([], [STUCK_MS / 2])
    stage.system.run(STUCK_MS / 2)
    assert stage.states == [STUCK]


def test_a_timer_that_comes_too_early_takes_no_sync_for_a_stuck_one(stage: Batches) -> None:
    stage.system.early_ms = 3.0
    stage.store(1)
    stage.system.run(STUCK_MS - 3)
    assert (stage.states, len(stage.system.due_ms)) == ([], 1)
    stage.system.run(3)
    assert stage.states == [STUCK]


def test_an_idle_disk_is_watched_by_no_timer(stage: Batches) -> None:
    stage.store(1)
    stage.system.end_sync()
    stage.system.run(STUCK_MS)
    assert stage.system.due_ms == []


@pytest.mark.parametrize("is_stuck_longer", [True, False])
def test_writes_are_taken_again_only_when_neither_engine_nor_disk_is_in_trouble(
    stage: Batches, *, is_stuck_longer: bool
) -> None:
    stage.store(1)
    stage.system.run(STUCK_MS)
    stage.engine.refusal = FULL
    stage.store(2)
    full = StorageState("disk_full", str(FULL))
    assert stage.states == [STUCK, full]
    if is_stuck_longer:
        stage.engine.refusal = None
        stage.system.run(FULL_RETRY_MS)
        assert stage.states == [STUCK, full, STUCK]
        stage.system.end_sync()
        assert stage.states == [STUCK, full, STUCK, WELL]
    else:
        stage.system.end_sync()
        assert (stage.states, stage.marks) == ([STUCK, full], [1])
        stage.engine.refusal = None
        stage.system.run(FULL_RETRY_MS)
        assert stage.states == [STUCK, full, WELL]
    stage.system.end_sync()
    assert stage.marks == [1, 2]
    assert stage.states[-1] == WELL
