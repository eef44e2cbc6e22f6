# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node keeps on disk, beside records, that is made of what messages are made of.

As they are it is array-like msgpack, to which a later release may add fields at the end.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.values.body import Body
from quorate.core.values.messages import Instance
from quorate.core.values.record import unpack


class StoredHint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A write as the hint log keeps it."""

    row: bytes
    record: Body


class StoredVotes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a replica remembers of its votes on one row's successors (`core.votes`)."""

    floor: bytes = b""
    """It may have voted on this version's successor, and on any lower one's, and not know how."""
    instances: list[Instance] = []
    """Ascending by base, all above the floor."""
    lost: int = 0
    """The same of all versions that were made at this stamp or before, where votes were damaged; 0
    if none were."""


_decode_hint: Final = msgspec.msgpack.Decoder(StoredHint).decode


def hint_of(blob: bytes) -> StoredHint:
    """What the hint log keeps."""
    hint = _decode_hint(blob)
    unpack(hint, "record")
    return hint
