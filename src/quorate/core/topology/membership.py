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

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from quorate.core.topology.facts import Facts
from quorate.core.topology.greeting import hashed
from quorate.core.topology.layout import (
    FIRST_EPOCH,
    FIRST_LEVEL,
    Course,
    Layout,
    Member,
    check_known,
    decode_layout,
    first_layout,
    is_founded_by,
)
from quorate.core.topology.marks import MARKS_META, Marks
from quorate.core.topology.peer import Ground, Peer
from quorate.core.topology.roster import MEMBERS_META, Roster
from quorate.core.topology.steps import descends, left_out
from quorate.core.topology.topology import Topology
from quorate.core.turn import Alarm, Turn
from quorate.core.values.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Greeting,
    OtherEpoch,
    Whereabouts,
)
from quorate.core.values.settings import MEMBERS_MAX, Settings, majority
from quorate.errors import Conflict, FormatUnsupported, NotReady
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
        "facts",
        "given_up",
        "layout",
        "marks",
        "may_adopt",
        "outdated",
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
        adopted: Callable[[Layout | None, Layout], None],
        store: Callable[[bytes, bytes | None], None],
        ceiling: int = 0,
    ) -> None:
        """`make_peer` is given a URL and how many peers there were before; `serial` is that of this
        node's whereabouts; `adopted` is told the layout before and the one in force, if another;
        `store` keeps a meta entry; `ceiling` is the clock's as found. Knows nobody before `open`.
        """
        self._settings = settings
        self._turn = turn
        self._process = process
        self._serial = serial
        self._adopted = adopted
        self._store = store
        own = Whereabouts(settings.node_id, serial, settings.url, settings.advertise_client)
        self.roster: Final = Roster(own, turn, make_peer, store)
        self.facts: Final = Facts(own, turn, self.roster, self._is_bound)
        is_final = settings.durability == "sync" and settings.old_disk != "accept"
        self.marks: Final = Marks(turn, store, found=ceiling, is_final=is_final)
        self._newness = Alarm(turn, self._tell_if_new)
        self._members: dict[int, Peer | None] = {}
        """Whom the layout in force names, by what it calls them; None is this node."""
        self.layout: Layout | None = None
        """The newest that is known; None while there is none."""
        self.epoch = 0
        """Of the newest layout; 0 while there is none."""
        self.topology: Topology | None = None
        """What follows from it; None while there is no later one than the first."""
        self.given_up = ""
        """How the cluster went on without this node; empty if it did not."""
        self.outdated = ""
        """Why this release cannot go on with the cluster; empty if it can."""
        self.proposal: Layout | None = None
        self.may_adopt: Callable[[Layout, str], bool] = lambda _layout, _url: True
        """Whether to take another's layout, and from which URL."""

    def open(self, load: Callable[[bytes], bytes | None], *, is_blank: bool) -> None:
        """Begin with what settings say, and `load` finds of an earlier run. FormatUnsupported if
        that was of a feature level that this release does not know. Conflict if these are of two
        clusters; they may be if nothing was written through this node or to it, nor voted
        by it (`is_blank`), and its founders never met: then the earlier list was a mistake, and is
        forgotten. Who was elsewhere when last heard may be back where the layout has it."""
        settings = self._settings
        stored, members = load(LAYOUT_META), load(MEMBERS_META)
        layout = None if stored is None else decode_layout(stored)
        if layout is not None and stored is not None:
            check_known(layout, stored, level=settings.level)
        reason = "" if layout is None else self._contradiction(layout)
        if layout is not None and reason and not (is_blank and layout.epoch == FIRST_EPOCH):
            raise Conflict(reason)
        if reason:
            layout = members = None
        self.marks.open(load(MARKS_META), is_fresh=stored is None)
        self._begin(layout)
        self.roster.open(members)
        self.roster.discover([each.url for each in layout.members] if layout is not None else ())
        for url in () if members and self._is_list_over() else settings.nodes:
            if url != self.place_of_own:
                self.roster.add(url, Ground.LISTED if self.topology is None else Ground.MET)

    @property
    def place_of_own(self) -> str:
        """Where the layout has this node, which may have moved since; empty if nowhere."""
        mine = None if self.layout is None else self.layout.member(self._settings.node_id)
        return "" if mine is None else mine.url

    def _is_list_over(self) -> bool:
        """Whether `-nodes` says no more than who founded the cluster that this node knows."""
        layout, settings = self.layout, self._settings
        if layout is None or self.topology is None or not settings.nodes:
            return False
        return is_founded_by(layout, settings.nodes, replication=settings.replication)

    def _begin(self, stored: Layout | None) -> None:
        settings = self._settings
        listed = settings.nodes or (settings.url,)
        if stored is not None:
            self.adopt(stored)
        elif settings.is_seeking:
            return
        elif settings.url in listed:
            self.adopt(first_layout(listed, replication=settings.replication))
        else:
            urls = (*listed, settings.url)
            self.proposal = first_layout(urls, replication=settings.replication)

    def _contradiction(self, stored: Layout) -> str:
        """Why the settings describe another cluster than the data directory is of; empty if they do
        not. Only of a cluster that has yet to find together: later ones change, and their nodes
        move, and are told apart by their ids."""
        settings = self._settings
        listed, held = set(settings.nodes), set(stored.urls())
        if stored.epoch > FIRST_EPOCH:
            return ""
        is_founder = settings.url in listed
        if (is_founder and listed != held) or (settings.url in held and not listed <= held):
            return (
                f"the data directory is of the cluster {', '.join(stored.urls())}, but -nodes says "
                f"{', '.join(sorted(listed))}; a cluster that has yet to find together is what its "
                "list says: give that list, or another -data"
            )
        if settings.url in held and settings.replication != stored.replication:
            return (
                f"the data directory is of a cluster with -replication={stored.replication}, "
                f"but {settings.replication} was given"
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
        for peer in self.roster.peers if layout is None else self._members.values():
            if peer is not None and peer.refusal and not peer.is_linked:
                return peer.refusal
        if layout is None:
            return self._settings.why_no_layout
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
        settings, before = self._settings, self.layout
        self.proposal, self.given_up = None, ""
        self.layout, self.epoch = layout, layout.epoch
        # The bound first: one of them may be at the URL of who is not.
        members = sorted(layout.members, key=lambda each: not each.is_bound)
        counts = Counter(layout.urls())
        self._members = {
            each.id: self._place(each, is_alone=counts[each.url] == 1) for each in members
        }
        if layout.epoch > FIRST_EPOCH:
            self.roster.release_all_but(self._members.values())
            self.topology = Topology(
                layout,
                own_url=settings.url,
                peer_of=lambda member: self._members[member.id],
                r=settings.r,
                w=settings.w,
            )
        self._store(LAYOUT_META, layout.encode())
        self.roster.edition += 1
        if None in self._members.values():
            self.roster.clear_own_place(self._members.values())
        self.marks.forget_others(self._members)
        self._look_at_marks(layout)
        self._compare_quorums()
        self._newness.soon()
        if before is not None and layout.level > before.level:
            self._turn.note("info", "level_raised", feature_level=layout.level)
        self._adopted(before, layout)

    def _look_at_marks(self, layout: Layout) -> None:
        """Whether this node's copies count by now."""
        bound = [each.id for each in layout.members if each.is_bound and each.id not in layout.lost]
        self.marks.look(self._settings.node_id, bound, self.roster.successor)

    def _tell_if_new(self) -> None:
        """Say what is not as this node was started: copies of each key, which the cluster decides;
        and a disk that is another than that which holds copies under its URL."""
        layout, replication = self.layout, self._settings.replication
        if layout is not None and layout.replication != replication:
            self._turn.note_rarely(
                "warning", "replication_differs", cluster=layout.replication, own=replication
            )
        if layout is not None and None not in self._members.values():
            for each in layout.members:
                if each.url == self._settings.url and each.is_bound:
                    self._turn.note_rarely(
                        "error", "new_directory", copies_are_of=f"{each.id:012x}"
                    )

    def _place(self, member: Member, *, is_alone: bool) -> Peer | None:
        """Whom a layout means; None is this node. The founders vote on the second layout as those
        who are at their URLs; later a URL means nobody until it is bound. A member whose disk
        counts as lost is nobody, should it come back."""
        settings, layout = self._settings, self.layout
        assert layout is not None
        is_lost = member.id in layout.lost
        is_founder = self.epoch == FIRST_EPOCH and member.url == settings.url
        if is_founder or (member.id == settings.node_id and not is_lost):
            return None
        return self.roster.place(member, is_alone=is_alone, is_lost=is_lost)

    def has(self, member_id: int) -> bool:
        """Whether the layout names this id."""
        return member_id in self._members

    def peer(self, member_id: int) -> Peer | None:
        """Whom the layout means by an id; None is this node."""
        return self._members[member_id]

    @property
    def is_in(self) -> bool:
        """Whether this node is a member."""
        return None in self._members.values()

    def founders(self) -> tuple[dict[str, Member], int]:
        """Which disks the next layout can bind: for the URL of each founder that is not bound yet
        and is linked, or is this node, the member that it becomes. And how many other unbound
        founders there are. One of weight 0 is in neither: it has no data, and leaves unbound."""
        settings, layout = self._settings, self.layout
        met: dict[str, Member] = {}
        unmet = 0
        for member in layout.members if layout is not None else ():
            if not member.is_bound and member.weight:
                url = member.url
                peer = self.roster.at(url)
                if url == settings.url and not self._is_member():
                    met[url] = Member(settings.node_id, url, settings.zone, settings.weight)
                elif peer is not None and peer.is_linked and not peer.is_bound:
                    met[url] = Member(peer.id, url, peer.told.zone, peer.told.weight)
                else:
                    unmet += 1
        return met, unmet

    def _is_member(self) -> bool:
        """Whether the layout names this node's disk."""
        return self._settings.node_id in self._members

    def _is_bound(self) -> bool:
        """Whether it names it, and its disk is not lost."""
        return self._is_member() and self._members[self._settings.node_id] is None

    def has_majority(self) -> bool:
        """Whether a majority of the voters can be asked."""
        voters = self.voters().values()
        return sum([peer is None or peer.is_there for peer in voters]) >= majority(len(voters))

    def count_votes(self) -> int:
        """How many voters are there and do not wait to hear how far their disks were."""
        own, voters = self.marks.counts, self.voters().values()
        return sum([own if e is None else e.is_there and not e.told.waits for e in voters])

    def find(self, name: str) -> int:
        """The id of the node that an operator means by an id or a URL; 0 if none is known."""
        layout, settings = self.layout, self._settings
        for each in layout.members if layout is not None else ():
            peer = self._members[each.id]
            url = settings.url if peer is None else peer.url
            if name == f"{each.id:012x}" or (name == url and (each.weight or not each.is_bound)):
                return each.id
        if name in (settings.url, f"{settings.node_id:012x}"):
            return settings.node_id
        for peer in self.roster.peers:
            if peer.id and name in (peer.url, f"{peer.id:012x}"):
                return peer.id
        return 0

    def stranger(self, node_id: int) -> Member:
        """A node that is no member, as the member that it would be. KeyError if not known."""
        settings = self._settings
        if node_id == settings.node_id:
            return Member(node_id, settings.url, settings.zone, settings.weight)
        peer = self.roster.by_id[node_id]
        return Member(node_id, peer.url, peer.told.zone, peer.told.weight)

    def is_member(self, peer: Peer) -> bool:
        """Whether the layout means this node."""
        return peer in self._members.values()

    def voters(self) -> dict[int, Peer | None]:
        """Who decides the next layout, by what this one calls them; None is this node."""
        layout = self.layout
        return {} if layout is None else {each: self._members[each] for each in layout.voters}

    def meet(self, greeting: Greeting, *, is_answer: bool = False) -> None:
        """A peer introduced itself: know it by its id, and adopt its layout if this node is
        behind. In its answer it says what it remembers of this node's disk."""
        peer = self.roster.introduce(greeting)
        if peer is None:
            return
        peer.epoch = greeting.epoch
        self._compare_quorums()
        if greeting.layout_hash:
            if greeting.epoch > self.epoch:
                self.hear_of(greeting.layout, greeting.url)
        elif self.proposal is not None and greeting.layout == self.proposal.encode():
            # A peer without a layout in force offers a proposal: that counts if it is ours too.
            self.hear_of(greeting.layout, greeting.url)
        if is_answer:
            self.marks.said(greeting, is_member=self.has(greeting.node_id))
            if self.layout is not None:
                self._look_at_marks(self.layout)

    def hear_of(self, data: bytes, url: str) -> None:
        """Adopt the encoded layout that a peer has, if it is of a higher epoch."""
        try:
            offered = self._decode(data)
        except FormatUnsupported as error:
            self.outdated = str(error)
            self._turn.note_rarely("error", "level_unknown", peer=url, reason=self.outdated)
            return
        except (msgspec.MsgspecError, ValueError):
            self._turn.note_rarely("error", "peer_layout_unreadable", peer=url)
            return
        before = self.layout
        if offered.epoch > self.epoch and self.may_adopt(offered, url):
            self.adopt(offered)
            if before is None or offered.is_news_after(before):
                course = Course(offered.course).name.lower()
                self._turn.note(
                    "info", "layout_adopted", peer=url, epoch=offered.epoch, course=course
                )

    def _decode(self, data: bytes) -> Layout:
        """A peer's layout, if it is one that this node can adopt. FormatUnsupported if a newer
        release could; ValueError otherwise."""
        layout = decode_layout(data)
        own = self.layout
        if own is not None and not descends(own, layout):
            raise ValueError("of another cluster, or of copies that moved")
        check_known(layout, data, level=self._settings.level)
        node_id = self._settings.node_id
        if own is not None and (how := left_out(own, layout, node_id, before=self.given_up)):
            # It has what may be the last copies: they are not dropped for a layout.
            self.given_up = how
            self._turn.note_rarely("error", "given_up", epoch=layout.epoch)
            raise ValueError("of those who went on without this node")
        places = {peer.url for peer in self.roster.peers if peer.ground is not Ground.HEARSAY}
        if len(places.union(layout.urls())) > MEMBERS_MAX or not all(map(is_url, layout.urls())):
            raise ValueError("too many members, or a URL that is none")
        return layout

    def greeting(self) -> Greeting:
        """How this node introduces itself."""
        settings, layout = self._settings, self.layout
        shown = layout or self.proposal
        return Greeting(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            cluster=hashed(settings.cluster),
            url=settings.url,
            node_id=settings.node_id,
            epoch=self.epoch,
            layout_hash=layout.hash() if layout is not None else b"",
            version=settings.version,
            layout=shown.encode() if shown is not None else b"",
            process=self._process,
            w=settings.w,
            r=settings.r,
            lineage=layout.lineage if layout is not None else b"",
            serial=self._serial,
            zone=settings.zone,
            weight=settings.weight,
            level=settings.level,
            in_force=layout.level if layout is not None else FIRST_LEVEL,
            client=settings.advertise_client,
            expect=settings.expect if layout is None else 0,
        )

    def levels(self) -> list[tuple[str, int, bool]]:
        """URL, highest feature level known, and whether it is a member, of each node that is there
        or a member. Of a member that is not there the level is 0, as it may come back in another
        release; who counts as lost is none."""
        found = [(self._settings.url, self._settings.level, self.is_in)]
        members = set(self._members.values())
        for peer in self._around():
            level = peer.told.level if peer.is_there else 0
            found.append((peer.url, level, peer in members and not peer.is_lost))
        return found

    def quorums(self) -> list[tuple[str, int, int]]:
        """URL, W and R of this node and of those there or members, as started; 0 is a majority."""
        settings = self._settings
        told = [(peer.url, peer.told.w, peer.told.r) for peer in self._around()]
        return [(settings.url, settings.w, settings.r), *told]

    def _around(self) -> list[Peer]:
        """Who is there, or a member whose disk does not count as lost."""
        members = set(self._members.values())
        peers = self.roster.peers
        return [each for each in peers if each.is_there or (each in members and not each.is_lost)]

    def _compare_quorums(self) -> None:
        """Note whose defaults became others than ours: what answers promise assumes that all writes
        and reads are made with the same."""
        topology = self.topology
        if topology is None:
            return
        for peer in self.roster.peers:
            w, r = topology.quorums(peer.told.w, peer.told.r)
            before = peer.told.differs
            # Of who was never met nothing is known.
            peer.told.differs = peer.told.level > 0 and (w, r) != (topology.w, topology.r)
            if peer.told.differs and not before:
                facts = {"W": w, "R": r, "own_W": topology.w, "own_R": topology.r}
                self._turn.note("warning", "quorums_differ", peer=peer.url, **facts)
