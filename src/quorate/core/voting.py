# SPDX-License-Identifier: GPL-3.0-or-later
"""Answering who proposes what comes after versions of rows (`exchanges.successions`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.core.exchanges.outbox import (
    ROW_BYTES,
    STEP_BYTES_MAX,
    STEP_BYTES_MAX_ALL,
    Outbox,
)
from quorate.core.topology.membership import Membership
from quorate.core.turn import Parts
from quorate.core.values.messages import AcceptRows, PrepareRows, RowsVoted, RowVote, Said
from quorate.core.values.record import Record
from quorate.core.values.slots import is_row
from quorate.errors import StorageError

_REFUSED: Final = RowVote(Said.REFUSED)


class Voting:
    """The peers' door to this node's votes."""

    __slots__ = ("_membership", "_replica", "_turn", "_votes", "_why_refused")

    def __init__(
        self, parts: Parts, membership: Membership, why_refused: Callable[[bytes, Record], str]
    ) -> None:
        """`why_refused`: why this replica will not keep a record; empty if it will."""
        self._membership = membership
        self._replica = parts.replica
        self._turn = parts.turn
        self._votes = parts.votes
        self._why_refused = why_refused

    def hear(self, outbox: Outbox, message: PrepareRows | AcceptRows) -> None:
        """Vote, and tell it when the votes are durable. None where an old disk may have been put
        back, whatever the quorums of who asks: it may have voted otherwise."""
        if self._replica.trouble.code or not self._membership.marks.counts:
            # At once: a disk may confirm nothing for hours.
            outbox.say(RowsVoted(message.batch, [_REFUSED] * len(message.items)))
            return
        votes: list[RowVote] = []
        if isinstance(message, PrepareRows):
            for row, asked, ballot, known in message.items:
                votes.append(self._prepare(outbox, row, asked, ballot, known))
        else:
            for row, base, ballot, record in message.items:
                votes.append(self._accept(row, base, ballot, record))
        answer = RowsVoted(message.batch, votes)
        self._replica.when_durable(lambda: outbox.say(answer))

    def _prepare(
        self,
        outbox: Outbox,
        row: bytes,
        base: bytes | None,
        ballot: tuple[int, int],
        known: bytes,
    ) -> RowVote:
        turn = self._turn
        if outbox.said_bytes >= STEP_BYTES_MAX or turn.said_bytes >= STEP_BYTES_MAX_ALL:
            return _REFUSED
        if base and turn.is_ahead(base):
            return _REFUSED
        topology = self._membership.current()
        if not (is_row(row) and topology.is_mine(row)):
            return _REFUSED
        try:
            vote = self._votes.prepare(row, base, ballot, known)
        except StorageError:
            return _REFUSED
        size, held, accepted = ROW_BYTES, vote.held, vote.record
        if held is not None:
            size += held.size
        if accepted is not None:
            size += accepted.size
        outbox.said_bytes += size
        turn.said_bytes += size
        return vote

    def _accept(self, row: bytes, base: bytes, ballot: tuple[int, int], record: Record) -> RowVote:
        if self._why_refused(row, record):
            return _REFUSED
        try:
            return self._votes.accept(row, base, ballot, record)
        except StorageError:
            return _REFUSED
