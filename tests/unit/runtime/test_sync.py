# SPDX-License-Identifier: GPL-3.0-or-later
"""Group commit: what a sync covers, what becomes of a failed or a stuck one (RELIABILITY 72)."""

from __future__ import annotations

from quorate.errors import StorageError
from quorate.runtime.sync import Syncer
from tests.unit.runtime.conftest import Run
from tests.unit.runtime.fakes import FakeEngine, turns, until


class Heard:
    """Keeps what a syncer tells."""

    def __init__(self) -> None:
        self.marks: list[int] = []
        self.stuck: list[bool] = []
        self.errors: list[str] = []

    def on_synced(self, mark: int) -> None:
        self.marks.append(mark)

    def on_stuck(self, *, is_stuck: bool) -> None:
        self.stuck.append(is_stuck)

    def on_sync_error(self, reason: str) -> None:
        self.errors.append(reason)


def syncer_of(engine: FakeEngine, *, stuck_after_s: float = 60.0) -> tuple[Syncer, Heard]:
    heard = Heard()
    return Syncer(engine, heard, stuck_after_s=stuck_after_s), heard


async def time_for_syncs() -> None:
    """As long as another syncer takes for many."""
    syncer, heard = syncer_of(FakeEngine())
    for mark in range(1, 20):
        syncer.sync(mark)
        await until(lambda mark=mark: heard.marks[-1:] == [mark])  # type: ignore[misc]
    syncer.close()


def test_marks_of_one_sync_are_reported_once_and_those_that_came_during_it_with_the_next(
    run: Run,
) -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.gate.clear()
        syncer, heard = syncer_of(engine)
        syncer.sync(1)
        await until(lambda: engine.syncs == 1)
        for mark in (2, 3, 4):
            syncer.sync(mark)
        await turns()
        assert (engine.syncs, heard.marks) == (1, [])
        engine.gate.set()
        await until(lambda: heard.marks == [1, 4])
        assert engine.syncs == 2
        syncer.close()

    run(main())


def test_a_sync_that_no_mark_waits_for_reports_nothing(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine()
        syncer, heard = syncer_of(engine)
        syncer.sync(1)
        await until(lambda: heard.marks == [1])
        syncer.sync_once()
        await until(lambda: engine.syncs == 2)
        syncer.sync(2)
        await until(lambda: heard.marks == [1, 2])
        syncer.close()

    run(main())


def test_a_failed_sync_is_final_and_never_tried_again(run: Run) -> None:
    """RELIABILITY 72: EIO on fsync."""

    async def main() -> None:
        engine = FakeEngine()
        engine.gate.clear()
        engine.sync_error = StorageError("Input/output error")
        syncer, heard = syncer_of(engine)
        syncer.sync(1)
        syncer.sync(2)
        engine.gate.set()
        await until(lambda: heard.errors)
        assert heard.errors == ["the disk did not confirm a sync: Input/output error"]
        syncer.sync(3)
        syncer.sync_once()
        await time_for_syncs()
        assert (engine.syncs, heard.marks, len(heard.errors)) == (1, [], 1)

    run(main())


def test_an_error_that_no_engine_should_raise_is_as_final(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.sync_error = ValueError("odd")
        syncer, heard = syncer_of(engine)
        syncer.sync(1)
        await until(lambda: heard.errors)
        assert "ValueError('odd')" in heard.errors[0]

    run(main())


def test_a_sync_that_takes_too_long_is_told_and_so_is_its_end(run: Run) -> None:
    """S24: storage is stuck."""

    async def main() -> None:
        engine = FakeEngine()
        engine.gate.clear()
        syncer, heard = syncer_of(engine, stuck_after_s=0.02)
        syncer.sync(1)
        await until(lambda: heard.stuck == [True])
        assert heard.marks == []
        engine.gate.set()
        await until(lambda: heard.marks == [1])
        assert heard.stuck == [True, False]
        syncer.close()

    run(main())


def test_many_short_syncs_are_not_taken_for_a_long_one(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine()
        syncer, heard = syncer_of(engine, stuck_after_s=0.2)
        for mark in range(1, 100):
            syncer.sync(mark)
            await until(lambda mark=mark: heard.marks[-1:] == [mark])  # type: ignore[misc]
        engine.gate.clear()
        syncer.sync(100)
        await until(lambda: heard.stuck == [True])
        engine.gate.set()
        await until(lambda: heard.marks[-1:] == [100])
        syncer.close()

    run(main())


def test_closing_does_not_wait_and_nothing_is_begun_or_told_after_it(run: Run) -> None:
    async def main() -> None:
        engine = FakeEngine()
        engine.gate.clear()
        syncer, heard = syncer_of(engine, stuck_after_s=0.01)
        syncer.sync(1)
        await until(lambda: engine.syncs == 1)
        syncer.sync(2)
        syncer.close()
        engine.gate.set()
        syncer.sync(3)
        await time_for_syncs()
        assert engine.syncs == 1
        assert (heard.marks, heard.stuck, heard.errors) == ([], [], [])

    run(main())
