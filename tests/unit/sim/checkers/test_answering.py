# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that keeps a hint for the peer that has just answered it is found."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.core.values.events import Event, Get, LinkDown, LinkUp, PeerFrame, Put
from quorate.core.values.messages import Frame, Message, Mutate, Mutated, Pong
from quorate.core.values.record import Record
from quorate.errors import DiskFull, Overloaded, QuorateError
from quorate.sim.checkers.answering import Answering
from quorate.sim.cluster import id_of, url_of
from tests.unit.core.alone import Asker
from tests.unit.sim.checkers.steps import KEY, Stage, given, record

WRITE = record(1)


def _frame(node: int, message: Message) -> PeerFrame:
    return PeerFrame(id_of(node), Frame(1, 0, [message]))


def _told(
    stage: Stage, *events: Event, hinted_to: int = 1, known: Record | None = None
) -> list[str]:
    """What is found when node 0 sends a write to node 2 and hints it for another."""
    judge = Answering()
    if known is not None:
        judge.look(stage.step(0, stored=[known]))
    stage.machines[0].events = events
    hints = [(b"name", given(hinted_to, WRITE))]
    judge.look(stage.step(0, sent=[given(2, WRITE)], hinted=hints))
    return [each.told for each in judge.found]


def test_whoever_answered_first_in_a_step_is_sent_what_the_step_stamps(stage: Stage) -> None:
    for answer in (Mutated(1, [], []), Pong(1)):
        (told,) = _told(stage, _frame(1, answer), _frame(2, Pong(1)))
        assert told.startswith("http://n1:8000 answered, and http://n0:8000 only hints it ")


def test_others_may_be_down(stage: Stage) -> None:
    assert _told(stage, _frame(2, Pong(1))) == []
    assert _told(stage) == []


def test_what_was_stamped_before_the_answer_was_heard_is_no_fault(stage: Stage) -> None:
    assert _told(stage, _frame(2, Pong(1)), _frame(1, Pong(1))) == []
    assert _told(stage, LinkDown(id_of(2)), _frame(1, Pong(1))) == []


def test_only_answers_show_that_both_directions_work(stage: Stage) -> None:
    assert _told(stage, _frame(1, Mutate(1, []))) == []


def test_nothing_can_be_sent_without_a_link(stage: Stage) -> None:
    peer = stage.cluster.machines[0].node.membership.roster.at(url_of(1))
    assert peer is not None
    peer.is_linked = False
    assert _told(stage, _frame(1, Pong(1))) == []


def test_a_write_of_before_that_was_refused_is_kept_as_a_hint(stage: Stage) -> None:
    assert _told(stage, _frame(1, Mutated(1, [], [])), known=WRITE) == []


def _refused(
    stage: Stage,
    error: QuorateError,
    *,
    w: int = 0,
    before: Sequence[Event] = (),
    after: Sequence[Event] = (),
) -> list[str]:
    """What is found when node 0 answers a write with an error."""
    judge, asker = Answering(), Asker()
    stage.machines[0].events = [*before, Put(asker, KEY, b"v", w=w), *after]
    judge.look(stage.step(0)._replace(refused=[(asker, error)]))
    return [each.told for each in judge.found]


def test_a_write_that_a_full_disk_refuses_though_the_peers_could_take_it(stage: Stage) -> None:
    assert _refused(stage, DiskFull("full")) == [
        "http://n0:8000 refused a write that its peers could take"
    ]
    assert _refused(stage, DiskFull("full"), w=3) == []
    assert _refused(stage, Overloaded("too many")) == []
    peer = stage.machines[0].node.membership.roster.at(url_of(1))
    assert peer is not None
    peer.is_reachable = False
    assert _refused(stage, DiskFull("full")) == []


def test_a_full_disk_refuses_what_came_before_the_peers_did(stage: Stage) -> None:
    """Events are taken in their order."""
    full = DiskFull("full")
    for event in (_frame(1, Pong(1)), LinkUp(id_of(1))):
        assert _refused(stage, full, after=[event]) == []
        assert len(_refused(stage, full, before=[event])) == 1
    assert len(_refused(stage, full, after=[Get(Asker(), KEY)])) == 1
