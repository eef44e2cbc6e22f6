# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom this node knows, and where each is.

A node is the id of its disk; where it is, it says itself, when it greets and by what the others
tell of it (`Whereabouts`). Who is at a URL may change: a new disk at the URL of a member that a
layout names is another node, beside that member, which nobody reaches then.

Members come by the layout, by `-nodes`, by `join`, by greeting, and by what peers tell (`facts`);
on one of four grounds (`peer.Ground`). What is hearsay alone is told to nobody, and kept in memory,
a hundred of it at a time, for ten minutes after it was last heard; thus a peer that names a
thousand strangers takes no place from a true member, and a mistyped `join` is gone from all nodes
but the one that was asked. Until who is there has greeted it is a candidate, and shown as no node
of the cluster. Who is not listed and not linked may be forgotten by command: were that a mistake,
it comes back by greeting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec

from quorate.core.topology.layout import Member, unmet_id
from quorate.core.topology.peer import Ground, Peer
from quorate.core.turn import Alarm, Turn
from quorate.core.values.messages import PROTOCOL_MAX, Greeting, Whereabouts
from quorate.core.values.settings import MEMBERS_MAX
from quorate.errors import InvalidRequest
from quorate.notation import is_url, member_url

HEARSAY_MAX: Final = 100
HEARSAY_MS: Final = 600_000
"""How long hearsay is kept after it was last heard."""
MEMBERS_META: Final = b"members"


