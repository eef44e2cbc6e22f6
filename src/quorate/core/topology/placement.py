# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout in terms of peers: who else holds a row, and what a quorum of it is."""

from __future__ import annotations

from quorate.core.exchanges.outbox import Peer
from quorate.core.topology.layout import Layout
from quorate.core.values.quorum import majority
from quorate.errors import InvalidRequest


class Placement:
    """A layout seen from one node; made anew when the layout changes, never mutated."""

    __slots__ = ("is_mine", "layout", "n", "others", "own_url", "r", "w")

    def __init__(
        self, layout: Layout, *, own_url: str, peers: dict[str, Peer], r: int, w: int
    ) -> None:
        self.layout = layout
        self.own_url = own_url
        self.n = len(layout.table[0])
        """Copies of each key."""
        self.w = w or majority(self.n)
        self.r = r or majority(self.n)
        own = layout.nodes.index(own_url) if own_url in layout.nodes else -1
        self.is_mine = [own in row for row in layout.table]
        """For each partition, whether this node is one of its replicas."""
        members = {i: peers[url] for i, url in enumerate(layout.nodes) if url != own_url}
        sets: dict[tuple[int, ...], tuple[Peer, ...]] = {}
        self.others: list[tuple[Peer, ...]] = []
        """For each partition, the replicas that are not this node, in order of preference."""
        for row in layout.table:
            if row not in sets:
                sets[row] = tuple(members[i] for i in row if i != own)
            self.others.append(sets[row])

    def live(self, partition: int) -> int:
        """How many replicas of the partition can be sent a request now."""
        live = int(self.is_mine[partition])
        for peer in self.others[partition]:
            if peer.is_reachable:
                live += 1
        return live

    def needed(self, asked: int, default: int, *, name: str) -> int:
        """The count a request must reach. InvalidRequest if it asks for more than there are; a
        configured default above that is kept, and never reached."""
        if asked > self.n or asked < 0:
            raise InvalidRequest(f"{name} must be from 1 to {self.n}", given=asked, replicas=self.n)
        return asked or default
