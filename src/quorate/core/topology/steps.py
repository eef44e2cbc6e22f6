# SPDX-License-Identifier: GPL-3.0-or-later
"""What may come after a layout: the transitions of the log, as pure functions.

    any --bound--> stable           founders that were met are named by their disks
    stable --stepped--> joint       some partitions move, each by one node
    joint --completed--> stable     they have moved: who gained them has all that was acknowledged;
                                    those of which too few can read their copies stay
    any --changed--> stable         other members, weights, N; what was moving stays where it was
    any --raised--> stable          the same at a higher feature level
    any --admitted--> stable        a join token let somebody in; what was moving begins again
    stable --settled--> stable      nothing is left to move: who holds nothing and shall not, goes

    any --recovered--> stable       without a majority of the voters: nobody votes, nobody can

Voters take nothing else (`follows`). That a step may be completed (`Pulls` says when) is for who
proposes it to know. To call a move off needs no condition, and so is part of every change.

Source: Raft's joint consensus (Ongaro, Ousterhout 2014, section 6), for the sets of each partition;
what each condition is for says docs/design.md#copies-move.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from typing import Final

import msgspec

from quorate.core.topology.admission import Spent, is_one_more
from quorate.core.topology.layout import (
    CLUSTER_BYTES,
    FIRST_EPOCH,
    FIRST_LEVEL,
    RECOVERY_EPOCHS,
    Course,
    Layout,
    Member,
    Row,
    order,
    voters_of,
)
from quorate.core.values.settings import majority

_replace = msgspec.structs.replace


def bound(
    old: Layout, met: Mapping[str, Member], *, drawn: bytes, level: int = FIRST_LEVEL
) -> Layout:
    """The founders at these URLs are these disks; what was moving stays where it was, as it may
    wait for one of them.

    If this is the cluster's second layout, `drawn`, 8 random bytes, becomes part of its id, and
    `level` is the feature level at which it begins. (The first is computed by all founders, and
    they may be of two releases.)
    """
    members = tuple([each if each.is_bound else met.get(each.url, each) for each in old.members])
    shares = {(each.zone, each.weight) for each in members}
    return _replace(
        old,
        epoch=old.epoch + 1,
        members=members,
        # The first table knows neither zones nor weights.
        course=old.course if len(shares) == 1 else Course.MOVE,
        voters=voters_of(members, old.lost),
        moves=(),
        cluster=old.cluster or old.lineage + drawn,
        level=level if old.epoch == FIRST_EPOCH else old.level,
    )


def stepped(old: Layout, moves: Mapping[int, Row]) -> Layout:
    """These partitions move to these rows."""
    return _replace(old, epoch=old.epoch + 1, moves=tuple(sorted(moves.items())))


def completed(old: Layout, *, without: Container[int] = ()) -> Layout:
    """The partitions that moved are where they moved to, but for some that stay where they were."""
    table = list(old.table)
    for partition, row in old.moves:
        if partition not in without:
            table[partition] = row
    return _replace(old, epoch=old.epoch + 1, table=tuple(table), moves=())


def changed(
    old: Layout,
    members: Sequence[Member],
    *,
    replication: int,
    lost: Sequence[int],
    course: Course,
) -> Layout:
    """Other members, or other shares of theirs. Whoever holds a copy stays a member: ValueError."""
    fresh = tuple(sorted(members, key=order))
    index_of = {member.id: index for index, member in enumerate(fresh)}
    if not index_of.keys() >= {old.members[index].id for row in old.table for index in row}:
        raise ValueError("a member that holds copies cannot go")
    renamed = [index_of.get(member.id, -1) for member in old.members]
    known: dict[Row, Row] = {}
    for row in set(old.table):
        known[row] = tuple([renamed[index] for index in row])
    return _replace(
        old,
        epoch=old.epoch + 1,
        replication=replication,
        members=fresh,
        table=tuple([known[row] for row in old.table]),
        voters=voters_of(fresh, lost),
        moves=(),
        lost=tuple(sorted(lost)),
        course=course,
    )


def raised(old: Layout, level: int) -> Layout:
    """A higher feature level is in force; what was moving stays where it was, and begins again."""
    return _replace(old, epoch=old.epoch + 1, moves=(), level=level)


def admitted(old: Layout, spent: Spent) -> Layout:
    """These tokens were used; what was moving stays where it was, and begins again."""
    return _replace(old, epoch=old.epoch + 1, moves=(), spent=spent)


def settled(old: Layout) -> Layout:
    """All copies are where they belong: members that are to hold none, and hold none, go."""
    holders = {index for row in old.table for index in row}
    members = [each for index, each in enumerate(old.members) if each.weight or index in holders]
    lost = {each.id for each in members}.intersection(old.lost)
    return changed(old, members, replication=old.replication, lost=sorted(lost), course=Course.REST)


OUT: Final = "whose disk was given up for lost"
FORGOTTEN: Final = "and does not know copies that it has"


def left_out(own: Layout, fresh: Layout, node_id: int, *, before: str) -> str:
    """How others went on without a member, or without what it has, and without a majority of the
    voters; empty if they did not. `before` is what this said of a layout before: who was given up,
    and joined again, is to be filled."""
    mine = own.member(node_id)
    # By the first layout nobody holds anything yet: this may be an empty disk in a lost one's
    # place, which was started with the founders' list.
    if own.epoch <= FIRST_EPOCH or mine is None or not fresh.recovery:
        return ""
    if fresh.member(node_id) is None or node_id in fresh.lost:
        # Two sides that were both recovered have one number: then only who was to leave goes.
        return OUT if fresh.recovery > own.recovery or mine.weight > 0 else ""
    if before == OUT or fresh.recovery <= own.recovery:
        return ""
    # Who recovered may have been behind. Of what moves away from a member it knows, as it is asked
    # for that, under a layout that it has too.
    shall = dict(own.moves)
    has_more = any(
        node_id in own.ids(row)
        and node_id in own.ids(shall.get(partition, row))
        and node_id not in fresh.replicas(partition)
        for partition, row in enumerate(own.table)
    )
    return FORGOTTEN if has_more else ""


def recovered(old: Layout, lost: Collection[int]) -> Layout:
    """Go on without these members, which are more than can be lost: what only they had is gone.

    A row of which a majority is left stays as it is, as with any lost disk: of five, two of which
    are gone, a write may be on one of the others alone, and a majority of those three could miss
    it. Other rows are what is left of them, without disks that were lost before, too; a row that is
    left without any goes to whoever stays: to who was to leave, if nobody else is left. Founders
    that were never met have nothing, and do not count. ValueError if nobody is left.
    """
    gone = {*old.lost, *lost}
    members = [_replace(each, weight=0) if each.id in gone else each for each in old.members]
    there = {index for index, each in enumerate(members) if each.is_bound and each.id not in gone}
    if not there:
        raise ValueError("nobody is left")
    if not any([members[index].weight for index in there]):
        members = [_replace(e, weight=1) if i in there else e for i, e in enumerate(members)]
    staying = [index for index in sorted(there) if members[index].weight]
    moves = dict(old.moves)
    table: list[Row] = []
    for partition, row in enumerate(old.table):
        left = [index for index in row if index in there]
        if len(left) >= majority(len(row)):
            table.append(row)
            continue
        if not left:
            gaining = moves.get(partition, ())
            left = [index for index in gaining if index in there]
        table.append(tuple(left) or (staying[partition % len(staying)],))
    return _replace(
        old,
        epoch=(old.recovery + 1) * RECOVERY_EPOCHS,
        members=tuple(members),
        table=tuple(table),
        voters=voters_of(members, gone),
        moves=(),
        lost=tuple(sorted(gone)),
        course=Course.MOVE,
    )


def follows(old: Layout, new: Layout) -> bool:
    """Whether `new` may be decided after `old`."""
    met = {each.url: each for each in new.members if each.is_bound}
    # Without another member it may be another course, which binding brings too.
    is_other = new.members != old.members
    drawn = new.cluster[CLUSTER_BYTES // 2 :]
    if is_other and new == bound(old, met, drawn=drawn, level=new.level):
        return True
    if old.epoch == FIRST_EPOCH or new.epoch != old.epoch + 1 or new.cluster != old.cluster:
        return False
    if new.spent != old.spent:
        return is_one_more(old.spent, new.spent) and new == admitted(old, new.spent)
    if new.level != old.level:
        return new.level > old.level and new == raised(old, new.level)
    if new.moves:
        is_moving = not old.moves and old.course == Course.MOVE
        return is_moving and new == stepped(old, dict(new.moves))
    stays = {
        partition for partition, _ in old.moves if new.table[partition] == old.table[partition]
    }
    if old.moves and new == completed(old, without=stays):
        return True
    return _is_change(old, new)


def _is_change(old: Layout, new: Layout) -> bool:
    """Whether only members, their shares and N are others, and not who holds what."""
    try:
        alike = changed(
            old,
            new.members,
            replication=new.replication,
            lost=new.lost,
            course=Course(new.course),
        )
    except ValueError:
        return False
    bound_before = {each.url for each in old.members if not each.is_bound}
    is_unmet_new = any(not each.is_bound and each.url not in bound_before for each in new.members)
    return new == alike and not is_unmet_new and new != _replace(old, epoch=new.epoch)


def descends(old: Layout, new: Layout) -> bool:
    """Whether `new` may be a later layout of the same cluster, as far as anybody can tell who does
    not know those in between."""
    if new.epoch == old.epoch + 1:
        return follows(old, new)
    if not new.cluster:
        return False
    half = CLUSTER_BYTES // 2
    return new.cluster == old.cluster or (
        old.epoch == FIRST_EPOCH and new.cluster[:half] == old.lineage
    )
