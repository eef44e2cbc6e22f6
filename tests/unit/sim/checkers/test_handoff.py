# SPDX-License-Identifier: GPL-3.0-or-later
"""A hint that is forgotten before it was delivered is found (I13)."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from quorate.core.exchanges.hints import PREFIX_BYTES
from quorate.core.topology.layout import unmet_id
from quorate.core.values.events import Batch
from quorate.core.values.record import Record, packed
from quorate.core.values.stored import StoredHint
from quorate.sim.checkers.handoff import Handoff
from quorate.sim.checkers.watch import Gift, Machines
from quorate.sim.cluster import url_of
from tests.unit.sim.checkers.steps import ROW, Stage, given, record

# For the disk of node 2.
NAME, OTHER = b"\0\0\0\0\0\0\0\3one", b"\0\0\0\0\0\0\0\3two"
KEPT = record(2)


class Play:
    """Node 0 keeps a hint for node 2."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.judge = Handoff(Machines(stage.machines))
        self.hint(NAME)

    def hint(self, name: bytes) -> None:
        disk = self.stage.machines[0].disk
        disk.write(Batch([], [(name, b"blob")], []))
        disk.sync()
        self.judge.look(self.stage.step(0, hinted=[(name, given(2, KEPT))]))

    def forget(self, *names: bytes) -> list[str]:
        self.judge.look(self.stage.step(0, forgotten=[*names]))
        return [each.invariant for each in self.judge.found]

    def drop(self, start: bytes, end: bytes) -> list[str]:
        self.judge.look(self.stage.step(0)._replace(dropped_hints=[(start, end)]))
        return [each.invariant for each in self.judge.found]


@pytest.fixture
def play(stage: Stage) -> Play:
    return Play(stage)


def test_a_hint_that_was_delivered_may_be_forgotten(play: Play) -> None:
    play.stage.keep(2, KEPT)
    assert play.forget(NAME) == []


def test_a_hint_that_was_overtaken_may_be_forgotten(play: Play) -> None:
    play.stage.keep(2, record(3))
    assert play.forget(NAME) == []


def test_a_hint_that_was_not_delivered_may_not(play: Play) -> None:
    play.stage.keep(2, record(1))
    play.stage.keep(2, KEPT, is_durable=False)
    assert play.forget(NAME) == ["I13"]


@pytest.mark.parametrize("counter", ["hints_dropped", "hints_refused"])
def test_a_loss_that_was_counted_is_none(play: Play, counter: str) -> None:
    counters = play.stage.cluster.machines[0].node.parts.turn.counters
    play.hint(OTHER)
    counters[counter] += 1
    assert play.forget(NAME) == []
    assert play.forget(OTHER) == ["I13"]


def test_a_range_of_hints_that_is_dropped_is_as_if_each_was_forgotten(play: Play) -> None:
    counters = play.stage.cluster.machines[0].node.parts.turn.counters
    play.hint(OTHER)
    counters["hints_dropped"] += 1
    assert play.drop(NAME, OTHER) == [], "one was forgotten, and one counted"
    assert play.drop(NAME, OTHER) == [], "it is forgotten already, and the other past the end"
    assert play.drop(NAME, b"namf") == ["I13"]
    play.hint(NAME)
    play.stage.keep(2, KEPT)
    assert play.drop(NAME, OTHER) == ["I13"], "no other than before: it was delivered"


def test_one_count_does_not_stand_for_two_losses(play: Play) -> None:
    play.hint(OTHER)
    play.stage.cluster.machines[0].node.parts.turn.counters["hints_dropped"] += 1
    assert play.forget(NAME, OTHER) == ["I13"]


def test_a_name_that_is_given_to_another_hint_forgets_the_first(play: Play) -> None:
    play.stage.cluster.kill(0)
    play.stage.cluster.restart(0)
    play.hint(NAME)
    assert [each.invariant for each in play.judge.found] == ["I13"]


def test_a_damaged_hint_may_be_unknown_to_the_next_life_but_not_to_this(play: Play) -> None:
    play.stage.machines[0].disk.rot_hint(NAME)
    assert play.forget(NAME) == ["I13"]
    play.hint(OTHER)
    play.stage.machines[0].disk.rot_hint(OTHER)
    play.stage.cluster.kill(0)
    play.stage.cluster.restart(0)
    play.judge.look(play.stage.step(0))
    play.hint(OTHER)
    assert len(play.judge.found) == 1


def test_a_hint_that_a_crash_lost_is_forgotten_already(stage: Stage) -> None:
    judge = Handoff(Machines(stage.machines))
    judge.look(stage.step(0, hinted=[(NAME, given(2, KEPT))]))
    stage.cluster.kill(0)
    stage.cluster.restart(0)
    judge.look(stage.step(0, hinted=[(NAME, given(2, KEPT))]))
    assert judge.found == []


