# SPDX-License-Identifier: GPL-3.0-or-later
"""Single-decree Paxos (Lamport, "Paxos Made Simple", 2001): one value for one number, decided once.

Knows nothing of what is decided, of time, of messages or of disks. The numbers form a log: value
k+1 is decided among the voters that value k names, so an acceptor votes on k+1 only when it holds
k, and what it promised for earlier numbers is of no interest any more.

Invariants (each is broken on purpose in `tests/simulation/test_log.py`): an acceptor's promise and
acceptance are durable before they are told; a ballot is never used for two values; a proposer that
hears of an accepted value proposes that of the highest ballot, and not its own.
"""

from __future__ import annotations

import msgspec

from quorate.core.values.messages import NO_BALLOT, Ballot, Vote
from quorate.core.values.settings import majority


def may_promise(ballot: Ballot, promised: Ballot) -> bool:
    """Whether a voter that promised one ballot may promise another."""
    # By parts: compiled, to compare pairs makes two objects first, four times the cost.
    return ballot[0] > promised[0] or (ballot[0] == promised[0] and ballot[1] > promised[1])


def may_accept(ballot: Ballot, promised: Ballot) -> bool:
    """Whether it may accept what is proposed under it. To accept is to promise."""
    return ballot[0] > promised[0] or (ballot[0] == promised[0] and ballot[1] >= promised[1])


class Voter:
    """What one voter promised and accepted for the one number that is open."""

    __slots__ = ("_kept",)

    def __init__(self, stored: bytes | None) -> None:
        """`stored`: as `stored` gave it to an earlier process."""
        self._kept = Vote(0, True, NO_BALLOT)
        if stored is not None:
            self._kept = msgspec.msgpack.decode(stored, type=Vote)

    @property
    def promised(self) -> Ballot:
        """The highest ballot that it promised."""
        return self._kept.promised

    def stored(self) -> bytes:
        """What is to be durable before the last vote is told."""
        return msgspec.msgpack.encode(self._kept)

    def prepare(self, number: int, ballot: Ballot) -> Vote:
        """Promise to take nothing of a lower ballot, and tell what was accepted; or refuse."""
        kept = self._kept_of(number)
        if not may_promise(ballot, kept.promised):
            return Vote(number, False, kept.promised)
        self._kept = Vote(number, True, ballot, kept.accepted, kept.value)
        return self._kept

    def accept(self, number: int, ballot: Ballot, value: bytes) -> Vote:
        """Accept a value, unless a higher ballot was promised."""
        kept = self._kept_of(number)
        if not may_accept(ballot, kept.promised):
            return Vote(number, False, kept.promised)
        self._kept = Vote(number, True, ballot, ballot, value)
        return Vote(number, True, ballot, ballot)

    def _kept_of(self, number: int) -> Vote:
        return self._kept if self._kept.number == number else Vote(number, True, NO_BALLOT)


class Proposal:
    """One try to have a value decided: first ask for promises, then for acceptance."""

    __slots__ = (
        "_best",
        "_promises",
        "_yes",
        "ballot",
        "is_accepting",
        "number",
        "value",
        "voters",
    )

    def __init__(self, number: int, ballot: Ballot, value: bytes, voters: frozenset[int]) -> None:
        self.number = number
        self.ballot = ballot
        self.value = value
        """What is proposed: once promises tell of an accepted value, that one."""
        self.voters = voters
        self.is_accepting = False
        """Whether it asks for acceptance."""
        self._promises: set[int] = set()
        self._yes: set[int] = set()
        self._best = NO_BALLOT

    def hear(self, voter: int, vote: Vote) -> bool:
        """Take a voter's answer. True if this completes a majority: from then on acceptance is to
        be asked for, or the value is decided."""
        is_mine = vote.number == self.number and vote.promised == self.ballot
        if not (is_mine and vote.is_granted and voter in self.voters):
            return False
        # A promise may come when acceptance is asked for already: it is none.
        is_acceptance = vote.accepted == self.ballot
        heard = self._yes if is_acceptance else self._promises
        if voter in heard or is_acceptance is not self.is_accepting:
            return False
        heard.add(voter)
        if not is_acceptance and vote.accepted > self._best:
            self._best, self.value = vote.accepted, vote.value
        if len(heard) != self.needed:
            return False
        self.is_accepting = True
        return True

    @property
    def needed(self) -> int:
        """A majority of the voters."""
        return majority(len(self.voters))

    @property
    def is_decided(self) -> bool:
        """Whether a majority accepted the value."""
        return len(self._yes) >= self.needed
