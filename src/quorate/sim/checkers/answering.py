# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer marks a peer up: what a step stamps after it is sent to that peer at once,
and not kept for it as a hint (I25).

Judged of the first frame of a step, if an answer begins it: everything that the step does comes
after. A second stamp needs this most: of few replicas that are left the one that just answered may
be the one that it needs.
"""

from __future__ import annotations

from typing import Final

from quorate.core.values.events import Event, PeerFrame
from quorate.core.values.messages import Mutated, Pong, ReadAnswer, ScannedRows
from quorate.core.values.slots import key_of
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Step

_ANSWERS: Final = (Mutated, Pong, ReadAnswer, ScannedRows)


class Answering:
    """Looks at what is hinted for whom."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
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
        url = _answered_first(step.machine.events[0]) if step.machine.events else ""
        peer = step.node.membership.peers.get(url)
        if peer is None or not peer.is_linked:
            return
        for _, hinted in step.hinted:
            if hinted.url == url and hinted.record.version in fresh:
                told = f"{url} answered, and {step.machine.url} only hints it {hinted.record}"
                self.found.append(Violation("I25", key_of(hinted.row), told))


def _answered_first(event: Event) -> str:
    """Who sent the frame, if an answer begins it; else nobody."""
    if isinstance(event, PeerFrame) and event.frame.messages:
        return event.peer if isinstance(event.frame.messages[0], _ANSWERS) else ""
    return ""
