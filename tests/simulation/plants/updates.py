# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of read-modify-writes: of who proposes, and of who votes."""

from __future__ import annotations

from typing import Final

from quorate.core import votes
from quorate.core.exchanges import updates
from quorate.core.exchanges.attempt import BegunUpdate
from quorate.core.exchanges.rounds import Round
from quorate.core.exchanges.successions import Decided, Succession
from quorate.core.values.messages import (
    Ballot,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.stored import StoredVotes
from quorate.core.votes import Votes
from tests.simulation.plants.plant import Plant

_accept: Final = Votes.accept


def _own_alone(self: Succession, promised: Round) -> Record:
    del promised
    return self.mine


def _started_again(self: Succession, asked: Round) -> None:
    asked.is_over = True
    self.is_sent = False
    self._end(Decided.GONE, None)


def _unknown_winner(record: Record, link: int) -> int | None:
    del record, link
    return 0


def _done_again(*_: object, **_named: object) -> None:
    return None


def _lost_is_never_sent(self: BegunUpdate) -> bool:
    del self
    return False


def _nothing_remembered(self: Votes, row: bytes) -> StoredVotes:
    del self, row
    return StoredVotes()


def _always(ballot: Ballot, promised: Ballot) -> bool:
    del ballot, promised
    return True


def _shown(self: Votes, row: bytes, base: bytes, ballot: Ballot, record: Record) -> RowVote:
    vote = _accept(self, row, base, ballot, record)
    if vote.said == Said.ACCEPTED:
        self._replica.apply(row, record)
    return vote


PLANTS: Final = (
    Plant("what was accepted is not adopted", Succession, "_chosen", _own_alone),
    Plant("a proposer begins anew after it was outbid", Succession, "_again", _started_again),
    Plant("winners are not looked at", updates, "winner_after", _unknown_winner),
    Plant("a request that was done is done again", BegunUpdate, "remembered", _done_again),
    Plant("what was proposed counts as not sent", BegunUpdate, "writes", _lost_is_never_sent),
    Plant("votes are forgotten", Votes, "remembered", _nothing_remembered),
    Plant("a lower ballot is accepted", votes, "may_accept", _always),
    Plant("what is accepted is shown", Votes, "accept", _shown),
)
