# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer that answers is up from then on (I25): what a step stamps after the answer is sent to that
peer at once, and not kept for it as a hint.

Judged are steps whose first event is a frame that begins with an answer, since all that such a step
does comes after it. It matters most to a write that is stamped again: of the few replicas that are
left, the one that just answered may be the one that makes its W.

And a coordinator whose own disk takes nothing refuses no write that its peers can take. Judged are
writes after which the step heard of no peer: one that came up later in the step could not be asked.
"""

from __future__ import annotations

from typing import Final

from quorate.core.node import Node
from quorate.core.topology.peer import OWN_BIT
from quorate.core.topology.topology import lacking
from quorate.core.values.events import Event, LinkUp, Met, PeerFrame, Put
from quorate.core.values.messages import Mutated, Pong, ReadAnswer, ScannedRows
from quorate.core.values.slots import partition_of, row_of
from quorate.errors import StorageError
from quorate.sim.checkers.watch import Judge, Step

_ANSWERS: Final = (Mutated, Pong, ReadAnswer, ScannedRows)
_OF_PEERS: Final = (PeerFrame, LinkUp, Met)
"""Events by which peers come."""


class Answering(Judge):
    """Looks at what is hinted for whom."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[bytes, None] = {}
        """Rows with versions that were given to replicas before."""

    def look(self, step: Step) -> None:
        """Judge the hints of a step, and what it refused."""
        if step.refused and step.node is not None:
            self._judge_refusals(step, step.node)
        fresh: dict[bytes, None] = {}
        for given in (*step.stored, *step.sent):
            made = given.row + given.record.version
            if made not in self._made:
                self._made[made] = fresh[made] = None
        if not fresh or not step.hinted or step.node is None:
            return
        first = _answered_first(step.machine.events[0]) if step.machine.events else 0
        peer = step.node.membership.roster.by_id.get(first)
        if peer is None or not peer.is_linked or not peer.is_bound:
            return  # A new disk has the URL of the one that hints are for.
        for _, hinted in step.hinted:
            if hinted.url == peer.url and hinted.row + hinted.record.version in fresh:
                told = f"{peer.url} answered, and {step.machine.url} only hints it {hinted.record}"
                self.blame("I25", told, hinted.row)

    def _judge_refusals(self, step: Step, node: Node) -> None:
        refused = [waiter for waiter, error in step.refused if isinstance(error, StorageError)]
        topology = node.membership.topology
        if not refused or topology is None:
            return
        for event in reversed(step.machine.events):
            if isinstance(event, _OF_PEERS):
                return
            if isinstance(event, Put) and event.waiter in refused:
                row = row_of(event.key)
                replicas = topology.partitions[partition_of(row)]
                groups = replicas.asked(event.w, name="w") if event.w else replicas.writers
                # At the end of the step they are as they were when the write began.
                if not lacking(replicas.reachable() & ~OWN_BIT, groups):
                    told = f"{step.machine.url} refused a write that its peers could take"
                    self.blame("I25", told, row)


def _answered_first(event: Event) -> int:
    """Who sent the frame, if an answer begins it; else nobody."""
    if isinstance(event, PeerFrame) and event.frame.messages:
        return event.peer if isinstance(event.frame.messages[0], _ANSWERS) else 0
    return 0
