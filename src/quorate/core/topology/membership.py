# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs to the cluster, and which layout is in force.

The layout comes, in this order, from the data directory; from `nodes`, when it names this node or
nobody else; or from the first peer that has one. A node that is not in its own `nodes` holds the
layout of that list and itself as a *proposal*: two nodes that propose the same adopt it (each
listed the other only); one that meets a cluster with a layout adopts that, and coordinates without
owning anything unless the layout names it. Until then it serves nothing.

Members beyond the layout come by `join` and ride on the pings; the set only grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from quorate.core.exchanges.outbox import Peer
from quorate.core.parts import Parts
from quorate.core.replica import Reader
from quorate.core.topology.greeting import URL_CHARS_MAX
from quorate.core.topology.layout import Layout, decode_layout, first_layout
from quorate.core.topology.placement import Placement
from quorate.core.values.messages import PROTOCOL_VERSION, Greeting
from quorate.errors import Conflict, InvalidRequest

MEMBERS_MAX: Final = 1000
LAYOUT_META: Final = b"layout"
MEMBERS_META: Final = b"members"


class Membership:
    """The members of the cluster as this node knows them."""

    __slots__ = ("_make_peer", "_parts", "has_changed", "layout", "peers", "placement", "proposal")

    def __init__(self, parts: Parts, engine: Reader, make_peer: Callable[[str], Peer]) -> None:
        self._parts = parts
        self._make_peer = make_peer
        self.peers: dict[str, Peer] = {}
        """Every member but this node."""
        self.has_changed = False
        """Since the last `close_turn`."""
        self.layout: Layout | None = None
        self.placement: Placement | None = None
        self.proposal: Layout | None = None
        settings = parts.settings
        stored = engine.get_meta(MEMBERS_META)
        remembered = msgspec.msgpack.decode(stored, type=list[str]) if stored else []
        for url in [*settings.nodes, *remembered]:
            self.add(url)
        self._begin(engine.get_meta(LAYOUT_META))

    def _begin(self, stored: bytes | None) -> None:
        settings = self._parts.settings
        listed = settings.nodes or (settings.url,)
        if stored is not None:
            layout = decode_layout(stored)
            self._check(layout)
            self.adopt(layout)
        elif settings.url in listed:
            self.adopt(first_layout(listed, replication=settings.replication))
        else:
            nodes = (*listed, settings.url)
            self.proposal = first_layout(nodes, replication=settings.replication)

    def _check(self, stored: Layout) -> None:
        """Conflict if the settings describe another cluster than the data directory is of: started
        like that, the two would each take writes for the same keys."""
        settings = self._parts.settings
        listed, held = set(settings.nodes), set(stored.nodes)
        is_founder = settings.url in listed
        if (is_founder and listed != held) or (settings.url in held and not listed <= held):
            raise Conflict(
                f"the data directory is of the cluster {', '.join(stored.nodes)}, but -nodes says "
                f"{', '.join(sorted(listed))}; the nodes of a cluster cannot be changed yet: "
                "give its list, or another -data"
            )
        if settings.url in held and settings.replication != stored.replication:
            raise Conflict(
                f"the data directory is of a cluster with -replication={stored.replication}, "
                f"but {settings.replication} was given; it cannot be changed yet"
            )

    # --- members ---------------------------------------------------------------------------

    def add(self, url: str) -> bool:
        """Know `url` as a member; whether it is new. InvalidRequest beyond the maximum."""
        if url in self.peers or url == self._parts.settings.url:
            return False
        if len(self.peers) >= MEMBERS_MAX:
            raise InvalidRequest("too many members", members=len(self.peers))
        self.peers[url] = self._make_peer(url)
        self._parts.hints.open(url)
        self.has_changed = True
        return True

    def learn(self, urls: list[str]) -> None:
        """Add what a peer knows."""
        for url in urls:
            if url not in self.peers and len(self.peers) < MEMBERS_MAX and _is_sized(url):
                self.add(url)

    def urls(self) -> list[str]:
        """All members, this node included, sorted."""
        return sorted([*self.peers, self._parts.settings.url])

    def close_turn(self) -> list[str] | None:
        """The peers' URLs if they changed in this step; then they are stored too."""
        if not self.has_changed:
            return None
        self.has_changed = False
        self._parts.replica.put_meta(MEMBERS_META, msgspec.msgpack.encode(sorted(self.peers)))
        return sorted(self.peers)

    # --- layout ----------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Of the layout in force; 0 while there is none."""
        return self.layout.epoch if self.layout is not None else 0

    def adopt(self, layout: Layout) -> None:
        """Put a layout in force, and store it."""
        settings = self._parts.settings
        for url in layout.nodes:
            self.add(url)
        self.layout = layout
        self.proposal = None
        self.placement = Placement(
            layout, own_url=settings.url, peers=self.peers, r=settings.r, w=settings.w
        )
        self._parts.replica.put_meta(LAYOUT_META, layout.encode())

    def meet(self, greeting: Greeting) -> bool:
        """Hear a peer's greeting; whether a layout was adopted."""
        if self.layout is not None or not greeting.layout:
            return False
        try:
            offered = self._decode(greeting.layout)
        except (msgspec.MsgspecError, ValueError):
            self._parts.turn.note_rarely("error", "peer_layout_unreadable", peer=greeting.url)
            return False
        # A peer without a layout in force only offers a proposal: that counts if it is ours too.
        if not greeting.layout_hash and offered != self.proposal:
            return False
        self.adopt(offered)
        self._parts.turn.note("info", "layout_adopted", peer=greeting.url, epoch=offered.epoch)
        return True

    def _decode(self, data: bytes) -> Layout:
        """A peer's layout, if it is one that this node can adopt. ValueError otherwise."""
        layout = decode_layout(data)
        strangers = [url for url in layout.nodes if url not in self.peers]
        if len(self.peers) + len(strangers) > MEMBERS_MAX or not all(map(_is_sized, strangers)):
            raise ValueError("too many members, or too long a URL")
        return layout

    def greeting(self) -> Greeting:
        """How this node introduces itself."""
        settings, layout = self._parts.settings, self.layout
        shown = layout or self.proposal
        return Greeting(
            protocol=PROTOCOL_VERSION,
            cluster=settings.cluster,
            url=settings.url,
            node_id=settings.node_id,
            epoch=self.epoch,
            layout_hash=layout.hash() if layout is not None else b"",
            version=settings.version,
            layout=shown.encode() if shown is not None else b"",
            process=self._parts.process,
        )


def _is_sized(url: str) -> bool:
    return 0 < len(url) <= URL_CHARS_MAX
