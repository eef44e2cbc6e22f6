# SPDX-License-Identifier: GPL-3.0-or-later
"""Has secret and certificates read again: every few seconds, and at SIGHUP; and says so."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from quorate.security.keeping import Keeper, TrustError

LOOK_SECONDS: Final = 2.0
_DAY_S: Final = 86_400

log = structlog.get_logger()


class Renewal:
    """Looks after what a node trusts, from `start` until `close`."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._warn()
        self._look_later()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def read_now(self) -> None:
        """Read everything again, changed or not."""
        self._read(is_asked=True)

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._read(is_asked=False)
        self._warn()
        self._look_later()

    def _read(self, *, is_asked: bool) -> None:
        try:
            is_new = self._keeper.look(is_asked=is_asked)
        except TrustError as error:
            log.error("trust_not_renewed", reason=f"{error}; what was read before stays in force")
            return
        if is_new:
            log.info("trust_renewed", secrets=len(self._keeper.trust.authorities))

    def _warn(self) -> None:
        expires_s = self._keeper.expires_s
        if self._keeper.is_warning_due() and expires_s is not None:
            log.warning("certificate_expires", days=expires_s // _DAY_S)
