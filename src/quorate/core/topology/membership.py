# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs to the cluster, and which layout is in force.

The layout comes, in this order, from the data directory; from `nodes`, when it names this node or
nobody else; or from the first peer that has one. A node that is not in its own `nodes` holds the
layout of that list and itself as a *proposal*: two nodes that propose the same adopt it (each
listed the other only); one that meets a cluster with a layout adopts that, and coordinates without
owning anything unless the layout names it. Until then it serves nothing.

A layout of a higher epoch is adopted from any peer, whether it comes with a greeting or with the
refusal of a request (`OtherEpoch`). Nobody goes back to a lower one.

Members beyond the layout come by `join` and ride on the pings, on one of four grounds
(`peer.Ground`). A node tells of those that are listed, that it has a link to, or that were
announced here and not reached yet; so whom nobody reaches is told of by nobody. What is hearsay
alone is kept in memory, a hundred of it at a time, for ten minutes after it was last heard; thus a
peer that names a thousand strangers takes no place from a true member, and a mistyped `join` is
gone from all nodes but the one that was asked. Who is not listed and not linked may be forgotten
by command: were that a mistake, it comes back by greeting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from quorate.core.topology.greeting import hashed
from quorate.core.topology.layout import (
    FIRST_EPOCH,
    Layout,
    Member,
    decode_layout,
    first_layout,
    unmet_id,
)
from quorate.core.topology.peer import Ground, Peer
from quorate.core.topology.topology import Topology
from quorate.core.turn import Alarm, Turn
from quorate.core.values.messages import PROTOCOL_VERSION, Greeting
from quorate.core.values.settings import MEMBERS_MAX, Settings
from quorate.errors import Conflict, InvalidRequest, NotReady
from quorate.notation import is_url, member_url

HEARSAY_MAX: Final = 100
HEARSAY_MS: Final = 600_000
"""How long hearsay is kept after it was last heard."""
LAYOUT_META: Final = b"layout"
MEMBERS_META: Final = b"members"
URL_META: Final = b"url"
"""Where the node was when it ran last."""


