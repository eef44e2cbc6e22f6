# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer that answers is up from then on (I25): what a step stamps after the answer is sent to that
peer at once, and not kept for it as a hint.

Judged are steps whose first event is a frame that begins with an answer, since all that such a step
does comes after it. It matters most to a write that is stamped again: of the few replicas that are
left, the one that just answered may be the one that makes its W.
"""

from __future__ import annotations

from typing import Final

from quorate.core.values.events import Event, PeerFrame
from quorate.core.values.messages import Mutated, Pong, ReadAnswer, ScannedRows
from quorate.sim.checkers.watch import Judge, Step

_ANSWERS: Final = (Mutated, Pong, ReadAnswer, ScannedRows)


class Answering(Judge):
    """Looks at what is hinted for whom."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[bytes, None] = {}
        """Versions that were given to replicas before."""

    def look(self, step: Step) -> None:
        """Judge the hints of a step."""
        fresh: dict[bytes, None] = {}
        for given in (*step.stored, *step.sent):
            version = given.record.version
            if version not in self._made:
                self._made[version] = fresh[version] = None
        if not fresh or not step.hinted or step.node is None:
            return
        first = _answered_first(step.machine.events[0]) if step.machine.events else 0
        peer = step.node.membership.named(first)
        if peer is None or not peer.is_linked:
            return
        for _, hinted in step.hinted:
            if hinted.url == peer.url and hinted.record.version in fresh:
                told = f"{peer.url} answered, and {step.machine.url} only hints it {hinted.record}"
                self.blame("I25", told, hinted.row)


def _answered_first(event: Event) -> int:
    """Who sent the frame, if an answer begins it; else nobody."""
    if isinstance(event, PeerFrame) and event.frame.messages:
        return event.peer if isinstance(event.frame.messages[0], _ANSWERS) else 0
    return 0
