# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a node asks for the copy of a partition that it gains, and what their lists are worth: see
`exchanges.pulls`."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import majority
from quorate.core.turn import Parts
from quorate.core.values.messages import ScannedRows
from quorate.core.values.slots import partition_bounds

_speed: Final = attrgetter("speed")


class CopySources:
    """Those of the partition that is under way."""

    __slots__ = ("_membership", "damaged", "why_none")

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self.damaged: set[Peer] = set()
        """Those that cannot read what comes next, or have it stamped too far ahead."""
        self.why_none = ""
        """Why there was none for a partition."""

    def of(self, partition: int) -> list[Peer] | None:
        """Whom to ask for a partition: all that leave it, and the fastest others, as many as make
        N - majority + 1 with this node, if it has a copy. None if these cannot be asked now.
        Nobody, if one of two copies is lost and this node's is to stay."""
        membership, layout = self._membership, self._membership.layout
        assert layout is not None
        row, shall = layout.table[partition], dict(layout.moves)[partition]
        needed = len(row) - majority(len(row)) + 1
        must: list[Peer] = []
        others: list[Peer] = []
        for index in row:
            member = layout.members[index]
            peer = membership.peer(member.id)
            if peer is None:
                needed -= 1
            elif not member.is_bound or peer.is_lost:
                continue
            elif index not in shall:
                must.append(peer)
            elif peer.is_reachable and peer not in self.damaged:
                others.append(peer)
        for peer in must:
            if not peer.is_reachable:
                self.why_none = f"partition {partition} waits for {peer.url}: {_why(peer)}"
                return None
        needed -= len([peer for peer in must if peer not in self.damaged])
        others.sort(key=_speed)
        if len(others) < needed:
            self.why_none = (
                f"partition {partition} waits for {needed} of its replicas to be reachable, "
                f"readable and not stamped too far ahead; {len(others)} are"
            )
            return None
        return must + others[: max(needed, 0)]

    def sound(self, sources: list[Peer]) -> list[Peer]:
        """Those that can tell what comes next, N - majority + 1 of them: who leaves and cannot is
        left out."""
        return [each for each in sources if each not in self.damaged]

    def count_own(self, partition: int) -> bool:
        """Whether this node has had a copy of the partition all along, which counts with others: of
        a row that becomes shorter."""
        layout = self._membership.layout
        assert layout is not None
        return any([self._membership.peer(each) is None for each in layout.replicas(partition)])

    def is_any_away(self, partition: int) -> bool:
        """Whether a replica that may have what the others cannot read is not there."""
        layout = self._membership.layout
        assert layout is not None
        peers = [self._membership.peer(each) for each in layout.replicas(partition)]
        return any([peer is not None and not (peer.is_there or peer.is_lost) for peer in peers])


def _why(peer: Peer) -> str:
    return "down" if not peer.is_up else "no link to it" if not peer.is_linked else "too busy"


def is_fit(answer: ScannedRows, partition: int, after: bytes) -> bool:
    """Whether these are rows of a partition behind `after`, in order; and some, if it has more."""
    rows = [each.row for each in answer.rows]
    first, past = partition_bounds(partition)
    if not rows:
        return not answer.more
    return rows == sorted(set(rows)) and max(first, after + b"\0") <= rows[0] and rows[-1] < past


def is_ahead(answer: ScannedRows, parts: Parts) -> bool:
    """Whether one of these, which is not here yet, is further ahead than clocks may differ.
    StorageError if what is here cannot be read."""
    for each in answer.rows:
        if parts.turn.is_ahead(each.version):
            held = parts.replica.latest(each.row)
            if held is None or held.version < each.version:
                return True
    return False
