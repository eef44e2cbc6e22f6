# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators ask for (`values.wish`): the layout that follows from it, or why it cannot be.

Every command changes what members there are and what share each is to have; the copies move
afterwards, step by step (`wants`). So two commands, one after the other, are one plan: where copies
belong is worked out anew from what is there.

For example: `leave C` says that C is to hold nothing. Its copies move to the others, 64 partitions
at a time, and when it holds none it is no member any more. `cancel` meanwhile leaves every copy
where it is; C stays a member, and `apply` goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from quorate.core.topology.admission import TooMany, UsedUp, spent_after
from quorate.core.topology.layout import (
    FIRST_EPOCH,
    WEIGHT_MAX,
    ZONE_CHARS_MAX,
    Course,
    Layout,
    Member,
    decode_layout,
)
from quorate.core.topology.membership import Membership
from quorate.core.topology.planner import Site, crowded
from quorate.core.topology.steps import admitted, changed, raised, recovered
from quorate.core.topology.wants import goal_of
from quorate.core.values.settings import REPLICATION_MAX, majority
from quorate.core.values.wish import Preview, Share, Wish
from quorate.errors import Conflict, InvalidRequest, NotReady, Unauthenticated
from quorate.notation import show_count

_UNKNOWN: Final = "no member of the cluster is called that: see quorate nodes"
_replace = msgspec.structs.replace


def wished(membership: Membership, wish: Wish, *, now_s: int) -> Layout | None:
    """The layout after a wish; None if it is so already. InvalidRequest for what cannot be,
    Conflict for what cannot be yet, Unauthenticated for who is not let in. `now_s` since 1970."""
    old = membership.layout
    if old is None or old.epoch == FIRST_EPOCH:
        raise NotReady(membership.why_none())
    if wish.raises_level:
        return _raised(membership, old, wish)
    if wish.admits is not None:
        return _admitted(old, wish, now_s=now_s)
    members = {each.id: each for each in old.members}
    lost = set(old.lost)
    _take_in(membership, members, lost, wish)
    replication = wish.replication or old.replication
    _check(old, members, replication, is_forced=wish.is_forced)
    if wish.replication:
        _check_quorums(membership, replication)
        _check_cut(old, replication, is_forced=wish.is_forced)
    fresh = changed(
        old,
        list(members.values()),
        replication=replication,
        lost=sorted(lost),
        course=Course.REST if wish.stops else Course.MOVE,
    )
    _check_possible(fresh)
    same = _replace(old, epoch=fresh.epoch)
    # What moves goes on by itself.
    return None if fresh == (same if wish.stops else _replace(same, moves=())) else fresh


def _check_cut(old: Layout, replication: int, *, is_forced: bool) -> None:
    """Conflict if fewer copies are wanted while rows are what a recovery left of them: these are
    known by that they are shorter than a majority of N (`sources`)."""
    if is_forced or not old.recovery or replication >= old.replication:
        return
    shortest = min([len(row) for row in old.table])
    if shortest < majority(old.replication):
        raise Conflict(
            f"of some keys a recovery left {shortest} of {old.replication} copies, which are to be "
            "more first: have nodes join; or force it, some minutes after the recovery, when those "
            "that are left agree"
        )


def upgrade_of(membership: Membership) -> tuple[int, list[str]]:
    """The highest feature level that members know, or that is in force; and, if these are two, what
    holds the higher one up, a line for each node."""
    layout, levels = membership.layout, membership.levels()
    in_force = 0 if layout is None else layout.level
    highest = max([in_force, *[level for _, level, is_member in levels if is_member]])
    waits = []
    for url, level, _ in sorted(levels) if highest > in_force else ():
        if not level:
            waits.append(f"{url} is not there: start it, or have it leave")
        elif level < highest:
            waits.append(f"{url} knows feature level {level}: start a newer release there")
    return highest, waits


def _raised(membership: Membership, old: Layout, wish: Wish) -> Layout | None:
    if wish != Wish(raises_level=True):
        raise InvalidRequest("nothing else may be asked for together with the end of an upgrade")
    level, waits = upgrade_of(membership)
    if waits:
        raise Conflict(f"feature level {level} is not known everywhere yet: {'; '.join(waits)}")
    return raised(old, level) if level > old.level else None


