# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is who at the doors of tests: nobody in particular, or users whose passwords are quick."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable

from quorate.doors.limits import Timers
from quorate.doors.logins import Thread
from quorate.doors.principals import Principals
from quorate.security.users import User, Users

CLUSTER = "quorate"
TOKEN_KEY = bytes(range(32))
WALL_MS = 1_700_000_000_000


def open_principals(timers: Timers) -> Principals:
    """No users: everybody may do everything."""
    return Principals(timers, cluster=CLUSTER, wall_ms=lambda: WALL_MS)


class AtOnce(Thread):
    """Makes checks where they are asked for, and counts them."""

    def __init__(self) -> None:
        self.checks = 0
        super().__init__()

    def run(self, check: Callable[[], bool], done: Callable[[bool], None]) -> None:
        self.checks += 1
        done(check())


def quick_hash(password: str) -> str:
    """A hash that takes a thousandth of what those of the product take."""
    salt = b"salt-of-tests"
    digest = hashlib.scrypt(password.encode(), salt=salt, n=16, r=1, p=1, dklen=32)
    salt_text, text = (b64encode(each).decode().rstrip("=") for each in (salt, digest))
    return f"$scrypt$ln=4,r=1,p=1${salt_text}${text}"


def user(name: str, *roles: str, keys: tuple[str, ...] | None = None, **given: object) -> User:
    """A user whose password is `<name>-pw`."""
    fields = {"password": quick_hash(f"{name}-pw"), **given}
    return User(name=name, roles=roles, keys=keys, **fields)  # type: ignore[arg-type]


def users_of(*users: User, token_key: bytes = TOKEN_KEY) -> Users:
    """These users."""
    return Users({each.name: each for each in users}, token_key)
