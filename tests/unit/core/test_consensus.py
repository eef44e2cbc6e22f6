# SPDX-License-Identifier: GPL-3.0-or-later
"""Single-decree Paxos, rule by rule; `tests/simulation/test_log.py` shows what they are for."""

from __future__ import annotations

import pytest

from quorate.core.consensus import Proposal, Voter
from quorate.core.topology.layout import VOTERS_MAX
from quorate.core.values.messages import NO_BALLOT, Ballot, Vote
from quorate.core.values.settings import majority

LOW, MIDDLE, HIGH = (1, 7), (2, 3), (2, 4)
"""Ballots: the count goes before the number that was drawn."""


def _proposal(*voters: int, ballot: Ballot = MIDDLE) -> Proposal:
    return Proposal(5, ballot, b"mine", frozenset(voters or (1, 2, 3)))


def _promise(
    *, accepted: Ballot = NO_BALLOT, value: bytes = b"", ballot: Ballot = MIDDLE, number: int = 5
) -> Vote:
    return Vote(number, True, ballot, accepted, value)


def _acceptance() -> Vote:
    return Vote(5, True, MIDDLE, MIDDLE)


def _accepting(*voters: int) -> Proposal:
    """One that has its promises, of those named first."""
    proposal = _proposal(*voters)
    for voter in (voters or (1, 2, 3))[: proposal.needed]:
        proposal.hear(voter, _promise())
    assert proposal.is_accepting
    return proposal


def test_what_decides_a_number_is_the_majority_that_the_quorums_have() -> None:
    """Paxos alone knows nothing of the topology, which has the rule of its own."""
    for count in range(1, VOTERS_MAX + 1):
        assert _proposal(*range(1, count + 1)).needed == majority(count)


# --- who votes ---------------------------------------------------------------------------------


def test_a_first_promise_tells_of_nothing() -> None:
    assert Voter(None).prepare(5, LOW) == Vote(5, True, LOW)


def test_a_ballot_is_promised_once_and_no_lower_one_after_it() -> None:
    """Whoever asks with a ballot that was used already may have another value."""
    voter = Voter(None)
    voter.prepare(5, MIDDLE)
    for ballot in (MIDDLE, LOW, NO_BALLOT):
        assert voter.prepare(5, ballot) == Vote(5, False, MIDDLE)
    assert voter.prepare(5, HIGH) == Vote(5, True, HIGH)


def test_what_was_promised_may_be_accepted_and_may_come_twice() -> None:
    voter = Voter(None)
    voter.prepare(5, MIDDLE)
    for _ in range(2):
        assert voter.accept(5, MIDDLE, b"v") == Vote(5, True, MIDDLE, MIDDLE)


def test_nothing_lower_than_what_was_promised_is_accepted() -> None:
    voter = Voter(None)
    voter.prepare(5, MIDDLE)
    assert voter.accept(5, LOW, b"v") == Vote(5, False, MIDDLE)
    assert voter.prepare(5, HIGH) == Vote(5, True, HIGH), "nothing was accepted"


def test_a_higher_ballot_is_accepted_without_a_promise_and_is_one() -> None:
    voter = Voter(None)
    voter.prepare(5, LOW)
    assert voter.accept(5, MIDDLE, b"v") == Vote(5, True, MIDDLE, MIDDLE)
    for ballot in (LOW, MIDDLE):
        assert voter.prepare(5, ballot) == Vote(5, False, MIDDLE)
    assert voter.accept(5, LOW, b"other") == Vote(5, False, MIDDLE)


def test_a_promise_tells_what_was_accepted_last_however_many_promises_later() -> None:
    voter = Voter(None)
    voter.accept(5, LOW, b"first")
    voter.accept(5, MIDDLE, b"second")
    for ballot in (HIGH, (3, 1)):
        assert voter.prepare(5, ballot) == Vote(5, True, ballot, MIDDLE, b"second")


def test_a_refusal_tells_no_value_and_changes_nothing() -> None:
    voter = Voter(None)
    voter.accept(5, MIDDLE, b"v")
    before = voter.stored()
    assert voter.prepare(5, LOW) == Vote(5, False, MIDDLE)
    assert voter.accept(5, LOW, b"w") == Vote(5, False, MIDDLE)
    assert voter.stored() == before


def test_of_another_number_nothing_was_promised() -> None:
    """Nor accepted: what was for the number before is forgotten."""
    voter = Voter(None)
    voter.prepare(5, HIGH)
    voter.accept(5, HIGH, b"v")
    assert voter.prepare(6, LOW) == Vote(6, True, LOW)
    assert voter.accept(6, LOW, b"w") == Vote(6, True, LOW, LOW)


def test_of_another_number_a_first_acceptance_needs_no_promise() -> None:
    voter = Voter(None)
    voter.accept(5, HIGH, b"v")
    assert voter.accept(6, LOW, b"w") == Vote(6, True, LOW, LOW)
    assert voter.prepare(6, HIGH) == Vote(6, True, HIGH, LOW, b"w")


def test_what_was_promised_and_accepted_survives_a_restart() -> None:
    voter = Voter(None)
    voter.accept(5, LOW, b"v\0")
    voter.prepare(5, MIDDLE)
    again = Voter(voter.stored())
    assert again.stored() == voter.stored()
    assert again.prepare(5, MIDDLE) == Vote(5, False, MIDDLE)
    assert again.prepare(5, HIGH) == Vote(5, True, HIGH, LOW, b"v\0")


