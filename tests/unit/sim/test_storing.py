# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches go to the disk as `runtime.storing` and `runtime.sync` take them there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.core.values.events import Batch, Durable, Event, StorageState
from quorate.sim.disk import Disk
from quorate.sim.storing import FULL_RETRY_MS, Storing
from quorate.sim.world import World

STUCK_MS = 1_000.0
BATCH_BYTES = 202
"""Of those that are stored here: an entry, its name and value."""
WAITING_BYTES_MAX = 6 * BATCH_BYTES


class Process:
    """A process that keeps what it is told."""

    def __init__(self, *, needs_sync: bool = True) -> None:
        self.world = World(1)
        self.disk = Disk(needs_sync=needs_sync)
        self.sync_ms = 10.0
        self.stalled_until_ms = 0.0
        self.has_sync_error = False
        self.events: list[Event] = []
        self.ended = ""
        self.storing = Storing(
            self.disk,
            self.disk,
            self,
            now=lambda: self.world.now,
            stuck_after_ms=STUCK_MS,
            waiting_bytes_max=WAITING_BYTES_MAX,
        )

    def receive(self, event: Event) -> None:
        self.events.append(event)

    def later(self, ms: float, call: Callable[[], None]) -> None:
        self.world.after(ms, lambda: None if self.ended else call())

    def end(self, reason: str) -> None:
        self.ended = reason

    def draw_sync_ms(self) -> float:
        return self.sync_ms

    def stalled_ms(self) -> float:
        return max(0.0, self.stalled_until_ms - self.world.now)

    def takes_sync_error(self) -> bool:
        return self.has_sync_error

    def store(self, mark: int) -> bool:
        return self.storing.store(Batch([], [], [(b"%d" % mark, b"v")]), mark)

    def run(self, ms: float) -> None:
        self.world.run_to(self.world.now + ms)

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def codes(self) -> list[str]:
        """Of the storage states it was told since last asked."""
        return [event.code for event in self.take() if isinstance(event, StorageState)]


@pytest.fixture
def process() -> Process:
    return Process()


def test_one_sync_covers_all_that_was_written_before_it_began(process: Process) -> None:
    """As in `runtime.sync`: marks 2 and 3 wait for one sync, which begins when the first ends."""
    assert not process.store(1)
    process.run(5)
    process.store(2)
    process.store(3)
    process.run(6)
    assert process.take() == [Durable(1)]
    process.run(8)
    assert process.take() == []
    process.run(2)
    assert process.take() == [Durable(3)]


def test_nothing_is_reported_durable_that_a_crash_could_lose(process: Process) -> None:
    process.store(1)
    process.run(5)
    process.store(2)
    process.run(6)
    assert process.take() == [Durable(1)]
    process.disk.crash(process.world.generator("power"))
    assert process.disk.get_meta(b"1") is not None


def test_a_disk_that_needs_no_sync_is_durable_at_once() -> None:
    process = Process(needs_sync=False)
    assert process.store(1)
    process.run(100)
    assert process.take() == []


def test_a_full_disk_is_told_once_and_takes_what_waited_in_order_when_it_has_room(
    process: Process,
) -> None:
    process.disk.is_full = True
    for mark in (1, 2, 3, 4):
        assert not process.store(mark)
    process.run(2_000)
    assert process.codes() == ["disk_full"]
    assert process.disk.written == 0
    process.disk.is_full = False
    process.store(5)
    process.run(FULL_RETRY_MS + process.sync_ms)
    assert process.take() == [StorageState(), Durable(5)]
    assert [process.disk.get_meta(b"%d" % mark) for mark in range(1, 6)] == [b"v"] * 5


def test_batches_that_waited_for_a_disk_without_sync_become_durable_in_order() -> None:
    process = Process(needs_sync=False)
    process.disk.is_busy = True
    for mark in (1, 2, 3):
        process.store(mark)
    process.disk.is_busy = False
    process.run(10)
    busy, *rest = process.take()
    assert isinstance(busy, StorageState)
    assert busy.code == "storage_busy"
    assert rest == [Durable(3), StorageState()]


def test_more_bytes_than_may_wait_end_the_process_and_nothing_of_them_is_stored(
    process: Process,
) -> None:
    """As in `runtime.storing`; what was stored is given back, and counts no more."""
    for _ in range(2):
        process.disk.is_busy = True
        for mark in (1, 2, 3, 4, 5, 6):
            process.store(mark)
        assert not process.ended
        process.disk.is_busy = False
        process.run(100)
    process.disk.is_busy = True
    for mark in (1, 2, 3, 4, 5, 6, 7):
        process.store(mark)
    assert process.ended == f"more than {WAITING_BYTES_MAX} bytes wait for the storage engine"
    written = process.disk.written
    process.disk.is_busy = False
    process.run(100)
    assert process.disk.written == written


def test_a_batch_that_is_too_large_to_wait_ends_the_process(process: Process) -> None:
    process.disk.is_full = True
    process.storing.store(Batch([], [(b"h", bytes(WAITING_BYTES_MAX))], []), 1)
    assert "bytes wait for the storage engine" in process.ended
    assert process.codes() == []


def test_an_error_that_is_final_ends_the_process(process: Process) -> None:
    process.disk.is_broken = True
    process.store(1)
    assert "the storage engine failed" in process.ended


def test_a_failed_sync_ends_the_process_and_nothing_is_reported(process: Process) -> None:
    process.has_sync_error = True
    process.store(1)
    process.run(100)
    assert "did not confirm a sync" in process.ended
    assert process.take() == []


def test_a_stall_that_begins_during_a_sync_is_told_when_it_lasts_too_long(
    process: Process,
) -> None:
    process.store(1)
    process.stalled_until_ms = 5_000
    process.run(STUCK_MS - 1)
    assert process.take() == []
    process.run(2)
    assert process.codes() == ["storage_busy"]
    process.run(4_100)
    assert process.take() == [StorageState(), Durable(1)]


def test_a_sync_that_is_too_slow_is_told_once(process: Process) -> None:
    process.sync_ms = 3_000
    process.store(1)
    process.run(2_900)
    assert process.codes() == ["storage_busy"]
    process.run(200)
    assert process.take() == [StorageState(), Durable(1)]


def test_a_stall_shorter_than_the_limit_delays_and_is_not_told(process: Process) -> None:
    process.store(1)
    process.stalled_until_ms = STUCK_MS / 2
    process.run(STUCK_MS / 2 - 1)
    assert process.take() == []
    process.run(2)
    assert process.take() == [Durable(1)]
    process.run(5_000)
    assert process.take() == []
