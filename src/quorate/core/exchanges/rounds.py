# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking all replicas of a row for their votes (`core.votes`), this node included.

A *round* is one question, a promise or an acceptance, and the answers to it so far. Questions of
one step to one peer share a message. No answer is as good as none: a vote that was lost was perhaps
given, which the rules of `consensus` allow for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from quorate.core.exchanges.outbox import (
    ITEM_BYTES,
    MESSAGE_BYTES_MAX,
    Lane,
    Outbox,
    PeerAnswer,
    Sent,
)
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import Replicas, Verdict, verdict
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import AcceptRows, Ballot, PrepareRows, RowsVoted, RowVote
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.core.votes import GONE, OUTBID, PROMISED, REFUSED
from quorate.errors import StorageError

ROUND_MS: Final = 100
"""After which who has not answered is not waited for, if others would answer better in another
round."""
ROUND_MS_MAX: Final = 1_000
"""The same where a replica lately took half as long: else it would never be heard beside one that
always refuses."""
SLOWEST_SHARE: Final = 0.05
"""Of each answer, by which less is waited for the slowest."""
TYPICAL_SHARE: Final = 0.05
"""Of each answer, in how long one takes."""
TELLING: Final = (PROMISED, OUTBID, GONE)
"""The answers that tell what is held."""
BACK_OFF_DOUBLINGS: Final = 4
BACK_OFF_MS_MAX: Final = 200.0


class Round:
    """One question to the replicas of a row."""

    __slots__ = (
        "_heard",
        "asked_ms",
        "ballot",
        "base",
        "failed",
        "held",
        "is_late",
        "is_over",
        "known",
        "record",
        "refused",
        "replicas",
        "row",
        "sent",
        "told",
    )

    def __init__(
        self,
        row: bytes,
        base: bytes | None,
        ballot: Ballot,
        *,
        replicas: Replicas,
        heard: Callable[[], None],
        held: Record | None = None,
        record: Record | None = None,
    ) -> None:
        """`heard` is called whenever there is something new, until `is_over`."""
        self.row = row
        self.base = base
        """The version whose successor it is about; None for the one that each holds."""
        self.ballot = ballot
        self.replicas = replicas
        self.held = held
        """What this node held when it asked: others need not send it. Something newer may have come
        since."""
        self.known = ABSENT if held is None else held.version
        self.record = record
        """What they are to accept; None asks for promises."""
        self.told: dict[int, RowVote] = {}
        """By the bit of the replica."""
        self.sent = 0
        """The replicas that were asked."""
        self.refused = 0
        """The replicas that answered that they do not vote."""
        self.failed = 0
        """These, and those that will not answer."""
        self.is_late = False
        """Whether others were waited for long enough."""
        self.is_over = False
        """Whether nothing of it is of interest any more."""
        self.asked_ms = 0
        self._heard = heard

    def hear(self, bit: int, vote: RowVote | None) -> None:
        """Take a replica's answer; None if there is none, or will not be any."""
        if vote is None or vote.said == REFUSED:
            self.failed |= bit
            if vote is not None:
                self.refused |= bit
        else:
            self.told[bit] = vote
        if not self.is_over:
            self._heard()

    def late(self) -> None:
        """Others were waited for long enough."""
        self.is_late = True
        if not self.is_over:
            self._heard()

    def said(self, *what: int) -> int:
        """The replicas that gave such an answer."""
        found = 0
        for bit, vote in self.told.items():
            if vote.said in what:
                found |= bit
        return found

    def telling(self) -> int:
        """The replicas that told what they hold."""
        found = 0
        for bit, vote in self.told.items():
            if vote.said in TELLING:
                found |= bit
        return found

    def did_nobody(self, what: int) -> bool:
        """Whether all that were asked have answered, and none of them so."""
        heard = self.refused
        for bit in self.told:
            heard |= bit
        return not self.sent & ~heard and not self.said(what)

    def verdict(self, good: int) -> Verdict:
        """Whether these are a majority, or may still become one."""
        bad = self.failed
        for bit in self.told:
            bad |= bit
        if self.is_late and self._may_be_better(bad & ~good):
            bad = -1
        return verdict(good, bad & ~good, self.replicas.majorities)

    def _may_be_better(self, bad: int) -> bool:
        """Whether another round might succeed: one of the replicas that did not vote as wanted
        (`bad`) answered, or is reachable. Replicas that are only slow do not count: rounds
        would follow each other without end."""
        away = self.failed & ~(self.replicas.reachable() & ~OWN_BIT)
        return bool(bad & ~away)

    def verdict_without(self, lost: int) -> Verdict:
        """Whether a majority is possible at all without these."""
        return verdict(0, lost, self.replicas.majorities)


class SentRounds(Sent[Round, RowsVoted]):
    """Questions on their way."""

    def hear(self, answer: PeerAnswer) -> bool:
        """As any answer, if it has one for each question."""
        if isinstance(answer, RowsVoted) and len(answer.votes) != len(self.ops):
            self.outbox.close(self)
            self.lose()
            return False
        return super().hear(answer)


