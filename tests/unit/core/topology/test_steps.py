# SPDX-License-Identifier: GPL-3.0-or-later
"""What may come after a layout, and that nothing else may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.topology.admission import SpentToken
from quorate.core.topology.layout import (
    EPOCH_MAX,
    FIRST_EPOCH,
    MOVES_MAX,
    RECOVERY_EPOCHS,
    Course,
    Layout,
    Member,
    decode_layout,
    first_layout,
    unmet_id,
)
from quorate.core.topology.steps import (
    admitted,
    bound,
    changed,
    completed,
    descends,
    follows,
    raised,
    recovered,
    settled,
    stepped,
)
from quorate.sim.cluster import id_of, url_of
from tests.unit.core.moving import (
    gaining,
    later,
    replace,
    shared,
    stable,
    swapped,
    with_member,
    without,
)

DRAWN = b"drawn by"
ONE = SpentToken(b"n" * 16, 9, 2, (b"a" * 16,))
TWO = replace(ONE, claims=(b"a" * 16, b"b" * 16))
OTHER = SpentToken(b"o" * 16, 9, 1, (b"c" * 16,))


def _first(count: int = 3) -> Layout:
    return first_layout([url_of(index) for index in range(count)], replication=3)


def _met(*indices: int, **fields: Any) -> dict[str, Member]:
    return {url_of(index): Member(id_of(index), url_of(index), **fields) for index in indices}


def _second(*indices: int, count: int = 3) -> Layout:
    return bound(_first(count), _met(*indices), drawn=DRAWN)


def _joint() -> Layout:
    layout = stable()
    return gaining(layout, *without(layout, 0)[:3])


def _successors() -> list[tuple[str, Layout, Layout]]:
    """Each kind of step, from a layout of its kind."""
    old, joint = stable(), _joint()
    half = _second(0, 1)
    away = shared(old, 3)
    emptied = replace(away, table=tuple([tuple(range(3)) for _ in away.table]))
    lost = shared(old, 3, lost=(3,))
    return [
        ("bound for the first time", _first(), _second(0, 1)),
        ("bound all at once", _first(), _second(0, 1, 2)),
        ("bound later", half, bound(half, _met(2), drawn=b"")),
        ("bound with a share", half, bound(half, _met(2, zone="b", weight=2), drawn=b"")),
        ("moved on", old, joint),
        ("completed", joint, completed(joint)),
        ("called off", joint, later(joint, moves=(), course=Course.REST)),
        ("called off to move otherwise", joint, shared(joint, 2)),
        ("joined", old, with_member(old, Member(id_of(9), url_of(9)))),
        ("left", old, away),
        ("left for good", emptied, settled(emptied)),
        ("lost", old, lost),
        ("weighed", old, _with(old, weight=5)),
        ("zoned", old, _with(old, zone="z")),
        ("with more copies", old, _copied(old, 4)),
        ("with fewer copies", old, _copied(old, 2)),
        ("at rest", old, settled(old)),
        ("raised", old, raised(old, 2)),
        ("raised while copies move", joint, raised(joint, 3)),
        ("admitted", old, admitted(old, (ONE,))),
        ("admitted while copies move", joint, admitted(joint, (ONE,))),
        ("admitted one more", replace(old, spent=(ONE,)), admitted(old, (TWO,))),
        ("admitted, and one forgotten", replace(old, spent=(ONE,)), admitted(old, (OTHER,))),
        (
            "bound at a level",
            _first(),
            bound(_first(), _met(0, 1), drawn=DRAWN, level=2),
        ),
    ]


def _with(old: Layout, **fields: Any) -> Layout:
    members = [replace(old.members[0], **fields), *old.members[1:]]
    return changed(
        old, members, replication=old.replication, lost=old.lost, course=Course(old.course)
    )


def _copied(old: Layout, replication: int) -> Layout:
    return changed(
        old, old.members, replication=replication, lost=old.lost, course=Course(old.course)
    )


STEPS = _successors()
NAMES = [name for name, _, _ in STEPS]


@pytest.mark.parametrize(("name", "old", "new"), STEPS, ids=NAMES)
def test_each_step_follows_and_can_be_told(name: str, old: Layout, new: Layout) -> None:
    assert follows(old, new), name
    assert decode_layout(new.encode()) == new
    assert new.epoch == old.epoch + 1
    assert descends(old, new)


@pytest.mark.parametrize(("name", "old", "new"), STEPS, ids=NAMES)
def test_a_step_is_taken_once_and_not_back(name: str, old: Layout, new: Layout) -> None:
    assert not follows(old, old), name
    assert not follows(new, new)
    assert not follows(new, old)
    assert not follows(old, later(old)), "nothing would be another"
    assert not follows(old, later(new)), "one is left out"
    assert not follows(old, later(new, -1))


# Each makes another layout of one that follows, or None where it would be the same.
_Change = Callable[[Layout, Layout, Any], Layout | None]


def _row(old: Layout, new: Layout, draw: Any) -> Layout | None:
    """Another row in the table."""
    del old
    partition = draw(st.integers(0, len(new.table) - 1))
    index = draw(st.integers(0, len(new.members) - 1))
    row = new.table[partition]
    other = (*row[1:], index) if index not in row else row[::-1]
    table = (*new.table[:partition], other, *new.table[partition + 1 :])
    return None if other == row else replace(new, table=table)


def _epoch(old: Layout, new: Layout, draw: Any) -> Layout | None:
    del old
    epoch = draw(st.integers(FIRST_EPOCH, EPOCH_MAX))
    return None if epoch == new.epoch else replace(new, epoch=epoch)


def _cluster(old: Layout, new: Layout, draw: Any) -> Layout | None:
    """Of another cluster; who makes the second layout draws the second half."""
    at = draw(st.integers(0, (7 if old.epoch == FIRST_EPOCH else 15)))
    flipped = bytearray(new.cluster)
    flipped[at] ^= draw(st.integers(1, 255))
    return replace(new, cluster=bytes(flipped))


def _voters(old: Layout, new: Layout, draw: Any) -> Layout | None:
    del old
    ids = [each.id for each in new.members]
    voters = tuple(draw(st.lists(st.sampled_from(ids), unique=True)))
    return None if voters == new.voters else replace(new, voters=voters)


def _stranger(old: Layout, new: Layout, draw: Any) -> Layout | None:
    """A member that nobody has met, in the place of nobody."""
    del old, draw
    url = url_of(8)
    members = tuple(sorted([*new.members, Member(unmet_id(url), url)], key=lambda m: m.url))
    return replace(new, members=members)


@pytest.mark.parametrize("change", [_row, _epoch, _cluster, _voters, _stranger])
@pytest.mark.parametrize(("name", "old", "new"), STEPS, ids=NAMES)
@given(data=st.data())
def test_a_step_with_one_thing_else_does_not_follow(
    name: str, old: Layout, new: Layout, change: _Change, data: st.DataObject
) -> None:
    other = change(old, new, data.draw)
    if other is not None:
        assert not follows(old, other), name


def test_what_voters_cannot_know_of_is_a_change_as_any() -> None:
    """Members, their shares, N, who is lost and the course are for operators to say."""
    old = stable()
    for other in (_with(old, weight=7), _copied(old, 64), shared(old, 1, 2, lost=(1,))):
        assert follows(old, other)


# --- moving ------------------------------------------------------------------------------------


def test_nothing_moves_while_the_course_is_another() -> None:
    for course in (Course.REST, Course.SOON):
        old = stable(course=course)
        assert not follows(old, gaining(old, without(old, 0)[0]))


def test_no_second_step_is_taken_while_partitions_move() -> None:
    joint = _joint()
    other = without(joint, 1)[0]
    more = stepped(joint, {other: swapped(joint, other, 0, 1)})
    assert not follows(joint, more)
    assert not follows(joint, stepped(joint, {**dict(joint.moves), **dict(more.moves)}))


def test_a_joint_layout_is_completed_but_for_partitions_that_stay() -> None:
    joint = _joint()
    first, *_ = dict(joint.moves)
    some = completed(joint, without={first})
    assert follows(joint, completed(joint))
    assert follows(joint, some)
    assert some.table[first] == joint.table[first]
    assert not follows(joint, replace(some, moves=joint.moves[:1])), "and none goes on moving"


def test_too_many_moves_and_moves_of_two_nodes_cannot_be_told() -> None:
    old = stable(6)
    partitions = without(old, 0)
    many = stepped(old, {each: swapped(old, each, old.table[each][0], 0) for each in partitions})
    assert len(many.moves) > MOVES_MAX
    with pytest.raises(ValueError, match="too many"):
        decode_layout(many.encode())
    first = without(old, 0, 1)[0]
    two = stepped(old, {first: (0, 1, old.table[first][2])})
    with pytest.raises(ValueError, match="one node to one other"):
        decode_layout(two.encode())


def test_nothing_moves_to_who_is_to_hold_nothing() -> None:
    old = stable()
    partition = without(old, 0)[0]
    with pytest.raises(ValueError, match="to hold something"):
        decode_layout(gaining(shared(old, 0), partition).encode())


# --- members -----------------------------------------------------------------------------------


def test_who_holds_a_copy_stays_a_member() -> None:
    old = stable()
    with pytest.raises(ValueError, match="cannot go"):
        changed(old, old.members[1:], replication=3, lost=(), course=Course.MOVE)
    kept = settled(shared(old, 3))
    assert [each.id for each in kept.members] == [each.id for each in old.members]


def test_the_table_follows_its_members_when_others_come_between() -> None:
    old = stable()
    fresh = with_member(old, Member(id_of(50), "http://a:1"))
    assert fresh.members[0].url == "http://a:1"
    for partition in range(len(old.table)):
        assert fresh.replicas(partition) == old.replicas(partition)


def test_who_goes_is_no_longer_lost() -> None:
    old = shared(stable(), 3, lost=(3,))
    emptied = replace(old, table=tuple([(0, 1, 2) for _ in old.table]))
    gone = settled(emptied)
    assert (gone.lost, gone.course) == ((), Course.REST)
    assert [each.id for each in gone.members] == [id_of(0), id_of(1), id_of(2)]
    assert decode_layout(gone.encode()) == gone


def test_where_two_stay_one_that_leaves_votes_until_it_is_gone() -> None:
    leaving = shared(stable(), 1, 2)
    assert leaving.voters == (id_of(0), id_of(3), id_of(1))
    assert shared(stable(), 1, 2, lost=(1,)).voters == (id_of(0), id_of(3), id_of(2))
    assert shared(stable(), 1, 2, lost=(1, 2)).voters == (id_of(0), id_of(3))
    emptied = replace(leaving, table=tuple([(0, 3) for _ in leaving.table]))
    assert settled(emptied).voters == (id_of(0), id_of(3))


@pytest.mark.parametrize(("count", "leaving"), [(4, 1), (9, 1), (4, 3), (2, 1)])
def test_where_more_stay_or_one_they_vote_alone(count: int, leaving: int) -> None:
    votes = tuple([id_of(index) for index in range(leaving, count)][:7])
    assert shared(stable(count), *range(leaving)).voters == votes


# --- descent -----------------------------------------------------------------------------------


def test_a_later_layout_of_the_cluster_descends_whatever_lies_between() -> None:
    old = stable()
    assert descends(old, later(shared(old, 3), 7))
    assert descends(_first(), later(_second(0, 1), 5))
    other = replace(later(old, 7), cluster=b"another cluster!")
    assert not descends(old, other)
    assert not descends(_first(), other)
    assert not descends(_first(4), later(_second(0, 1), 5))
    assert not descends(old, replace(later(old, 7), cluster=b""))


def test_the_very_next_layout_descends_only_if_it_is_a_step() -> None:
    old = stable()
    assert descends(old, later(shared(old, 3), 1))
    assert not descends(old, replace(later(old), cluster=b"another cluster!"))


def test_who_goes_on_without_some_forgets_nobody_who_was_lost_before() -> None:
    once = shared(stable(), 3, lost=(3,))
    twice = recovered(once, [id_of(2)])
    assert twice.lost == (id_of(2), id_of(3))
    assert twice.epoch == (once.recovery + 1) * RECOVERY_EPOCHS
    assert recovered(later(once, 5), [id_of(2)]).epoch == twice.epoch, "of two sides neither wins"
    assert all(set(row) - {2, 3} for row in twice.table), "no row is of lost disks alone"


def test_who_goes_on_keeps_rows_of_which_a_majority_is_left() -> None:
    """A write may be on two of the lost and one other: a majority of the three others could miss
    it, one of the five cannot."""
    members = stable(9).members
    old = replace(stable(9), table=((0, 1, 2, 3, 4), (0, 1, 5, 6, 2), (0, 1, 5, 6, 7)) * 256)
    assert [each.id for each in members[:9]] == [id_of(index) for index in range(9)]
    once = recovered(replace(old, lost=(id_of(0), id_of(1))), [id_of(5), id_of(6)])
    assert once.table[:3] == ((0, 1, 2, 3, 4), (2,), (7,))
    assert recovered(old, [id_of(0), id_of(1)]).table == old.table


def test_who_is_to_hold_copies_and_has_none_yet_stays_when_all_is_settled() -> None:
    joined = with_member(stable(), Member(77, url_of(9)))
    assert 77 in [each.id for each in settled(joined).members]


def test_another_course_is_a_step_whatever_the_shares_and_zones() -> None:
    """Binding brings the course to move too, where shares or zones differ."""
    for old in (_with(stable(), weight=3), _with(stable(), zone="z"), shared(stable(), 3)):
        for before, after in (
            (Course.REST, Course.MOVE),
            (Course.SOON, Course.MOVE),
            (Course.MOVE, Course.REST),
        ):
            assert follows(replace(old, course=before), later(old, course=after))
            assert not follows(replace(old, course=after), later(old, course=after))


def test_a_feature_level_only_rises_and_every_other_step_keeps_it() -> None:
    old = replace(stable(), level=3)
    assert not follows(old, raised(old, 3))
    assert not follows(old, raised(old, 2))
    assert not follows(old, replace(shared(old, 3), level=4)), "with nothing else"
    half = bound(_first(), _met(0, 1), drawn=DRAWN, level=3)
    later_ones = bound(half, _met(2), drawn=b"", level=4)
    for new in (shared(old, 3), _with(old, zone="z"), settled(old), recovered(old, [id_of(3)])):
        assert new.level == 3
    assert later_ones.level == 3, "it begins with one, once"
    assert not follows(half, replace(later_ones, level=4))
    joint = replace(_joint(), level=3)
    assert completed(joint).level == stepped(old, dict(joint.moves)).level == 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((), (TWO,)),
        ((), (ONE, OTHER)),
        ((ONE,), ()),
        ((ONE,), (replace(TWO, uses=3),)),
        ((ONE,), (replace(TWO, expires_s=8),)),
        ((ONE,), (replace(ONE, claims=(b"b" * 16,)),)),
        ((ONE,), (replace(ONE, claims=()), OTHER)),
    ],
)
def test_no_step_lets_in_two_or_forgets_who_was_let_in(
    before: tuple[SpentToken, ...], after: tuple[SpentToken, ...]
) -> None:
    old = replace(stable(), spent=before)
    assert not follows(old, admitted(old, after))


def test_an_admission_changes_nothing_else() -> None:
    old = stable()
    assert not follows(old, replace(admitted(old, (ONE,)), course=Course.REST))
    assert not follows(old, replace(_with(old, weight=5), spent=(ONE,)))
    assert not follows(old, replace(raised(old, 2), spent=(ONE,)))
