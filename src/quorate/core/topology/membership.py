# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layout is in force, and how it comes and goes.

The layout comes, in this order, from the data directory; from `nodes`, when it names this node or
nobody else; or from the first peer that has one. A node that is not in its own `nodes` holds the
layout of that list and itself as a *proposal*: two nodes that propose the same adopt it (each
listed the other only); one that meets a cluster with a layout adopts that, and coordinates without
owning anything unless the layout names it. Until then it serves nothing.

A layout of a higher epoch is adopted from any peer of the same cluster, whether it comes with a
greeting, ahead of a frame or with the refusal of a request (`OtherEpoch`). Nobody goes back to a
lower one.

A layout names members by id, its unbound ones by URL (`layout`). A node is a replica under its id
alone. So a node with a new disk holds nothing, though it is where a member was: it coordinates. And
the first layout, which knows URLs only, serves nothing: the founders vote on the second, and that
is in force.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from quorate.core.topology.greeting import hashed
from quorate.core.topology.layout import (
    FIRST_EPOCH,
    Layout,
    Member,
    decode_layout,
    descends,
    first_layout,
)
from quorate.core.topology.peer import Ground, Peer
from quorate.core.topology.roster import MEMBERS_META, Roster
from quorate.core.topology.topology import Topology, majority
from quorate.core.turn import Alarm, Turn
from quorate.core.values.messages import PROTOCOL_VERSION, Greeting, OtherEpoch, Whereabouts
from quorate.core.values.settings import MEMBERS_MAX, Settings
from quorate.errors import Conflict, NotReady
from quorate.notation import is_url

LAYOUT_META: Final = b"layout"


