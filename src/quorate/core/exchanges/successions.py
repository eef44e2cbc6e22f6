# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding what comes directly after a version of a row: the proposer of `core.votes`.

Single-decree Paxos, an instance for each version (Lamport 2001; per key and beside plain writes as
in Gavrielatos et al., "Extending Classic Paxos for High-performance RMW Registers", 2021). Who
proposes goes on until the instance is decided, whatever is put meanwhile: once it has asked for
acceptance of its own record it cannot know otherwise what became of it. For one base it proposes
one record only.

Round 0 belongs to who stamped the base, to move it (`writes`): nobody else uses that ballot, so it
needs no promises. All others begin with a round of promises.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from quorate.core.exchanges.rounds import Round, Rounds
from quorate.core.topology.topology import LOST, MET, Replicas
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import (
    BALLOT_BITS,
    BALLOT_COUNT_MAX,
    NO_BALLOT,
    Ballot,
    RowVote,
)
from quorate.core.values.record import Record
from quorate.core.votes import ACCEPTED, GONE, OUTBID, PROMISED, RESOLVED, is_phantom


class Decided(enum.Enum):
    """What became of an instance, for who proposed."""

    RECORD = enum.auto()
    """This record is the successor."""
    RESOLVED = enum.auto()
    """It is decided; this is a later record of the chain, without its value, by whose winners it is
    known who won."""
    GONE = enum.auto()
    """So many replicas forgot their votes that nobody will know."""


Then = Callable[[Decided, Record | None], None]


class Succession:
    """One instance, as a proposer sees it."""

    __slots__ = (
        "_alarm",
        "_ballot",
        "_is_wanted",
        "_parts",
        "_round",
        "_rounds",
        "_then",
        "_top",
        "_tries",
        "_was_sent",
        "base",
        "is_over",
        "is_sent",
        "mine",
        "replicas",
        "row",
    )

    def __init__(
        self,
        parts: Parts,
        rounds: Rounds,
        row: bytes,
        base: bytes,
        mine: Record,
        *,
        then: Then,
        is_wanted: Callable[[], bool],
    ) -> None:
        """`mine` is proposed unless something else may have been decided. `then` is told once what
        is, unless the succession is stopped before; GONE if nobody waits for it any more, which
        `is_wanted` tells."""
        self.row = row
        self.base = base
        self.mine = mine
        self.replicas: Replicas | None = None
        self.is_sent = False
        """Whether anybody was asked to accept `mine`."""
        self._was_sent = False
        """The same before the round that is under way."""
        self.is_over = False
        self._parts = parts
        self._rounds = rounds
        self._then = then
        self._is_wanted = is_wanted
        self._round: Round | None = None
        self._ballot = NO_BALLOT
        self._top = 0
        """The highest count of a ballot that was told."""
        self._tries = 0
        self._alarm: Alarm | None = None

    def move(self, replicas: Replicas) -> None:
        """Begin with the ballot of who stamped the base, which is this process."""
        self.replicas = replicas
        self._ballot = 0, self._parts.process
        self._accept(self.mine)

    def go_on(self, promised: Round) -> None:
        """Begin where a majority has promised."""
        self.replicas = promised.replicas
        self._ballot = promised.ballot
        self._accept(self._chosen(promised))

    def begin(self, replicas: Replicas) -> None:
        """Begin again, with promises of these replicas: another layout is in force."""
        self.replicas = replicas
        if self._alarm is not None:
            self._alarm.cancel()
        self._prepare()

    def stop(self) -> None:
        """Leave it to others. What would call this again is let go, as that holds it."""
        self.is_over = True
        if self._round is not None:
            self._round.is_over = True
        self._round = self._alarm = None

    def _prepare(self) -> None:
        if self.is_over or self.replicas is None:
            return
        if not self._is_wanted():
            self._end(Decided.GONE, None)
            return
        self._ballot = next_ballot(self._parts, self._top)
        self._top = self._ballot[0]
        self._ask(
            Round(
                self.row,
                self.base,
                self._ballot,
                replicas=self.replicas,
                heard=self._heard_promises,
            )
        )

    def _accept(self, record: Record) -> None:
        assert self.replicas is not None
        self._was_sent = self.is_sent
        if record is self.mine:
            self.is_sent = True
        self._ask(
            Round(
                self.row,
                self.base,
                self._ballot,
                replicas=self.replicas,
                heard=self._heard_acceptances,
                record=record,
            )
        )

    def _ask(self, asked: Round) -> None:
        if self._round is not None:
            self._round.is_over = True
        self._round = asked
        self._rounds.ask(asked)

    def _heard_promises(self) -> None:
        asked = self._round
        assert asked is not None
        if self._is_at_end(asked):
            return
        judged = asked.verdict(asked.said(PROMISED))
        if judged is MET:
            self._accept(self._chosen(asked))
        elif judged is LOST:
            self._again(asked)

    def _heard_acceptances(self) -> None:
        asked = self._round
        assert asked is not None
        if self._is_at_end(asked):
            return
        judged = asked.verdict(asked.said(ACCEPTED))
        if judged is MET:
            self._end(Decided.RECORD, asked.record)
        elif judged is LOST:
            self._again(asked)

    def _chosen(self, promised: Round) -> Record:
        """What may have been decided, if anything may; else our own."""
        accepted = accepted_in(promised)
        if accepted is None or is_same(accepted, self.mine):
            return self.mine
        self._parts.turn.counters["proposals_adopted"] += 1
        return accepted

    def _is_at_end(self, asked: Round) -> bool:
        """Whether there is nothing to ask for any more; then it is told."""
        for vote in asked.told.values():
            if vote.said == RESOLVED and vote.record is not None:
                self._end(Decided.RESOLVED, vote.record)
                return True
        if asked.is_late and not self._is_wanted():
            self._end(Decided.GONE, None)
            return True
        return False

    def _again(self, asked: Round) -> None:
        """Too few will do for this ballot: ask again with a higher one, a little later."""
        asked.is_over = True
        if asked.record is not None and asked.did_nobody(ACCEPTED):
            # Nobody has it of this ballot, and nobody ever will.
            self.is_sent = self._was_sent
        gone = asked.said(GONE)
        # A lock that a phantom is of may be taken back yet, unless that makes no difference.
        is_final = not (self.is_sent and is_phantom(self.base))
        if gone and is_final and asked.verdict_without(gone) is LOST:
            self._end(Decided.GONE, None)
            return
        for vote in asked.told.values():
            if vote.said == OUTBID:
                self._top = max(self._top, vote.promised[0])
        self._parts.turn.counters["proposals_repeated"] += 1
        self._alarm = Alarm(self._parts.turn, self._prepare)
        self._alarm.at(self._parts.turn.mono_ms + self._rounds.back_off_ms(self._tries))
        self._tries += 1

    def _end(self, decided: Decided, record: Record | None) -> None:
        self.stop()
        self._then(decided, record)


def accepted_in(promised: Round) -> Record | None:
    """What was accepted under the highest ballot that was told with promises."""
    best: RowVote | None = None
    for vote in promised.told.values():
        is_accepted = vote.said == PROMISED and vote.record is not None
        if is_accepted and (best is None or vote.accepted > best.accepted):
            best = vote
    return None if best is None else best.record


def next_ballot(parts: Parts, above: int) -> Ballot:
    """A ballot that nobody used, of a higher count."""
    return min(above + 1, BALLOT_COUNT_MAX), parts.random.getrandbits(BALLOT_BITS)


def is_same(record: Record, other: Record) -> bool:
    """Whether two records are of one proposal."""
    return record.version == other.version and record.winners == other.winners
