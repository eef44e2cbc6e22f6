# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding the next layout: this node as a voter, and as one that proposes.

The layout of epoch k+1 is decided by single-decree Paxos (`consensus`) among the voters that layout
k names. Any member proposes what it finds wanting: today that is *binding*, to say which disk is
the founder at a URL (`layout`). Who has decided adopts it and pings everyone; the layout goes ahead
of the first frame to a peer that has an older one.

There is no leader. So that nodes do not stand in each other's way, the live voter of the lowest id
proposes first, others TURN_MS later; whoever is beaten waits a little, of random length, and looks
whether there is anything left to propose. Two that propose at once cost time and nothing else.

The second layout waits until a majority of the founders was met, and then SETTLE_MS for the rest: a
founder that is not bound holds nothing until it is, and before the second layout nobody does. Whom
to bind is known for sure, since our own link leads to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from quorate.core.consensus import Proposal, Voter
from quorate.core.exchanges.outbox import ITEM_BYTES, Outbox, Sent
from quorate.core.topology.layout import (
    CLUSTER_BYTES,
    FIRST_EPOCH,
    HASH_BYTES,
    Layout,
    bound_layout,
    decode_layout,
    follows,
)
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import majority
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import (
    BALLOT_BITS,
    BALLOT_COUNT_MAX,
    NO_BALLOT,
    Accept,
    Ballot,
    Prepare,
    Vote,
    Voted,
)

VOTE_META: Final = b"vote"
"""The hash of the layout that names the voters, and what this one voted."""
SETTLE_MS: Final = 2_000
TURN_MS: Final = 5_000
TRY_MS: Final = 1_000
TRY_MS_MAX: Final = 30_000
"""How long a proposal waits for the votes of a phase before it is given up; twice as long after
each that was."""
BALLOT_AHEAD_MAX: Final = 1_000
"""A ballot that counts further ahead than this of all that was promised is refused: honest ones
rise by one, and one near the end would be the last for ever."""
AGAIN_MS_MIN: Final = 50
AGAIN_MS_MAX: Final = 500


