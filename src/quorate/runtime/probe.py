# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying to reach another node at its URL as links do, step by step, to say which step fails.

The greeting is one without a URL (`host.sighting`), so nothing of it stays at the other node. The
long one is longer than a packet many times over: where the way takes only smaller packets and
says so to nobody (a lost "fragmentation needed", RFC 2923, 2.1), links come up and then hang.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final

from quorate.core.values.messages import Greeting
from quorate.core.values.settings import Settings
from quorate.core.values.status import Probe
from quorate.host.sighting import NoAnswer, Sighting, why_foreign
from quorate.host.system import System
from quorate.runtime.resolve import Names, NotDialled

RESOLVE_S: Final = 3.0
CONNECT_S: Final = 2.0
LARGE_BYTES: Final = 128 << 10


class Prober:
    """Of one node."""

    def __init__(self, system: System, settings: Settings, *, wall_ms: Callable[[], int]) -> None:
        self._system = system
        self._settings = settings
        self._wall_ms = wall_ms
        self._names = Names(settings.url)

    async def probe(self, url: str) -> Probe:
        """What comes of trying to reach the node at `url`; the first step that fails ends it."""
        stage, seen, round_trip_ms, addresses = "resolve", "", None, []
        try:
            places = await asyncio.wait_for(self._names.resolve(url), RESOLVE_S)
            addresses = [host for host, _ in places]
            stage = "connect"
            round_trip_ms = await _connected(places)
            stage = "greet"
            answer = await self._greeted(url)
            if isinstance(answer, NoAnswer):
                stage = "tls" if answer.is_distrust else stage
                raise ConnectionError(answer.reason)
            seen, stage = answer.seen, "cluster"
            foreign = why_foreign(answer)
            if foreign:
                raise ConnectionError(foreign)
            stage = "large"
            if isinstance(await self._greeted(url, padding=LARGE_BYTES), NoAnswer):
                raise ConnectionError("it answers a short greeting, and no long one")
            stage, fault = "", ""
        except NotDialled as error:
            fault = str(error)
        except TimeoutError:
            fault = "no answer in time"
        except OSError as error:
            # What loops say of a connection differs; what the kernel says does not.
            fault = os.strerror(error.errno) if error.errno else str(error)
        return Probe(
            url=url,
            addresses=addresses,
            stage=stage,
            fault=fault,
            round_trip_ms=round_trip_ms,
            seen=seen,
            wall_ms=self._wall_ms(),
        )

    async def _greeted(self, url: str, *, padding: int = 0) -> Greeting | NoAnswer:
        """The answer to a greeting."""
        told: asyncio.Future[Greeting | NoAnswer] = asyncio.get_running_loop().create_future()
        settings = self._settings

        def hear(answer: Greeting | NoAnswer) -> None:
            if not told.done():  # Nobody waits any more for what was given up.
                told.set_result(answer)

        Sighting(
            self._system,
            url,
            cluster=settings.cluster,
            node_id=settings.node_id,
            told=hear,
            padding=padding,
        )
        return await told


async def _connected(places: list[tuple[str, int]]) -> float:
    """How long the first of the places took that takes a connection, in milliseconds. OSError of
    the last if none does."""
    failed: OSError = ConnectionError("no address to try")
    for host, port in places:
        begun = time.monotonic()
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
        except OSError as error:
            failed = error
            continue
        taken_ms = (time.monotonic() - begun) * 1000
        writer.close()
        return round(taken_ms, 2)
    raise failed
