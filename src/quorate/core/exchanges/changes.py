# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding the next layout: this node as a voter, and as one that proposes.

The layout of epoch k+1 is decided by single-decree Paxos (`consensus`) among the voters that layout
k names. Any member proposes: what the layout wants next (`topology.wants`), or what an operator
asks for (`topology.wishes`). Who has decided adopts it and pings those whom it concerns; the layout
goes ahead of the first frame to a peer that has an older one.

There is no leader. So that nodes do not stand in each other's way, the live voter of the lowest id
proposes what is wanting first, others TURN_MS later; whoever is beaten waits a little, of random
length, and looks whether there is anything left to propose. Two that propose at once cost time and
nothing else. Who was asked by an operator does not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from quorate.core.consensus import Proposal, Voter
from quorate.core.exchanges.founders import Founders
from quorate.core.exchanges.outbox import ITEM_BYTES, Outbox, Sent
from quorate.core.exchanges.pulls import Pulls
from quorate.core.topology.admission import is_kept_long_enough
from quorate.core.topology.layout import (
    FIRST_EPOCH,
    HASH_BYTES,
    Course,
    Layout,
    check_known,
    decode_layout,
)
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.topology.steps import follows
from quorate.core.topology.wants import Wants
from quorate.core.topology.wishes import given_up, plan_of, wished
from quorate.core.turn import Alarm, Parts
from quorate.core.values.events import Change, ChangeResult
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
from quorate.core.values.settings import majority
from quorate.core.values.wish import Preview
from quorate.errors import (
    Conflict,
    FormatUnsupported,
    NotReady,
    Outcome,
    Overloaded,
    QuorateError,
    QuorumUnreachable,
)

VOTE_META: Final = b"vote"
"""The hash of the layout that names the voters, and what this one voted."""
TURN_MS: Final = 5_000
TRY_MS: Final = 1_000
TRY_MS_MAX: Final = 30_000
"""How long a proposal waits for the votes of a phase before it is given up; twice as long after
each that was."""
BALLOT_AHEAD_MAX: Final = 1_000
"""A ballot that counts further ahead than this of all that was promised is refused: honest ones
rise by one, and one near the end would be the last for ever. So that no honest one is refused for
ever, the refusal promises as much as may be: where one voter alone promised a thousand tries, as
the disks of all others were full, the others come after it."""
NOTHING_MS: Final = 1_000
"""Until it is looked again where what is wanting cannot be had: nobody is there to take copies."""
AGAIN_MS_MIN: Final = 50
AGAIN_MS_MAX: Final = 500


ASKED_MAX: Final = 16
"""Changes that operators asked for, and that wait."""


class _Asked:
    """A change that an operator asked for."""

    __slots__ = ("deadline_ms", "epoch", "event", "plan", "proposed")

    def __init__(self, event: Change, deadline_ms: int) -> None:
        self.event = event
        self.deadline_ms = deadline_ms
        self.epoch = 0
        """Of the layout that was last proposed for it; 0 while none was."""
        self.proposed = b""
        """The hash of that one."""
        self.plan: Preview | None = None
        """What that one comes to."""


