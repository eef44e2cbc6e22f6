# SPDX-License-Identifier: GPL-3.0-or-later
"""What a write knows while it is under way: who holds it, who was ahead, who will not answer.

Sets of replicas are ints with a bit for each (`topology.topology`).
"""

from __future__ import annotations

from quorate.core.exchanges.successions import Succession
from quorate.core.topology.topology import Groups, Replicas, count_of, lacking, needed_of
from quorate.core.turn import Begun
from quorate.core.values.events import PutResult, Waiter
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.errors import DeadlineExceeded, Outcome, QuorateError, QuorumUnreachable


class Write(Begun):
    """One stamp of one write, until every replica has answered or been given up."""

    __slots__ = (
        "acks",
        "ahead",
        "denied",
        "due_ms",
        "failed",
        "fence",
        "fenced",
        "groups",
        "has_effect",
        "highest",
        "is_moved",
        "is_renewal",
        "is_renewed",
        "is_restamp",
        "is_settled",
        "record",
        "replicas",
        "row",
        "succession",
        "w",
    )

    def __init__(
        self,
        waiter: Waiter,
        size: int,
        row: bytes,
        record: Record,
        *,
        replicas: Replicas,
        groups: Groups,
    ) -> None:
        self.waiter = waiter  # Not by super(): a call for each write.
        self.size = size
        self.deadline_ms = 0
        self.next = None
        self.row = row
        self.record = record
        self.replicas = replicas
        """Of the topology that the write began with."""
        self.groups = groups
        """Who must ack."""
        self.w = 0
        """How many it asked for; 0 if it asked for no number."""
        self.acks = 0
        """The replicas that hold this stamp, or a higher one, durably."""
        self.ahead = 0
        """Of these, those that hold a higher one of another chain: they may never have held it."""
        self.denied = 0
        """Of those ahead the ones that never held this one, and never will."""
        self.failed = 0
        """The replicas that will not ack any more."""
        self.highest = ABSENT
        """The highest version that an ack reported above ours."""
        self.fenced = 0
        """The replicas that refused it, as nothing so old may win there any more."""
        self.fence = ABSENT
        """Above which it has to be stamped for these."""
        self.is_restamp = False
        self.is_moved = False
        """Whether it has that stamp since it was moved: another one may have been read."""
        self.is_settled = False
        """Whether it has taken effect, or will be ordered with all else whoever is ahead: it is
        done when enough have acked."""
        self.has_effect = False
        """Whether it is known that it has taken effect: stamped again it would do so twice."""
        self.is_renewed = False
        """Whether another one has taken its place, under another layout."""
        self.is_renewal = False
        """Whether it took the place of one, which replicas of this layout may have held before."""
        self.due_ms = 0
        """When not to wait for others any longer, once enough have answered."""
        self.succession: Succession | None = None
        """What decides about it, while it is moved."""

    def is_denied(self) -> bool:
        """Whether a majority of each row never held it, and never will. Fewer are not enough: when
        the row grows or loses a disk, who gains the copy asks only some replicas, and these may be
        none of those that deny it."""
        return not lacking(self.denied & self.ahead, self.replicas.majorities)

    def expired(self) -> QuorateError:
        if self.succession is not None:
            return DeadlineExceeded(
                "too few replicas voted in time on whether the write was moved",
                outcome=Outcome.UNKNOWN,
            )
        return DeadlineExceeded(
            "too few replicas confirmed the write in time",
            outcome=Outcome.UNKNOWN,
            needed=needed_of(self.groups),
            acked=self.acks.bit_count(),
        )

    def result(self) -> PutResult:
        """The answer once it is done."""
        acks, n, superseded = count_of(self.acks), self.replicas.n, bool(self.highest)
        restamped, moved = self.is_restamp, self.is_moved
        return PutResult(self.record.version, acks, n, restamped, superseded, moved)

    def lost(self, detail: str) -> QuorateError:
        """The error of one that will not have enough acks any more."""
        return QuorumUnreachable(
            detail,
            outcome=Outcome.UNKNOWN,
            needed=needed_of(self.groups),
            acked=self.acks.bit_count(),
        )
