# SPDX-License-Identifier: GPL-3.0-or-later
"""What one node looks like, for people; only looks, decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from quorate.core.course import Phase, phase_of, waits_of
from quorate.core.exchanges.agreement import Agreement, HeldUp
from quorate.core.exchanges.hints import Hints
from quorate.core.exchanges.pulls import Pulls
from quorate.core.topology.layout import Member
from quorate.core.topology.liveness import Liveness
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Topology, lacking, needed_of
from quorate.core.topology.wishes import upgrade_of
from quorate.core.turn import Parts
from quorate.core.values.events import StorageState
from quorate.core.values.messages import PROTOCOL_MAX
from quorate.core.values.status import CandidateView, MemberView, Status


def status_of(
    parts: Parts,
    membership: Membership,
    hints: Hints,
    pulls: Pulls,
    agreement: Agreement,
    *,
    liveness: Liveness,
    put_off: list[int],
    is_stopping: bool,
) -> Status:
    """What the node looks like now. `put_off`: partitions that do not move for now."""
    settings, topology, layout = parts.settings, membership.topology, membership.layout
    reason = why_not_ready(membership, parts.replica.trouble, is_stopping=is_stopping)
    waits = waits_of(parts, membership, pulls, put_off=put_off)
    if liveness.hears_few:
        waits.insert(0, liveness.hears_few)
        if liveness.is_apart:
            reason = reason or liveness.hears_few
    held_up = agreement.waits_for()
    phase = phase_of(membership.layout)
    next_level, level_waits = upgrade_of(membership)
    return Status(
        url=settings.url,
        id=f"{settings.node_id:012x}",
        cluster=settings.cluster,
        version=settings.version,
        epoch=membership.epoch,
        ready=not reason,
        reason=reason,
        replication=settings.replication if layout is None else layout.replication,
        replicas=topology.n if topology is not None else 0,
        w=topology.w if topology is not None else settings.w,
        r=topology.r if topology is not None else settings.r,
        keys=parts.replica.keys,
        bytes=parts.replica.bytes_used(),
        inflight=parts.requests.count,
        hints=hints.total,
        hint_bytes=hints.bytes,
        members=_members(parts, membership, hints, held_up, own_left=len(pulls.left)),
        candidates=_candidates(membership),
        counters=dict(parts.turn.counters),
        phase=phase,
        moving=phase == Phase.MOVING,
        left=len(pulls.left),
        waits=waits,
        agreed_age_s=agreement.age_ms() // 1000,
        agreed_waits=held_up.why,
        level=0 if layout is None else layout.level,
        next_level=next_level,
        level_waits=level_waits,
        tombstones=sum(parts.replica.tombstones),
        tombstones_wait=agreement.tombstones_wait_for(),
    )


def _members(
    parts: Parts, membership: Membership, hints: Hints, held_up: HeldUp, *, own_left: int
) -> list[MemberView]:
    """This node and whom it knows, by URL; no candidates."""
    topology, layout = membership.topology, membership.layout
    copies = topology.copies() if topology is not None else {}
    named = {membership.peer(each.id): each for each in layout.members} if layout else {}
    view = partial(_peer_view, named=named, topology=topology, mono_ms=parts.turn.mono_ms)
    members = [
        view(peer, copies.get(peer, 0), hints.count(peer), holds_up=peer is held_up.peer)
        for peer in membership.roster.peers
        if not peer.is_candidate
    ]
    own = copies.get(None, 0)
    members.append(_own_view(parts, topology, own, named, own_left, holds_up=held_up.is_own))
    members.sort(key=lambda member: member.url)
    return members


def _candidates(membership: Membership) -> list[CandidateView]:
    """Where others may be, by URL. Where this node was before it moved another may be by now, and
    is dialled; that nobody is there is nothing to be told."""
    before = membership.place_of_own
    found = [
        CandidateView(url=peer.url, refusal=peer.refusal)
        for peer in membership.roster.peers
        if peer.is_candidate and peer.url != before
    ]
    return sorted(found, key=lambda each: each.url)


_Named = Mapping[Peer | None, Member]
"""Whom the layout names, by who it is; None is this node."""


def _peer_view(
    peer: Peer,
    partitions: int,
    hints: int,
    named: _Named,
    *,
    topology: Topology | None,
    mono_ms: int,
    holds_up: bool,
) -> MemberView:
    seen_ms, member = peer.last_answer_ms, named.get(peer)
    w, r = peer.told.w, peer.told.r
    if topology is not None and peer.told.level:
        w, r = topology.quorums(w, r)
    return MemberView(
        url=peer.url,
        id=f"{peer.id:012x}" if peer.id else "",
        state=peer.state,
        owns=partitions > 0,
        partitions=partitions,
        last_seen_ms=None if seen_ms is None else mono_ms - seen_ms,
        failures=peer.misses,
        version=peer.told.version,
        level=peer.told.level,
        protocol=peer.told.protocol,
        zone=peer.told.zone if member is None else member.zone,
        keys=peer.told.keys,
        bytes=peer.told.bytes_used,
        hints=hints,
        refusal=peer.refusal,
        w=w,
        r=r,
        member=member is not None,
        weight=peer.told.weight if member is None else member.weight,
        left=peer.told.left,
        lost=peer.is_lost,
        client=peer.told.client,
        holds_up=holds_up,
        joins=peer.is_wanted and member is None,
    )


def _own_view(
    parts: Parts,
    topology: Topology | None,
    partitions: int,
    named: _Named,
    left: int,
    *,
    holds_up: bool,
) -> MemberView:
    settings, replica, member = parts.settings, parts.replica, named.get(None)
    return MemberView(
        url=settings.url,
        id=f"{settings.node_id:012x}",
        state="self",
        owns=partitions > 0,
        partitions=partitions,
        last_seen_ms=0,
        failures=0,
        version=settings.version,
        level=settings.level,
        protocol=PROTOCOL_MAX,
        zone=settings.zone if member is None else member.zone,
        keys=replica.keys,
        bytes=replica.bytes_used(),
        hints=0,
        refusal="",
        w=topology.w if topology is not None else settings.w,
        r=topology.r if topology is not None else settings.r,
        member=member is not None,
        weight=settings.weight if member is None else member.weight,
        left=left,
        lost=False,
        client=settings.advertise_client,
        holds_up=holds_up,
    )


def why_not_ready(membership: Membership, trouble: StorageState, *, is_stopping: bool) -> str:
    """Why clients should go elsewhere, one line; empty if they should not."""
    if is_stopping:
        return "this node is stopping"
    if membership.given_up:
        return (
            f"the cluster has gone on without this node, {membership.given_up}: start it with an "
            "empty directory, and keep this one until nothing is missed"
        )
    if membership.outdated:
        return membership.outdated
    topology = membership.topology
    if topology is None:
        return membership.why_none()
    if trouble.code:
        return trouble.reason
    for replicas in topology.distinct:
        live = replicas.reachable()
        groups = replicas.readers + replicas.writers
        if lacking(live, groups):
            refusal = replicas.refusal(groups)
            if refusal:
                return refusal
            reached, needed = live.bit_count(), needed_of(groups)
            return f"too few replicas of some keys can be reached: {reached} of the {needed} needed"
        if replicas.is_mine and not membership.marks.counts and replicas.overlaps(replicas.readers):
            return membership.marks.error().detail
    return ""
