# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of passwords, each of which takes a fifth of a second of a core.

One thread makes them, one after the other, so that the event loop goes on and logins take one core
at most. Those that wait are bounded, altogether and for each source, an address (of IPv6: its 64
bits of network). A source whose checks failed has each further one begin later, up to DELAY_S_MAX
after the one before, until it has been quiet for FORGET_S. Where too many wait, the source with the
most failures gives way, and the check of the one with the fewest is made first, so that who guesses
keeps nobody else out. Who asks for the same check meanwhile, as a pool of connections does when its
node is back, waits for the one under way; who went is forgotten, so that of those that are kept
about half at least are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import structlog

from quorate.doors.limits import Timers
from quorate.notation import one_source
from quorate.security.passwords import PasswordHash

CHECKS_MAX: Final = 256
SOURCE_CHECKS_MAX: Final = 16
"""Checks that wait or are made at once: altogether, and for one source."""
SOURCES_MAX: Final = 4096
"""Sources that are remembered for their failures; above it the one longest quiet is forgotten."""
DELAY_S: Final = 0.1
DELAY_S_MAX: Final = 3.2
FORGET_S: Final = 600.0

_WAITING_LOOKED_AT: Final = 64
"""So many may wait for one check before it is looked who of them went, at least."""


class Claimant(Protocol):
    """Who waits for a check."""

    @property
    def is_gone(self) -> bool:
        """Whether nobody wants to hear of it any more."""

    def checked(self, is_right: bool | None) -> None:
        """Hear whether the password is right; None: too many checks wait already."""


_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()


class Thread:
    """Makes checks in a thread; `done` is called on the loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="logins")
        self._is_told = False

    def run(self, check: Callable[[], bool], done: Callable[[bool], None]) -> None:
        """Make a check."""
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._pool, check)
        except RuntimeError:
            # The node stops, or the system has no thread for it.
            loop.call_soon(done, False)
            return

        def made(check: asyncio.Future[bool]) -> None:
            error = None if check.cancelled() else check.exception()
            if error is not None and not self._is_told:
                # Short of memory, say: nobody's word can be taken, and the next are checked.
                fault = {"reason": repr(error), "exc_info": error}
                _log.error("background_failed", work="checking a password", **fault)
            self._is_told = error is not None
            done(error is None and not check.cancelled() and check.result())

        future.add_done_callback(made)

    def close(self) -> None:
        """Make no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Source:
    """Somewhere that logins come from."""

    __slots__ = ("checks", "failures", "not_before", "quiet_since")

    def __init__(self) -> None:
        self.checks = 0
        self.failures = 0
        self.not_before = 0.0
        self.quiet_since = 0.0

    def rank(self, more: int = 0) -> tuple[int, int]:
        """Who gives way first has the greatest; with so many checks more."""
        return self.failures, self.checks + more


class _Check:
    """One check, and who waits for it."""

    __slots__ = ("_is_looked_at", "kept", "password", "source", "waiting")

    def __init__(
        self, password: bytes, kept: PasswordHash, source: _Source, claimant: Claimant
    ) -> None:
        self.password = password
        self.kept = kept
        self.source = source
        self.waiting = [claimant]
        """Empty: it gave way."""
        self._is_looked_at = _WAITING_LOOKED_AT
        """So many may wait before it is looked who of them went. The next look is when there are
        twice as many as stayed, so that each who comes costs the same."""

    def join(self, claimant: Claimant) -> None:
        """One more waits for it."""
        if len(self.waiting) >= self._is_looked_at:
            self.waiting = [each for each in self.waiting if not each.is_gone]
            self._is_looked_at = max(2 * len(self.waiting), _WAITING_LOOKED_AT)
        self.waiting.append(claimant)


class Logins:
    """All checks of a node."""

    def __init__(self, timers: Timers, thread: Thread) -> None:
        self._timers = timers
        self._thread = thread
        self._sources: dict[str, _Source] = {}
        self._checks: dict[tuple[bytes, PasswordHash], _Check] = {}
        self._ready: list[_Check] = []
        """Whose time has come, in that order."""
        self._under_way: _Check | None = None

    def check(
        self,
        password: bytes,
        kept: PasswordHash,
        *,
        digest: bytes,
        address: str,
        claimant: Claimant,
    ) -> None:
        """Tell `claimant` whether the password is right. `digest`: of user and password, the same
        for no others."""
        check = self._checks.get((digest, kept))
        if check is not None:
            check.join(claimant)
            return
        source = self._source_of(address)
        if source.checks >= SOURCE_CHECKS_MAX or not self._has_room_for(source):
            claimant.checked(None)
            return
        check = _Check(password, kept, source, claimant)
        self._checks[digest, kept] = check
        source.checks += 1
        now = self._timers.time()
        begin = max(now, source.not_before)
        if source.failures:
            # The next one's turn is after this one's.
            source.not_before = begin + _delay_s(source.failures)
        if begin > now:
            self._timers.call_later(begin - now, lambda: self._enqueue(check))
        else:
            self._enqueue(check)

    def _has_room_for(self, source: _Source) -> bool:
        """Whether one more may wait, if need be in place of the last of another source."""
        if len(self._checks) < CHECKS_MAX:
            return True
        waiting = [each for each in self._checks.items() if each[1] is not self._under_way]
        key, last = max(reversed(waiting), key=lambda each: each[1].source.rank())
        if source.rank(1) >= last.source.rank():
            return False
        del self._checks[key]
        last.source.checks -= 1
        told, last.waiting = last.waiting, []
        for claimant in told:
            claimant.checked(None)
        return True

    def _source_of(self, address: str) -> _Source:
        name, now = one_source(address), self._timers.time()
        source = self._sources.pop(name, None)
        if source is None or (not source.checks and now - source.quiet_since >= FORGET_S):
            source = _Source()
        source.quiet_since = now
        self._sources[name] = source
        if len(self._sources) > SOURCES_MAX:
            self._sources.pop(next(iter(self._sources)))
        return source

    def _enqueue(self, check: _Check) -> None:
        self._ready.append(check)
        self._make_next()

    def _make_next(self) -> None:
        if self._under_way is not None:
            return
        self._ready = [each for each in self._ready if each.waiting]
        if not self._ready:
            return
        # Of as many failures, who came first.
        check = self._under_way = min(self._ready, key=lambda each: each.source.failures)
        self._ready.remove(check)
        self._thread.run(
            lambda: check.kept.matches(check.password), lambda right: self._made(check, right)
        )

    def _made(self, check: _Check, is_right: bool) -> None:
        self._under_way = None
        for key in [key for key, each in self._checks.items() if each is check]:
            self._checks.pop(key)
        source = check.source
        source.checks -= 1
        source.quiet_since = now = self._timers.time()
        if not is_right:
            source.failures += 1
            source.not_before = max(source.not_before, now + _delay_s(source.failures))
        for claimant in check.waiting:
            claimant.checked(is_right)
        self._make_next()


def _delay_s(failures: int) -> float:
    return min(DELAY_S * 2.0 ** min(failures - 1, 10), DELAY_S_MAX)