def _admitted(old: Layout, wish: Wish, *, now_s: int) -> Layout | None:
    asked = wish.admits
    if asked is None or wish != Wish(admits=asked):
        raise InvalidRequest("nothing else may be asked for together with an admission")
    try:
        spent = spent_after(old.spent, asked, now_s=now_s)
    except UsedUp:
        raise Unauthenticated("the join token is used up: have a new one made") from None
    except TooMany:
        raise Conflict("too many join tokens were used lately: try again in an hour") from None
    if spent == old.spent:
        return None
    fresh = admitted(old, spent)
    _check_possible(fresh)
    return fresh


def given_up(membership: Membership, wish: Wish, *, replaced: Mapping[int, int]) -> Layout:
    """The layout that recovery forces: without the members that the operator gives up
    (`wish.recover`). Where an empty disk is at the URL of one of them, that disk becomes a member
    in its place: `replaced` has its id, by the id of the lost one.

    InvalidRequest if no recovery is needed, as no partition lacks copies and a majority of the
    voters can decide (`_who_decides`); if one of the given-up members is reachable; or if the
    members that remain could not decide anything either."""
    old = membership.layout
    if old is None or old.epoch == FIRST_EPOCH:
        raise NotReady(membership.why_none())
    if wish != Wish(recover=wish.recover):
        raise InvalidRequest("nothing else may be asked for together with a recovery")
    members = {each.id: each for each in old.members}
    lost: set[int] = set()
    for name in wish.recover:
        # Where another disk took the URL of a lost one the lost one is meant.
        was_lost = [each for each in old.lost if name in (members[each].url, f"{each:012x}")]
        if was_lost:
            lost.update(was_lost)
            continue
        member = members.get(membership.find(name))
        if member is None:
            raise InvalidRequest(_UNKNOWN, name=name)
        if not _is_away(membership, member):
            raise InvalidRequest(
                "its disk is not lost: it is there; to take it out: quorate leave", name=name
            )
        lost.add(member.id)
    who = _who_decides(membership, lost)
    if who and not _short_of(old, lost.union(old.lost))[0]:
        raise InvalidRequest(who)
    try:
        fresh = recovered(old, lost)
    except ValueError:
        raise InvalidRequest("this node has no copies, and nobody else would be left") from None
    successors = [_replace(members[each], id=replaced[each]) for each in lost if each in replaced]
    grown = changed(
        fresh,
        [*fresh.members, *successors],
        replication=fresh.replication,
        lost=fresh.lost,
        course=Course.MOVE,
    )
    fresh = _replace(grown, epoch=fresh.epoch, voters=fresh.voters)
    absent = [each for each in fresh.voters if _is_away(membership, members[each])]
    if 2 * len(absent) >= len(fresh.voters):
        names = ", ".join([old.name_of(each, members[each].url) for each in absent])
        raise InvalidRequest(
            f"{names} would have to vote and cannot be reached: start them, or name them lost as "
            "well"
        )
    return fresh


def _who_decides(membership: Membership, lost: Collection[int]) -> str:
    """Why voters can still decide the next layout, one line, so that recovery is refused; empty if
    they cannot.

    A voter that waits to hear how far its disk was has no vote. It waits for ever if too few
    members are left that could tell it: then only recovery helps. If this node is one that waits,
    the other voters may be a majority without it, and recovery would undo what they decide. So each
    of these counts that is not named lost and does not say that it waits, even if it is silent."""
    if not membership.has_majority():
        return ""
    voters = membership.voters()
    if membership.marks.counts:
        if membership.count_votes() >= majority(len(voters)):
            return "a majority of the voters is there: replace or leave does it"
        if _are_too_few_left(membership, lost):
            return ""
        return (
            "voters wait to hear how far their disks were, from members that are not named lost: "
            "have these up, or name all that are"
        )
    others = [
        each
        for each, peer in voters.items()
        if peer is not None and each not in lost and not (peer.is_there and peer.told.waits)
    ]
    if len(others) < majority(len(voters)):
        return ""
    return (
        "a majority of the voters may decide without this node, which waits to hear how far its "
        "disk was: ask another, or name all that are lost"
    )


