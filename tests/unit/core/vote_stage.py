# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that has something decided, and the replicas that it asks for their votes, played by the
test."""

from __future__ import annotations

from typing import Any

from quorate.core.values.messages import (
    NO_BALLOT,
    AcceptRows,
    Ballot,
    PrepareRows,
    RowsVoted,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.errors import StorageBusy
from quorate.storage.memory import MemoryEngine
from tests.unit.core.alone import Alone

Prepared = tuple[bytes, bytes | None, Ballot, bytes]
"""Row, version, ballot, and the version that is known."""
Accepted = tuple[bytes, bytes, Ballot, Record]
"""Row, version, ballot and record."""


class Unreadable(MemoryEngine):
    """An engine that has no file descriptor left."""

    def get(self, row: bytes) -> Record | None:
        raise StorageBusy(f"{row!r} cannot be read now")


def promise(
    alone: Alone,
    index: int,
    held: Record | None = None,
    *,
    base: bytes = b"",
    said: Said = Said.PROMISED,
    **told: Any,
) -> list[Prepared]:
    """Peer `index`, that holds this record or tells this base, answers whatever it was asked to
    promise; what that was."""
    asked: list[Prepared] = []
    for message in alone.take(index, PrepareRows):
        votes = []
        for item in message.items:
            sent = held if held is not None and held.version != item[3] else None
            own = base if held is None else held.version
            fields = {"promised": item[2], "held": sent, **told}
            votes.append(RowVote(said, own, **fields))
        asked += message.items
        alone.hear(index, RowsVoted(message.batch, votes))
    return asked


def accept(alone: Alone, index: int, *, said: Said = Said.ACCEPTED, **told: Any) -> list[Accepted]:
    """Peer `index` answers whatever it was asked to accept; what that was."""
    asked: list[Accepted] = []
    for message in alone.take(index, AcceptRows):
        votes = []
        for item in message.items:
            ballot = item[2] if said is Said.ACCEPTED else NO_BALLOT
            fields = {"promised": item[2], "accepted": ballot, **told}
            votes.append(RowVote(said, item[1], **fields))
        asked += message.items
        alone.hear(index, RowsVoted(message.batch, votes))
    return asked
