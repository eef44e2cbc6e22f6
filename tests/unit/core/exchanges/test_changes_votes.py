# SPDX-License-Identifier: GPL-3.0-or-later
"""A node as a voter: what it promises and accepts, and what it refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quorate.core.exchanges.changes import BALLOT_AHEAD_MAX, VOTE_META
from quorate.core.node import CEILING_META
from quorate.core.topology.admission import KEPT_S, SpentToken
from quorate.core.topology.layout import LAYOUT_BYTES_MAX, Course, Layout
from quorate.core.topology.steps import admitted
from quorate.core.values.events import LinkUp, PeerFrame, StorageState
from quorate.core.values.messages import (
    BALLOT_COUNT_MAX,
    NO_BALLOT,
    Ballot,
    Frame,
    OtherEpoch,
    Prepare,
    Vote,
    Voted,
)
from quorate.core.values.versions import ms_of
from quorate.errors import Conflict
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import bound_to, id_of, url_of
from tests.unit.core.alone import Alone
from tests.unit.core.founders import (
    DRAWN,
    HIGH,
    LOW,
    adopt,
    ask,
    first,
    found,
    new,
    of_others,
    second,
    third,
    vote,
)
from tests.unit.core.moving import hear, node, stable


def _is_refused(alone: Alone, value: bytes, *, number: int = 2) -> bool:
    """Whether this node refuses a value, and keeps nothing of it."""
    before = alone.disk.get_meta(VOTE_META)
    ask(alone, 1, HIGH, value, number)
    told = vote(alone, 1)
    kept = alone.disk.get_meta(VOTE_META)
    return told == Vote(number, False, NO_BALLOT) and kept == before


def test_a_vote_is_told_when_it_is_durable() -> None:
    alone = new()
    alone.link(1)
    alone.syncs = False
    ask(alone, 1, LOW)
    assert alone.take(1, Voted) == []
    alone.sync()
    assert vote(alone, 1) == Vote(2, True, LOW)
    ask(alone, 1, LOW, second(0, 1).encode())
    assert alone.take(1, Voted) == []
    alone.sync()
    assert vote(alone, 1) == Vote(2, True, LOW, LOW)


def test_a_vote_moves_the_mark_of_the_disk_whatever_is_refused_in_the_same_step() -> None:
    alone = node(count=3, layout_of=stable(3, course=Course.REST))
    alone.step(after_ms=10_000)
    assert _ceiling_ms(alone) < EPOCH_MS + 10_000
    alone.hear(1, Prepare(5, 3, HIGH, []), Prepare(6, 3, LOW, []))
    assert [told.vote.is_granted for told in alone.take(1, Voted)] == [False, True]
    assert _ceiling_ms(alone) >= EPOCH_MS + 10_000


def _ceiling_ms(alone: Alone) -> int:
    return ms_of(int.from_bytes(alone.disk.get_meta(CEILING_META) or b"", "big"))


def test_a_refusal_promises_nothing_and_is_told_at_once() -> None:
    alone = new()
    alone.link(1)
    ask(alone, 1, HIGH)
    vote(alone, 1)
    alone.syncs = False
    for value in (None, second(0, 1).encode()):
        ask(alone, 1, LOW, value)
        assert vote(alone, 1) == Vote(2, False, HIGH)
    assert alone.marks == []


def test_a_vote_survives_a_restart() -> None:
    alone = new()
    alone.link(1)
    value = second(0, 1).encode()
    ask(alone, 1, LOW, value)
    ask(alone, 1, (9, 9))
    again = new(disk=alone.disk)
    again.link(1)
    ask(again, 1, (9, 8))
    assert vote(again, 1) == Vote(2, False, (9, 9))
    ask(again, 1, HIGH)
    assert vote(again, 1) == Vote(2, True, HIGH, LOW, value)


def _with(layout: Layout, **changes: Any) -> bytes:
    return msgspec.structs.replace(layout, **changes).encode()


def _renamed(layout: Layout, index: int, **changes: Any) -> bytes:
    members = list(layout.members)
    members[index] = msgspec.structs.replace(members[index], **changes)
    ids = tuple([each.id for each in members if each.is_bound])
    return _with(layout, members=tuple(members), voters=ids)


def _turned(layout: Layout) -> tuple[tuple[int, ...], ...]:
    return tuple([row[::-1] for row in layout.table])


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        b"\0" * (LAYOUT_BYTES_MAX + 1),
        second(0, 1).encode() + b"more",
        first().encode(),
        _with(second(0, 1), epoch=3),
        _with(second(0, 1), table=_turned(first())),
        _with(second(0, 1), replication=2),
        _with(second(0, 1), cluster=b""),
        _with(second(0, 1), cluster=b"another cluster!"),
        _with(second(0, 1), cluster=second(0, 1).cluster[:8]),
        _with(second(0, 1), voters=()),
        _with(second(0, 1), voters=(id_of(0),)),
        _with(second(0, 1), voters=(id_of(0), id_of(7))),
        _with(second(0, 1), voters=(id_of(1), id_of(0))),
        _renamed(second(0, 1), 2, url="http://elsewhere:1"),
        _with(second(0, 1), members=second(0, 1).members[:2], table=((0, 1),) * 1024),
        second(0, 1, count=4).encode(),
        _with(second(), voters=(id_of(0),)),
    ],
)
def test_a_value_that_is_no_layout_or_does_not_follow_is_refused(value: bytes) -> None:
    alone = new()
    alone.link(1)
    assert _is_refused(alone, value)


@pytest.mark.parametrize(
    "value",
    [
        second(0, 1).encode(),
        second(0, 1, 2).encode(),
        third().encode() + b"more",
        _renamed(third(), 0, id=id_of(7)),
        _renamed(third(), 0, id=first().members[0].id),
        _with(third(), cluster=third().cluster[:8] + b"replaced"),
        _with(third(), members=second(0, 1).members, voters=second(0, 1).voters),
        _with(third(), epoch=4),
    ],
)
def test_of_a_later_layout_nothing_that_was_decided_is_changed(value: bytes) -> None:
    alone = new()
    adopt(alone, second(0, 1))
    assert _is_refused(alone, value, number=3)
    ask(alone, 1, HIGH, third().encode(), 3)
    assert vote(alone, 1) == Vote(3, True, HIGH, HIGH)


def test_a_value_is_judged_when_it_is_to_be_accepted_and_not_before() -> None:
    alone = new()
    alone.link(1)
    ask(alone, 1, LOW)
    assert vote(alone, 1) == Vote(2, True, LOW)
    assert _is_refused(alone, b"nonsense")
    ask(alone, 1, LOW, second(0, 1).encode())
    assert vote(alone, 1) == Vote(2, True, LOW, LOW)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_of_another_number_than_the_open_one_it_tells_its_epoch(number: int) -> None:
    alone = new()
    alone.link(1)
    for value in (None, second(0, 1).encode()):
        ask(alone, 1, HIGH, value, number)
        assert alone.take(1, OtherEpoch) == [OtherEpoch(1, [7])]
    assert alone.take(1, Voted) == []
    assert alone.disk.get_meta(VOTE_META) is None


def test_who_asks_about_a_number_that_is_decided_is_told_the_layout() -> None:
    alone = new()
    layout = found(alone, 1)
    alone.hear(1, Prepare(7, 2, HIGH), epoch=1)
    assert [each.batches for each in alone.take(1, OtherEpoch)] == [[7]]
    alone.unlink(1)
    alone.step(alone.met(1, epoch=1), LinkUp(id_of(1)))
    alone.hear(1, Prepare(8, 2, HIGH), epoch=1)
    told, *rest = alone.take(1, OtherEpoch)
    assert told == OtherEpoch(2, [], layout.encode())
    assert [each.batches for each in rest] == [[8]]


def test_a_node_that_is_no_voter_refuses() -> None:
    alone = Alone(4, listed=[1, 2, 3], replication=3)
    layout = of_others(1, 2)
    alone.step(alone.met(1, epoch=2, layout_hash=layout.hash(), layout=layout.encode()))
    alone.link(1)
    for value in (None, bound_to(layout, {url_of(3): id_of(3)}, drawn=DRAWN).encode()):
        ask(alone, 1, HIGH, value, 3)
        assert vote(alone, 1) == Vote(3, False, NO_BALLOT)
    assert alone.disk.get_meta(VOTE_META) is None


def test_a_member_that_is_not_bound_yet_does_not_vote() -> None:
    """Whoever is at its URL may be another tomorrow."""
    alone = new()
    adopt(alone, second(1, 2))
    ask(alone, 1, HIGH, None, 3)
    assert vote(alone, 1) == Vote(3, False, NO_BALLOT)


def test_a_node_with_another_disk_than_the_voter_at_its_url_refuses() -> None:
    alone = new(node_id=77)
    adopt(alone, second(0, 1))
    assert "new_directory" in alone.notes
    ask(alone, 1, HIGH, None, 3)
    assert vote(alone, 1) == Vote(3, False, NO_BALLOT)


def test_a_disk_in_trouble_refuses() -> None:
    alone = new()
    alone.link(1)
    alone.step(StorageState("disk_full", "no space"))
    for value in (None, second(0, 1).encode()):
        ask(alone, 1, HIGH, value)
        assert vote(alone, 1) == Vote(2, False, NO_BALLOT)
    alone.step(StorageState())
    ask(alone, 1, LOW)
    assert vote(alone, 1) == Vote(2, True, LOW)


@pytest.mark.parametrize("has_decided", [True, False])
def test_who_has_voted_is_not_taken_into_another_cluster(*, has_decided: bool) -> None:
    """Nothing was written. But were the vote forgotten, two second layouts could be decided."""
    alone = new()
    alone.link(1)
    ask(alone, 1, HIGH, second(0, 1).encode())
    assert vote(alone, 1).is_granted
    if has_decided:
        alone.hear(1, OtherEpoch(2, [], second(0, 1).encode()))
    if has_decided:
        assert new(4, disk=alone.disk).node.membership.layout == second(0, 1)
    else:
        with pytest.raises(Conflict, match="-nodes says"):
            new(4, disk=alone.disk)
    assert new(disk=alone.disk).node.membership.epoch == 1 + has_decided


@pytest.mark.parametrize("ballot", [(BALLOT_COUNT_MAX, 1), (BALLOT_AHEAD_MAX + 1, 1), NO_BALLOT])
def test_a_ballot_that_would_be_the_last_for_ever_is_refused(ballot: Ballot) -> None:
    alone = new()
    alone.link(1)
    ask(alone, 1, ballot)
    assert not vote(alone, 1).is_granted
    ask(alone, 1, (BALLOT_AHEAD_MAX - 1, 1))
    told = vote(alone, 1)
    if not told.is_granted:
        ask(alone, 1, (told.promised[0] + 1, 1))
        assert vote(alone, 1).is_granted


def test_who_counts_far_ahead_is_followed_step_by_step() -> None:
    """As after a night in which the disks of all other voters were full, and each try of the one
    that was left had a higher ballot, which nobody else promised."""
    alone = new()
    alone.link(1)
    ballot = (3 * BALLOT_AHEAD_MAX + 5, 1)
    for _ in range(3):
        ask(alone, 1, ballot)
        assert not vote(alone, 1).is_granted
    ask(alone, 1, ballot)
    assert vote(alone, 1).is_granted
    ask(alone, 1, LOW)
    assert vote(alone, 1).promised == ballot


def test_who_is_no_member_is_given_no_vote() -> None:
    alone = new()
    alone.step(alone.met(7, node_id=77), LinkUp(77))
    alone.step(PeerFrame(77, Frame(0, 0, [Prepare(7, 2, LOW)])))
    (voted,) = [each for each in alone.said[77] if isinstance(each, Voted)]
    assert not voted.vote.is_granted


@pytest.mark.parametrize("late_s", [0, 1])
def test_a_layout_that_forgets_a_token_before_it_is_over_is_refused(late_s: int) -> None:
    """By the voter's own clock."""
    over_s = EPOCH_MS // 1000 - KEPT_S - late_s
    spent = SpentToken(b"n" * 16, over_s, 1, (b"a" * 16,))
    other = SpentToken(b"o" * 16, over_s + 10_000, 1, (b"b" * 16,))
    layout = msgspec.structs.replace(stable(3, course=Course.REST), spent=(spent,))
    alone = node(layout_of=layout)
    hear(alone, layout)
    value = admitted(layout, (other,)).encode()
    number = layout.epoch + 1
    ask(alone, 1, LOW, None, number)
    assert vote(alone, 1).is_granted
    ask(alone, 1, LOW, value, number)
    assert vote(alone, 1).is_granted is (late_s > 0)
