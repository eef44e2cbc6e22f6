# SPDX-License-Identifier: GPL-3.0-or-later
"""What one node looks like, for people; only looks, decides nothing."""

from __future__ import annotations

from quorate.core.exchanges.hints import Hints
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Topology, lacking, needed_of
from quorate.core.turn import Parts
from quorate.core.values.events import StorageState
from quorate.core.values.status import MemberView, Status


def status_of(parts: Parts, membership: Membership, hints: Hints, *, is_stopping: bool) -> Status:
    """What the node looks like now."""
    settings, topology = parts.settings, membership.topology
    reason = why_not_ready(membership, parts.replica.trouble, is_stopping=is_stopping)
    copies = topology.copies() if topology is not None else {}
    members = [
        _peer_view(peer, copies.get(peer, 0), hints.count(peer), parts.turn.mono_ms)
        for peer in membership.roster.peers
    ]
    members.append(_own_view(parts, topology, copies.get(None, 0)))
    members.sort(key=lambda member: member.url)
    return Status(
        url=settings.url,
        id=f"{settings.node_id:012x}",
        cluster=settings.cluster,
        version=settings.version,
        epoch=membership.epoch,
        ready=not reason,
        reason=reason,
        replication=settings.replication,
        replicas=topology.n if topology is not None else 0,
        w=topology.w if topology is not None else settings.w,
        r=topology.r if topology is not None else settings.r,
        keys=parts.replica.keys,
        bytes=parts.replica.bytes_used(),
        inflight=parts.requests.count,
        hints=hints.total,
        hint_bytes=hints.bytes,
        members=members,
        counters=dict(parts.turn.counters),
    )


def _peer_view(peer: Peer, partitions: int, hints: int, mono_ms: int) -> MemberView:
    seen_ms = peer.last_answer_ms
    return MemberView(
        url=peer.url,
        id=f"{peer.id:012x}" if peer.id else "",
        state=peer.state,
        owns=partitions > 0,
        partitions=partitions,
        last_seen_ms=None if seen_ms is None else mono_ms - seen_ms,
        failures=peer.misses,
        version=peer.version,
        zone="",
        keys=peer.keys,
        bytes=peer.bytes_used,
        hints=hints,
        refusal=peer.refusal,
        w=peer.w,
        r=peer.r,
    )


def _own_view(parts: Parts, topology: Topology | None, partitions: int) -> MemberView:
    settings, replica = parts.settings, parts.replica
    return MemberView(
        url=settings.url,
        id=f"{settings.node_id:012x}",
        state="self",
        owns=partitions > 0,
        partitions=partitions,
        last_seen_ms=0,
        failures=0,
        version=settings.version,
        zone="",
        keys=replica.keys,
        bytes=replica.bytes_used(),
        hints=0,
        refusal="",
        w=topology.w if topology is not None else settings.w,
        r=topology.r if topology is not None else settings.r,
    )


def why_not_ready(membership: Membership, trouble: StorageState, *, is_stopping: bool) -> str:
    """Why clients should go elsewhere, one line; empty if they should not."""
    if is_stopping:
        return "this node is stopping"
    topology = membership.topology
    if topology is None:
        return membership.why_none()
    if trouble.code:
        return trouble.reason
    for replicas in topology.distinct:
        live = replicas.reachable()
        groups = replicas.readers + replicas.writers
        if lacking(live, groups):
            refusal = replicas.refusal()
            if refusal:
                return refusal
            reached, needed = live.bit_count(), needed_of(groups)
            return f"too few replicas of some keys can be reached: {reached} of the {needed} needed"
    return ""
