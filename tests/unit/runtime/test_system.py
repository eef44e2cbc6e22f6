# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs of `host.system.System` on a real loop: time, connections, the log."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from quorate.core.values.events import Note
from quorate.errors import StorageError
from quorate.runtime.resolve import Names
from quorate.runtime.system import AsyncioSystem
from tests.unit.conftest import Run
from tests.unit.runtime.fakes import FakeConnection, FakeDisk, until

HERE, THERE = "http://127.0.0.1:8000", "http://10.0.0.1:8000"


def system_of(*, own_url: str = HERE, disk: FakeDisk | None = None) -> AsyncioSystem:
    ends: list[str] = []
    return AsyncioSystem(own_url=own_url, sync=(disk or FakeDisk()).sync, on_end=ends.append)


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


# --- time --------------------------------------------------------------------------------------


def test_the_time_is_told_in_milliseconds_of_both_clocks(run: Run) -> None:
    async def main() -> None:
        system = system_of()
        before = time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000
        now = system.now()
        after = time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000
        assert before[0] <= now.mono_ms <= after[0]
        assert before[1] <= now.wall_ms <= after[1]
        system.close()

    run(main())


def test_calls_are_made_soon_or_later_and_not_if_they_were_cancelled(run: Run) -> None:
    async def main() -> None:
        system = system_of()
        made: list[str] = []
        done = asyncio.Event()
        began = time.monotonic_ns()
        system.soon(lambda: made.append("soon"))
        system.later(0, lambda: made.append("at once")).cancel()
        system.later(10, lambda: made.append("cancelled")).cancel()
        system.later(40, done.set)
        system.later(20, lambda: made.append("later"))
        assert made == []
        await done.wait()
        assert made == ["soon", "later"]
        # A loop's timers may be early by its resolution, and uvloop's clock by a millisecond.
        assert time.monotonic_ns() - began >= 38_000_000
        system.close()

    run(main())


# --- the disk, the end -------------------------------------------------------------------------


def test_the_engine_is_synced_on_its_thread_and_what_went_wrong_is_told(run: Run) -> None:
    async def main() -> None:
        disk = FakeDisk()
        system = system_of(disk=disk)
        errors: list[BaseException | None] = []
        system.sync(errors.append)
        await until(lambda: errors == [None])
        disk.error = StorageError("Input/output error")
        system.sync(errors.append)
        await until(lambda: errors == [None, disk.error])
        system.close()
        await until(lambda: not disk.threads[0].is_alive())

    run(main())


def test_the_end_is_told_with_its_reason(run: Run) -> None:
    async def main() -> None:
        ends: list[str] = []
        system = AsyncioSystem(own_url=HERE, sync=FakeDisk().sync, on_end=ends.append)
        system.end("the disk failed")
        assert ends == ["the disk failed"]
        system.close()

    run(main())


# --- connections -------------------------------------------------------------------------------


def test_a_peer_that_is_there_is_connected_to(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        system, mine, port = system_of(), FakeConnection(), next(ports)
        theirs: list[FakeConnection] = []

        def accept() -> asyncio.Protocol:
            theirs.append(FakeConnection())
            return theirs[-1]  # type: ignore[return-value]

        server = await loop.create_server(accept, "127.0.0.1", port)
        system.dial(url_of(port), mine)
        await until(lambda: mine.channel is not None and theirs)
        assert mine.channel is not None
        system.tune(mine.channel)
        sock: socket.socket = mine.channel.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert mine.channel.get_extra_info("peername") == ("127.0.0.1", port)
        mine.channel.write(b"hello")
        await until(lambda: theirs[0].received == b"hello")
        mine.channel.close()
        assert mine.channel.is_closing()
        await until(lambda: mine.losses and theirs[0].losses)
        assert mine.failures == []
        server.close()
        await server.wait_closed()
        system.close()

    run(main())


def test_a_peer_that_is_not_there_is_a_dial_that_failed(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        system = system_of()
        for url in (url_of(next(ports)), "http://no.such.name.invalid:80", "no URL at all"):
            mine = FakeConnection()
            system.dial(url, mine)
            await until(lambda mine=mine: mine.failures)  # type: ignore[misc]
            # Nothing to tell of it: peers come and go.
            assert (mine.failures, mine.channel) == ([""], None)
        system.close()

    run(main())


def test_the_next_address_of_a_peer_is_tried_where_nobody_is_at_one(
    run: Run, ports: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody, somebody = next(ports), next(ports)

    async def resolve(names: Names, url: str) -> list[tuple[str, int]]:
        assert (url, names._own_url) == ("http://two.example:1", HERE)
        return [("127.0.0.1", nobody), ("127.0.0.1", somebody), ("127.0.0.1", nobody)]

    monkeypatch.setattr(Names, "resolve", resolve)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", somebody)
        system, mine = system_of(), FakeConnection()
        system.dial("http://two.example:1", mine)
        await until(lambda: mine.channel)
        assert mine.channel is not None
        mine.channel.abort()
        await until(lambda: mine.losses)
        assert mine.failures == []
        server.close()
        await server.wait_closed()
        system.close()

    run(main())


def test_what_is_never_dialled_is_told_with_the_reason(run: Run, ports: Iterator[int]) -> None:

    async def main() -> None:
        with socket.create_server(("127.0.0.1", next(ports))) as bystander:
            bystander.setblocking(False)
            system, mine = system_of(own_url=THERE), FakeConnection()
            system.dial(url_of(bystander.getsockname()[1]), mine)
            await until(lambda: mine.failures)
            assert mine.failures == ["no peer is dialled at 127.0.0.1"]
            assert mine.channel is None
            with pytest.raises(BlockingIOError):
                bystander.accept()
            system.close()

    run(main())


def test_a_dial_that_is_cancelled_tells_nothing_any_more(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        port = next(ports)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", port)
        system = system_of()
        before, during, gone = FakeConnection(), FakeConnection(), FakeConnection()
        system.dial(url_of(port), before).cancel()
        dial = system.dial(url_of(port), during)
        await asyncio.sleep(0)
        dial.cancel()
        there = FakeConnection()
        system.dial(url_of(port), there)
        nobody = system.dial(url_of(next(ports)), gone)
        await until(lambda: there.channel and gone.failures)
        # No fault if it is too late.
        nobody.cancel()
        for each in (before, during):
            assert (each.channel, each.failures) == (None, [])
        assert there.channel is not None
        there.channel.abort()
        await until(lambda: there.losses)
        server.close()
        await server.wait_closed()
        system.close()

    run(main())


# --- the log -----------------------------------------------------------------------------------


def test_notes_are_lines_of_the_log_and_so_are_faults(run: Run) -> None:
    async def main() -> None:
        system = system_of()
        error = RuntimeError("invariant")
        with capture_logs() as lines:
            system.log(Note("warning", "peer_down", {"peer": THERE}))
            system.log(Note("info", "storage_takes_writes", {}))
            system.fault("internal_fault", error)
        assert lines == [
            {"log_level": "warning", "event": "peer_down", "peer": THERE},
            {"log_level": "info", "event": "storage_takes_writes"},
            {"log_level": "error", "event": "internal_fault", "exc_info": error},
        ]
        system.close()

    run(main())