class Roster:
    """All other nodes that one knows."""

    __slots__ = (
        "_alarm",
        "_aliases",
        "_at",
        "_free",
        "_hearsay",
        "_make_peer",
        "_own",
        "_store",
        "_turn",
        "by_id",
        "edition",
        "has_changed",
        "peers",
    )

    def __init__(
        self,
        own: Whereabouts,
        turn: Turn,
        make_peer: Callable[[str, int], Peer],
        store: Callable[[bytes, bytes | None], None],
    ) -> None:
        """`own` is this node; `make_peer` is given a URL and a number for the peer; `store` keeps a
        meta entry."""
        self._own = own
        self._turn = turn
        self._make_peer = make_peer
        self._store = store
        self.peers: list[Peer] = []
        """Every member but this node."""
        self._free: list[int] = []
        """Indices of members that were forgotten."""
        self._hearsay: dict[Peer, None] = {}
        """The members on that ground."""
        self._alarm = Alarm(turn, self._forget_hearsay)
        self.by_id: dict[int, Peer] = {}
        """Those whose id is known, by that."""
        self._at: dict[str, Peer] = {}
        """Who is at a URL, as far as is known."""
        self._aliases: dict[str, str] = {}
        """What nodes that were discovered call themselves, by where they were dialled."""
        self.has_changed = False
        """Since the last `close_turn`."""
        self.edition = 0
        """Another one whenever a serial is, or whom the layout names."""

    def open(self, stored: bytes | None) -> None:
        """Know whom an earlier run knew."""
        known = msgspec.msgpack.decode(stored, type=list[Whereabouts]) if stored else []
        for each in known:
            self._learn(each, Ground.MET)

    def add(self, url: str, ground: Ground) -> bool:
        """Know who is at `url` as a member on this ground at least; whether it is new.
        InvalidRequest beyond the maximum."""
        if url == self._own.url:
            return False
        peer = self._at.get(url)
        if peer is not None:
            peer.named_ms = self._turn.mono_ms
            self._raise(peer, ground)
            return False
        if len(self.peers) >= MEMBERS_MAX and not self._give_way():
            raise InvalidRequest("too many members", members=len(self.peers))
        self._at[url] = peer = self._make(url)
        self._raise(peer, ground)
        return True

    def _make(self, url: str) -> Peer:
        index = self._free.pop() if self._free else len(self.peers)
        peer = self._make_peer(url, index)
        peer.named_ms = self._turn.mono_ms
        self.peers.append(peer)
        self._hearsay[peer] = None
        self._alarm.at(peer.named_ms + HEARSAY_MS)
        self.has_changed = True
        return peer

    def _raise(self, peer: Peer, ground: Ground) -> None:
        if ground > peer.ground:
            if peer.ground is Ground.HEARSAY:
                del self._hearsay[peer]
                self.has_changed = True
            peer.ground = ground

    def learn(self, told: Iterable[Whereabouts], *, of: Peer) -> None:
        """Take what a peer tells of others, as far as they may be members and hearsay has room."""
        refused = 0
        for each in told:
            peer = self.by_id.get(each.id) if each.id else self._at.get(each.url)
            if peer is not None:
                peer.named_ms = self._turn.mono_ms
            if peer is None or peer.serial < each.serial:
                refused += not self._learn(each, Ground.HEARSAY)
        if refused:
            self._turn.counters["members_refused"] += refused
            if not of.has_misnamed:
                of.has_misnamed = True
                self._turn.note("warning", "members_refused", peer=of.url, count=refused)

    def _learn(self, told: Whereabouts, ground: Ground) -> bool:
        """Take what is told of one node, unless this node knows better; False if it cannot be a
        member, or is one too many."""
        url = told.url
        if url == self._own.url or told.id == self._own.id:
            return True
        if not self._may_be_member(url):
            return False
        peer, there = self.by_id.get(told.id), self._at.get(url)
        if peer is not None:
            # Whom our own link leads to is known for sure, whatever others say.
            is_sure = peer.is_linked or (there is not None and there.is_linked)
            may_move = peer.is_bound or peer.ground is not Ground.LISTED
            if told.serial > peer.serial and may_move and not is_sure:
                self._renew(peer, told.serial)
                peer.told.client = told.client if is_url(told.client) else ""
                self._move(peer, url)
            self._raise(peer, ground)
            return True
        if there is None and ground is Ground.HEARSAY and len(self._hearsay) >= HEARSAY_MAX:
            return False
        try:
            self.add(url, ground)
        except InvalidRequest:
            return False
        return True

    def discover(self, urls: Iterable[str], *, known_as: str = "") -> None:
        """Dial who may be at these URLs, as hearsay: it takes the place of what was named longest
        ago, so that however many are named each has its turn."""
        for url in urls:
            if known_as:
                self._alias(known_as, url)
            known = self._aliases.get(url, "")
            there = self._at.get(known)
            if known and (known == self._own.url or (there is not None and there.is_linked)):
                continue
            peer = self._at.get(url)
            if peer is not None:
                peer.named_ms = self._turn.mono_ms
            elif url != self._own.url and self._may_be_member(url):
                if len(self._hearsay) >= HEARSAY_MAX or len(self.peers) >= MEMBERS_MAX:
                    self._give_way()
                if len(self.peers) < MEMBERS_MAX:
                    self.add(url, Ground.HEARSAY)

    def is_candidate(self, url: str) -> bool:
        """Whether no more is known of who is at this URL than that somebody may be."""
        peer = self._at.get(url)
        return peer is not None and peer.is_candidate

    def _alias(self, url: str, real: str) -> None:
        """Who was dialled at `url` calls itself `real`."""
        if self.is_candidate(url):
            self._drop(self._at[url])
        self._aliases.pop(url, None)
        if len(self._aliases) >= HEARSAY_MAX:
            del self._aliases[next(iter(self._aliases))]
        self._aliases[url] = real

    def _may_be_member(self, url: str) -> bool:
        try:
            return member_url(url, own_url=self._own.url) == url
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
        peer = self._at.get(url)
        if peer is None and url != self._own.url:
            return False
        if peer is None or peer.ground is Ground.LISTED:
            raise InvalidRequest(
                "this member holds copies, or is to found the cluster: have it leave first",
                url=url,
            )
        if peer.is_linked:
            raise InvalidRequest("this member is there: stop it first", url=url)
        self._drop(peer)
        return True

    def _drop(self, peer: Peer) -> None:
        self.peers.remove(peer)
        self._free.append(peer.index)
        self._hearsay.pop(peer, None)
        if self._at.get(peer.url) is peer:
            del self._at[peer.url]
        if self.by_id.get(peer.id) is peer:
            del self.by_id[peer.id]
        self.has_changed = True

    def _move(self, peer: Peer, url: str) -> None:
        """The node is at `url` now. Who was there before is elsewhere, or is no more."""
        there = self._at.get(url)
        if there is peer:
            return
        if self._at.get(peer.url) is peer:
            del self._at[peer.url]
        peer.url = url
        self._at[url] = peer
        self.has_changed = True
        is_nobody = there is not None and not (there.id or there.is_awaited)
        if there is not None and (is_nobody or there.ground is not Ground.LISTED):
            self._raise(peer, there.ground)
            self._drop(there)

    def _give_way(self) -> bool:
        """Drop the hearsay that was named longest ago; False without any."""
        if not self._hearsay:
            return False
        self._drop(min(self._hearsay, key=_named_ms))
        return True

    def _forget_hearsay(self) -> None:
        """Drop what nobody has named for long, and look again when the next may be due."""
        until_ms = self._turn.mono_ms - HEARSAY_MS
        for peer in [each for each in self._hearsay if each.named_ms <= until_ms]:
            self._drop(peer)
        if self._hearsay:
            self._alarm.at(min(map(_named_ms, self._hearsay)) + HEARSAY_MS)

    def at(self, url: str) -> Peer | None:
        """The member at a URL."""
        return self._at.get(url)

    def successor(self, node_id: int) -> int:
        """The id of the disk that is where a member was, and that no layout names; 0 if none is."""
        peer = self.by_id.get(node_id)
        there = None if peer is None else self._at.get(peer.url)
        return 0 if there is None or there is peer or there.is_bound else there.id

    def place(self, member: Member, *, is_alone: bool, is_lost: bool) -> Peer:
        """Know who it is that a layout names, alone at its URL or beside another."""
        peer, there = self.by_id.get(member.id), self._at.get(member.url)
        is_free = there is not None and not there.is_bound and not (member.is_bound and there.id)
        if peer is None:
            peer = there if there is not None and is_free else self._make(member.url)
            self._at.setdefault(member.url, peer)
        if member.is_bound:
            peer.id = member.id
            self.by_id[member.id] = peer
        by_url = unmet_id(member.url)
        peer.names = (by_url, member.id) if member.is_bound else (by_url,)
        if is_lost:
            peer.names = ()
        elif not is_alone:
            # Which of the two a hint for the URL is meant for is not known.
            peer.names = (member.id,)
        peer.is_bound = member.is_bound
        peer.is_lost = is_lost
        peer.is_awaited = not member.is_bound
        if member.url == self._own.url:
            # Another node than this one, so it is not there; nobody dials it.
            peer.is_up = False
        peer.judge()
        self._raise(peer, Ground.LISTED)
        return peer

    def release_all_but(self, members: Collection[Peer | None]) -> None:
        """These are whom a later layout than the first means: nobody else is listed, whatever
        `-nodes` says."""
        for peer in [each for each in self.peers if each.ground is Ground.LISTED]:
            if peer not in members:
                self.release(peer)

    def release(self, peer: Peer) -> None:
        """No layout means this node any more: another one is what was meant."""
        peer.names = ()
        peer.is_bound = peer.is_awaited = peer.is_lost = False
        peer.told.pulled = 0
        peer.ground = Ground.MET
        peer.judge()
        is_elsewhere = self._at.get(peer.url) is not peer and not peer.is_linked
        if is_elsewhere or peer.id == self._own.id:
            # Another one is where it was, and forgotten by its URL it could never be; or it is this
            # node, whose disk counted as lost. Should it come back, it greets.
            self._drop(peer)

    def clear_own_place(self, members: Collection[Peer | None]) -> None:
        """Forget who the layout meant at this node's URL before it meant this node."""
        for peer in [each for each in self.peers if each.url == self._own.url]:
            if peer not in members:
                self._drop(peer)

    def introduce(self, greeting: Greeting) -> Peer | None:
        """Who greets, known by its id and at its URL from now on; None if it cannot be a member, is
        one too many, or our own link leads elsewhere."""
        url = greeting.url
        peer, there = self.by_id.get(greeting.node_id), self._at.get(url)
        if peer is not None and peer is there:
            self._note_start(peer, greeting)
            return peer
        # Whom our own link leads to is known for sure, whatever others call themselves.
        if (peer is not None and peer.is_linked) or (there is not None and there.is_linked):
            return None
        if peer is not None and not peer.is_bound and peer.ground is Ground.LISTED:
            # Who is named by its URL is whoever is there: this node is elsewhere now.
            peer.id = 0
            peer = None
        if there is None and not self._may_be_member(url):
            self._turn.counters["members_refused"] += 1
            self._turn.note_rarely("warning", "members_refused", peer="itself", url=url, count=1)
            return None
        if peer is None:
            peer = self._newcomer(url, there)
        if peer is not None:
            self.by_id[greeting.node_id] = peer
            peer.id = greeting.node_id
            self._move(peer, url)
            self._note_start(peer, greeting)
        return peer

    def _note_start(self, peer: Peer, greeting: Greeting) -> None:
        peer.named_ms = self._turn.mono_ms
        peer.told.version = greeting.version
        peer.told.level = greeting.level
        peer.told.protocol = min(greeting.protocol_max, PROTOCOL_MAX)
        peer.told.zone, peer.told.weight = greeting.zone, greeting.weight
        peer.told.w, peer.told.r = greeting.w, greeting.r
        peer.told.client, peer.told.expect = greeting.client, greeting.expect
        if peer.serial != greeting.serial:
            self._renew(peer, greeting.serial)
            self.has_changed = True

    def _renew(self, peer: Peer, serial: int) -> None:
        """There is a later telling of where it is."""
        peer.serial = serial
        self.edition += 1

    def _newcomer(self, url: str, there: Peer | None) -> Peer | None:
        """A place for who was never met, where `there` was; None if it is one too many."""
        if there is not None and there.id:
            # It has not what the one before acknowledged.
            self._turn.note_rarely("error", "peer_has_another_directory", peer=url)
        if there is not None and not there.is_bound:
            self.by_id.pop(there.id, None)
            return there
        if len(self._hearsay) >= HEARSAY_MAX or len(self.peers) >= MEMBERS_MAX:
            self._give_way()
        return self._make(url) if len(self.peers) < MEMBERS_MAX else None

    def close_turn(self) -> list[str] | None:
        """Where to dial, if that changed in this step; then the members are stored too."""
        if not self.has_changed:
            return None
        self.has_changed = False
        kept = [
            Whereabouts(peer.id, peer.serial, peer.url, peer.told.client)
            for peer in self.peers
            if peer.ground is not Ground.HEARSAY
        ]
        self._store(MEMBERS_META, msgspec.msgpack.encode(sorted(kept, key=_url)))
        return sorted({peer.url for peer in self.peers if peer.url != self._own.url})


def _named_ms(peer: Peer) -> int:
    return peer.named_ms


def _url(told: Whereabouts) -> str:
    return told.url
