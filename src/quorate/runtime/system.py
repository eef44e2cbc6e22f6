# SPDX-License-Identifier: GPL-3.0-or-later
"""`host.system.System` on asyncio: loop, sockets, clocks, and a thread that waits for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final, cast

import structlog

from quorate.core.values.events import Instant, Note
from quorate.host.system import Channel, Dialled, Proof, Timer
from quorate.runtime.process import LINES
from quorate.runtime.resolve import Names, NotDialled
from quorate.runtime.sockets import tune

if TYPE_CHECKING:
    from quorate.security.contexts import Trust

OnSynced = Callable[[BaseException | None], None]


class SyncThread:
    """Calls `sync`, which blocks, when asked to. An executor would cost more than the rest of a
    turn for each sync, and would have the process wait for one that never ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sync: Callable[[], None]) -> None:
        self._loop = loop
        self._sync = sync
        self._asked: SimpleQueue[OnSynced | None] = SimpleQueue()
        self.ask: Final[Callable[[OnSynced], None]] = self._asked.put
        """Sync, then call `done` on the loop with what went wrong, if anything."""
        Thread(target=self._run, name="sync", daemon=True).start()

    def close(self) -> None:
        """End the thread once what it was asked is done, which may be never."""
        self._asked.put(None)

    def _run(self) -> None:
        while (done := self._asked.get()) is not None:
            error: BaseException | None = None
            try:
                self._sync()
            except BaseException as failure:
                error = failure
            # The loop may have ended while the disk took its time: nobody to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(done, error)


log = structlog.get_logger()

_PLAIN: Final = Proof(
    silence="it ends each connection before it greets: it may take links inside TLS alone; give "
    "this node the cluster's secret (-secret-file)"
)


class AsyncioSystem:
    """The running loop and what is around it. `on_end` is told why the node cannot go on. `trust`
    is what links to peers go by, asked for each; None: they are plain."""

    def __init__(
        self,
        *,
        own_url: str,
        sync: Callable[[], None],
        on_end: Callable[[str], None],
        trust: Callable[[], Trust | None] = lambda: None,
    ) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._names = Names(own_url)
        self._thread = SyncThread(self._loop, sync)
        self.soon: Final = self._loop.call_soon
        self.sync: Final = self._thread.ask
        self.tune: Final = tune
        self.end: Final = on_end
        self._trust: Final = trust

    def now(self) -> Instant:
        """Part of `System`."""
        return Instant(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        """Part of `System`."""
        return self._loop.call_later(ms / 1000, call)

    def dial(self, url: str, connection: Dialled) -> Timer:
        """Part of `System`."""
        task = self._loop.create_task(self._dial(url, connection))
        task.add_done_callback(_report)
        return task

    def is_plain(self) -> bool:
        """Whether links to peers are."""
        trust = self._trust()
        return trust is None or trust.dialling is None

    def proof(self, channel: Channel) -> Proof:
        """Part of `System`."""
        if self.is_plain():
            return _PLAIN
        from quorate.runtime.proving import proof_of  # Late: nodes without TLS need none of it.

        return proof_of(channel)

    def log(self, note: Note) -> None:
        """Part of `System`."""
        lost = LINES.lost
        getattr(log, note.level)(note.event, **note.facts)
        if LINES.lost != lost:
            raise OSError("the line could not be written")

    def fault(self, what: str, error: Exception) -> None:
        """Part of `System`."""
        log.error(what, exc_info=error)

    def close(self) -> None:
        """End the thread."""
        self._thread.close()

    async def _dial(self, url: str, connection: Dialled) -> None:
        """Connect to the first of the peer's addresses that takes it."""
        why = ""
        try:
            for host, port in await self._names.resolve(url):
                try:
                    await self._connect(host, port, connection)
                except NotDialled:
                    raise
                except OSError:
                    continue
                return
        except NotDialled as error:
            why = str(error)
        except OSError:
            # Not there, too slow, or gone: the usual case.
            pass
        connection.dial_failed(why)

    async def _connect(self, host: str, port: int, connection: Dialled) -> None:
        """Connect to one address. OSError if nobody is there; NotDialled if the two do not trust
        each other."""
        trust = self._trust()
        if trust is None or trust.dialling is None:
            await self._loop.create_connection(
                lambda: cast(asyncio.Protocol, connection), host, port
            )
            return
        from quorate.runtime.proving import connect  # Late: nodes without TLS need none of it.

        await connect(host, port, connection, trust)


def _report(task: asyncio.Task[None]) -> None:
    """Have the loop hear of a fault in a dial when it happens, and not when the task is dropped."""
    if not task.cancelled() and task.exception() is not None:
        context = {"message": "a dial raised", "exception": task.exception(), "task": task}
        task.get_loop().call_exception_handler(context)
