# SPDX-License-Identifier: GPL-3.0-or-later
"""Has secret and certificates read again: every few seconds, and at SIGHUP; and says so."""

from __future__ import annotations

import shlex
from typing import Final

import structlog

from quorate.recurring import Recurring
from quorate.security.keeping import Keeper, TrustError

LOOK_SECONDS: Final = 2.0
_DAY_S: Final = 86_400

log = structlog.get_logger()


class Renewal:
    """Looks after what a node trusts, from `start` until `close`."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._is_asked = False
        self._open_key = ""
        """The key that others could read when it was last looked at."""
        self._looking = Recurring("renewal of secret and certificates", self._look)

    def start(self) -> None:
        """Begin to look."""
        self._looking.start()

    async def close(self) -> None:
        """Look no more."""
        await self._looking.close()

    def read_now(self) -> None:
        """Read everything again, changed or not."""
        self._is_asked = True
        self._looking.hurry()

    async def _look(self) -> float:
        is_asked, self._is_asked = self._is_asked, False
        self._read(is_asked=is_asked)
        self._warn()
        return LOOK_SECONDS

    def _read(self, *, is_asked: bool) -> None:
        before = self._keeper.trust
        try:
            self._keeper.look(is_asked=is_asked)
        except TrustError as error:
            log.error("trust_not_renewed", reason=f"{error}; what was read before stays in force")
        if self._keeper.trust is not before:
            log.info("trust_renewed", secrets=len(self._keeper.trust.authorities))

    def _warn(self) -> None:
        expires_s = self._keeper.expires_s
        if self._keeper.is_warning_due() and expires_s is not None:
            log.warning("certificate_expires", days=expires_s // _DAY_S)
        before, self._open_key = self._open_key, self._keeper.open_key()
        if self._open_key and not before:
            cure = f"chmod go= {shlex.quote(self._open_key)}"
            log.warning("key_open_to_others", file=self._open_key, cure=cure)