class Membership:
    """The members of the cluster as this node knows them."""

    __slots__ = (
        "_adopted",
        "_alarm",
        "_free",
        "_hearsay",
        "_make_peer",
        "_named",
        "_process",
        "_settings",
        "_store",
        "_turn",
        "has_changed",
        "is_new",
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
        """Every member but this node."""
        self._free: list[int] = []
        """Indices of members that were forgotten."""
        self._hearsay: dict[int, Peer] = {}
        """The members on that ground, by name."""
        self._alarm = Alarm(turn, self._forget_hearsay)
        self._named: dict[int, Peer] = {}
        """The same by what each is called: by the id that it was last met with, and by the
        `unmet_id` of its URL."""
        self.has_changed = False
        """Since the last `close_turn`."""
        self.is_new = False
        """Whether the data directory of this node, which holds copies, was new at its start."""
        self.topology: Topology | None = None
        """None while the cluster's layout is not known."""
        self.proposal: Layout | None = None

    def open(self, load: Callable[[bytes], bytes | None], *, is_blank: bool) -> None:
        """Begin with what settings say, and `load` finds of an earlier run. Conflict if these are
        of two clusters or two nodes; of two clusters they may be if nothing was written through
        this node or to it (`is_blank`): then the earlier list was a mistake, and is forgotten."""
        settings = self._settings
        stored, members = load(LAYOUT_META), load(MEMBERS_META)
        layout = None if stored is None else decode_layout(stored)
        self._check_owner(load(URL_META), layout)
        reason = "" if layout is None else self._contradiction(layout)
        if reason and not is_blank:
            raise Conflict(reason)
        if reason:
            layout = members = None
        for url in settings.nodes:
            self.add(url, Ground.LISTED)
        for url in msgspec.msgpack.decode(members, type=list[str]) if members else []:
            self.add(url, Ground.MET)
        self._store(URL_META, settings.url.encode())
        self._begin(layout)

    def _check_owner(self, stored: bytes | None, layout: Layout | None) -> None:
        """Conflict if the data directory is another node's of the list: with directories mixed up,
        each node would answer "nothing here" for keys that another one holds. One that was moved
        to a URL of its own may go on."""
        settings = self._settings
        url = settings.url if stored is None else stored.decode()
        listed = [*settings.nodes, *(layout.urls() if layout is not None else [])]
        if url != settings.url and url in listed:
            raise Conflict(
                f"the data directory belongs to {url}, and this is {settings.url}: "
                "give this node its own -data"
            )

    def _begin(self, stored: Layout | None) -> None:
        settings = self._settings
        listed = settings.nodes or (settings.url,)
        if stored is not None:
            self.adopt(stored)
        elif settings.url in listed:
            self.is_new = True
            self.adopt(first_layout(listed, replication=settings.replication))
        else:
            urls = (*listed, settings.url)
            self.proposal = first_layout(urls, replication=settings.replication)

    def _contradiction(self, stored: Layout) -> str:
        """Why the settings describe another cluster than the data directory is of; empty if they
        do not. Started like that, the two would each take writes for the same keys."""
        if stored.epoch > FIRST_EPOCH:
            return ""  # The list says with which nodes the cluster began.
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

    # --- members ---------------------------------------------------------------------------

    def add(self, url: str, ground: Ground) -> bool:
        """Know `url` as a member on this ground at least; whether it is new. InvalidRequest beyond
        the maximum."""
        if url == self._settings.url:
            return False
        peer = self.at(url)
        if peer is not None:
            peer.named_ms = self._turn.mono_ms
            self._raise(peer, ground)
            return False
        if len(self.peers) >= MEMBERS_MAX and not self._give_way():
            raise InvalidRequest("too many members", members=len(self.peers))
        index = self._free.pop() if self._free else len(self.peers)
        peer = self._make_peer(url, index)
        peer.named_ms = self._turn.mono_ms
        self.peers.append(peer)
        self._named[peer.name] = peer
        self._hearsay[peer.name] = peer
        self._alarm.at(peer.named_ms + HEARSAY_MS)
        self._raise(peer, ground)
        self.has_changed = True
        return True

    def _raise(self, peer: Peer, ground: Ground) -> None:
        if ground > peer.ground:
            if peer.ground is Ground.HEARSAY:
                del self._hearsay[peer.name]
                self.has_changed = True
            peer.ground = ground

    def learn(self, urls: Iterable[str], *, of: Peer) -> None:
        """Add what a peer names, as far as it may be a member and hearsay has room."""
        refused = 0
        for url in urls:
            peer = self.at(url)
            if peer is not None:
                peer.named_ms = self._turn.mono_ms
            elif url != self._settings.url:
                has_room = len(self._hearsay) < HEARSAY_MAX and len(self.peers) < MEMBERS_MAX
                if has_room and self._may_be_member(url):
                    self.add(url, Ground.HEARSAY)
                else:
                    refused += 1
        if refused:
            self._turn.counters["members_refused"] += refused
            if not of.has_misnamed:
                of.has_misnamed = True
                self._turn.note("warning", "members_refused", peer=of.url, count=refused)

    def _may_be_member(self, url: str) -> bool:
        try:
            return member_url(url, own_url=self._settings.url) == url
        except ValueError:
            return False

    def reached(self, peer: Peer) -> None:
        """Our own link leads to this peer: it is where it is said to be."""
        self._raise(peer, Ground.MET)
        peer.refusal = ""

    def refused(self, url: str, reason: str) -> None:
        """No link to this member comes to be, and why."""
        peer = self.at(url)
        if peer is not None:
            peer.refusal = reason

    def forget(self, url: str) -> bool:
        """Know the member no more; whether it was one. InvalidRequest if it is there, or listed."""
        peer = self.at(url)
        if peer is None and url != self._settings.url:
            return False
        if peer is None or peer.ground is Ground.LISTED:
            raise InvalidRequest("this member holds copies, or is in this node's -nodes", url=url)
        if peer.is_linked:
            raise InvalidRequest("this member is there: stop it first", url=url)
        self._drop(peer)
        return True

    def _drop(self, peer: Peer) -> None:
        self.peers.remove(peer)
        self._free.append(peer.index)
        self._hearsay.pop(peer.name, None)
        del self._named[peer.name]
        if self._named.get(peer.id) is peer:
            del self._named[peer.id]
        self.has_changed = True

    def _give_way(self) -> bool:
        """Drop the hearsay that was named longest ago; False without any."""
        if not self._hearsay:
            return False
        self._drop(min(self._hearsay.values(), key=_named_ms))
        return True

    def _forget_hearsay(self) -> None:
        """Drop what nobody has named for long, and look again when the next may be due."""
        until_ms = self._turn.mono_ms - HEARSAY_MS
        for peer in [each for each in self._hearsay.values() if each.named_ms <= until_ms]:
            self._drop(peer)
        if self._hearsay:
            self._alarm.at(min(map(_named_ms, self._hearsay.values())) + HEARSAY_MS)

    def at(self, url: str) -> Peer | None:
        """The member at a URL."""
        return self._named.get(unmet_id(url))

    def named(self, node_id: int) -> Peer | None:
        """The member that was last met with this id."""
        return self._named.get(node_id)

    def told(self) -> list[str]:
        """Whom this node names to others as members, itself included, sorted."""
        return sorted(
            [
                self._settings.url,
                *[
                    peer.url
                    for peer in self.peers
                    if peer.is_linked or peer.ground in (Ground.LISTED, Ground.ANNOUNCED)
                ],
            ]
        )

    def close_turn(self) -> list[str] | None:
        """Where the peers are, if that changed in this step; then it is stored too."""
        if not self.has_changed:
            return None
        self.has_changed = False
        kept = sorted([peer.url for peer in self.peers if peer.ground is not Ground.HEARSAY])
        self._store(MEMBERS_META, msgspec.msgpack.encode(kept))
        return sorted([peer.url for peer in self.peers])

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
            self.add(member.url, Ground.LISTED)
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
        peer = self._introduced(greeting.url)
        if peer is None:
            return
        before = self._named.get(greeting.node_id)
        if before is not peer:
            # Whom our own link leads to is known for sure, whatever others call themselves.
            if peer.is_linked or (before is not None and before.is_linked):
                return
            if before is not None:
                before.id = 0  # It is elsewhere now.
            self._named.pop(peer.id, None)
            self._named[greeting.node_id] = peer
        if peer.id not in (0, greeting.node_id):
            # It answers "nothing here" for what it acknowledged from the one before.
            self._turn.note("error", "peer_has_another_directory", peer=peer.url)
        peer.id, peer.version = greeting.node_id, greeting.version
        self._compare_quorums(peer, greeting)
        if greeting.layout_hash:
            if greeting.epoch > self.epoch:
                self.hear_of(greeting.layout, greeting.url)
        elif self.proposal is not None and greeting.layout == self.proposal.encode():
            # A peer without a layout in force offers a proposal: that counts if it is ours too.
            self.hear_of(greeting.layout, greeting.url)

    def _introduced(self, url: str) -> Peer | None:
        """The member at the URL that a peer says is its own; None if it cannot be one, or is one
        too many."""
        peer = self.at(url)
        if peer is None and not self._may_be_member(url):
            self._turn.counters["members_refused"] += 1
            self._turn.note_rarely("warning", "members_refused", peer="itself", url=url, count=1)
            return None
        if peer is None and len(self._hearsay) >= HEARSAY_MAX:
            self._give_way()
        try:
            self.add(url, Ground.HEARSAY)
        except InvalidRequest:
            return None
        return self.at(url)

    def hear_of_keys(self, peer: Peer) -> None:
        """A peer tells how many keys it holds. If this node has only just begun to hold any, then
        it came late, or its disk was lost."""
        if self.is_new and peer.keys:
            self.is_new = False
            self._turn.note("warning", "new_directory", peer=peer.url, keys_of_peer=peer.keys)

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
        places = {peer.url for peer in self.peers if peer.ground is not Ground.HEARSAY}
        if len(places.union(layout.urls())) > MEMBERS_MAX or not all(map(is_url, layout.urls())):
            raise ValueError("too many members, or a URL that is none")
        return layout

    def greeting(self) -> Greeting:
        """How this node introduces itself."""
        settings, layout = self._settings, self.layout
        shown = layout or self.proposal
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
            w=self.topology.w if self.topology is not None else settings.w,
            r=self.topology.r if self.topology is not None else settings.r,
        )

    def _compare_quorums(self, peer: Peer, greeting: Greeting) -> None:
        """Note if the peer's defaults are others than ours: what answers promise assumes that all
        writes and reads are made with the same."""
        before = peer.w, peer.r
        peer.w, peer.r = greeting.w, greeting.r
        topology = self.topology
        if topology is None or before == (peer.w, peer.r) or not (peer.w and peer.r):
            return
        w, r = topology.w, topology.r
        if (peer.w, peer.r) != (w, r):
            self._turn.note(
                "warning", "quorums_differ", peer=peer.url, W=peer.w, R=peer.r, own_W=w, own_R=r
            )


def _named_ms(peer: Peer) -> int:
    return peer.named_ms
