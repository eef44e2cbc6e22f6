# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows the users file: what is changed in it is in force some seconds later, or on SIGHUP.

It is read in a thread, as a disk may take its time. A file that has a mistake in it changes
nothing: the users before it stay in force, and the log says once what is wrong.
"""

from __future__ import annotations

import asyncio
import shlex
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from quorate.doors.principals import Principals
from quorate.recurring import Recurring
from quorate.security.users import Users, UsersError, is_readable_by_others, read_users

LOOK_S: Final = 2.0
"""Time between two looks at whether the file is another."""
_Mark = tuple[int, ...] | None
_UNREAD: Final[_Mark] = ()
"""What no file has."""

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()


class UsersFile:
    """The users file of a running node."""

    def __init__(self, path: Path) -> None:
        """Read it. UsersError."""
        self._path = path
        self._mark = _mark(path)
        self._is_asked = False
        self._following: Recurring | None = None
        self.users = read_users(path)
        if is_readable_by_others(path):
            cure = f"chmod go= {shlex.quote(str(path))}"
            _log.warning("users_open_to_others", file=str(path), cure=cure)

    def follow(self, principals: Principals) -> None:
        """Have `principals` use what the file says from now on."""
        self._following = Recurring("users file", partial(self._look, principals))
        self._following.start()

    async def close(self) -> None:
        """Look at it no more."""
        if self._following is not None:
            await self._following.close()

    def look(self) -> None:
        """Read it now, whether it seems to be another or not."""
        self._is_asked = True
        if self._following is not None:
            self._following.hurry()

    async def _look(self, principals: Principals) -> float:
        is_asked, self._is_asked = self._is_asked, False
        mark = await asyncio.to_thread(_mark, self._path)
        if is_asked or mark != self._mark:
            self._mark = _UNREAD  # What raises here is tried again.
            await self._read(principals)
            self._mark = mark
        return LOOK_S

    async def _read(self, principals: Principals) -> None:
        try:
            users: Users = await asyncio.to_thread(read_users, self._path)
        except UsersError as error:
            _log.error("users_refused", reason=str(error), in_force=len(self.users.by_name))
            return
        self.users = users
        principals.use(users)
        _log.info("users_read", users=len(users.by_name))


def _mark(path: Path) -> _Mark:
    """What is another when the file is; None: it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode, status.st_uid