def _are_too_few_left(membership: Membership, lost: Collection[int]) -> bool:
    """Whether without these members nobody hears from enough how far its disk was."""
    layout = membership.layout
    assert layout is not None
    members = {each.id for each in layout.members if each.is_bound}.difference(layout.lost)
    return len(members.difference(lost)) < majority(len(members))


def _take_in(
    membership: Membership, members: dict[int, Member], lost: set[int], wish: Wish
) -> None:
    """Change the members as the wish says."""
    for name, successor in wish.replace:
        _put_in_place(membership, members, lost, old=name, new=successor)
    for name in wish.leave:
        member = _member(membership, members, name)
        members[member.id] = _replace(member, weight=0)
        if _is_away(membership, member):
            if not wish.is_forced:
                raise InvalidRequest(
                    "who is to leave is not there to hand over what only it may have: start it, "
                    "or force it",
                    name=name,
                )
            lost.add(member.id)
    for name, weight in wish.weights:
        if not 0 < weight <= WEIGHT_MAX:
            raise InvalidRequest(f"a weight is from 1 to {WEIGHT_MAX}", given=weight)
        member = _member(membership, members, name)
        members[member.id] = _replace(member, weight=weight)
    for name, zone in wish.zones:
        if len(zone) > ZONE_CHARS_MAX or not zone.isprintable():
            raise InvalidRequest(f"a zone has at most {ZONE_CHARS_MAX} characters, all printable")
        member = _member(membership, members, name)
        members[member.id] = _replace(member, zone=zone)


def plan_of(membership: Membership, layout: Layout) -> Preview:
    """What a layout comes to, from the one in force on."""
    before = membership.layout
    assert before is not None
    goal = goal_of(layout)
    held = before.copies()
    gains, after = dict.fromkeys(range(len(layout.members)), 0), {}
    gives = dict(gains)
    after = dict(gains)
    for row, shall in zip(layout.table, goal, strict=True):
        for index in set(shall) - set(row):
            gains[index] += 1
        for index in set(row) - set(shall):
            gives[index] += 1
        for index in shall:
            after[index] += 1
    shares = [
        Share(
            url=member.url,
            id=f"{member.id:012x}",
            zone=member.zone,
            weight=member.weight,
            before=held.get(member.id, 0),
            after=after[index],
            gains=gains[index],
            gives=gives[index],
        )
        for index, member in enumerate(layout.members)
    ]
    copies = sum(gains.values())
    endangered, gone = _short_of(before, set(layout.lost))
    sites = [Site(each.zone, each.weight) for each in layout.members]
    going = {each.url for each in layout.members if not each.weight}
    return Preview(
        epoch=before.epoch,
        replication=layout.replication,
        shares=shares,
        copies=copies,
        bytes=copies * _copy_bytes(membership, before),
        endangered=endangered,
        gone=gone,
        crowded=crowded(goal, sites, replication=layout.replication),
        unanswered=_unanswered(membership, min([len(row) for row in goal]), but=going),
        weakened=_weakened(
            membership,
            most=max([len(row) for row in goal]),
            before=min([len(row) for row in before.table]),
            but=going,
        ),
        level=layout.level,
    )


def _short_of(layout: Layout, lost: set[int]) -> tuple[int, int]:
    """How many partitions may have lost acknowledged writes with these disks, as a majority of
    their copies is on them: two of three, say. And how many of these have all their copies there,
    so that no data is left of them."""
    indices = {index for index, each in enumerate(layout.members) if each.id in lost}
    counts = [(len(indices.intersection(row)), len(row)) for row in layout.table]
    endangered = sum([count >= majority(size) for count, size in counts])
    return endangered, sum([count == size for count, size in counts])


def _copy_bytes(membership: Membership, layout: Layout) -> int:
    """What a copy of a partition takes, by the word of those that are there."""
    told, copies = 0, 0
    for node_id, count in layout.copies().items():
        peer = membership.peer(node_id)
        if peer is not None and peer.told.bytes_used:
            told += peer.told.bytes_used
            copies += count
    return told // copies if copies else 0


