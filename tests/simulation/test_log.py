# SPDX-License-Identifier: GPL-3.0-or-later
"""One number of the log has one value (`core.consensus`), whatever is late, lost or dies; and each
rule that this rests on, broken on purpose, is noticed."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.consensus import Proposal
from quorate.core.values.messages import NO_BALLOT, Ballot, Vote
from tests.simulation.log_world import Asked, LogNode, LogWorld

SEEDS = range(300)
SEEDS_PER_TEST = 100


class ForgetsPromise(LogWorld):
    """A promise is told, and gone after a crash; what was accepted is kept."""

    def keep(self, node: LogNode, stored: bytes, asked: Asked) -> None:
        if asked.value is not None:
            super().keep(node, stored, asked)


class ForgetsAcceptance(LogWorld):
    """What was accepted is gone after a crash; the promise is kept."""

    def keep(self, node: LogNode, stored: bytes, asked: Asked) -> None:
        vote = msgspec.msgpack.decode(stored, type=Vote)
        promise = msgspec.structs.replace(vote, accepted=NO_BALLOT, value=b"")
        super().keep(node, msgspec.msgpack.encode(promise), asked)


class VotesAgainWithAnEmptyDisk(LogWorld):
    """A new disk has the lost one's id."""

    def name_of_new_disk(self, lost: int) -> int:
        return lost


class AsksTheVotersOfItsOwnValue(LogWorld):
    """Whoever proposes also says who votes on it."""

    def voters(self, before: bytes, wish: bytes) -> tuple[int, ...]:
        del before
        return super().voters(wish, wish)


class NeedsHalf(LogWorld):
    """Half of the voters are enough, and where they are three one is."""

    def needed(self, voters: tuple[int, ...]) -> frozenset[int]:
        return frozenset(self.random.sample(voters, max(len(voters) - 2, 1)))


class UsesABallotTwice(LogWorld):
    """A ballot is a count, which starts again with the process, and which others have too; and it
    is promised to whoever asks. (Either alone does no harm: of those who use one ballot, one finds
    a majority that has not promised it.)"""

    def ballot(self, node: LogNode) -> Ballot:
        return super().ballot(node)[0], 1

    def vote(self, node: LogNode, asked: Asked) -> Vote:
        vote = super().vote(node, asked)
        if asked.value is None and vote.promised == asked.ballot:
            return msgspec.msgpack.decode(node.voter.stored(), type=Vote)
        return vote


class IgnoresWhatWasAccepted(LogWorld):
    """It proposes its own value whatever the promises tell of."""

    def hear(self, node: LogNode, proposal: Proposal, voter: int, vote: Vote) -> bool:
        is_complete = super().hear(node, proposal, voter, vote)
        if not proposal.is_decided:
            proposal.value = node.wish
        return is_complete


class TakesALatePromiseForAcceptance(LogWorld):
    """A promise that comes when acceptance is asked for counts as that."""

    def hear(self, node: LogNode, proposal: Proposal, voter: int, vote: Vote) -> bool:
        if proposal.is_accepting:
            vote = msgspec.structs.replace(vote, accepted=vote.promised)
        return super().hear(node, proposal, voter, vote)


@pytest.mark.parametrize("first", SEEDS[::SEEDS_PER_TEST])
def test_no_number_has_two_values(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        violations = LogWorld(seed).run().violations()
        assert not violations, f"LogWorld({seed}): {violations}"


def test_the_worlds_reach_what_they_are_to_test() -> None:
    """They decide, again and again, though nodes stand in each other's way."""
    reached = dict.fromkeys(("crashes", "losses", "refusals", "taken_up"), 0)
    lengths = []
    for seed in range(1_000, 1_040):
        world = LogWorld(seed).run()
        lengths.append(len(world.decided))
        for name in reached:
            reached[name] += world.seen[name]
    assert min(reached.values()) >= 40, reached
    assert sum(lengths) >= 200, lengths


@pytest.mark.parametrize(
    ("broken", "seeds"),
    [
        (ForgetsPromise, 600),
        (ForgetsAcceptance, 300),
        (VotesAgainWithAnEmptyDisk, 300),
        (AsksTheVotersOfItsOwnValue, 300),
        (NeedsHalf, 300),
        (UsesABallotTwice, 300),
        (IgnoresWhatWasAccepted, 300),
        (TakesALatePromiseForAcceptance, 300),
    ],
)
def test_each_rule_is_needed(broken: type[LogWorld], seeds: int) -> None:
    """Broken, it is noticed within so many worlds."""
    assert any(broken(seed).run().violations() for seed in range(seeds))
