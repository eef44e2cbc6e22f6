# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis door on a port, in a thread of its own, over a store or over a whole single node."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from random import Random
from typing import Self, TypeVar, cast

import uvloop

from quorate.config import Config
from quorate.doors.limits import ByteBudget, Timers
from quorate.doors.principals import Principals
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.session import RespDoor
from quorate.host.driver import Driver
from quorate.host.store import Store
from quorate.runtime.system import AsyncioSystem
from quorate.settings import core_settings
from quorate.storage.memory import MemoryEngine
from tests.fake_store import FakeStore
from tests.principals import open_principals

WAIT_SECONDS = 10.0
Value = TypeVar("Value")


class RespServed:
    """The door over the store that `make_store` makes for an address, until the `with` ends."""

    def __init__(
        self,
        make_store: Callable[[str], Store],
        *,
        loop: str,
        make_principals: Callable[[Timers], Principals] = open_principals,
    ) -> None:
        self._make_store = make_store
        self._make_principals = make_principals
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connections: list[RespConnection] = []
        """Every connection ever made, in order."""
        self._loop = uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(WAIT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(WAIT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def call(self, function: Callable[[], Value]) -> Value:
        """The result of `function` called on the loop's thread."""
        future: Future[Value] = Future()
        self._loop.call_soon_threadsafe(lambda: future.set_result(function()))
        return future.result(WAIT_SECONDS)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, asked on the loop's thread; fails when it does not come true."""
        asyncio.run_coroutine_threadsafe(_until(condition), self._loop).result(WAIT_SECONDS)

    async def _start(self) -> None:
        self.store = self._make_store(f"http://127.0.0.1:{self.port}")
        self.bodies = ByteBudget(self.store.config.inflight_bytes_max)
        self.replies = ByteBudget(self.store.config.reply_bytes_max)
        self.door = RespDoor(
            self.store, self.bodies, self.replies, principals=self._make_principals(self._loop)
        )
        self._server = await self._loop.create_server(self._connect, sock=self._socket)

    def _connect(self) -> asyncio.Protocol:
        self.connections.append(RespConnection(self.store, self.door))
        return cast(asyncio.Protocol, self.connections[-1])

    async def _stop(self) -> None:
        self._server.close()
        for session in list(self.door.sessions.values()):
            assert isinstance(session, RespConnection)
            session.finish()
        await _until(lambda: not self.door.sessions)
        if isinstance(self.store, Driver):
            self.store.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS - 1):
        while not condition():
            await asyncio.sleep(0.005)


def fake_store(config: Config) -> Callable[[str], Store]:
    """Makes the dictionary that stands for a cluster."""
    return lambda _url: FakeStore(config)


def single_node(config: Config) -> Callable[[str], Store]:
    """Makes a whole node that is its own cluster, in memory."""

    def make(url: str) -> Store:
        engine = MemoryEngine()
        system = AsyncioSystem(own_url=url, sync=engine.sync, on_end=_fail)
        settings = core_settings(config, url=url, nodes=(url,), node_id=1)
        driver = Driver(config, settings, engine, system, Random(1))
        driver.start()
        return driver

    return make


def _fail(reason: str) -> None:
    raise AssertionError(reason)
