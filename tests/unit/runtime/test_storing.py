# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches that the engine does not take, and what the node and the log hear of it (RELIABILITY 72,
N14; S24)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from quorate.core.values.events import StorageState
from quorate.errors import Corrupt, DiskFull, StorageBusy
from quorate.runtime import storing
from quorate.runtime.storing import Storing
from tests.unit.runtime.conftest import Run
from tests.unit.runtime.fakes import FakeEngine, batch, until

BUSY = StorageBusy("write stall")
FULL = DiskFull("no space left but the reserve")


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "FULL_RETRY_S", 0.01)
    monkeypatch.setattr(storing, "CALM_S", 0.02)


class Heard:
    """Keeps what is told of batches."""

    def __init__(self) -> None:
        self.marks: list[int] = []
        self.states: list[StorageState] = []
        self.failures: list[str] = []

    def on_durable(self, mark: int) -> None:
        self.marks.append(mark)

    def on_storage_state(self, state: StorageState) -> None:
        self.states.append(state)

    def on_storage_failed(self, reason: str) -> None:
        self.failures.append(reason)

    @property
    def codes(self) -> list[str]:
        """Of the states told."""
        return [state.code for state in self.states]


@contextmanager
def storing_in(
    engine: FakeEngine, *, stuck_after_s: float = 60.0, waiting_bytes_max: int = 1 << 30
) -> Iterator[tuple[Storing, Heard]]:
    heard = Heard()
    made = Storing(engine, heard, stuck_after_s=stuck_after_s, waiting_bytes_max=waiting_bytes_max)
    yield made, heard
    made.close()


def test_a_batch_is_durable_at_once_without_syncs_and_after_one_with_them(run: Run) -> None:
    async def main() -> None:
        with storing_in(FakeEngine(needs_sync=False)) as (given, heard):
            assert given.store(batch(1), 1)
        engine = FakeEngine()
        engine.gate.clear()
        with storing_in(engine) as (given, heard):
            assert not given.store(batch(1), 1)
            await until(lambda: engine.syncs == 1)
            assert heard.marks == []
            engine.gate.set()
            await until(lambda: heard.marks == [1])
            assert heard.states == []

    run(main())


@pytest.mark.parametrize("needs_sync", [True, False])
@pytest.mark.parametrize("refusal", [BUSY, FULL], ids=["busy", "full"])
def test_what_the_engine_does_not_take_waits_in_order(
    run: Run, refusal: StorageBusy | DiskFull, *, needs_sync: bool
) -> None:
    async def main() -> None:
        engine = FakeEngine(needs_sync=needs_sync)
        engine.refusal = refusal
        with storing_in(engine) as (given, heard):
            for mark in range(1, 5):
                assert not given.store(batch(mark), mark)
            assert heard.states == [StorageState(refusal.code, str(refusal))]
            engine.refusal = None
            # Not before those that wait, though the engine would take it.
            assert not given.store(batch(5), 5)
            await until(lambda: heard.marks[-1:] == [5])
            assert engine.rows == [b"row-%d" % mark for mark in range(1, 6)]
            assert heard.states[1:] == [StorageState()]
            assert given.store(batch(6), 6) is not needs_sync

    run(main())


def test_waiting_batches_are_merged_up_to_a_size_and_leave_the_node_its_lists(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "MERGED_BYTES_MAX", 10_000)

    async def main() -> None:
        engine = FakeEngine()
        engine.refusal = BUSY
        with storing_in(engine) as (given, heard):
            first = batch(1)
            given.store(first, 1)
            for mark in range(2, 101):
                given.store(batch(mark, size=300), mark)
            assert len(first.records) == 1
            engine.refusal = None
            await until(lambda: heard.marks[-1:] == [100])
            assert engine.rows == [b"row-%d" % mark for mark in range(1, 101)]
            assert 5 <= engine.writes <= 10

    run(main())


def test_more_than_the_stated_maximum_may_not_wait(run: Run) -> None:
    """P7."""

    async def main() -> None:
        engine = FakeEngine()
        engine.refusal = FULL
        with storing_in(engine, waiting_bytes_max=10_000) as (given, heard):
            given.store(batch(1, size=9_000), 1)
            assert heard.failures == []
            given.store(batch(2, size=1_000), 2)
            assert heard.failures == ["more than 10000 bytes wait for the storage engine"]
            engine.refusal = None
            await until(lambda: engine.syncs >= 1)
            assert engine.rows == []

    run(main())


