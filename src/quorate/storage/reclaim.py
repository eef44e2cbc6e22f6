# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the disk space of dropped ranges back, in a thread of its own.

A range delete only hides: what it covers stays on disk until a compaction meets both. RocksDB sees
no reason for one where little is written, and then the space comes back after a month, if ever. So
the range is compacted, which flushes the delete and rewrites the files that it reaches into. That
takes seconds for 100 MB, and neither the loop nor the thread that syncs waits for it: rocksdict
releases the GIL meanwhile. A range that the process did not get to is found at the next start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from queue import SimpleQueue
from threading import Event, Thread
from typing import Final

from rocksdict import CompactOptions, Rdict

from quorate.core.values.slots import ROW_END
from quorate.storage.engine import merged

PAUSE_SECONDS: Final = 10.0
"""From a drop until its range is compacted. Copies are given up many at a time, and the first
compaction takes along what else was dropped by then."""
_PATIENCE_SECONDS: Final = 0.5
"""What a compaction is waited for at the end, before it is broken off."""

_Span = tuple[Rdict, bytes, bytes]


class Reclaimer:
    """The thread, which begins with the first drop, and what it has to do."""

    def __init__(self, database: Rdict) -> None:
        """Looks for what was dropped before and is still there."""
        self._database = database
        self._asked: SimpleQueue[list[_Span]] = SimpleQueue()
        self._stopped = Event()
        self._thread: Thread | None = None
        # Files of the other families are beyond their rows or, being small, no harm.
        left = [
            (each["start_key"], each["end_key"] + b"\0")
            for each in database.live_files()
            if each["num_deletions"] and each["start_key"] < ROW_END
        ]
        if left:
            self.reclaim(data=left, hints=[])

    def reclaim(
        self, *, data: Iterable[tuple[bytes, bytes]], hints: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Have ranges that were just deleted compacted, PAUSE_SECONDS from now: `data` are ranges
        of rows, of which the votes are compacted as well, `hints` ranges of hints."""
        # Handles of its own: one that is in use cannot be closed.
        rows, votes, names = map(self._database.get_column_family, ("data", "votes", "hints"))
        spans = [(family, start, end) for start, end in merged(data) for family in (rows, votes)]
        spans += [(names, start, end) for start, end in merged(hints)]
        self._asked.put(spans)
        if self._thread is None:
            self._thread = Thread(target=self._run, name="reclaim", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, and let go of the database. What it has begun is broken off if it takes
        long, as is everything else that RocksDB does in the background."""
        self._stopped.set()
        if self._thread is not None:
            self._asked.put([])
            self._thread.join(_PATIENCE_SECONDS)
            if self._thread.is_alive():
                self._database.cancel_all_background(True)
                self._thread.join()
            self._thread = None
        self._asked = SimpleQueue()

    def _run(self) -> None:
        options = CompactOptions()
        # Else RocksDB's own compactions wait until this one is over, and writes stall.
        options.set_exclusive_manual_compaction(False)
        while not self._stopped.is_set():
            spans = self._asked.get()
            self._stopped.wait(PAUSE_SECONDS)
            for family, start, end in spans:
                if self._stopped.is_set():
                    return
                # A full disk, say. The range stays hidden, and the next start tries again.
                with contextlib.suppress(Exception):
                    family.compact_range(start, end, options)
