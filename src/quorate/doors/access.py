# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: the role that each command and each route asks for, and who has which.

The table of commands (`redis.table`) and the table of routes (`http.routes`) state one role for
each entry: `GET k` and `GET /kv?key=k` ask for READ, `POST /join` for ADMIN. Whoever executes an
entry looks first whether the principal has its role. There is one principal today, ANYBODY, who has
all of them, so that nothing is refused; the look costs a set's membership, and no call.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


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


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks."""

    name: str
    roles: frozenset[Role]


ANYBODY: Final = Principal("default", frozenset(Role))
"""Who every client is while no users are configured."""
