# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of read-modify-writes: of who proposes, and of who votes."""

from __future__ import annotations

from typing import Final

from quorate.core import votes
from quorate.core.exchanges import updates
from quorate.core.exchanges.attempt import Attempt, BegunUpdate
from quorate.core.exchanges.outbox import Outbox
from quorate.core.exchanges.rounds import Round
from quorate.core.exchanges.spreads import Spread
from quorate.core.exchanges.successions import Decided, Succession
from quorate.core.exchanges.updates import Updates
from quorate.core.values.events import UpdateResult
from quorate.core.values.messages import AcceptRows, Ballot, PrepareRows, RowVote, Said
from quorate.core.values.record import Record
from quorate.core.values.stored import StoredVotes
from quorate.core.values.versions import TIES, link_of, pack_version, stamp_of, successor
from quorate.core.votes import Votes
from quorate.core.voting import Voting
from tests.simulation.plants.plant import DEFAULT, Plant

_accept: Final = Votes.accept
_build: Final = Updates._build
_finish: Final = Updates._finish
_hear: Final = Voting.hear
_remembered: Final = Votes.remembered
_write_back: Final = Updates._write_back


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


def _lost_for_ever(self: Votes, row: bytes) -> StoredVotes:
    known = _remembered(self, row)
    return StoredVotes(known.floor, known.instances, 1 << 62) if known.lost else known


def _always(ballot: Ballot, promised: Ballot) -> bool:
    del ballot, promised
    return True


def _shown(self: Votes, row: bytes, base: bytes, ballot: Ballot, record: Record) -> RowVote:
    vote = _accept(self, row, base, ballot, record)
    if vote.said == Said.ACCEPTED:
        self._replica.apply(row, record)
    return vote


def _read_before_it_is_written_back(
    self: Updates, attempt: Attempt, record: Record | None, holders: int
) -> None:
    if record is not None:
        # What leaves the key alone is answered; what does not begins again behind the write-back.
        attempt.base = record.version
        self._build(attempt, record, None)
        if not attempt.waiting:
            return
        attempt.stop()
    _write_back(self, attempt, record, holders)


def _latecomers_join(
    self: Updates, attempt: Attempt, held: Record | None, promised: Round | None
) -> None:
    attempt.asking = len(attempt.waiting)
    _build(self, attempt, held, promised)


def _answered_when_decided(
    self: Updates,
    attempt: Attempt,
    record: Record,
    *,
    is_ours: bool,
    before: Spread | None = None,
) -> None:
    for job in attempt.carried if is_ours else ():
        made = job.result
        assert made is not None
        if isinstance(made, UpdateResult) and not made.is_repeated:
            made = UpdateResult(made.before, made.after, 1, attempt.replicas.n)
        self._requests.end(job, made)
    _finish(self, attempt, record, is_ours=is_ours, before=before)


def _voted_at_once(self: Voting, outbox: Outbox, message: PrepareRows | AcceptRows) -> None:
    calls = self._replica._calls
    before = len(calls)
    _hear(self, outbox, message)
    for call in calls[before:]:
        call()
    del calls[before:]


def _stamped_anew(version: bytes, stamp: int = 0) -> bytes:
    return pack_version(max(stamp, stamp_of(version) + 1), TIES[0])


def _one_link_for_all(version: bytes, stamp: int = 0) -> bytes:
    return version if link_of(version) == stamp else successor(version, stamp)


PLANTS: Final = (
    Plant("what was accepted is not adopted", Succession, "_chosen", _own_alone),
    Plant("a proposer begins anew after it was outbid", Succession, "_again", _started_again),
    Plant("winners are not looked at", updates, "winner_after", _unknown_winner),
    Plant("a request that was done is done again", BegunUpdate, "remembered", _done_again),
    Plant("what was proposed counts as not sent", BegunUpdate, "writes", _lost_is_never_sent),
    Plant("votes are forgotten", Votes, "remembered", _nothing_remembered),
    Plant(
        "votes that were damaged never count again",
        Votes,
        "remembered",
        _lost_for_ever,
        DEFAULT._replace(faults=frozenset({"rot"})),
    ),
    Plant("a lower ballot is accepted", votes, "may_accept", _always),
    Plant("what is accepted is shown", Votes, "accept", _shown),
    Plant("an update is answered when it is decided", Updates, "_finish", _answered_when_decided),
    Plant("a vote is told before it is durable", Voting, "hear", _voted_at_once),
    Plant("an update has a stamp of its own", updates, "successor", _stamped_anew),
    Plant("updates of one proposal have one link", updates, "successor", _one_link_for_all),
)
TOLD: Final = (
    Plant(
        "a base is read before it is written back",
        Updates,
        "_write_back",
        _read_before_it_is_written_back,
    ),
    Plant(
        "those that come after the question are answered by it",
        Updates,
        "_build",
        _latecomers_join,
    ),
)
"""What a story shows (`test_update_rules`)."""
