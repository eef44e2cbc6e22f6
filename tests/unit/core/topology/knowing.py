# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node knows of the others, alone: for tests of roster and membership."""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.core.topology.layout import Layout, Member, first_layout, unmet_id
from quorate.core.topology.membership import Membership
from quorate.core.turn import Turn
from quorate.core.values.events import Batch
from quorate.core.values.messages import Greeting, Whereabouts
from quorate.sim.cluster import bound_to, settings_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.parts import peer_of


def membership_of(
    index: int,
    nodes: list[int],
    disk: Disk | None = None,
    *,
    is_blank: bool = False,
    **settings: Any,
) -> Membership:
    """Node `index` with this list. What it stores goes into the disk."""
    disk, turn = disk or Disk(), Turn()
    membership = Membership(
        settings_of(index, nodes, **settings),
        turn,
        peer_of,
        process=1 + index,
        serial=1,
        adopted=lambda _before, _layout: None,
        store=lambda name, blob: disk.format(Batch([], [], [(name, blob)])),
    )
    membership.open(disk.get_meta, is_blank=is_blank)
    return membership


def urls_of(membership: Membership) -> list[str]:
    """Where all are that it knows."""
    return sorted([peer.url for peer in membership.roster.peers])


def unmet_members(*urls: str) -> tuple[Member, ...]:
    """As a first layout names them."""
    return tuple([Member(unmet_id(url), url) for url in sorted(urls)])


def bound_after(first: Layout, *, of: Layout | None = None) -> Layout:
    """Its second layout, as one of the cluster whose first is `of`."""
    ids = {url: number for number, url in enumerate(first.urls(), 1)}
    layout = bound_to(first, ids, drawn=b"d" * 8)
    return msgspec.structs.replace(layout, cluster=(of or first).lineage + b"d" * 8)


def told_of(*urls: str) -> list[Whereabouts]:
    """As a peer that never met them tells of them."""
    return [Whereabouts(0, 0, url) for url in urls]


def where_told(node: Membership) -> list[str]:
    """Of whom it tells that its layout does not name."""
    return [each.url for each in node.facts.strangers()]


def first_of(*nodes: int) -> Layout:
    """The first layout of these."""
    return first_layout([url_of(i) for i in nodes], replication=3)


def greeting_of(url: str, node_id: int) -> Greeting:
    """Of a node that has no layout."""
    return msgspec.structs.replace(
        membership_of(1, [0, 1]).greeting(), url=url, node_id=node_id, layout_hash=b"", layout=b""
    )