def test_a_replica_that_lost_its_disk_or_its_bytes_may_have_had_it(play: Play) -> None:
    play.hint(OTHER)
    play.stage.keep(2, KEPT)
    play.stage.machines[2].disk.rot(ROW, Random(0))
    assert play.forget(NAME) == []
    play.stage.keep(2, KEPT)
    play.hint(OTHER)
    play.stage.cluster.kill(2)
    play.stage.cluster.restart(2, is_empty=True)
    assert play.forget(OTHER) == []


def test_a_replica_that_lost_its_disk_before_it_had_the_hint_has_to_get_it(play: Play) -> None:
    play.stage.cluster.kill(2)
    play.stage.cluster.restart(2, is_empty=True)
    assert play.forget(NAME) == ["I13"]


def test_a_hint_that_goes_behind_the_others_is_kept_and_has_to_come_from_there(play: Play) -> None:
    """Its replica has locked what is older, and takes it once that is taken back."""
    play.judge.look(play.stage.step(0, forgotten=[NAME], hinted=[(OTHER, given(2, KEPT))]))
    assert play.judge.found == []
    assert play.forget(OTHER) == ["I13"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (OTHER, given(1, KEPT)),
        (OTHER, given(2, KEPT, b"\0\0\0\0other")),
        (OTHER, given(2, record(1))),
        (OTHER, given(2, Record(KEPT.version, None))),
        (b"\0\0\0\0\0\0\0\3a", given(2, KEPT)),
    ],
    ids=["for another", "of another row", "of a version", "of a content", "before it"],
)
def test_what_else_is_kept_meanwhile_does_not_stand_for_it(
    play: Play, name: bytes, kept: Gift
) -> None:
    play.judge.look(play.stage.step(0, forgotten=[NAME], hinted=[(name, kept)]))
    assert [each.invariant for each in play.judge.found] == ["I13"]


def test_what_goes_behind_stands_for_none_that_is_dropped_with_it(play: Play) -> None:
    lost = b"\0\0\0\0\0\0\0\3oooh"
    play.judge.look(play.stage.step(0, hinted=[(lost, given(2, record(4)))]))
    behind = [(OTHER, given(2, KEPT))]
    play.judge.look(play.stage.step(0, forgotten=[NAME, lost], hinted=behind))
    assert [each.invariant for each in play.judge.found] == ["I13"]


def test_with_an_old_disk_the_hints_of_then_come_back_and_those_since_are_lost(
    stage: Stage,
) -> None:
    judge = Handoff(Machines(stage.machines))
    prefix = unmet_id(url_of(2)).to_bytes(PREFIX_BYTES, "big")
    first, second = prefix + b"first", prefix + b"second"
    machine = stage.machines[0]
    blob = msgspec.msgpack.encode(StoredHint(ROW, KEPT), enc_hook=packed)
    machine.disk.format(Batch([], [(first, blob)], []))
    judge.look(stage.step(0, hinted=[(first, given(2, KEPT))]))
    image = machine.image()
    # The first is delivered, its name given to another, and that delivered too.
    stage.keep(2, KEPT)
    machine.disk.format(Batch([], [(first, None), (second, blob)], []))
    judge.look(stage.step(0, forgotten=[first], hinted=[(second, given(2, KEPT))]))
    stage.cluster.kill(0)
    stage.cluster.restart(0, image=image)
    stage.cluster.kill(2)
    stage.cluster.restart(2, is_empty=True)
    judge.look(stage.step(0, hinted=[(second, given(2, KEPT))]))
    assert judge.found == []
    judge.look(stage.step(0, forgotten=[first]))
    assert [each.invariant for each in judge.found] == ["I13"]


@pytest.mark.parametrize("is_lost", [False, True])
def test_what_waits_for_a_founder_that_never_came_is_for_nobody_once_it_is_given_up(
    stage: Stage, *, is_lost: bool
) -> None:
    judge = Handoff(Machines(stage.machines))
    unmet = unmet_id(url_of(2))
    name = unmet.to_bytes(PREFIX_BYTES, "big") + b"one"
    membership = stage.machines[0].node.membership
    layout = membership.layout
    assert layout is not None
    members = [
        replace(each, id=unmet) if each.url == url_of(2) else each for each in layout.members
    ]
    lost = (unmet,) if is_lost else ()
    membership.layout = replace(layout, members=tuple(members), lost=lost)
    judge.look(stage.step(0, hinted=[(name, given(2, KEPT))]))
    judge.look(stage.step(0, forgotten=[name]))
    assert [each.invariant for each in judge.found] == ([] if is_lost else ["I13"])


def test_what_was_never_kept_is_not_missed(play: Play) -> None:
    assert play.forget(OTHER) == []


def test_a_node_that_ended_in_the_step_is_not_judged(play: Play) -> None:
    play.stage.machines[0].crash()
    assert play.forget(NAME) == []
