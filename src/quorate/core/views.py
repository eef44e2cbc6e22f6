# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a node's `Status`; only looks, decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.core.exchanges.outbox import Peer
from quorate.core.topology.placement import Placement
from quorate.core.values.status import MemberView, Status

if TYPE_CHECKING:
    from quorate.core.node import Node


def status_of(node: Node) -> Status:
    """What the node looks like now."""
    parts, membership, settings = node.parts, node.membership, node.settings
    placement = membership.placement
    reason = why_not_ready(node)
    copies = membership.layout.copies() if membership.layout is not None else {}
    members = [_peer_view(node, peer, copies.get(peer.url, 0)) for peer in _sorted(node)]
    members.append(_own_view(node, copies.get(settings.url, 0)))
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
        replicas=placement.n if placement is not None else 0,
        w=placement.w if placement is not None else settings.w,
        r=placement.r if placement is not None else settings.r,
        keys=parts.replica.keys,
        bytes=parts.replica.bytes_used(),
        inflight=parts.requests.count,
        hints=parts.hints.total,
        hint_bytes=parts.hints.bytes,
        members=members,
        counters=dict(parts.turn.counters),
    )


def why_not_ready(node: Node) -> str:
    """Why clients should go elsewhere, one line; empty if they should not."""
    if node.is_stopping:
        return "this node is stopping"
    placement = node.membership.placement
    if placement is None:
        return "the cluster's layout is not known yet"
    trouble = node.parts.replica.trouble
    if trouble.code:
        return trouble.reason
    needed = max(placement.r, placement.w)
    live = _least_live(placement)
    if live < needed:
        return f"some keys have {live} reachable replicas and need {needed}"
    return ""


def _least_live(placement: Placement) -> int:
    return min(placement.live(partition) for partition in range(len(placement.others)))


def _sorted(node: Node) -> list[Peer]:
    return sorted(node.membership.peers.values(), key=lambda peer: peer.url)


def _peer_view(node: Node, peer: Peer, partitions: int) -> MemberView:
    seen = peer.last_answer_ms
    return MemberView(
        url=peer.url,
        id=peer.id,
        state=peer.state,
        owns=partitions > 0,
        partitions=partitions,
        last_seen_ms=None if seen is None else node.parts.turn.mono_ms - seen,
        failures=peer.misses,
        version=peer.version,
        zone="",
        keys=peer.keys,
        bytes=peer.bytes_used,
        hints=node.parts.hints.count(peer.url),
    )


def _own_view(node: Node, partitions: int) -> MemberView:
    settings, replica = node.settings, node.parts.replica
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
    )
