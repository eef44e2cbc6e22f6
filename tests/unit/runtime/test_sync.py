# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that waits for the disk."""

from __future__ import annotations

import asyncio
import threading

from quorate.errors import StorageError
from quorate.runtime.system import SyncThread
from tests.unit.conftest import Run
from tests.unit.runtime.fakes import FakeDisk, until


class Heard:
    """Keeps what went wrong, or did not, and on which thread that was told."""

    def __init__(self) -> None:
        self.errors: list[BaseException | None] = []
        self.threads: list[threading.Thread] = []

    def done(self, error: BaseException | None) -> None:
        self.errors.append(error)
        self.threads.append(threading.current_thread())


def thread_of(disk: FakeDisk) -> SyncThread:
    return SyncThread(asyncio.get_running_loop(), disk.sync)


def test_the_disk_is_waited_for_on_a_thread_and_its_end_told_on_the_loop(run: Run) -> None:
    async def main() -> None:
        disk, heard = FakeDisk(), Heard()
        disk.gate.clear()
        thread = thread_of(disk)
        thread.ask(heard.done)
        await until(lambda: disk.syncs == 1)
        assert heard.errors == []
        disk.gate.set()
        await until(lambda: heard.errors == [None])
        thread.ask(heard.done)
        await until(lambda: heard.errors == [None, None])
        assert disk.syncs == 2
        assert {*heard.threads} == {threading.current_thread()}
        assert len({*disk.threads}) == 1
        assert threading.current_thread() not in disk.threads
        thread.close()

    run(main())


def test_what_went_wrong_is_handed_over_whatever_it_is_and_the_thread_goes_on(run: Run) -> None:
    async def main() -> None:
        disk, heard = FakeDisk(), Heard()
        thread = thread_of(disk)
        for error in (StorageError("Input/output error"), ValueError("odd"), SystemExit(1), None):
            disk.error = error
            thread.ask(heard.done)
            await until(lambda error=error: heard.errors and heard.errors[-1] is error)  # type: ignore[misc]
        assert len(heard.errors) == 4
        thread.close()

    run(main())


def test_the_thread_ends_when_it_is_closed(run: Run) -> None:
    async def main() -> None:
        disk, heard = FakeDisk(), Heard()
        thread = thread_of(disk)
        thread.ask(heard.done)
        thread.close()
        await until(lambda: heard.errors == [None])
        await until(lambda: not disk.threads[0].is_alive())

    run(main())


def test_a_disk_that_never_ends_a_sync_holds_up_neither_close_nor_the_loop(run: Run) -> None:
    disk, heard = FakeDisk(), Heard()
    disk.gate.clear()

    async def main() -> None:
        thread = thread_of(disk)
        thread.ask(heard.done)
        await until(lambda: disk.syncs == 1)
        thread.close()

    run(main())
    (thread,) = disk.threads
    # A process does not wait for it either.
    assert thread.daemon
    assert thread.is_alive()
    disk.gate.set()
    # The loop has ended: there is nobody to tell, and that is no fault.
    thread.join()
    assert heard.errors == []