class Membership:
    """The members of the cluster as this node knows them."""

    __slots__ = (
        "_adopted",
        "_members",
        "_newness",
        "_process",
        "_serial",
        "_settings",
        "_store",
        "_turn",
        "epoch",
        "layout",
        "proposal",
        "roster",
        "topology",
    )

    def __init__(
        self,
        settings: Settings,
        turn: Turn,
        make_peer: Callable[[str, int], Peer],
        *,
        process: int,
        serial: int,
        adopted: Callable[[], None],
        store: Callable[[bytes, bytes | None], None],
    ) -> None:
        """`make_peer` is given a URL and how many peers there were before; `serial` is that of this
        node's whereabouts; `adopted` is told when the layout has changed; `store` keeps a meta
        entry. Knows nobody before `open`."""
        self._settings = settings
        self._turn = turn
        self._process = process
        self._serial = serial
        self._adopted = adopted
        self._store = store
        own = Whereabouts(settings.node_id, serial, settings.url)
        self.roster: Final = Roster(own, turn, make_peer, store)
        self._newness = Alarm(turn, self._tell_if_new)
        self._members: dict[int, Peer | None] = {}
        """Whom the layout in force names, by what it calls them; None is this node."""
        self.layout: Layout | None = None
        """The newest that is known; None while there is none."""
        self.epoch = 0
        """Of the newest layout; 0 while there is none."""
        self.topology: Topology | None = None
        """What follows from it; None while there is no later one than the first."""
        self.proposal: Layout | None = None

    def open(self, load: Callable[[bytes], bytes | None], *, is_blank: bool) -> None:
        """Begin with what settings say, and `load` finds of an earlier run. Conflict if these are
        of two clusters; they may be if nothing was written through this node or to it, nor voted
        by it (`is_blank`), and its founders never met: then the earlier list was a mistake, and is
        forgotten."""
        settings = self._settings
        stored, members = load(LAYOUT_META), load(MEMBERS_META)
        layout = None if stored is None else decode_layout(stored)
        reason = "" if layout is None else self._contradiction(layout)
        if layout is not None and reason and not (is_blank and layout.epoch == FIRST_EPOCH):
            raise Conflict(reason)
        if reason:
            layout = members = None
        self._begin(layout)
        self.roster.open(members)
        for url in settings.nodes:
            self.roster.add(url, Ground.LISTED)

    def _begin(self, stored: Layout | None) -> None:
        settings = self._settings
        listed = settings.nodes or (settings.url,)
        if stored is not None:
            self.adopt(stored)
        elif settings.url in listed:
            self.adopt(first_layout(listed, replication=settings.replication))
        else:
            urls = (*listed, settings.url)
            self.proposal = first_layout(urls, replication=settings.replication)

    def _contradiction(self, stored: Layout) -> str:
        """Why the settings describe another cluster than the data directory is of; empty if they
        do not. Started like that, the two would each take writes for the same keys."""
        settings = self._settings
        listed, held = set(settings.nodes), set(stored.urls())
        is_founder = settings.url in listed
        if (is_founder and listed != held) or (settings.url in held and not listed <= held):
            return (
                f"the data directory is of the cluster {', '.join(stored.urls())}, but -nodes says "
                f"{', '.join(sorted(listed))}; the nodes of a cluster cannot be changed yet: "
                "give its list, or another -data"
            )
        if settings.url in held and settings.replication != stored.replication:
            return (
                f"the data directory is of a cluster with -replication={stored.replication}, "
                f"but {settings.replication} was given; it cannot be changed yet"
            )
        return ""

    # --- layout ----------------------------------------------------------------------------

    def current(self) -> Topology:
        """The topology for an operation that begins now; it keeps it to its end. NotReady while
        there is none."""
        topology = self.topology
        if topology is None:
            raise NotReady(self.why_none())
        return topology

    def why_none(self) -> str:
        """Why there is no topology, one line."""
        layout = self.layout
        if layout is None:
            return "the cluster's layout is not known yet"
        for peer in self._members.values():
            if peer is not None and peer.refusal and not peer.is_linked:
                return peer.refusal
        count, met = len(layout.members), len(self.founders()[0])
        needed = majority(count)
        if met >= needed:
            return f"a new cluster: {met} of its {count} nodes have met, and vote on its layout"
        return (
            f"a new cluster: {needed} of its {count} nodes have to meet before it serves; here "
            f"{met} have"
        )

    def announcement(self) -> OtherEpoch:
        """The layout in force, for a peer that is behind."""
        layout = self.layout
        return OtherEpoch(self.epoch, [], layout.encode() if layout is not None else b"")

    def adopt(self, layout: Layout) -> None:
        """Put a layout in force, and store it."""
        settings = self._settings
        self.proposal = None
        self.layout = layout
        self.epoch = layout.epoch
        before = self._members.values()
        # The bound first: one of them may be at the URL of who is not.
        members = sorted(layout.members, key=_is_unbound)
        self._members = {each.id: self._place(each) for each in members}
        for peer in before:
            if peer is not None and peer not in self._members.values():
                self.roster.release(peer)
        if layout.epoch > FIRST_EPOCH:
            self.topology = Topology(
                (layout,),
                own_url=settings.url,
                peer_of=lambda member: self._members[member.id],
                r=settings.r,
                w=settings.w,
            )
        self._store(LAYOUT_META, layout.encode())
        if None in self._members.values():
            self.roster.clear_own_place(self._members.values())
        self._newness.soon()
        self._adopted()

    def _tell_if_new(self) -> None:
        """Another disk than this node's holds copies under its URL: this one was lost, or is
        another's."""
        layout = self.layout
        if layout is not None and None not in self._members.values():
            for each in layout.members:
                if each.url == self._settings.url and each.is_bound:
                    self._turn.note("error", "new_directory", copies_are_of=f"{each.id:012x}")

    def _place(self, member: Member) -> Peer | None:
        """Whom a layout means; None is this node. The founders vote on the second layout as those
        who are at their URLs; later a URL means nobody until it is bound."""
        settings = self._settings
        is_founder = self.epoch == FIRST_EPOCH and member.url == settings.url
        if is_founder or member.id == settings.node_id:
            return None
        return self.roster.place(member)

    def founders(self) -> tuple[dict[str, int], int]:
        """The ids of the members that are met and not bound, by URL; and how many are not met."""
        layout, ids, unmet = self.layout, {}, 0
        for member in layout.members if layout is not None else ():
            if not member.is_bound:
                peer = self.roster.at(member.url)
                if member.url == self._settings.url and not self._is_member():
                    ids[member.url] = self._settings.node_id
                elif peer is not None and peer.is_linked and not peer.is_bound:
                    ids[member.url] = peer.id
                else:
                    unmet += 1
        return ids, unmet

    def _is_member(self) -> bool:
        """Whether the layout names this node's disk."""
        return self._settings.node_id in self._members

    def is_member(self, peer: Peer) -> bool:
        """Whether the layout means this node."""
        return peer in self._members.values()

    def voters(self) -> dict[int, Peer | None]:
        """Who decides the next layout, by what this one calls them; None is this node."""
        layout = self.layout
        return {} if layout is None else {each: self._members[each] for each in layout.voters}

    def meet(self, greeting: Greeting) -> None:
        """A peer introduced itself: know it by its id, and adopt its layout if this node is
        behind."""
        peer = self.roster.introduce(greeting)
        if peer is None:
            return
        peer.epoch = greeting.epoch
        self._compare_quorums(peer, greeting)
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
        own = self.layout
        if own is not None and not descends(own, layout):
            raise ValueError("of another cluster, or of copies that moved")
        places = {peer.url for peer in self.roster.peers if peer.ground is not Ground.HEARSAY}
        if len(places.union(layout.urls())) > MEMBERS_MAX or not all(map(is_url, layout.urls())):
            raise ValueError("too many members, or a URL that is none")
        return layout

    def greeting(self) -> Greeting:
        """How this node introduces itself."""
        settings, layout = self._settings, self.layout
        shown = layout or self.proposal
        w, r = self._quorums()
        return Greeting(
            protocol=PROTOCOL_VERSION,
            cluster=hashed(settings.cluster),
            url=settings.url,
            node_id=settings.node_id,
            epoch=self.epoch,
            layout_hash=layout.hash() if layout is not None else b"",
            version=settings.version,
            layout=shown.encode() if shown is not None else b"",
            process=self._process,
            w=w,
            r=r,
            lineage=layout.lineage if layout is not None else b"",
            serial=self._serial,
        )

    def _quorums(self) -> tuple[int, int]:
        """The W and R of requests that ask for no number; 0 while not known."""
        settings, layout = self._settings, self.layout
        usual = 0 if layout is None else majority(len(layout.table[0]))
        return settings.w or usual, settings.r or usual

    def _compare_quorums(self, peer: Peer, greeting: Greeting) -> None:
        """Note if the peer's defaults are others than ours: what answers promise assumes that all
        writes and reads are made with the same."""
        before = peer.w, peer.r
        peer.w, peer.r = greeting.w, greeting.r
        w, r = self._quorums()
        if before == (peer.w, peer.r) or not (peer.w and peer.r and w and r):
            return
        if (peer.w, peer.r) != (w, r):
            self._turn.note(
                "warning", "quorums_differ", peer=peer.url, W=peer.w, R=peer.r, own_W=w, own_R=r
            )


def _is_unbound(member: Member) -> bool:
    return not member.is_bound