def test_room_is_counted_again_once_the_engine_has_taken_what_waited(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine()
        with storing_in(engine, waiting_bytes_max=10_000) as (given, heard):
            for mark in range(1, 5):
                engine.refusal = BUSY
                given.store(batch(mark, size=9_000), mark)
                engine.refusal = None
                await until(lambda mark=mark: heard.marks[-1:] == [mark])  # type: ignore[misc]
            assert heard.failures == []

    run(main())


def test_another_kind_of_trouble_is_told(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.refusal = BUSY
        with storing_in(engine) as (given, heard):
            given.store(batch(1), 1)
            engine.refusal = FULL
            await until(lambda: len(heard.states) == 2)
            engine.refusal = None
            await until(lambda: len(heard.states) == 3)
            assert heard.codes == ["storage_busy", "disk_full", ""]

    run(main())


def test_a_broken_engine_ends_it_at_once_or_on_a_later_try(run: Run) -> None:
    async def main() -> None:
        for refusal in (None, BUSY):
            engine = FakeEngine()
            engine.refusal = refusal
            with storing_in(engine) as (given, heard):
                if refusal is not None:
                    given.store(batch(1), 1)
                engine.refusal = Corrupt("bad block")
                if refusal is None:
                    given.store(batch(1), 1)
                await until(lambda heard=heard: heard.failures)  # type: ignore[misc]
                assert heard.failures == ["the storage engine failed: bad block"]
                assert heard.marks == []

    run(main())


def test_an_error_that_no_engine_should_raise_ends_it_on_a_later_try_too(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.refusal = BUSY
        with storing_in(engine) as (given, heard):
            given.store(batch(1), 1)
            engine.refusal = MemoryError()
            await until(lambda: heard.failures)
            assert heard.failures == ["the storage engine failed: MemoryError()"]

    run(main())


def test_a_full_disk_is_synced_meanwhile_which_is_where_an_engine_gets_over_it(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine(needs_sync=False)
        engine.refusal = FULL
        with storing_in(engine) as (given, heard):
            given.store(batch(1), 1)
            await until(lambda: engine.syncs >= 3)
            assert heard.marks == []

    run(main())


def test_a_sync_that_takes_longer_than_a_request_may_refuses_writes_until_it_is_done(
    run: Run,
) -> None:
    """S24."""

    async def main() -> None:
        engine = FakeEngine()
        engine.gate.clear()
        with storing_in(engine, stuck_after_s=0.02) as (given, heard):
            given.store(batch(1), 1)
            await until(lambda: heard.states)
            reason = "the disk has not confirmed a sync for 0.02 s"
            assert heard.states == [StorageState("storage_busy", reason)]
            engine.gate.set()
            await until(lambda: heard.marks == [1])
            assert heard.codes == ["storage_busy", ""]

    run(main())


@pytest.mark.parametrize("is_stuck_longer", [True, False])
def test_writes_are_taken_again_only_when_neither_engine_nor_disk_is_in_trouble(
    run: Run, *, is_stuck_longer: bool
) -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.gate.clear()
        with storing_in(engine, stuck_after_s=0.02) as (given, heard):
            given.store(batch(1), 1)
            await until(lambda: heard.codes == ["storage_busy"])
            engine.refusal = FULL
            given.store(batch(2), 2)
            assert heard.codes == ["storage_busy", "disk_full"]
            if is_stuck_longer:
                engine.refusal = None
                await until(lambda: len(heard.states) == 3)
                assert "not confirmed" in heard.states[2].reason
                engine.gate.set()
            else:
                engine.gate.set()
                await until(lambda: heard.marks == [1])
                assert len(heard.states) == 2
                engine.refusal = None
            await until(lambda: heard.marks == [1, 2])
            assert heard.codes[-1] == ""

    run(main())


def test_a_shower_of_stalls_is_two_lines_in_the_log(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        engine = FakeEngine()
        # However slow the machine, the shower is over when the test says so.
        monkeypatch.setattr(storing, "CALM_S", 3600)
        with capture_logs() as lines, storing_in(engine) as (given, heard):
            for mark in range(1, 6):
                if mark == 5:
                    monkeypatch.setattr(storing, "CALM_S", 0)
                engine.refusal = BUSY
                given.store(batch(mark), mark)
                engine.refusal = None
                await until(lambda mark=mark: heard.marks[-1:] == [mark])  # type: ignore[misc]
            assert heard.codes == ["storage_busy", ""] * 5
            await until(lambda: len(lines) >= 2)
        told = [line["event"] for line in lines]
        assert told == ["storage_refuses_writes", "storage_takes_writes"]

    run(main())


def test_nothing_is_tried_or_told_after_close(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.refusal = BUSY
        with storing_in(engine) as (given, heard):
            given.store(batch(1), 1)
            given.close()
            engine.refusal = None
            other = FakeEngine()
            other.refusal = BUSY
            with storing_in(other) as (later, heard_later):
                later.store(batch(1), 1)
                other.refusal = None
                await until(lambda: heard_later.marks == [1])
        assert (engine.writes, heard.codes, heard.marks) == (0, ["storage_busy"], [])

    run(main())