class Ballots(Lane):
    """What one peer is asked to vote on in this turn."""

    __slots__ = ("_accept", "_exchange", "_prepare")

    def __init__(self, outbox: Outbox, exchange: Rounds) -> None:
        super().__init__(outbox)
        self._exchange = exchange
        self._prepare: list[Round] = []
        self._accept: list[Round] = []

    def add(self, asked: Round) -> None:
        """Ask it."""
        if not self.bytes:
            self.outbox.address()
        record = asked.record
        self.bytes += ITEM_BYTES
        if record is None:
            self._prepare.append(asked)
        else:
            self._accept.append(asked)
            self.bytes += record.size
        if self.bytes >= MESSAGE_BYTES_MAX:
            self.cut()

    def cut(self) -> None:
        size = self.bytes
        if self._prepare:
            asked, self._prepare = self._prepare, []
            sent = SentRounds(self.outbox, self._exchange, RowsVoted, asked, size)
            questions = [(each.row, each.base, each.ballot, each.known) for each in asked]
            self.outbox.send(sent, PrepareRows(sent.batch, questions))
            size = 0
        if self._accept:
            asked, self._accept = self._accept, []
            sent = SentRounds(self.outbox, self._exchange, RowsVoted, asked, size)
            items: list[tuple[bytes, bytes, Ballot, Record]] = []
            for each in asked:
                assert each.base is not None
                assert each.record is not None
                items.append((each.row, each.base, each.ballot, each.record))
            self.outbox.send(sent, AcceptRows(sent.batch, items))
        self.bytes = 0


class Rounds:
    """The exchange that asks."""

    __slots__ = (
        "_lanes",
        "_late",
        "_membership",
        "_order",
        "_random",
        "_replica",
        "_slowest_ms",
        "_turn",
        "_typical_ms",
        "_votes",
    )

    def __init__(self, parts: Parts, membership: Membership) -> None:
        self._membership = membership
        self._replica = parts.replica
        self._votes = parts.votes
        self._turn = parts.turn
        self._random = parts.random
        self._typical_ms = 1.0
        """How long it takes until a peer has voted, about."""
        self._slowest_ms = 0.0
        """How long the slowest of the last answers took, about."""
        self._lanes: list[Ballots] = []
        """By the index of the peer."""
        self._order: deque[tuple[int, Round]] = deque()
        """When they are late, oldest first."""
        self._late = Alarm(parts.turn, self._ring)

    def open(self, outbox: Outbox) -> None:
        """Be able to ask one more peer."""
        self._lanes.append(Ballots(outbox, self))

    def ask(self, asked: Round) -> None:
        """Ask all replicas. `heard` is called for each, later."""
        self._turn.counters["update_rounds"] += 1
        replicas = asked.replicas
        for peer in replicas.others:
            if peer.is_reachable:
                asked.sent |= peer.bit
                self._lanes[peer.index].add(asked)
            else:
                asked.failed |= peer.bit
        if replicas.is_mine:
            self._ask_self(asked)
        asked.asked_ms = self._turn.mono_ms
        while self._order and self._order[0][1].is_over:
            self._order.popleft()
        wait_ms = max(ROUND_MS, min(int(2 * self._slowest_ms), ROUND_MS_MAX))
        self._wait(asked, asked.asked_ms + wait_ms)

    def _wait(self, asked: Round, due_ms: int) -> None:
        """Have it late by then, and not before those that were asked before."""
        if self._order:
            due_ms = max(due_ms, self._order[-1][0])
        self._order.append((due_ms, asked))
        self._late.at(due_ms)

    def back_off_ms(self, tries: int) -> int:
        """How long to wait after so many tries that others outbid. At first about as long as they
        need to come to their end; then drawn of more and more, as two that try again at once
        outbid each other for ever."""
        longest = self._typical_ms * (1 << min(tries, BACK_OFF_DOUBLINGS))
        return 1 + int(min(longest * (0.5 + self._random.random()), BACK_OFF_MS_MAX))

    def _ask_self(self, asked: Round) -> None:
        if not self._membership.marks.counts or self._replica.trouble.code:
            asked.failed |= OWN_BIT
            return
        row, base, ballot, record = asked.row, asked.base, asked.ballot, asked.record
        try:
            if record is None or base is None:
                vote = self._votes.prepare(row, base, ballot, asked.known)
            else:
                vote = self._votes.accept(row, base, ballot, record)
        except StorageError:
            asked.failed |= OWN_BIT
            return
        asked.sent |= OWN_BIT
        believed = vote if self._is_believed(vote) else None
        self._replica.when_durable(lambda: asked.hear(OWN_BIT, believed))

    def answered(self, peer: Peer, ops: list[Round], answer: RowsVoted) -> None:
        """A replica voted."""
        took_ms = self._turn.mono_ms - ops[0].asked_ms
        self._typical_ms += (took_ms - self._typical_ms) * TYPICAL_SHARE
        self._slowest_ms = max(took_ms, self._slowest_ms * (1 - SLOWEST_SHARE))
        votes, bit = answer.votes, peer.bit
        for index, asked in enumerate(ops):  # As many: see `SentRounds`.
            vote = votes[index]
            asked.hear(bit, vote if self._is_believed(vote) else None)

    def _is_believed(self, vote: RowVote) -> bool:
        """Whether clocks may have made all that is told: nothing can be put above what is further
        ahead, and others refuse it."""
        turn, held, record = self._turn, vote.held, vote.record
        return not (
            turn.is_ahead(vote.base)
            or (held is not None and turn.is_ahead(held.version))
            or (record is not None and turn.is_ahead(record.version))
        )

    def lost(self, peer: Peer, ops: list[Round]) -> None:
        """A replica did not answer."""
        for asked in ops:
            asked.hear(peer.bit, None)

    def _ring(self) -> None:
        order, now = self._order, self._turn.mono_ms
        while order and order[0][0] <= now:
            asked = order.popleft()[1]
            asked.late()
            if not asked.is_over:
                # Who is away may be there by the next time.
                self._wait(asked, now + ROUND_MS)
        if order:
            self._late.at(order[0][0])
