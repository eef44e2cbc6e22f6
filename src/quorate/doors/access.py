# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: the role that each command and each route asks for, and who has which. Who
somebody is, `principals` finds out.

The table of commands (`redis.table`) and the table of routes (`http.door`) state one role for
each entry: `GET k` and `GET /kv?key=k` ask for READ, `POST /join` for ADMIN. Whoever executes an
entry looks first whether the principal has its role. While no users are configured there is one
principal, ANYBODY, who has all of them, so that nothing is refused; the look compares two numbers,
and calls nothing. Who has roles for some keys alone has them in `key_roles`, so that nobody else
pays for the look at keys.

All connections of a user hold the one Principal of its name (who shows tokens, another one): what
its file says anew is in force for each of their next commands, and for requests of which a body is
still arriving.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Final

from quorate.doors.redis.glob import (
    compile_glob,
    is_prefix_alone,
    literal_prefix,
    steps_per_byte,
)
from quorate.errors import Forbidden, Outcome, Overloaded, Unauthenticated


class Role(enum.StrEnum):
    """What an entry of a table asks of whoever uses it."""

    STRANGER = enum.auto()
    """Nothing: it is there for those who have yet to log in (AUTH, `/healthz`)."""
    USER = enum.auto()
    """To be somebody, whatever else they may (PING, `/nodes`)."""
    READ = enum.auto()
    WRITE = enum.auto()
    ADMIN = enum.auto()
    """To change or see the node itself (CONFIG, `/join`), or all data at once (FLUSHALL)."""
    PEER = enum.auto()
    """To be another node of the cluster (`/internal/replicate`)."""


ROLE_BITS: Final = {role: 1 << place for place, role in enumerate(Role)}
"""A bit for each. To compare two numbers takes a tenth of looking a role up in a set, which asks
for the hash of a string."""
_NO_ROLES: Final[frozenset[Role]] = frozenset()
STEPS_MAX: Final = 20_000_000
"""What comparing the keys of one command with a user's patterns may take: a fifth of a second. With
a pattern such as `app:*` all keys of the largest command take less."""


class Patterns:
    """The keys that a user's roles are for."""

    __slots__ = ("_match", "_prefixes", "_steps_per_byte")

    def __init__(self, patterns: Sequence[bytes]) -> None:
        prefixes = tuple([literal_prefix(pattern) for pattern in patterns])
        # Most are like `app:*`. Asking for a beginning costs a tenth of what an expression does.
        is_simple = all(map(is_prefix_alone, patterns))
        self._prefixes: tuple[bytes, ...] = prefixes if is_simple else ()
        self._steps_per_byte = sum(map(steps_per_byte, patterns))
        parts = [b"(?:%b)" % compile_glob(pattern).pattern for pattern in patterns]
        # No pattern matches nothing, which an empty expression does not.
        self._match = re.compile(b"|".join(parts) or rb"(?!)", re.DOTALL)

    def other(self, keys: Sequence[bytes]) -> bytes | None:
        """The first of `keys` that no pattern matches. Overloaded where that takes too long."""
        prefixes = self._prefixes
        if prefixes:
            for key in keys:
                if not key.startswith(prefixes):
                    return key
            return None
        if len(keys) > 1:
            self.check(sum(map(len, keys)))
        fullmatch = self._match.fullmatch
        for key in keys:
            if fullmatch(key) is None:
                return key
        return None

    def check(self, key_bytes: int) -> None:
        """Overloaded where it takes too long to find `other` of keys of so many bytes."""
        if self._steps_per_byte * key_bytes > STEPS_MAX:
            raise Overloaded(
                "too many keys at once to compare with this user's patterns",
                outcome=Outcome.NOT_APPLIED,
            )


class Principal:
    """Somebody who asks. What it may can change while its connections last."""

    __slots__ = ("key_roles", "name", "patterns", "role_bits")

    def __init__(
        self,
        name: str,
        roles: frozenset[Role],
        key_roles: frozenset[Role] = _NO_ROLES,
        patterns: Patterns | None = None,
    ) -> None:
        self.name = name
        """Empty: it is not known who."""
        self.role_bits = sum([ROLE_BITS[role] for role in roles])
        """Those that it has for every key."""
        self.key_roles = key_roles
        """For the keys of `patterns` alone."""
        self.patterns = patterns

    def become(self, other: Principal) -> None:
        """Be and may what `other` is and may."""
        self.name = other.name
        self.role_bits = other.role_bits
        self.key_roles = other.key_roles
        self.patterns = other.patterns

    def has(self, role: Role) -> bool:
        """Whether it has `role`, be it for some keys alone."""
        return self.has_for_all(role) or role in self.key_roles

    def has_for_all(self, role: Role) -> bool:
        """Whether it has `role` for every key."""
        return self.role_bits & ROLE_BITS[role] != 0

    @property
    def roles(self) -> frozenset[Role]:
        """Those that it has for every key."""
        return frozenset([role for role in Role if self.has_for_all(role)])

    def forbidden(self, role: Role, keys: Sequence[bytes]) -> bytes | None:
        """The first of `keys` for which it, which has `role`, has it not. Overloaded."""
        if self.patterns is None or self.has_for_all(role):
            return None
        return self.patterns.other(keys)


ANYBODY: Final = Principal("default", frozenset(Role))
"""Who every client is while no users are configured."""
CLUSTER: Final = Principal("cluster", frozenset(Role))
"""Who shows a certificate of the cluster's own."""
NOBODY: Final = Principal("", frozenset({Role.STRANGER}))
"""Who has yet to log in."""


def require(role: Role, principal: Principal, *keys: bytes) -> None:
    """Unauthenticated, or Forbidden, unless `principal` has `role`, for `keys` if they are given.
    Overloaded."""
    if not principal.has(role):
        if not principal.name:
            raise Unauthenticated("log in: this is not for everybody")
        raise Forbidden(f"this needs the role '{role}', which {principal.name} does not have")
    if keys and principal.forbidden(role, keys) is not None:
        raise Forbidden(f"{principal.name} does not have the role '{role}' for this key")
