# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS handshakes on the port: how many at once, whose is next, and who gives way.

A handshake costs as much as a hundred requests, and a stranger can begin one for nothing. So at
most HANDSHAKES_MAX are half done at once, ADDRESS_MAX of them of one address; others wait, within
the port's own deadline and bound for connections that have not said what they are. Addresses (of
IPv6: their 64 bits of network) take turns, so that whoever floods waits for himself alone. Of one
address the newest goes first, as the oldest has probably given up already (B. Maurer, "Fail at
Scale", ACM Queue 2015). One that has had STALLED_SECONDS gives way to one that waits for its place.
Between two beginnings the loop serves everybody else for PAUSE times as long as the last one took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from quorate.notation import one_source
from quorate.security.certificates import PEER_NAME
from quorate.security.contexts import Trust
from quorate.security.handshake import Handshake

HANDSHAKES_MAX: Final = 256
ADDRESS_MAX: Final = 64
STALLED_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 10.0
_PAUSE: Final = 3.0
_LOOK_SECONDS: Final = 0.1
"""How often it is looked whether somebody gives way to those who wait."""

Entrant = TypeVar("Entrant", bound=Hashable)


class Turnstile(Generic[Entrant]):
    """Who begins next. Times are in seconds of any one clock."""

    def __init__(self, *, at_once_max: int, address_max: int, stalled_s: float) -> None:
        self._at_once_max = at_once_max
        self._address_max = address_max
        self._stalled_s = stalled_s
        self._begun: dict[Entrant, tuple[str, float]] = {}
        """Addresses and times of those who have begun, oldest first."""
        self._waiting: dict[str, dict[Entrant, None]] = {}
        """By address, in the order of their turns."""
        self._begun_of: dict[str, int] = {}

    def __len__(self) -> int:
        """How many have begun and not left."""
        return len(self._begun)

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def arrive(self, entrant: Entrant, address: str) -> None:
        """Somebody waits from now on."""
        self._waiting.setdefault(address, {})[entrant] = None

    def next(self, now: float) -> Entrant | None:
        """Who begins now; None if nobody waits or there is no room."""
        if len(self._begun) >= self._at_once_max:
            return None
        for address, line in self._waiting.items():
            if self._begun_of.get(address, 0) < self._address_max:
                entrant, _ = line.popitem()
                # To the end of the turns.
                del self._waiting[address]
                if line:
                    self._waiting[address] = line
                self._begun[entrant] = address, now
                self._begun_of[address] = self._begun_of.get(address, 0) + 1
                return entrant
        return None

    def gives_way(self, now: float) -> Entrant | None:
        """The oldest of those that have begun `stalled_s` ago and take the place of one that waits:
        whoever it is if all places are taken, else one of the address of the one that waits."""
        is_full = len(self._begun) >= self._at_once_max
        for entrant, (address, since) in self._begun.items():
            if now < since + self._stalled_s:
                return None
            if is_full or address in self._waiting:
                return entrant
        return None

    def leave(self, entrant: Entrant, address: str) -> None:
        """Somebody is done, or gone, whether begun or waiting."""
        if self._begun.pop(entrant, None) is not None:
            self._begun_of[address] -= 1
            if not self._begun_of[address]:
                del self._begun_of[address]
        line = self._waiting.get(address)
        if line is not None:
            line.pop(entrant, None)
            if not line:
                del self._waiting[address]


OnDone = Callable[[Handshake], None]


class Handshakes:
    """The handshakes of one port.

    `trust` is asked for each; `on_failed` is told the address, why, and whether a peer was asked
    for.
    """

    def __init__(
        self, trust: Callable[[], Trust], on_failed: Callable[[str, Exception, bool], None]
    ) -> None:
        self._trust = trust
        self._on_failed = on_failed
        self._turnstile: Turnstile[asyncio.Transport] = Turnstile(
            at_once_max=HANDSHAKES_MAX, address_max=ADDRESS_MAX, stalled_s=STALLED_SECONDS
        )
        self._asked: dict[asyncio.Transport, tuple[Callable[[], bytes], OnDone]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._cost_seconds = 0.0
        """Of the last beginning."""
        self.failed = 0
        self.done = 0

    def begin(self, raw: asyncio.Transport, head: Callable[[], bytes], on_done: OnDone) -> None:
        """Shake hands on a connection that has sent `head`, now or when it is its turn. `on_done`
        hears of one that succeeded; of others the connection is ended."""
        self._asked[raw] = head, on_done
        self._turnstile.arrive(raw, one_source(_address(raw)))
        self._look_in(0.0)

    def forget(self, raw: asyncio.Transport) -> None:
        """A connection that waits is gone. (One that has begun fails by itself.)"""
        if self._asked.pop(raw, None) is not None:
            self.failed += 1
            self._turnstile.leave(raw, one_source(_address(raw)))

    def close(self) -> None:
        """Begin no more."""
        if self._timer is not None:
            self._timer.cancel()
        for raw in list(self._asked):
            self.forget(raw)

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        raw = self._turnstile.next(loop.time())
        if raw is not None:
            head, on_done = self._asked.pop(raw)
            task = loop.create_task(self._shake(raw, head, on_done))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            late = self._turnstile.gives_way(loop.time())
            if late is not None:
                late.abort()
        if self._turnstile.is_waited_for:
            self._look_in(self._cost_seconds * _PAUSE if raw is not None else _LOOK_SECONDS)

    async def _shake(
        self, raw: asyncio.Transport, head: Callable[[], bytes], on_done: OnDone
    ) -> None:
        address, hello = _address(raw), head()
        trust = self._trust()
        handshake = Handshake(raw)
        try:
            await handshake.run(
                trust.context_for(hello),
                identify=trust.identify,
                seconds=HANDSHAKE_SECONDS,
                head=head,
            )
        except OSError as error:  # Of TLS too.
            self.failed += 1
            self._on_failed(address, error, PEER_NAME.encode() in hello)
            return
        finally:
            self._cost_seconds = handshake.begin_seconds
            self._turnstile.leave(raw, one_source(address))
            if self._turnstile.is_waited_for:
                self._look_in(0.0)
        self.done += 1
        on_done(handshake)


def _address(raw: asyncio.Transport) -> str:
    peername = raw.get_extra_info("peername")
    return str(peername[0]) if peername else ""