def _put_in_place(
    membership: Membership, members: dict[int, Member], lost: set[int], *, old: str, new: str
) -> None:
    """Have one node take the place of another. Whom nobody here hears has lost its disk."""
    before, taker_id = _member(membership, members, old), membership.find(new)
    layout = membership.layout
    assert layout is not None
    if not taker_id or taker_id == before.id:
        raise InvalidRequest(
            "no node that could take its place is known by that name: start it with the -nodes of "
            "this cluster",
            name=new,
        )
    if layout.copies().get(taker_id):
        raise InvalidRequest(
            "who is to take the place holds copies of its own: have the other one leave instead",
            name=new,
        )
    taker = members.get(taker_id) or membership.stranger(taker_id)
    members[taker_id] = _replace(taker, zone=before.zone, weight=max(before.weight, 1))
    members[before.id] = _replace(before, weight=0)
    if _is_away(membership, before):
        lost.add(before.id)


def _is_away(membership: Membership, member: Member) -> bool:
    """Whether nobody here hears a member."""
    peer = membership.peer(member.id)
    return peer is not None and not peer.is_there


def _member(membership: Membership, members: dict[int, Member], name: str) -> Member:
    member = members.get(membership.find(name))
    if member is None:
        raise InvalidRequest(_UNKNOWN, name=name)
    layout = membership.layout
    if layout is not None and member.id in layout.lost:
        raise InvalidRequest("its disk counts as lost, and its copies are moved", name=name)
    return member


def _check_possible(fresh: Layout) -> None:
    """InvalidRequest for a layout that no voter would take, as it could not be told."""
    try:
        decode_layout(fresh.encode())
    except ValueError as error:
        raise InvalidRequest(f"the layout could not be: {error}") from error


def _check_quorums(membership: Membership, replication: int) -> None:
    """InvalidRequest if some node was started with a W or R that so few copies cannot give."""
    for line in _unanswered(membership, replication):
        raise InvalidRequest(f"{line}: start it with less first", replication=replication)


def _unanswered(membership: Membership, copies: int, *, but: Collection[str] = ()) -> list[str]:
    """Who was started with a W or R that so many copies of each key cannot give, a line each; `but`
    nodes at these URLs."""
    return [
        f"{url} was started with -{name}={count}, and {copies} could never answer that"
        for url, w, r in membership.quorums()
        for name, count in (("W", w), ("R", r))
        if count > copies and url not in but
    ]


def _weakened(membership: Membership, *, most: int, before: int, but: Collection[str]) -> list[str]:
    """Whose W or R is a majority of `before` copies, and none of `most`, a line each; `but` nodes
    at these URLs."""
    effects = {
        "W": "what it writes may be missed by reads, and it refuses what reads and writes at once",
        "R": "it may miss what was written",
    }
    return [
        f"{url} was started with -{name}={count}, and a majority of {most} copies is "
        f"{majority(most)}: {effects[name]}"
        for url, w, r in membership.quorums()
        for name, count in (("W", w), ("R", r))
        if majority(before) <= count < majority(most) and url not in but
    ]


def _check(old: Layout, members: dict[int, Member], replication: int, *, is_forced: bool) -> None:
    """InvalidRequest if this breaks a hard rule."""
    if not 0 < replication <= REPLICATION_MAX:
        raise InvalidRequest(f"copies of each key are from 1 to {REPLICATION_MAX}")
    before = [each for each in old.members if each.weight]
    staying = [each for each in members.values() if each.weight]
    if not staying:
        raise InvalidRequest("somebody has to hold the copies")
    if is_forced:
        return
    if len(staying) < min(replication, len(before)):
        raise InvalidRequest(
            f"{show_count(len(staying), 'node')} cannot hold {replication} copies of each key: "
            "lower the replication first, or force it"
        )
    apart = min(len({each.zone for each in before}), replication)
    if len({each.zone for each in staying}) < apart:
        raise InvalidRequest("copies of a key could not be kept in different zones: force it")
