# SPDX-License-Identifier: GPL-3.0-or-later
"""What `/kv` under a condition and `/incr` make of what is there, and what a request is known by
that may be sent again.

A request that says who it is by an Idempotency-Key may be sent again: the last requests on a key
are remembered in its record, until a plain write replaces it. With `since_ms` a request says that
it was sent before, and when; it does not take effect now if it cannot be told any more whether it
did then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from quorate.core.values.events import Edit, Edited
from quorate.core.values.record import Record
from quorate.doors.http.conditions import IDEMPOTENCY, VersionConditions
from quorate.errors import Conflict, InvalidRequest, Outcome
from quorate.wire.resp import INT64, parse_integer

_NAME: Final = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
"""What an Idempotency-Key may be: 1 to 255 characters."""


def name_of(lines: Sequence[str]) -> str:
    """What a request calls itself, by the lines of its Idempotency-Key; empty without one.
    InvalidRequest."""
    if not lines:
        return ""
    if len(lines) > 1 or not _NAME.fullmatch(lines[0]):
        raise InvalidRequest(f"{IDEMPOTENCY} is given once, with 1 to 255 characters of ASCII")
    return lines[0]


def request_number(
    name: str, operation: str, said: bytes, conditions: VersionConditions, *, ttl_ms: int
) -> int:
    """The number under which the core remembers a request of this name, which has an operation do
    what is `said`: write or add it. One of the same name that says anything else, or the same for
    other versions or another time, is not taken for it. 0 without a name."""
    if not name:
        return 0
    method = operation.partition(" ")[0]
    head = f"{name}\n{method}\n{ttl_ms}\n{conditions.text()}\n"
    # A tag may have any byte from 0x80 on (RFC 9110, 8.8.3), which stands here as it came.
    digest = blake2b(head.encode("utf-8", "surrogateescape"), digest_size=8)
    digest.update(said)
    return int.from_bytes(digest.digest(), "big") or 1


def writing(value: bytes | None, expires_ms: int, conditions: VersionConditions) -> Edit:
    """Put `value`, or delete if it is None, under `conditions`."""
    edited = Edited(value, expires_ms)

    def edit(record: Record | None) -> Edited:
        conditions.check_write(record)
        return edited

    return edit


def adding(by: int, expires_ms: int) -> Edit:
    """Add `by` to the integer that is there, which expires when it did, or to 0 that expires at
    `expires_ms`."""

    def edit(record: Record | None) -> Edited:
        held = record.value if record is not None else b"0"
        number = parse_integer(held or b"")
        if number is None or number + by not in INT64:
            raise Conflict(
                "the value is not an integer of 64 bits"
                if number is None
                else "the sum is not an integer of 64 bits",
                outcome=Outcome.NOT_APPLIED,
            )
        return Edited(b"%d" % (number + by), expires_ms if record is None else record.expires_ms)

    return edit


def amount_of(given: bytes | None) -> int:
    """What to add, 1 if it is not said. InvalidRequest."""
    by = 1 if given is None else parse_integer(given)
    if by is None:
        raise InvalidRequest("by must be a whole number of 64 bits, such as -5", parameter="by")
    return by
