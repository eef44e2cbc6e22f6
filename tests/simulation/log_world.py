# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that decide a log, value after value, with the store's own voters and proposals.

Value k names the voters of number k+1, as layouts do. Messages come late, out of order or not at
all; proposers die between the phases; a crash loses what was not durable; a lost disk comes back as
another node. Whatever happens, one number has one value. What the nodes have to do right for that,
besides what `consensus` does, is a method each here, so that a test can do it wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from random import Random

import msgspec

from quorate.core.consensus import Proposal, Voter
from quorate.core.values.messages import BALLOT_BITS, Ballot, Vote

END_MS = 1_500.0
LAGS_MS = (1, 3, 30, 30)
TRY_MS = 150.0
"""After that a proposer gives up, or tries again."""
LOST = 0.06
"""Of the messages."""
CRASHES = 0.1
"""Of the votes, after each of which the voter crashes: that is when most is at stake."""


class Value(msgspec.Struct, frozen=True, array_like=True):
    """What is decided."""

    name: str
    voters: tuple[int, ...]


class Asked(msgspec.Struct, frozen=True):
    """What a voter is asked for: a promise, or acceptance of a value."""

    number: int
    before: bytes
    """The value before, for who has not heard of it."""
    ballot: Ballot
    value: bytes | None


class LogNode:
    """One disk, and the process on it."""

    def __init__(self, name: int, first: bytes, random: Random) -> None:
        self.name = name
        self.number = 1
        self.value = first
        """The newest that it knows to be decided; durable, as all later votes depend on it."""
        self.kept: bytes | None = None
        """What the disk has of what it promised and accepted."""
        self.sync_ms = random.choice((0.1, 1, 10))
        self.life = 0
        self.start()

    def start(self) -> None:
        """Begin with what the disk has."""
        self.life += 1
        self.voter = Voter(self.kept)
        self.proposal: Proposal | None = None
        self.until_ms = 0.0
        """When it is given up."""
        self.wish = b""
        self.count = 0

    def adopt(self, number: int, value: bytes) -> None:
        """Hear of what was decided."""
        if number > self.number:
            self.number, self.value = number, value


