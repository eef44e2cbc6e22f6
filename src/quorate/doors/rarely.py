# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the log that anybody can cause as often as they like, told once a second at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.doors.limits import Timers

QUIET_SECONDS: Final = 1.0

LoggedFacts = dict[str, object]


class Rarely:
    """Tells the first of a kind at once, and then once in a while the last that came, with how many
    more there were."""

    def __init__(self, timers: Timers, log: Callable[[LoggedFacts], object]) -> None:
        self._timers = timers
        self._log = log
        self._is_quiet = False
        self._held_back = 0
        self._last: LoggedFacts = {}

    def tell(self, facts: LoggedFacts) -> None:
        """Tell of one, now or with those that follow."""
        if self._is_quiet:
            self._held_back += 1
            self._last = facts
            return
        self._say({**facts, "held_back": 0})

    def _say(self, facts: LoggedFacts) -> None:
        self._is_quiet = True
        self._timers.call_later(QUIET_SECONDS, self._speak)
        self._log(facts)

    def _speak(self) -> None:
        self._is_quiet = False
        if self._held_back:
            # Not kept: what is told of may refer to all that a request had.
            last, self._last = self._last, {}
            more, self._held_back = self._held_back - 1, 0
            self._say({**last, "held_back": more})
