# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the members are, as nodes tell each other.

That a member is at a URL is a *fact*: its id, a serial, the URL, and the one for clients where that
is another. It tells it itself, when it greets, and the later serial holds (`roster`). All nodes of
one layout have facts of the same members, so each ping bears a hash of their ids and serials, and
nothing more while these are the same. Where they are not, who was pinged sends its list of serials,
at most once in AGAIN_MS; the other answers with the facts of which it has later ones, and with the
serials of those of which it has earlier ones, and gets these. For example, B has learnt that C
moved, and A has not:

    A -> B  Ping(facts=71)
    B -> A  Known(serials=[(a, 5), (b, 5), (c, 9)])
    A -> B  Known(serials=[(c, 5)])
    B -> A  Known(serials=[], members=[(c, 9, "http://new:8000")])

So what nodes say of each other when nothing changes does not grow with the cluster, and a fact that
a liar made up, which some believe and others do not, costs one list for each AGAIN_MS.

Whom the layout does not name by its id (who is about to join, founders that were never met) is
named in each ping, STRANGERS_MAX at a time, by turns: those that are listed, that this node has a
link to, or that were announced here and not reached yet. So whom nobody reaches is named by nobody.

What changes all the time is no fact: keys, bytes, marks. In a cluster that takes writes a hash of
those would never be equal. Each node tells its own, with its pings, to whom it pings.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec

from quorate.core.topology.peer import Ground, Peer
from quorate.core.topology.roster import Roster
from quorate.core.turn import Turn
from quorate.core.values.messages import Known, Whereabouts

STRANGERS_MAX: Final = 16
AGAIN_MS: Final = 1_000
HASH_BYTES: Final = 7
"""Of eight: so that it is an int that msgpack has, signed or not."""


class Facts:
    """What one node tells of where others are."""

    __slots__ = (
        "_again_ms",
        "_edition",
        "_hash",
        "_is_member",
        "_next",
        "_own",
        "_roster",
        "_turn",
    )

    def __init__(
        self, own: Whereabouts, turn: Turn, roster: Roster, is_member: Callable[[], bool]
    ) -> None:
        """`is_member`: whether the layout names this node by its id."""
        self._own = own
        self._turn = turn
        self._roster = roster
        self._is_member = is_member
        self._next = 0
        """Which stranger is named next."""
        self._hash = 0
        self._edition = -1
        """Of the roster, of which that is."""
        self._again_ms = 0
        """When all serials may be sent again."""

    def hash(self) -> int:
        """Of the ids and serials of all members; 0 where the layout names none by its id."""
        if self._edition != self._roster.edition:
            self._edition = self._roster.edition
            serials = sorted(self._serials())
            digest = blake2b(msgspec.msgpack.encode(serials), digest_size=HASH_BYTES).digest()
            self._hash = int.from_bytes(digest, "big") if serials else 0
        return self._hash

    def _serials(self) -> list[tuple[int, int]]:
        found = [(peer.id, peer.serial) for peer in self._roster.peers if _is_told(peer)]
        if self._is_member():
            found.append((self._own.id, self._own.serial))
        return found

    def strangers(self) -> list[Whereabouts]:
        """The next that have to be named, each as often as the others."""
        found = [
            Whereabouts(peer.id, peer.serial, peer.url, peer.told.client)
            for peer in self._roster.peers
            if not peer.is_bound
            and (peer.is_linked or peer.ground in (Ground.LISTED, Ground.ANNOUNCED))
        ]
        if len(found) <= STRANGERS_MAX:
            return found
        first = self._next % len(found)
        self._next = first + STRANGERS_MAX
        return [*found, *found][first : self._next]

    def compare(self, theirs: int) -> Known | None:
        """What to tell a peer of the same layout whose hash this is; None if it knows the same, or
        is to be told later."""
        now = self._turn.mono_ms
        if not theirs or theirs == self.hash() or now < self._again_ms:
            return None
        self._again_ms = now + AGAIN_MS
        return Known(self._serials())

    def hear(self, message: Known, *, of: Peer) -> Known | None:
        """Take what a peer knows; what to tell it in turn, None if that is nothing."""
        self._roster.learn(message.members, of=of)
        asked: list[tuple[int, int]] = []
        told: list[Whereabouts] = []
        for node_id, serial in message.serials:
            known = self._known(node_id)
            if known is not None and known.serial > serial:
                told.append(known)
            elif known is not None and known.serial < serial:
                asked.append((node_id, known.serial))
        return Known(asked, told) if asked or told else None

    def _known(self, node_id: int) -> Whereabouts | None:
        peer = self._roster.by_id.get(node_id)
        if peer is not None and _is_told(peer):
            return Whereabouts(node_id, peer.serial, peer.url, peer.told.client)
        return self._own if node_id == self._own.id else None


def _is_told(peer: Peer) -> bool:
    """Whether where it is is a fact: nobody asks for a member whose disk is lost."""
    return peer.is_bound and not peer.is_lost
