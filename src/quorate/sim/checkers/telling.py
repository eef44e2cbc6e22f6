# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica tells a reader is durable, and a damaged copy is no answer (I7, I23).

A version that is told and then lost in a crash was read, and is gone: P2 breaks when a second fault
meets the first. And a damaged copy that votes "nothing here" lets a quorum miss what it knew.
"""

from __future__ import annotations

from quorate.core.values.events import PeerFrame
from quorate.core.values.messages import Read
from quorate.core.values.slots import key_of
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Step


class Telling:
    """Looks at the disk whenever a replica answers a read."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

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
        for url, answer in step.told:
            # A long answer comes in pieces: each goes on where the one before ended.
            rows = asked[url, answer.batch]
            versions = [ABSENT if each is None else each.version for each in answer.records]
            versions += answer.versions
            asked[url, answer.batch] = rows[len(versions) :]
            for row, version in zip(rows, versions, strict=False):
                if row not in answer.failed:
                    self._judge(step, row, version)

    def _judge(self, step: Step, row: bytes, version: bytes) -> None:
        machine = step.machine
        try:
            record = machine.disk.durable(row)
        except Corrupt:
            if version == ABSENT and not _is_replaced(step, row):
                told = f"{machine.url} says that it has nothing where its copy is damaged"
                self.found.append(Violation("I23", key_of(row), told))
            return
        if version > (ABSENT if record is None else record.version):
            told = f"{machine.url} tells {version.hex()}, and a power cut would leave {record}"
            self.found.append(Violation("I7", key_of(row), told))


def _is_replaced(step: Step, row: bytes) -> bool:
    """Whether something is on its way to the place of a damaged copy, and not durable yet."""
    return step.node is not None and step.machine.latest(row) is not None
