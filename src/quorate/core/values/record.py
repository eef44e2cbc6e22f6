# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica holds for a key, and the one order that decides which of two records wins.

Newest wins, by `versions`; equal versions are the same write. Should two contents ever carry one
version (two processes that drew one number), `wins` still orders them the same way everywhere, so
replicas converge.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.values.versions import ABSENT

EXPIRES_MS_MAX: Final = (1 << 63) - 1
"""What a frame can carry, and what Redis allows."""
WINNERS_MAX: Final = 97
"""Of one record: 32 from before, a proposal, and 64 requests in it."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One version of one key. `value` None is a tombstone; `expires_ms` 0 is never."""

    version: bytes
    value: bytes | None
    expires_ms: int = 0
    """Absolute wall-clock milliseconds, fixed by the coordinator, the same on all replicas."""
    prior: bytes = ABSENT
    """The version that the coordinator saw before this one; ABSENT if none or not known."""
    winners: tuple[tuple[int, int], ...] = ()
    """Of the last proposals of this chain that were decided, this one's at the end: the link of the
    base and the number of the proposal that came directly after it, and behind it those of the
    requests in it that have a number: the link before the request's own. A number 0 tells where the
    one before it ends. Empty of what was stamped."""


def winner_after(record: Record, link: int) -> int | None:
    """The number of the proposal that came directly after the base of this link; None if the record
    does not tell."""
    for base, number in record.winners:
        if base == link:
            return number
    return None


def last_winners(winners: tuple[tuple[int, int], ...], count: int) -> tuple[tuple[int, int], ...]:
    """So many, without requests whose proposal is not among them: the first of these would be taken
    for who won that base."""
    if len(winners) <= count:
        return winners
    dropped, _ = winners[-count - 1]
    return tuple([each for each in winners[-count:] if each[0] != dropped])


def wins(new: Record, old: Record | None) -> bool:
    """Whether `new` replaces `old`. Total: of two different records exactly one wins."""
    if old is None or new.version > old.version:
        return True
    if new.version < old.version:
        return False
    return _content(new) > _content(old)


def _content(record: Record) -> tuple[bool, bytes, int, bytes, tuple[tuple[int, int], ...]]:
    # A tombstone wins over a value of the same version: deleted stays deleted.
    value = record.value
    return value is None, value or b"", record.expires_ms, record.prior, record.winners


def is_live(record: Record | None, *, wall_ms: int) -> bool:
    """Whether a reader sees a value: present, not deleted, not expired."""
    if record is None or record.value is None:
        return False
    return not has_expired(record.expires_ms, wall_ms=wall_ms)


def has_expired(expires_ms: int, *, wall_ms: int) -> bool:
    """Whether the time of something that expires then, or never if 0, is over."""
    return 0 < expires_ms <= wall_ms
