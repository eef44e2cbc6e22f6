# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs to the cluster, and which layout is in force.

The layout comes, in this order, from the data directory; from `nodes`, when it names this node or
nobody else; or from the first peer that has one. A node that is not in its own `nodes` holds the
layout of that list and itself as a *proposal*: two nodes that propose the same adopt it (each
listed the other only); one that meets a cluster with a layout adopts that, and coordinates without
owning anything unless the layout names it. Until then it serves nothing.

A layout of a higher epoch is adopted from any peer, whether it comes with a greeting or with the
refusal of a request (`OtherEpoch`). Nobody goes back to a lower one.

Members beyond the layout come by `join` and ride on the pings; the set only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from quorate.core.topology.greeting import URL_CHARS_MAX
from quorate.core.topology.layout import (
    FIRST_EPOCH,
    Layout,
    Member,
    decode_layout,
    first_layout,
    unmet_id,
)
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Topology
from quorate.core.turn import Alarm, Turn
from quorate.core.values.messages import PROTOCOL_VERSION, Greeting
from quorate.core.values.settings import Settings
from quorate.errors import Conflict, InvalidRequest, NotReady

MEMBERS_MAX: Final = 1000
LAYOUT_META: Final = b"layout"
MEMBERS_META: Final = b"members"


class Membership:
    """The members of the cluster as this node knows them."""

    __slots__ = (
        "_adopted",
        "_make_peer",
        "_named",
        "_process",
        "_settings",
        "_store",
        "_turn",
        "has_changed",
        "peers",
        "proposal",
        "topology",
    )

    def __init__(
        self,
        settings: Settings,
        turn: Turn,
        make_peer: Callable[[str, int], Peer],
        *,
        process: int,
        adopted: Alarm,
        store: Callable[[bytes, bytes | None], None],
    ) -> None:
        """`make_peer` is given a URL and how many peers there were before; `adopted` rings after
        the layout changed; `store` keeps a meta entry. Knows nobody before `open`."""
        self._settings = settings
        self._turn = turn
        self._make_peer = make_peer
        self._process = process
        self._adopted = adopted
        self._store = store
        self.peers: list[Peer] = []
        """Every member but this node, by index."""
        self._named: dict[int, Peer] = {}
        """The same by what each is called: by the id that it was last met with, and by the
        `unmet_id` of its URL."""
        self.has_changed = False
        """Since the last `close_turn`."""
        self.topology: Topology | None = None
        """None while the cluster's layout is not known."""
        self.proposal: Layout | None = None

    def open(self, load: Callable[[bytes], bytes | None]) -> None:
        """Begin with what settings say, and `load` finds of an earlier run. Conflict if these are
        of two clusters."""
        stored = load(MEMBERS_META)
        remembered = msgspec.msgpack.decode(stored, type=list[str]) if stored else []
        for url in [*self._settings.nodes, *remembered]:
            self.add(url)
        self._begin(load(LAYOUT_META))

    def _begin(self, stored: bytes | None) -> None:
        settings = self._settings
        listed = settings.nodes or (settings.url,)
        if stored is not None:
            layout = decode_layout(stored)
            self._check(layout)
            self.adopt(layout)
        elif settings.url in listed:
            self.adopt(first_layout(listed, replication=settings.replication))
        else:
            urls = (*listed, settings.url)
            self.proposal = first_layout(urls, replication=settings.replication)

    def _check(self, stored: Layout) -> None:
        """Conflict if the settings describe another cluster than the data directory is of: started
        like that, the two would each take writes for the same keys."""
        if stored.epoch > FIRST_EPOCH:
            return  # The list says with which nodes the cluster began.
        settings = self._settings
        listed, held = set(settings.nodes), set(stored.urls())
        is_founder = settings.url in listed
        if (is_founder and listed != held) or (settings.url in held and not listed <= held):
            raise Conflict(
                f"the data directory is of the cluster {', '.join(stored.urls())}, but -nodes says "
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
        if url == self._settings.url or self.at(url) is not None:
            return False
        if len(self.peers) >= MEMBERS_MAX:
            raise InvalidRequest("too many members", members=len(self.peers))
        peer = self._make_peer(url, len(self.peers))
        self.peers.append(peer)
        self._named[peer.name] = peer
        self.has_changed = True
        return True

    def learn(self, urls: Iterable[str]) -> None:
        """Add what a peer knows."""
        for url in urls:
            if len(self.peers) < MEMBERS_MAX and _is_sized(url):
                self.add(url)

    def at(self, url: str) -> Peer | None:
        """The member at a URL."""
        return self._named.get(unmet_id(url))

    def named(self, node_id: int) -> Peer | None:
        """The member that was last met with this id."""
        return self._named.get(node_id)

    def urls(self) -> list[str]:
        """Where all members are, this node included, sorted."""
        return sorted([*[peer.url for peer in self.peers], self._settings.url])

    def close_turn(self) -> list[str] | None:
        """Where the peers are, if that changed in this step; then it is stored too."""
        if not self.has_changed:
            return None
        self.has_changed = False
        urls = sorted([peer.url for peer in self.peers])
        self._store(MEMBERS_META, msgspec.msgpack.encode(urls))
        return urls

    # --- layout ----------------------------------------------------------------------------

    def current(self) -> Topology:
        """The topology for an operation that begins now; it keeps it to its end. NotReady while
        there is none."""
        topology = self.topology
        if topology is None:
            raise NotReady("the cluster's layout is not known yet")
        return topology

    @property
    def layout(self) -> Layout | None:
        """The newest table; None while there is none."""
        return None if self.topology is None else self.topology.layout

    @property
    def epoch(self) -> int:
        """Of the layout in force; 0 while there is none."""
        return 0 if self.topology is None else self.topology.epoch

    def adopt(self, layout: Layout) -> None:
        """Put a layout in force, and store it."""
        settings = self._settings
        for member in layout.members:
            self.add(member.url)
        self.proposal = None
        self.topology = Topology(
            (layout,),
            own_url=settings.url,
            peer_of=self._peer_of,
            r=settings.r,
            w=settings.w,
        )
        self._store(LAYOUT_META, layout.encode())
        self._adopted.soon()

    def _peer_of(self, member: Member) -> Peer | None:
        """Who a layout means; None is this node."""
        if member.id in (self._settings.node_id, unmet_id(self._settings.url)):
            return None
        return self._named[member.id]

    def meet(self, greeting: Greeting) -> None:
        """A peer introduced itself: know it by its id, and adopt its layout if this node is
        behind."""
        self.learn([greeting.url])
        peer, before = self.at(greeting.url), self._named.get(greeting.node_id)
        if peer is None:
            return  # One too many.
        if before is not peer:
            # Whom our own link leads to is known for sure, whatever others call themselves.
            if peer.is_linked or (before is not None and before.is_linked):
                return
            if before is not None:
                before.id = 0  # It is elsewhere now.
            self._named.pop(peer.id, None)
            self._named[greeting.node_id] = peer
        peer.id, peer.version = greeting.node_id, greeting.version
        if greeting.layout_hash:
            if greeting.epoch > self.epoch:
                self.hear_of(greeting.layout, greeting.url)
        elif self.proposal is not None and greeting.layout == self.proposal.encode():
            # A peer without a layout in force offers a proposal: that counts if it is ours too.
            self.hear_of(greeting.layout, greeting.url)

    def hear_of(self, data: bytes, url: str) -> None:
        """Adopt the encoded layout that a peer has, if it is of a higher epoch."""
        try:
            offered = self._decode(data)
        except (msgspec.MsgspecError, ValueError):
            self._turn.note_rarely("error", "peer_layout_unreadable", peer=url)
            return
        if offered.epoch > self.epoch:
            self.adopt(offered)
            self._turn.note("info", "layout_adopted", peer=url, epoch=offered.epoch)

    def _decode(self, data: bytes) -> Layout:
        """A peer's layout, if it is one that this node can adopt. ValueError otherwise."""
        layout = decode_layout(data)
        strangers = [url for url in layout.urls() if self.at(url) is None]
        if len(self.peers) + len(strangers) > MEMBERS_MAX or not all(map(_is_sized, strangers)):
            raise ValueError("too many members, or too long a URL")
        return layout

    def greeting(self) -> Greeting:
        """How this node introduces itself."""
        settings, layout = self._settings, self.layout
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
            process=self._process,
        )


def _is_sized(url: str) -> bool:
    return 0 < len(url) <= URL_CHARS_MAX
