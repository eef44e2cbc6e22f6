# SPDX-License-Identifier: GPL-3.0-or-later
"""Another node as this one sees it: who it is, and whether it is worth asking.

A node is what its data directory says, an id; where it is, its URL, is a fact about it. Of one that
was never met only the URL is known. So a layout may name it by that (`layout.unmet_id`), and a
later one *binds* it: says its id.

A node numbers the others in the order in which it learns of them, and itself first, so a set of
replicas is an int with a bit for each (`topology`). The numbers mean nothing to other nodes.

Who answers says `liveness`. It changes where requests are sent, never where keys belong.
"""

from __future__ import annotations

import enum
from typing import Final

from quorate.core.topology.layout import unmet_id
from quorate.core.turn import Alarm


class Ground(enum.IntEnum):
    """What a peer is a member for; the most that ever held."""

    HEARSAY = 0
    """Another peer names it, or it dialled us."""
    ANNOUNCED = 1
    """A client made it one here (`POST /join`)."""
    MET = 2
    """Our own link led there, now or once; or a layout named it, or names others than `-nodes`."""
    LISTED = 3
    """The layout names it; or `-nodes`, while there is none but the first."""


OWN_BIT: Final = 1
"""This node in a set of replicas."""


class Told:
    """What a node says of itself, in greetings and pings."""

    __slots__ = (
        "bytes_used",
        "client",
        "differs",
        "expect",
        "keys",
        "left",
        "level",
        "protocol",
        "pulled",
        "r",
        "unreadable",
        "version",
        "w",
        "waits",
        "weight",
        "zone",
    )

    def __init__(self) -> None:
        self.client = ""
        """Where clients reach it; empty: where it is."""
        self.expect = 0
        """How many founders it looks for, while it has no layout."""
        self.version = ""
        self.level = self.protocol = 0
        """The highest feature level that it knows, and what links with it speak; 0 while not
        known."""
        self.w = self.r = 0
        """What it was started with; 0 if with none, which is a majority of the copies there are,
        and while not known."""
        self.differs = False
        """Whether that comes to other numbers than ours: noted when it becomes so."""
        self.zone = ""
        self.weight = 1
        """What it asks for, should it become a member."""
        self.keys = 0
        self.bytes_used = 0
        self.pulled = 0
        """The epoch for which it has all copies that it is to hold; 0 if none."""
        self.left = 0
        """How many partitions it has yet to get."""
        self.unreadable: list[int] = []
        """Those that it cannot get for that epoch."""
        self.waits = False
        """Whether it waits to hear how far its disk was, and has no vote yet."""


class Peer:
    """One of the other nodes. Owned by the node; mutated by its parts."""

    __slots__ = (
        "_came",
        "bit",
        "epoch",
        "ground",
        "has_answered",
        "has_come",
        "has_misnamed",
        "id",
        "index",
        "is_addressed",
        "is_ahead",
        "is_asked",
        "is_awaited",
        "is_bound",
        "is_clogged",
        "is_heard",
        "is_linked",
        "is_lost",
        "is_reachable",
        "is_there",
        "is_up",
        "is_wanted",
        "last_answer_ms",
        "misses",
        "named_ms",
        "names",
        "refusal",
        "serial",
        "speed",
        "told",
        "url",
    )

    def __init__(self, url: str, index: int, came: Alarm) -> None:
        """`index` counts the peers from 0; `came` rings after it became reachable."""
        self.url = url
        self.names: tuple[int, ...] = (unmet_id(url),)
        """What layouts called it, and so hints; the present name last: its id once it is bound."""
        self.is_bound = False
        """Whether a layout names it by its id: another id at its URL is another node."""
        self.id = 0
        """What it called itself when last met; 0 while never."""
        self.serial = 0
        """Of the telling that `url` is from; the later one holds."""
        self.epoch = 0
        """Of the newest layout that it is known to have, or was told of."""
        self.index, self.bit = index, 2 << index
        """And it in a set of replicas."""
        self._came = came
        self.ground = Ground.HEARSAY
        self.named_ms = 0
        """When anybody named it last."""
        self.told = Told()
        self.has_misnamed = False
        """Whether it named members that were refused: noted once."""
        self.is_ahead = False
        """Whether its clock was ahead of the guard when last heard: noted when it becomes so."""
        self.refusal = ""
        """Why no link to it comes to be, if either of the two refuses the other."""
        self.is_linked = False
        self.is_heard = False
        """Whether a frame came from it since our link to it came up: its link to us is up too."""
        self.is_up = True
        self.is_clogged = False
        """More is on its way to it, unanswered, than may be."""
        self.is_awaited = False
        """The layout does not say yet who is here: until then it refuses what it is sent."""
        self.is_lost = False
        """The layout says that its disk is lost: should it come back, it is asked nothing."""
        self.is_wanted = False
        """Whether an operator asked here that it become a member."""
        self.is_there = False
        """Linked both ways, and up. Kept by `judge`."""
        self.is_reachable = False
        """There, counted on, and keeping up: worth sending a request to. Kept by `judge`."""
        self.is_addressed = False
        """Whether this step asks it, or writes to it: more costs no frame. Kept by its outbox."""
        self.has_come = False
        """Whether it came, or became reachable, since the node last looked."""
        self.misses = 0
        self.is_asked, self.has_answered = False, True
        """Whether it was pinged at the last heartbeat, and whether it has answered since."""
        self.last_answer_ms: int | None = None
        self.speed = 0
        """Rank by round trip, coarse so that noise does not make all nodes prefer one."""

    def judge(self) -> None:
        """Renew `is_there` and `is_reachable`, after a change of what they follow from."""
        before = self.is_there, self.is_reachable
        self.is_there = self.is_linked and self.is_heard and self.is_up
        self.is_reachable = self.is_there and not (
            self.is_clogged or self.is_awaited or self.is_lost
        )
        if (self.is_there, self.is_reachable) > before:
            self.has_come = True
            self._came.soon()

    def precedes(self, other: Peer, *, is_brief: bool) -> bool:
        """Whether to ask this one rather than `other`: it is faster; or as fast and addressed, if
        the question is brief."""
        if self.speed == other.speed:
            return is_brief and self.is_addressed and not other.is_addressed
        return self.speed < other.speed

    @property
    def is_candidate(self) -> bool:
        """Whether no more is known than that somebody may be at its URL: whoever that is may be of
        another cluster, or nobody."""
        return self.ground is Ground.HEARSAY and not self.id

    @property
    def state(self) -> str:
        """`up`, `down` (too many misses in a row) or `connecting`."""
        if not self.is_up:
            return "down"
        return "up" if self.is_linked else "connecting"
