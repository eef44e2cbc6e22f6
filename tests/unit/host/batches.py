# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of batches to the disk, on a virtual system."""

from __future__ import annotations

from quorate.core.values.events import Batch, Note, StorageState
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version
from quorate.errors import DiskFull, StorageBusy
from quorate.host.storing import Storing
from tests.unit.host.fakes import FakeEngine, VirtualSystem

BUSY = StorageBusy("write stall")
FULL = DiskFull("no space left but the reserve")
STUCK_MS = 1_000.0
STUCK = StorageState("storage_busy", "the disk has not confirmed a sync for 1 s")
WELL = StorageState()


def batch(number: int, *, size: int = 1) -> Batch:
    """A batch of one record that tells its number."""
    record = Record(pack_version(number, 1), b"x" * size)
    return Batch([(row_of(b"row-%d" % number), record)], [], [])


def rows(first: int, last: int) -> list[bytes]:
    """The keys of these batches."""
    return [b"row-%d" % number for number in range(first, last + 1)]


class Batches:
    """The way of batches between an engine and somebody who keeps all that is told."""

    def __init__(self, *, needs_sync: bool = True, waiting_bytes_max: int = 1 << 30) -> None:
        self.system = VirtualSystem()
        self.engine = FakeEngine(needs_sync=needs_sync)
        self.marks: list[int] = []
        self.states: list[StorageState] = []
        self.failures: list[str] = []
        self.notes: list[Note] = []
        self.storing = Storing(
            self.system,
            self.engine,
            stuck_after_ms=STUCK_MS,
            waiting_bytes_max=waiting_bytes_max,
            on_durable=self.marks.append,
            on_state=self.states.append,
            on_failure=self.failures.append,
            log=self.notes.append,
        )

    def store(self, *numbers: int, size: int = 1) -> None:
        """Hand over batches of which none is durable at once."""
        for number in numbers:
            assert not self.storing.store(batch(number, size=size), number)

    @property
    def codes(self) -> list[str]:
        """Of the states told."""
        return [state.code for state in self.states]

    @property
    def lines(self) -> list[str]:
        """In the log."""
        return [note.event for note in self.notes]
