# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans that a door showed last, each with the layout from which it starts. In memory alone: a
plan is shown and applied within minutes, and shown again for nothing."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from quorate.core.values.wish import Wish
from quorate.doors.http.problems import Refused

PLANS_MAX: Final = 16
_HASH_BYTES: Final = 8


class Plans:
    """The plans that were shown last, by their hashes."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[int, Wish]] = {}

    def keep(self, epoch: int, wish: Wish) -> str:
        """The hash of a plan that is shown: the same for the same."""
        told = msgspec.msgpack.encode((epoch, wish))
        name = hashlib.blake2b(told, digest_size=_HASH_BYTES).hexdigest()
        self._shown.pop(name, None)
        self._shown[name] = epoch, wish
        if len(self._shown) > PLANS_MAX:
            del self._shown[next(iter(self._shown))]
        return name

    def find(self, name: str) -> tuple[int, Wish]:
        """The layout that it starts from, and the wish. Refused if it is not kept."""
        found = self._shown.get(name)
        if found is None:
            raise Refused(
                404,
                "no_such_plan",
                f"this node knows no plan of that name: it keeps the last {PLANS_MAX} that it "
                "showed, until it ends. Ask for the plan again (quorate plan, POST /plan), and "
                "apply it at the same node",
            )
        return found