def test_who_has_never_voted_has_promised_nothing_after_a_restart() -> None:
    assert Voter(Voter(None).stored()).prepare(5, LOW) == Vote(5, True, LOW)


# --- who proposes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]
)
def test_a_majority_promises_and_then_a_majority_accepts(voters: int, needed: int) -> None:
    proposal = _proposal(*range(voters))
    assert proposal.needed == needed
    for vote in (_promise(), _acceptance()):
        heard = []
        for voter in range(needed):
            assert (proposal.is_accepting, proposal.is_decided) == (vote == _acceptance(), False)
            heard.append(proposal.hear(voter, vote))
        assert heard == [False] * (needed - 1) + [True]
    assert proposal.is_decided
    assert proposal.value == b"mine"


def test_acceptance_may_come_of_others_than_the_promises() -> None:
    proposal = _accepting(1, 2, 3, 4, 5)
    assert [proposal.hear(voter, _acceptance()) for voter in (3, 4, 5)] == [False, False, True]


def test_what_comes_after_a_majority_completes_nothing() -> None:
    """Acceptance is asked for once, and a value decided once."""
    proposal = _accepting()
    assert not proposal.hear(3, _promise())
    assert proposal.hear(1, _acceptance()) < proposal.hear(2, _acceptance())
    assert not any([proposal.hear(voter, _acceptance()) for voter in (2, 3)])
    assert proposal.is_decided


def test_a_voter_counts_once() -> None:
    proposal = _proposal()
    assert not any([proposal.hear(1, _promise()) for _ in range(3)])
    assert proposal.hear(2, _promise())
    assert not any([proposal.hear(2, _acceptance()) for _ in range(3)])
    assert not proposal.is_decided


def test_a_stranger_does_not_vote() -> None:
    proposal = _proposal()
    assert not any([proposal.hear(voter, _promise()) for voter in (1, 4, 5)])
    assert not proposal.is_accepting
    proposal = _accepting()
    assert not any([proposal.hear(voter, _acceptance()) for voter in (1, 4, 5)])
    assert not proposal.is_decided


def test_a_late_promise_is_no_acceptance_and_its_value_is_not_taken_up() -> None:
    """The value was asked acceptance for already."""
    proposal = _accepting()
    assert not proposal.hear(3, _promise(accepted=LOW, value=b"late"))
    assert not proposal.hear(1, _acceptance())
    assert not proposal.is_decided
    assert proposal.value == b"mine"
    assert proposal.hear(3, _acceptance())


def test_acceptance_before_it_was_asked_for_counts_for_nothing() -> None:
    proposal = _proposal()
    assert not any([proposal.hear(voter, _acceptance()) for voter in (1, 2, 3)])
    assert not proposal.is_accepting
    assert not proposal.is_decided


@pytest.mark.parametrize(
    "vote",
    [
        Vote(5, False, MIDDLE),
        Vote(5, False, HIGH),
        Vote(5, False, NO_BALLOT),
        _promise(ballot=HIGH),
        _promise(ballot=LOW),
        _promise(number=4),
        _promise(number=6),
    ],
)
def test_a_refusal_and_a_vote_on_something_else_count_for_nothing(vote: Vote) -> None:
    proposal = _proposal()
    assert not any([proposal.hear(voter, vote) for voter in (1, 2, 3)])
    assert not proposal.is_accepting
    # Nor are they in the way of a good one.
    assert [proposal.hear(voter, _promise()) for voter in (1, 2)] == [False, True]


@pytest.mark.parametrize(
    "vote",
    [
        Vote(5, False, MIDDLE, MIDDLE),
        Vote(5, True, HIGH, HIGH),
        Vote(5, True, HIGH, MIDDLE),
        Vote(6, True, MIDDLE, MIDDLE),
    ],
)
def test_an_acceptance_of_something_else_decides_nothing(vote: Vote) -> None:
    proposal = _accepting()
    assert not any([proposal.hear(voter, vote) for voter in (1, 2, 3)])
    assert not proposal.is_decided


@pytest.mark.parametrize("order", [(1, 2, 3), (1, 3, 2), (3, 2, 1), (2, 1, 3)])
def test_of_what_was_accepted_the_highest_is_taken_up(
    order: tuple[int, ...],
) -> None:
    votes = {
        1: _promise(),
        2: _promise(accepted=(1, 6), value=b"older"),
        3: _promise(accepted=LOW, value=b"newer"),
    }
    proposal = _proposal(1, 2, 3, 4, 5)
    for voter in order:
        proposal.hear(voter, votes[voter])
    assert proposal.is_accepting
    assert proposal.value == b"newer"


def test_a_value_that_was_accepted_may_be_empty() -> None:
    proposal = _proposal(1)
    proposal.hear(1, _promise(accepted=LOW, value=b""))
    assert proposal.value == b""


def test_what_a_stranger_accepted_is_not_taken_up() -> None:
    proposal = _proposal(1, 2, 3)
    proposal.hear(4, _promise(accepted=LOW, value=b"strange"))
    proposal.hear(1, Vote(5, False, MIDDLE, LOW, b"refused"))
    proposal.hear(1, _promise())
    proposal.hear(2, _promise())
    assert proposal.value == b"mine"
