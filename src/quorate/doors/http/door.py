# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP door as the app holds it: start, a factory of connections, stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from quorate.doors.budget import ByteBudget
from quorate.doors.http.fast import FastConnection, FastLane
from quorate.doors.http.hosts import Hosts
from quorate.doors.http.kv import Answers
from quorate.host.store import Store

if TYPE_CHECKING:
    from aiohttp.web import AppRunner

_SHUTDOWN_SECONDS: Final = 5.0
"""How long a request may go on once the door stops."""


class HttpDoor:
    """Serves HTTP on the connections that the listener hands it."""

    def __init__(
        self,
        store: Store,
        *,
        bodies: ByteBudget,
        is_on_loopback: bool,
        door_counts: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._store = store
        self._bodies = bodies
        self._is_on_loopback = is_on_loopback
        self._door_counts = door_counts
        self._lane: FastLane | None = None
        self._runner: AppRunner | None = None

    async def start(self) -> None:
        """Get ready to serve; `connection` may be called from then on."""
        # aiohttp takes 0.3 s to import: only a node that serves pays for it.
        from aiohttp.web import AppRunner

        from quorate.doors.http.app import build_app, connection_factory
        from quorate.doors.http.context import Context

        store = self._store
        hosts = Hosts(is_on_loopback=self._is_on_loopback, own_url=store.status().url)
        answers = Answers(store)
        context = Context(store, answers, self._bodies, hosts, self._door_counts)
        self._runner = AppRunner(
            build_app(context), handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._lane = FastLane(
            store,
            answers,
            full_service=connection_factory(self._runner.server),
            hosts=hosts,
            bodies=self._bodies,
        )

    def connection(self) -> FastConnection:
        """The protocol of a new connection."""
        assert self._lane is not None, "start comes first"
        return self._lane.connection()

    async def stop(self) -> None:
        """Finish what aiohttp is answering and close its connections; those of the fast lane are
        the listener's to close."""
        if self._lane is not None:
            self._lane.close()
        if self._runner is not None:
            await self._runner.cleanup()
