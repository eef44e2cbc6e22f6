# SPDX-License-Identifier: GPL-3.0-or-later
"""What a read knows while it is under way: whom it asked, what they answered, who holds it.

Sets of replicas are ints with a bit for each (`topology.topology`).
"""

from __future__ import annotations

from quorate.core.topology.topology import Groups, Replicas, count_of, lacking, needed_of
from quorate.core.turn import Begun
from quorate.core.values.events import Get
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt, DeadlineExceeded, QuorateError, QuorumUnreachable


class Look(Begun):
    """One round of asking for one key."""

    __slots__ = (
        "_first",
        "_told",
        "_versions",
        "answers",
        "asked",
        "damaged",
        "event",
        "failed",
        "groups",
        "holders",
        "is_fenced",
        "is_superseded",
        "keepers",
        "lost",
        "record",
        "repaired",
        "replicas",
        "row",
        "version",
        "withheld",
    )

    def __init__(self, event: Get, row: bytes, replicas: Replicas, groups: Groups) -> None:
        self.waiter = event.waiter  # Not by super(): a call for each read.
        self.size = 0
        self.deadline_ms = 0
        self.next = None
        self.event = event
        self.row = row
        self.replicas = replicas
        """Of the topology that the read began with."""
        self.groups = groups
        """Who must answer."""
        self.record: Record | None = None
        """The newest full record that came."""
        self.version = ABSENT
        """Its version."""
        self._first = 0
        """Who answered first, and the version that it has."""
        self._told = ABSENT
        self._versions: dict[int, bytes] = {}
        """`versions`; empty while the first two have the same, as is all that most reads hear."""
        self.answers = 0
        """The replicas that answered."""
        self.asked = 0
        """Whom not to ask again; while writing back: those that hold it, are sent it or lost."""
        self.failed = 0
        """Replicas that will not answer, of those that were asked."""
        self.damaged = 0
        """Replicas whose copy cannot be read."""
        self.withheld = 0
        """Replicas that can be asked again in a moment: they first give up what they hold of it,
        or, of this node's own copy, its mark does not count yet."""
        self.repaired = 0
        # While writing back:
        self.keepers: Groups = ()
        """Who must hold it before it is answered; empty while not writing back."""
        self.holders = 0
        """The replicas that hold it."""
        self.lost = 0
        """Replicas that did not take it when they were last sent it."""
        self.is_superseded = False
        self.is_fenced = False
        """Whether one may not take it: something newer was dropped there, or will be written."""

    def expired(self) -> QuorateError:
        return DeadlineExceeded(
            "too few replicas answered in time",
            needed=needed_of(self.groups),
            answered=count_of(self.answers),
        )

    def failed_for_want_of(self, live: int, detail: str) -> QuorateError:
        """Why it has no answer, where only the replicas in `live` have given or may give one: those
        with damaged copies would have been enough, or `detail`."""
        needed = needed_of(self.groups)
        if self.damaged and not lacking(live | self.damaged | self.withheld, self.groups):
            return Corrupt(
                "copies of this key are damaged or cannot be read",
                needed=needed,
                live=live.bit_count(),
                damaged=self.damaged.bit_count(),
            )
        return QuorumUnreachable(detail, needed=needed, live=live.bit_count())

    def note(self, bit: int, version: bytes, record: Record | None) -> None:
        """Take the answer of a replica."""
        if record is not None and version > self.version:
            self.record = record
            self.version = version
        if self._versions:
            self._versions[bit] = version
        elif not self.answers:
            self._first, self._told = bit, version
        elif self.answers != self._first or version != self._told:
            self.versions[bit] = version
        self.answers |= bit

    @property
    def versions(self) -> dict[int, bytes]:
        """What each replica answered, by its bit, in the order in which they did."""
        if self.answers and not self._versions:
            self._versions[self._first] = self._told
            if self.answers != self._first:
                self._versions[self.answers ^ self._first] = self._told
        return self._versions

    def is_settled(self) -> bool:
        """Whether all that answered hold what was read, as is so of most reads."""
        if self._versions:
            for version in self._versions.values():
                if version != self.version:
                    return False
        elif self._told != self.version:
            return False
        return not self.damaged

    def take_back(self, bit: int) -> None:
        """Have a replica's answer not count."""
        del self.versions[bit]
        self.answers &= ~bit

    def note_unread(self, bit: int, *, is_withheld: bool) -> None:
        """A replica has no answer: for a moment, or as its copy cannot be read."""
        if is_withheld:
            self.withheld |= bit
        else:
            self.damaged |= bit
