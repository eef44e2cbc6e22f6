# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows the users file: what is changed in it is in force some seconds later, or on SIGHUP.

It is read in a thread, as a disk may take its time. A file that has a mistake in it changes
nothing: the users before it stay in force, and the log says once what is wrong.
"""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Final

import structlog

from quorate.doors.principals import Principals
from quorate.security.users import Users, UsersError, is_readable_by_others, read_users

LOOK_S: Final = 2.0
"""Time between two looks at whether the file is another."""
_Mark = tuple[int, ...] | None

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()


class UsersFile:
    """The users file of a running node."""

    def __init__(self, path: Path) -> None:
        """Read it. UsersError."""
        self._path = path
        self._mark = _mark(path)
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.users = read_users(path)
        if is_readable_by_others(path):
            cure = f"chmod go= {shlex.quote(str(path))}"
            _log.warning("users_open_to_others", file=str(path), cure=cure)

    def follow(self, principals: Principals) -> None:
        """Have `principals` use what the file says from now on."""
        self._task = asyncio.create_task(self._follow(principals))

    def close(self) -> None:
        """Look at it no more."""
        if self._task is not None:
            self._task.cancel()

    def look(self) -> None:
        """Read it now, whether it seems to be another or not."""
        self._look.set()

    async def _follow(self, principals: Principals) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()
            except TimeoutError:
                pass
            is_asked = self._look.is_set()
            self._look.clear()
            mark = await asyncio.to_thread(_mark, self._path)
            if is_asked or mark != self._mark:
                self._mark = mark
                await self._read(principals)

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
