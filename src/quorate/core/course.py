# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a change of the cluster is, as one node sees it, and what does not go on, in words.

Each line names who waits, why and for how long, and what an operator can do. For example:
`http://d:8000 is a member and gets no copies: no link to it, never reached; start it, or take it
out: quorate leave http://d:8000 --force`.

Plans nothing, as each look at a node's status asks for it: what a plan comes to says `wishes`.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import Final

from quorate.core.exchanges.pulls import Pulls
from quorate.core.topology.layout import FIRST_EPOCH, Course, Layout
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.turn import Parts
from quorate.core.values.settings import majority
from quorate.notation import show_count, show_duration

PARTITIONS_SHOWN: Final = 5
WAITS_MAX: Final = 20
"""Lines; a cluster may have a thousand members."""


class Phase(enum.StrEnum):
    """What a cluster is at."""

    FORMING = "forming"
    """Too few of its founders have met."""
    STABLE = "stable"
    WAITING = "waiting"
    """Nodes joined, and copies move to them soon."""
    MOVING = "moving"


def phase_of(layout: Layout | None) -> Phase:
    """What a cluster of this layout is at."""
    if layout is None or layout.epoch == FIRST_EPOCH:
        return Phase.FORMING
    if layout.moves or layout.course == Course.MOVE:
        return Phase.MOVING
    return Phase.WAITING if layout.course == Course.SOON else Phase.STABLE


def waits_of(
    parts: Parts, membership: Membership, pulls: Pulls, *, put_off: list[int]
) -> list[str]:
    """What does not go on, a line each, at most WAITS_MAX; empty if all does."""
    layout, mono_ms = membership.layout, parts.turn.mono_ms
    if layout is None or layout.epoch == FIRST_EPOCH:
        return [membership.why_none()]
    lines = _undecided(membership, layout)
    if pulls.waits_for:
        waited = show_duration(mono_ms - pulls.since_ms)
        lines.append(
            f"{parts.settings.url} waits to get its copies, for {waited}: {pulls.waits_for}; have "
            f"that node up, or if its disk is lost: {_remedy_of_loss(membership, layout)}"
        )
    if put_off:
        first = ", ".join(map(str, put_off[:PARTITIONS_SHOWN]))
        lines.append(
            f"{show_count(len(put_off), 'partition')} ({first}) cannot move: copies of some keys "
            "are damaged or stamped too far ahead, and too few others are left to tell what they "
            "were; write or delete the damaged ones (partition_unreadable in the log says where); "
            "what is too far ahead moves when clocks here get there (it says until when), so set "
            "those that are slow"
        )
    if layout.course == Course.SOON:
        after = show_duration(parts.settings.grow_after_ms)
        lines.append(
            f"copies move to the members that joined {after} after the last of them did "
            "(-grow-after); to have them move now: quorate plan, then quorate apply"
        )
    lines += _absent(membership, layout, mono_ms)
    for peer in membership.roster.peers:
        if peer.is_wanted and not peer.is_there:
            lines.append(
                f"{peer.url} is to become a member and is not there: {_why(peer, mono_ms)}; start "
                f"it with the -nodes of this cluster, or if that was a mistake: quorate forget "
                f"{peer.url}"
            )
        elif peer.is_wanted and not membership.is_in:
            lines.append(
                f"{peer.url} is to become a member, and this node is none that could propose it: "
                f"quorate join {peer.url} --target={layout.members[0].url.removeprefix('http://')}"
            )
    more = len(lines) - WAITS_MAX
    return lines if more <= 0 else [*lines[: WAITS_MAX - 1], f"and {more + 1} more"]


def _remedy_of_loss(membership: Membership, layout: Layout) -> str:
    """What to do of one more lost disk: where others are lost, too few copies may be left."""
    peers = [membership.peer(each) for each in layout.lost]
    lost = ",".join(sorted([peer.url for peer in peers if peer is not None]))
    more = f"; if too few copies are left for that: quorate recover {lost}" if lost else ""
    return f"quorate replace OLD NEW{more}"


def _undecided(membership: Membership, layout: Layout) -> list[str]:
    """Why no layout can be decided. Voters that wait to hear how far their disks were, from a
    majority of the members, need more of those."""
    voters = membership.voters().values()
    if membership.count_votes() >= majority(len(voters)):
        return []
    there = [peer for peer in voters if peer is None or peer.is_there]
    waiting = len(there) - membership.count_votes()
    bound = [membership.peer(each.id) for each in layout.members if each.is_bound]
    needed = bound if waiting else voters
    away = [peer for peer in needed if peer is not None and not (peer.is_there or peer.is_lost)]
    told = f", {waiting} of which wait to hear how far their disks were" if waiting else ""
    lines = [
        f"no change can be decided: {len(there)} of {show_count(len(voters), 'voter')} can be "
        f"reached from here{told}, and {majority(len(voters))} are needed"
    ]
    if away:
        lines.append(f"have more of these up: {', '.join(sorted([peer.url for peer in away]))}")
        names = ",".join(sorted([layout.name_of(peer.id, peer.url) for peer in away]))
        lines.append(f"or if their disks are lost for good: quorate recover {names}")
    return ["; ".join(lines)]


def _absent(membership: Membership, layout: Layout, mono_ms: int) -> list[str]:
    """Which members that copies come from or go to are not there."""
    if layout.course == Course.REST and not layout.moves:
        return []
    held = {index for row in layout.table for index in row}
    gains = Counter(
        index for partition, row in layout.moves for index in set(row) - {*layout.table[partition]}
    )
    lines = []
    for index, member in enumerate(layout.members):
        peer = membership.peer(member.id)
        if peer is None or peer.is_there or peer.is_lost:
            continue
        why = _why(peer, mono_ms)
        if gains[index]:
            what = f"is to get {show_count(gains[index], 'partition')} now and is not there"
            remedy = "start it, or leave every copy where it is: quorate cancel"
        elif index not in held:
            what = "is a member and gets no copies"
            remedy = f"start it, or take it out: quorate leave {peer.url} --force"
        else:
            what = "is not there, and what it is to get, to give up or to vote on may wait"
            remedy = (
                f"start it, or if its disk is lost: quorate replace {peer.url} NEW, or without a "
                f"NEW one: quorate leave {peer.url} --force"
            )
        lines.append(f"{peer.url} {what}: {why}; {remedy}")
    return lines


def _why(peer: Peer, mono_ms: int) -> str:
    """Why a peer is not there, and for how long."""
    if peer.refusal and not peer.is_linked:
        why = peer.refusal
    elif not peer.is_up:
        why = "it is down"
    else:
        why = "it has no link to here" if peer.is_linked else "no link to it"
    if peer.last_answer_ms is None:
        return f"{why}, never reached"
    return f"{why}, unheard for {show_duration(mono_ms - peer.last_answer_ms)}"
