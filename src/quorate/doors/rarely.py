# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the log that anybody can cause as often as they like, told once a second at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.doors.limits import Timers

QUIET_SECONDS: Final = 1.0
SOURCES_MAX: Final = 64
"""Sources of which lines wait, each by itself; the rest have one in common."""

LoggedFacts = dict[str, object]


class Rarely:
    """Tells the first of a kind at once. Of what comes meanwhile each source's last is told, one
    after the other, with how many more there were of it: who floods hides nobody else."""

    def __init__(self, timers: Timers, log: Callable[[LoggedFacts], object]) -> None:
        self._timers = timers
        self._log = log
        self._is_quiet = False
        self._waiting: dict[str, tuple[LoggedFacts, int]] = {}
        """The last of each source, and how many there were, longest waiting first."""

    def tell(self, facts: LoggedFacts, *, source: str = "") -> None:
        """Tell of one, now or with those of this source that follow."""
        if not self._is_quiet:
            self._say({**facts, "held_back": 0})
            return
        if source not in self._waiting and len(self._waiting) >= SOURCES_MAX:
            source = ""
        _, times = self._waiting.get(source, (facts, 0))
        self._waiting[source] = facts, times + 1

    def _say(self, facts: LoggedFacts) -> None:
        self._is_quiet = True
        self._timers.call_later(QUIET_SECONDS, self._speak)
        self._log(facts)

    def _speak(self) -> None:
        self._is_quiet = False
        if self._waiting:
            # Not kept: what is told of may refer to all that a request had.
            last, times = self._waiting.pop(next(iter(self._waiting)))
            self._say({**last, "held_back": times - 1})