class Changes:
    """The exchange that decides layouts."""

    __slots__ = (
        "_alarm",
        "_asked",
        "_count",
        "_lost",
        "_membership",
        "_outboxes",
        "_parts",
        "_proposal",
        "_since_ms",
        "_tell",
        "_try_ms",
        "_until_ms",
        "_voter",
        "_voters_of",
        "_wanted",
        "founders",
        "has_granted",
        "has_voted",
        "wants",
    )

    def __init__(
        self,
        parts: Parts,
        membership: Membership,
        outboxes: list[Outbox],
        tell: Callable[[Collection[Peer | None]], None],
        pulls: Pulls,
    ) -> None:
        """`tell` pings these at least, so that they hear of what was decided."""
        self.wants = Wants(
            membership,
            parts.turn,
            parts.random,
            grow_after_ms=parts.settings.grow_after_ms,
            own_pulled=lambda: (pulls.pulled, pulls.unreadable),
        )
        self.founders = Founders(parts, membership, outboxes)
        self._tell = tell
        self._parts = parts
        self._membership = membership
        self._outboxes = outboxes
        self._voter, self._voters_of = Voter(None), b""
        stored = parts.replica.meta(VOTE_META)
        self.has_voted = stored is not None
        """Whether an earlier process of this node did."""
        self.has_granted = False
        """Whether this one did since the node last looked."""
        if stored is not None:
            self._voter, self._voters_of = Voter(stored[HASH_BYTES:]), stored[:HASH_BYTES]
        self._alarm = Alarm(parts.turn, self.look)
        self._proposal: Proposal | None = None
        """The try under way."""
        self._lost: list[int] = []
        """Whose disk it takes for lost."""
        self._until_ms = 0
        """When it is given up."""
        self._try_ms = TRY_MS
        """How long its phases may take."""
        self._count = 0
        """The highest count of a ballot for the open number that was seen."""
        self._asked: list[_Asked] = []
        """By operators, the first first."""
        self._wanted = 0, ""
        """What was to be proposed when last looked: the epoch, and what."""
        self._since_ms = 0
        """Since when it is that."""

    # --- voting ----------------------------------------------------------------------------

    def is_open(self, number: int) -> bool:
        """Whether this is what is to be decided next, as far as this node knows."""
        return number == self._membership.epoch + 1 > FIRST_EPOCH and self._may_vote()

    def _may_vote(self) -> bool:
        """Whether this node's disk is known to be none from before a vote."""
        return self._membership.marks.counts or self._membership.epoch == FIRST_EPOCH

    def vote(self, outbox: Outbox, message: Prepare | Accept) -> None:
        """Answer a proposer, once the vote is durable."""
        value = message.value if isinstance(message, Accept) else None
        if not self._membership.is_member(outbox.peer):
            outbox.say(Voted(message.batch, Vote(message.number, False, NO_BALLOT)))
            return
        vote = Vote(message.number, False, NO_BALLOT)
        if isinstance(message, Accept) or not self._hears_any(message.lost):
            vote = self._vote(message.number, message.ballot, value)
        answer = Voted(message.batch, vote)
        if answer.vote.is_granted:
            self._parts.replica.when_durable(lambda: outbox.say(answer))
        else:
            outbox.say(answer)

    def _hears_any(self, lost: list[int]) -> bool:
        """Whether this node hears one whose disk is said to be lost, or is that one. It is asked
        with the promise, as what others have accepted must not be refused any more."""
        members = self._membership
        heard = [each for each in lost if members.has(each)]
        return any([peer is None or peer.is_there for peer in map(members.peer, heard)])

    def _vote(self, number: int, ballot: Ballot, value: bytes | None) -> Vote:
        """This node's vote, stored with this step's batch if granted: the promise that is asked
        for, or the acceptance of `value`."""
        replica, layout = self._parts.replica, self._membership.layout
        if layout is not None and layout.hash() != self._voters_of:
            # What was voted after an earlier one is decided.
            self._voter, self._voters_of = Voter(None), layout.hash()
        may_vote = ballot > NO_BALLOT and None in self._membership.voters().values()
        if not may_vote or replica.trouble.code or (value is not None and not self._takes(value)):
            return Vote(number, False, NO_BALLOT)
        highest = self._voter.promised[0] + BALLOT_AHEAD_MAX, 0
        if ballot > highest:
            self._voter.prepare(number, highest)
            vote = Vote(number, False, NO_BALLOT)
        elif value is None:
            vote = self._voter.prepare(number, ballot)
        else:
            vote = self._voter.accept(number, ballot, value)
        self.has_granted |= vote.is_granted
        if vote.is_granted or ballot > highest:
            replica.put_meta(VOTE_META, self._voters_of + self._voter.stored())
        return vote

    def _takes(self, value: bytes) -> bool:
        """Whether this voter may accept it, by its own clock too."""
        old, new = self._membership.layout, self._read(value)
        if old is None or new is None:
            return False
        return is_kept_long_enough(old.spent, new.spent, now_s=self._now_s())

    def _now_s(self) -> int:
        return self._parts.turn.wall_ms // 1000

    def _read(self, value: bytes) -> Layout | None:
        """The layout of `encode`d bytes, if it may come next."""
        old = self._membership.layout
        try:
            new = decode_layout(value)
            check_known(new, value, level=self._parts.settings.level)
        except (msgspec.MsgspecError, ValueError, FormatUnsupported):
            return None
        return new if old is not None and follows(old, new) else None

    # --- what operators ask for --------------------------------------------------------------

    def ask(self, event: Change) -> None:
        """Tell what a change comes to, or have it decided. InvalidRequest for what cannot be."""
        parts = self._parts
        if event.wish.recover:
            self._recover(event)
            return
        layout = wished(self._membership, event.wish, now_s=self._now_s())
        before = self._membership.layout
        assert before is not None
        if event.is_preview:
            plan = plan_of(self._membership, layout or before)
            parts.turn.answers.append((event.waiter, ChangeResult(0, plan)))
            return
        if not self._membership.is_in:
            raise NotReady("this node is no member of the cluster: ask one that is")
        if len(self._asked) >= ASKED_MAX:
            raise Overloaded("too many changes are asked for at once")
        timeout_ms = event.timeout_ms or parts.settings.timeout_ms
        self._asked.append(_Asked(event, parts.turn.mono_ms + timeout_ms))
        self.look()

    def _recover(self, event: Change) -> None:
        """Go on without members that are lost, though no majority is left that could decide it."""
        membership = self._membership
        if not membership.is_in:
            raise NotReady("this node is no member of the cluster: ask one that is")
        before = membership.layout
        if event.from_epoch not in (0, membership.epoch):
            raise Conflict("the cluster has changed", epoch=membership.epoch)
        replaced = {} if before is None else self.wants.replaced(before)
        layout = given_up(membership, event.wish, replaced=replaced)
        plan = plan_of(membership, layout)
        epoch = 0
        if not event.is_preview:
            epoch = layout.epoch
            self._parts.turn.note(
                "error", "recovered", epoch=epoch, lost=len(layout.lost), gone=plan.gone
            )
            membership.adopt(layout)
            self._tell(membership.roster.peers)
        self._parts.turn.answers.append((event.waiter, ChangeResult(epoch, plan)))

    def adopted(self, layout: Layout) -> None:
        """Another layout is in force: what was asked for may be decided by that."""
        for asked in [each for each in self._asked if each.proposed == layout.hash()]:
            assert asked.plan is not None
            self._answer(asked, ChangeResult(layout.epoch, asked.plan))
        self._count = 0
        self.look_soon()

    def _answer(self, asked: _Asked, result: ChangeResult | QuorateError) -> None:
        if isinstance(result, QuorateError):
            # Of the number that it was proposed for, another layout is known to be decided; if not,
            # it may have been, or may yet be.
            is_known = asked.epoch in (0, self._membership.epoch)
            result.outcome = Outcome.NOT_APPLIED if is_known else Outcome.UNKNOWN
        self._asked.remove(asked)
        self._parts.turn.answers.append((asked.event.waiter, result))

    def _end_late(self) -> None:
        """Answer those whose time is over."""
        for asked in list(self._asked):
            if self._parts.turn.mono_ms >= asked.deadline_ms:
                reason = "a majority of the voters has not answered in time"
                self._answer(asked, QuorumUnreachable(reason))
            else:
                self._alarm.at(asked.deadline_ms)

    def _propose_asked(self, layout: Layout) -> bool:
        """Propose what operators ask for; False if nothing is to be proposed for any."""
        membership = self._membership
        for asked in list(self._asked):
            event = asked.event
            if event.from_epoch not in (0, layout.epoch):
                # What was proposed for it, if it was, is decided only if that is an earlier layout.
                is_sure = not asked.proposed or layout.epoch == event.from_epoch + 1
                outcome = Outcome.NOT_APPLIED if is_sure else Outcome.UNKNOWN
                reason = "the cluster has changed since: ask for the plan again"
                self._answer(asked, Conflict(reason, outcome=outcome, epoch=layout.epoch))
                continue
            try:
                wanted = wished(membership, event.wish, now_s=self._now_s())
                if wanted is not None and self._may_propose():
                    self._check_goes_on(wanted)
            except QuorateError as error:
                self._answer(asked, error)
                continue
            if wanted is None:
                self._answer(asked, ChangeResult(0, plan_of(membership, layout)))
            elif self._may_propose():
                asked.plan = plan_of(membership, wanted)
                asked.epoch, asked.proposed = wanted.epoch, wanted.hash()
                self._propose(layout, wanted)
                return True
        return False

    # --- proposing -------------------------------------------------------------------------

    def look_soon(self) -> None:
        """`look`, after this step's events."""
        self._alarm.soon()

    def look(self) -> None:
        """Propose what is wanting, if anything is and it is this node's turn."""
        now, membership = self._parts.turn.mono_ms, self._membership
        self._end_late()
        tried, layout = self._proposal, membership.layout
        if tried is not None and tried.number == membership.epoch + 1 and now < self._until_ms:
            self._alarm.at(self._until_ms)
            return
        if tried is not None and tried.number == membership.epoch + 1:
            self._try_ms = min(2 * self._try_ms, TRY_MS_MAX)
            self._parts.turn.note_rarely("warning", "layout_undecided", epoch=tried.number)
        self._proposal = None
        if layout is not None and self._asked and self._propose_asked(layout):
            return
        want = self.wants.next()
        if layout is None or want is None:
            self._wanted = 0, ""
            return
        if self._wanted != (layout.epoch, want.what):
            self._wanted, self._since_ms = (layout.epoch, want.what), now
        due_ms = (
            self._since_ms + want.wait_ms + (0 if want.is_mine or self._is_my_turn() else TURN_MS)
        )
        if now < due_ms:
            self._alarm.at(due_ms)
            return
        # Not before: what is wanting is so for as long though a voter is not heard for a moment.
        wanted = want.make() if self._may_propose() else None
        if wanted is None or self._away_after(wanted):
            self._alarm.at(now + NOTHING_MS)
        else:
            self._propose(layout, wanted)

    def _propose(self, layout: Layout, wanted: Layout) -> None:
        random = self._parts.random
        self._count = min(self._count + 1, BALLOT_COUNT_MAX)
        ballot = self._count, random.getrandbits(BALLOT_BITS)
        voters = frozenset(layout.voters)
        self._proposal = Proposal(layout.epoch + 1, ballot, wanted.encode(), voters)
        self._lost = [each for each in wanted.lost if each not in layout.lost]
        self._until_ms = self._parts.turn.mono_ms + self._try_ms
        self._alarm.at(self._until_ms)
        self._ask(self._proposal)

    def _may_propose(self) -> bool:
        """Whether this node is a member, and a majority of the voters can be asked."""
        is_asked = self._membership.is_in and self._may_vote()
        return is_asked and self._membership.has_majority()

    def _away_after(self, wanted: Layout) -> list[str]:
        """The URLs of the voters of `wanted` that cannot be reached, if those that can are no
        majority of them; else nothing. Example: of three, one leaves and has handed over its last
        copy, and another is down. The first does not go yet: if the other's disk is lost, it takes
        two of the three to decide so."""
        members, voters = self._membership, wanted.voters
        by_id = members.roster.by_id
        peers = [members.peer(each) if members.has(each) else by_id.get(each) for each in voters]
        away = [peer.url for peer in peers if peer is not None and not peer.is_there]
        return away if len(voters) - len(away) < majority(len(voters)) else []

    def _check_goes_on(self, wanted: Layout) -> None:
        """Conflict if nobody could decide what follows it."""
        if away := self._away_after(wanted):
            reason = f"{', '.join(away)} would have to vote on what follows, and cannot be reached"
            remedy = "start them first, or have them leave with --force if their disks are lost"
            raise Conflict(f"{reason}: {remedy}", epoch=self._membership.epoch)

    def _is_my_turn(self) -> bool:
        """Whether this node is the first of the voters that are there."""
        for _, peer in sorted(self._membership.voters().items()):
            if peer is None or peer.is_there:
                return peer is None
        return False

    def _ask(self, proposal: Proposal) -> None:
        """Ask every voter that can be reached for what the proposal needs now."""
        number, ballot, lost = proposal.number, proposal.ballot, self._lost
        value = proposal.value if proposal.is_accepting else None
        for voter, peer in self._membership.voters().items():
            if peer is None:
                if value is not None or not self._hears_any(lost):
                    self._vote_here(proposal, voter, value)
            elif peer.is_there:
                outbox = self._outboxes[peer.index]
                size = ITEM_BYTES + len(value or b"")
                sent = Sent(outbox, self, Voted, [(proposal, voter)], size)
                if value is None:
                    outbox.send(sent, Prepare(sent.batch, number, ballot, lost))
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
        """A voter did not answer, or has another layout. The try ends at its time; at once where
        too few voters are there, so that there is another as soon as they are back."""
        del peer
        if ops[0][0] is self._proposal and not self._may_propose():
            self._proposal = None

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
        before = self._membership.layout
        if before is None or layout.is_news_after(before):
            bound = sum([each.is_bound for each in layout.members])
            self._parts.turn.note(
                "info",
                "layout_decided",
                epoch=layout.epoch,
                members=len(layout.members),
                bound=bound,
                course=Course(layout.course).name.lower(),
            )
        self._try_ms = TRY_MS
        membership = self._membership
        membership.adopt(layout)
        # Who is to get copies begins; who leads, should this node die, goes on.
        gainers = map(membership.peer, layout.gainers())
        self._tell({*membership.voters().values(), *gainers})
