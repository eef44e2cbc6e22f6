# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica tells readers only what is durable, and never answers from a damaged copy (I7, I23).

A version that is told and then lost in a crash was read, and is gone: with a second fault at the
right time a client sees that (P2). A damaged copy that is answered as "nothing here" lets a quorum
miss what the replica knew.
"""

from __future__ import annotations

from quorate.core.values.events import PeerFrame
from quorate.core.values.messages import Read
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt
from quorate.sim.checkers.watch import Judge, Step, holds


class Telling(Judge):
    """Looks at the disk whenever a replica answers a read."""

    def look(self, step: Step) -> None:
        """Judge the answers of a step."""
        if not step.told:
            return
        asked = {
            (event.peer, message.batch): message.full + message.brief
            for event in step.machine.events
            if isinstance(event, PeerFrame)
            for message in event.frame.messages
            if isinstance(message, Read)
        }
        for peer, answer in step.told:
            # A long answer comes in pieces: each goes on where the one before ended.
            rows = asked[peer, answer.batch]
            versions = [ABSENT if each is None else each.version for each in answer.records]
            versions += answer.versions
            asked[peer, answer.batch] = rows[len(versions) :]
            for row, version in zip(rows, versions, strict=False):
                if row not in answer.failed:
                    self._judge(step, row, version)

    def _judge(self, step: Step, row: bytes, version: bytes) -> None:
        machine = step.machine
        try:
            record = machine.disk.durable(row)
        except Corrupt:
            # Where a write is under way that will replace the copy, the node answers by that.
            if version == ABSENT and (step.node is None or machine.latest(row) is None):
                told = f"{machine.url} says that it has nothing where its copy is damaged"
                self.blame("I23", told, row)
            return
        # What it told may have been dropped as garbage in the same step.
        if version and not holds(machine.disk, row, version, machine.settings.slice_ms):
            told = f"{machine.url} tells {version.hex()}, and a power cut would leave {record}"
            self.blame("I7", told, row)
