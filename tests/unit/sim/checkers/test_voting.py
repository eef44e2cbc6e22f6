# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that tell a vote which a power cut would lose are found."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Batch, PeerFrame
from quorate.core.values.messages import (
    NO_BALLOT,
    AcceptRows,
    Ballot,
    Frame,
    Instance,
    PrepareRows,
    RowsVoted,
    RowVote,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.stored import StoredVotes
from quorate.core.values.versions import successor
from quorate.core.votes import encode_votes
from quorate.sim.checkers.voting import VotesTold
from quorate.sim.cluster import id_of
from tests.unit.sim.checkers.steps import ROW, Stage, record

BASE = record(1).version
MADE = Record(successor(BASE, 9), b"made")
LOW, HIGH = (1, 5), (2, 5)
PROMISED = RowVote(Said.PROMISED, BASE, HIGH)
ACCEPTED = RowVote(Said.ACCEPTED, BASE, HIGH, HIGH)


def _keep(stage: Stage, votes: StoredVotes, *, is_durable: bool = True) -> None:
    disk = stage.machines[0].disk
    disk.write(Batch([], [], [], votes=[(ROW, encode_votes(votes))]))
    if is_durable:
        disk.sync()


def _voted(promised: Ballot, accepted: Ballot = NO_BALLOT, *, base: bytes = BASE) -> StoredVotes:
    what = None if accepted == NO_BALLOT else MADE
    return StoredVotes(b"", [Instance(base, promised, accepted, what)])


def _found(stage: Stage, vote: RowVote) -> list[str]:
    """What is found wrong when node 0, asked by node 1, answers this in a later step."""
    machine, judge = stage.machines[0], VotesTold()
    asked = (
        AcceptRows(7, [(ROW, BASE, HIGH, MADE)])
        if vote.accepted == HIGH
        else PrepareRows(7, [(ROW, None, HIGH, b"")])
    )
    machine.events = [PeerFrame(id_of(1), Frame(1, 0, [asked]))]
    judge.look(stage.step(0))
    machine.events = []
    for _ in range(2):
        judge.look(stage.step(0)._replace(voted=[(id_of(1), RowsVoted(7, [vote]))]))
    return [each.invariant for each in judge.found]


def test_a_vote_that_is_durable_may_be_told(stage: Stage) -> None:
    _keep(stage, _voted(HIGH, HIGH))
    assert _found(stage, PROMISED) == []
    assert _found(stage, ACCEPTED) == []


@pytest.mark.parametrize("vote", [PROMISED, ACCEPTED])
def test_a_vote_that_is_not_durable_yet_must_not_be_told(stage: Stage, vote: RowVote) -> None:
    assert _found(stage, vote) == ["I7"]
    _keep(stage, _voted(LOW, LOW))
    assert _found(stage, vote) == ["I7"]
    _keep(stage, _voted(HIGH, vote.accepted), is_durable=False)
    assert _found(stage, vote) == ["I7"]


def test_a_promise_that_is_durable_is_no_acceptance(stage: Stage) -> None:
    _keep(stage, _voted(HIGH))
    assert _found(stage, PROMISED) == []
    assert _found(stage, ACCEPTED) == ["I7"]


def test_a_vote_on_another_version_is_another_one(stage: Stage) -> None:
    _keep(stage, _voted(HIGH, HIGH, base=record(2).version))
    assert _found(stage, ACCEPTED) == ["I7"]


def test_what_is_resolved_or_forgotten_for_good_is_voted_on_no_more(stage: Stage) -> None:
    resolved = Instance(BASE, LOW, is_resolved=True)
    for votes in (StoredVotes(b"", [resolved]), StoredVotes(BASE)):
        _keep(stage, votes)
        assert _found(stage, ACCEPTED) == []


def test_who_tells_that_it_does_not_vote_has_nothing_to_lose(stage: Stage) -> None:
    for said in (Said.GONE, Said.OUTBID, Said.REFUSED):
        assert _found(stage, RowVote(said, BASE, HIGH)) == []