class Changes:
    """The exchange that decides layouts."""

    __slots__ = (
        "_alarm",
        "_count",
        "_membership",
        "_outboxes",
        "_parts",
        "_ping",
        "_proposal",
        "_since_ms",
        "_try_ms",
        "_until_ms",
        "_voter",
        "_voters_of",
    )

    def __init__(
        self,
        parts: Parts,
        membership: Membership,
        outboxes: list[Outbox],
        ping: Callable[[list[Peer]], None],
        *,
        stored: bytes | None,
    ) -> None:
        """`stored`: VOTE_META, as an earlier process of this node left it."""
        self._ping = ping
        self._parts = parts
        self._membership = membership
        self._outboxes = outboxes
        self._voter, self._voters_of = Voter(None), b""
        if stored is not None:
            self._voter, self._voters_of = Voter(stored[HASH_BYTES:]), stored[:HASH_BYTES]
        self._alarm = Alarm(parts.turn, self.look)
        self._proposal: Proposal | None = None
        """The try under way."""
        self._until_ms = 0
        """When it is given up."""
        self._try_ms = TRY_MS
        """How long its phases may take."""
        self._count = 0
        """The highest count of a ballot that was seen."""
        self._since_ms: int | None = None
        """Since when there is something to propose; None while there is not."""

    # --- voting ----------------------------------------------------------------------------

    def is_open(self, number: int) -> bool:
        """Whether this is what is to be decided next, as far as this node knows."""
        return number == self._membership.epoch + 1 > FIRST_EPOCH

    def vote(self, outbox: Outbox, message: Prepare | Accept) -> None:
        """Answer a proposer, once the vote is durable."""
        value = message.value if isinstance(message, Accept) else None
        if not self._membership.is_member(outbox.peer):
            outbox.say(Voted(message.batch, Vote(message.number, False, NO_BALLOT)))
            return
        answer = Voted(message.batch, self._vote(message.number, message.ballot, value))
        if answer.vote.is_granted:
            self._parts.replica.when_durable(lambda: outbox.say(answer))
        else:
            outbox.say(answer)

    def _vote(self, number: int, ballot: Ballot, value: bytes | None) -> Vote:
        """This node's vote, stored with this step's batch if granted: the promise that is asked
        for, or the acceptance of `value`."""
        replica, layout = self._parts.replica, self._membership.layout
        if layout is not None and layout.hash() != self._voters_of:
            # What was voted after an earlier one is decided.
            self._voter, self._voters_of = Voter(None), layout.hash()
        is_near = NO_BALLOT < ballot <= (self._voter.promised[0] + BALLOT_AHEAD_MAX, 0)
        may_vote = is_near and None in self._membership.voters().values()
        if not may_vote or replica.trouble.code or (value is not None and not self._read(value)):
            return Vote(number, False, NO_BALLOT)
        if value is None:
            vote = self._voter.prepare(number, ballot)
        else:
            vote = self._voter.accept(number, ballot, value)
        if vote.is_granted:
            replica.put_meta(VOTE_META, self._voters_of + self._voter.stored())
        return vote

    def _read(self, value: bytes) -> Layout | None:
        """The layout of `encode`d bytes, if it may come next."""
        old = self._membership.layout
        try:
            new = decode_layout(value)
        except (msgspec.MsgspecError, ValueError):
            return None
        return new if old is not None and follows(old, new) else None

    # --- proposing -------------------------------------------------------------------------

    def look_soon(self) -> None:
        """`look`, after this step's events."""
        self._alarm.soon()

    def look(self) -> None:
        """Propose what is wanting, if anything is and it is this node's turn."""
        now, membership = self._parts.turn.mono_ms, self._membership
        tried, layout = self._proposal, membership.layout
        if tried is not None and tried.number == membership.epoch + 1 and now < self._until_ms:
            self._alarm.at(self._until_ms)
            return
        if tried is not None and tried.number == membership.epoch + 1:
            self._try_ms = min(2 * self._try_ms, TRY_MS_MAX)
            self._parts.turn.note_rarely("warning", "layout_undecided", epoch=tried.number)
        self._proposal = None
        ids, unmet = membership.founders()
        if layout is None or not ids or not self._is_reachable():
            self._since_ms = None
            return
        if layout.epoch == FIRST_EPOCH and len(ids) < majority(len(layout.members)):
            self._since_ms = None
            return
        if self._since_ms is None:
            self._since_ms = now
        wait_ms = SETTLE_MS if unmet and layout.epoch == FIRST_EPOCH else 0
        due_ms = self._since_ms + wait_ms + (0 if self._is_my_turn() else TURN_MS)
        if now < due_ms:
            self._alarm.at(due_ms)
            return
        random = self._parts.random
        self._count = min(self._count + 1, BALLOT_COUNT_MAX)
        value = bound_layout(layout, ids, drawn=random.randbytes(CLUSTER_BYTES // 2)).encode()
        ballot = self._count, random.getrandbits(BALLOT_BITS)
        self._proposal = Proposal(layout.epoch + 1, ballot, value, frozenset(layout.voters))
        self._until_ms = now + self._try_ms
        self._alarm.at(self._until_ms)
        self._ask(self._proposal)

    def _is_reachable(self) -> bool:
        """Whether a majority of the voters can be asked."""
        voters = self._membership.voters().values()
        live = [peer is None or peer.is_there for peer in voters]
        return sum(live) >= majority(len(live))

    def _is_my_turn(self) -> bool:
        """Whether this node is the first of the voters that are there."""
        for _, peer in sorted(self._membership.voters().items()):
            if peer is None or peer.is_there:
                return peer is None
        return False

    def _ask(self, proposal: Proposal) -> None:
        """Ask every voter that can be reached for what the proposal needs now."""
        number, ballot = proposal.number, proposal.ballot
        value = proposal.value if proposal.is_accepting else None
        for voter, peer in self._membership.voters().items():
            if peer is None:
                self._vote_here(proposal, voter, value)
            elif peer.is_there:
                outbox = self._outboxes[peer.index]
                size = ITEM_BYTES + len(value or b"")
                sent = Sent(outbox, self, Voted, [(proposal, voter)], size)
                if value is None:
                    outbox.send(sent, Prepare(sent.batch, number, ballot))
                else:
                    outbox.send(sent, Accept(sent.batch, number, ballot, value))

    def _vote_here(self, proposal: Proposal, voter: int, value: bytes | None) -> None:
        vote = self._vote(proposal.number, proposal.ballot, value)
        if vote.is_granted:
            self._parts.replica.when_durable(lambda: self._hear(proposal, voter, vote))

    def answered(self, peer: Peer, ops: list[tuple[Proposal, int]], answer: Voted) -> None:
        """A voter has voted."""
        del peer
        for proposal, voter in ops:
            self._hear(proposal, voter, answer.vote)

    def lost(self, peer: Peer, ops: list[tuple[Proposal, int]]) -> None:
        """A voter did not answer, or has another layout: the try ends at its time."""

    def _hear(self, proposal: Proposal, voter: int, vote: Vote) -> None:
        if proposal is not self._proposal:
            return
        if vote.promised > proposal.ballot:
            # Beaten: by who may decide it now.
            self._count = max(self._count, vote.promised[0])
            self._proposal = None
            again_ms = self._parts.random.randint(AGAIN_MS_MIN, AGAIN_MS_MAX)
            self._alarm.at(self._parts.turn.mono_ms + again_ms)
        elif proposal.hear(voter, vote):
            if not proposal.is_decided:
                self._until_ms = self._parts.turn.mono_ms + self._try_ms
                self._ask(proposal)
                return
            decided = self._read(proposal.value)
            if decided is not None:
                self._adopt(decided)

    def _adopt(self, layout: Layout) -> None:
        """The voters agreed on this one, and we are the first to know."""
        bound = sum([each.is_bound for each in layout.members])
        self._parts.turn.note(
            "info", "layout_decided", epoch=layout.epoch, members=len(layout.members), bound=bound
        )
        self._try_ms = TRY_MS
        self._membership.adopt(layout)
        self._ping(self._membership.roster.peers)