class LogWorld:
    """One seeded run."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(f"log {seed}")
        self.now = 0.0
        self.seen: Counter[str] = Counter()
        """What happened, for tests that this world does what it is for."""
        self.decided: defaultdict[int, set[bytes]] = defaultdict(set)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._entered = 0
        count = random.choice((5, 6, 7))
        self._first = _encode(Value("first", self._draw_voters(range(count))))
        self.nodes = {name: LogNode(name, self._first, random) for name in range(count)}
        """Those whose disk is not lost."""
        self._named = count
        self._pause_ms = random.choice((8, 15, 25))
        for _ in range(2):
            self._after(0, self._act)

    def run(self) -> LogWorld:
        """Play it to the end."""
        while self._queue:
            self.now, _, call = heappop(self._queue)
            call()
        return self

    def violations(self) -> dict[int, set[bytes]]:
        """The numbers for which more than one value was decided."""
        return {number: values for number, values in self.decided.items() if len(values) > 1}

    # --- the rules ---------------------------------------------------------------------------

    def vote(self, node: LogNode, asked: Asked) -> Vote:
        """Promise or accept, if nothing promised before is against it."""
        if asked.value is None:
            return node.voter.prepare(asked.number, asked.ballot)
        return node.voter.accept(asked.number, asked.ballot, asked.value)

    def keep(self, node: LogNode, stored: bytes, asked: Asked) -> None:
        """Make durable what was promised and accepted, before the vote is told."""
        del asked
        node.kept = stored

    def name_of_new_disk(self, lost: int) -> int:
        """Whoever votes with another disk is another voter."""
        del lost
        self._named += 1
        return self._named - 1

    def voters(self, before: bytes, wish: bytes) -> tuple[int, ...]:
        """Who votes is named by the value before."""
        del wish
        return _decode(before).voters

    def needed(self, voters: tuple[int, ...]) -> frozenset[int]:
        """The voters of which a majority is needed."""
        return frozenset(voters)

    def ballot(self, node: LogNode) -> Ballot:
        """One that was never used, by an earlier life of the process neither."""
        node.count += 1
        return node.count, self.random.getrandbits(BALLOT_BITS)

    def hear(self, node: LogNode, proposal: Proposal, voter: int, vote: Vote) -> bool:
        """Take a vote for what it is, and propose what it tells of."""
        del node
        return proposal.hear(voter, vote)

    # --- what happens ------------------------------------------------------------------------

    def _act(self) -> None:
        random, draw = self.random, self.random.random()
        node = random.choice(list(self.nodes.values()))
        if draw < 0.8:
            if node.proposal is None or node.until_ms <= self.now:
                self._propose(node)
        elif draw < 0.9:
            other = random.choice(list(self.nodes.values()))
            node.adopt(other.number, other.value)
        elif draw < 0.99:
            self._crash(node)
        else:
            self._lose_disk(node)
        if self.now < END_MS:
            self._after(random.random() * self._pause_ms, self._act)

    def _crash(self, node: LogNode) -> None:
        self.seen["crashes"] += 1
        node.start()

    def _lose_disk(self, node: LogNode) -> None:
        self.seen["losses"] += 1
        del self.nodes[node.name]
        name = self.name_of_new_disk(node.name)
        self.nodes[name] = LogNode(name, self._first, self.random)

    def _propose(self, node: LogNode) -> None:
        self.seen["proposals"] += 1
        number, before = node.number + 1, node.value
        voters = self._draw_voters(self.nodes)
        wish = _encode(Value(f"{node.name}/{self.seen['proposals']}", voters))
        asked = self.voters(before, wish)
        proposal = Proposal(number, self.ballot(node), wish, self.needed(asked))
        node.proposal, node.wish, node.until_ms = proposal, wish, self.now + TRY_MS
        self._ask(node, proposal, before, asked)

    def _ask(
        self, node: LogNode, proposal: Proposal, before: bytes, voters: tuple[int, ...]
    ) -> None:
        value = proposal.value if proposal.is_accepting else None
        asked = Asked(proposal.number, before, proposal.ballot, value)

        def answered(voter: int, vote: Vote) -> None:
            if proposal is not node.proposal:
                return
            if vote.promised > proposal.ballot:
                node.count, node.proposal = vote.promised[0], None
            elif self.hear(node, proposal, voter, vote):
                if proposal.is_decided:
                    self._decide(node, proposal)
                else:
                    self.seen["taken_up"] += proposal.value != node.wish
                    self._ask(node, proposal, before, voters)

        for voter in voters:
            self._send(partial(self._vote, node, voter, asked, answered))

    def _vote(
        self, asker: LogNode, voter: int, asked: Asked, answered: Callable[[int, Vote], None]
    ) -> None:
        node = self.nodes.get(voter)
        if node is None:
            return
        node.adopt(asked.number - 1, asked.before)
        if asked.number <= node.number:
            number, value = node.number, node.value
            self._send(lambda: asker.adopt(number, value))
            return
        vote = self.vote(node, asked)
        stored, life = node.voter.stored(), node.life
        self.seen["refusals"] += not vote.is_granted

        def durable() -> None:
            if node.life == life and self.nodes.get(voter) is node:
                self.keep(node, stored, asked)
                self._send(lambda: answered(voter, vote))
                if self.random.random() < CRASHES:
                    self._crash(node)

        self._after(node.sync_ms, durable)

    def _decide(self, node: LogNode, proposal: Proposal) -> None:
        self.decided[proposal.number].add(proposal.value)
        node.adopt(proposal.number, proposal.value)
        node.proposal = None

    # --- time and chance ---------------------------------------------------------------------

    def _after(self, ms: float, call: Callable[[], None]) -> None:
        self._entered += 1
        heappush(self._queue, (self.now + ms, self._entered, call))

    def _send(self, deliver: Callable[[], None]) -> None:
        if self.random.random() > LOST:
            self._after(self.random.choice(LAGS_MS) * self.random.random(), deliver)

    def _draw_voters(self, names: range | dict[int, LogNode]) -> tuple[int, ...]:
        count = self.random.choice((1, 2, 3, 3, 3, 4, 5))
        return tuple(self.random.sample(sorted(names), min(count, len(names))))


def _encode(value: Value) -> bytes:
    return msgspec.msgpack.encode(value)


def _decode(value: bytes) -> Value:
    return msgspec.msgpack.decode(value, type=Value)
