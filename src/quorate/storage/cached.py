# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine with a read cache in front.

The cache learns a record from the very call that wrote or read it in the engine, and only after
that call succeeded, so it never holds what the engine would not answer. "Nothing here" is not
cached: the engine's bloom filters answer that about as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.storage.engine import Engine
from quorate.storage.lru import Lru


class CachedEngine:
    """`inner` with `lru` in front of `get` and `get_many`. Satisfies `Engine`."""

    def __init__(self, inner: Engine, lru: Lru) -> None:
        self._inner = inner
        self.lru = lru
        self.needs_sync = inner.needs_sync

    def get(self, row: bytes) -> Record | None:
        record = self.lru.get(row)
        if record is None:
            record = self._inner.get(row)
            if record is not None:
                self.lru.put(((row, record),))
        return record

    def get_many(self, rows: Sequence[bytes]) -> list[Record | None]:
        found = [self.lru.get(row) for row in rows]
        missing = [index for index, record in enumerate(found) if record is None]
        if not missing:
            return found
        fetched = self._inner.get_many([rows[index] for index in missing])
        for index, record in zip(missing, fetched, strict=True):
            if record is not None:
                found[index] = record
                self.lru.put(((rows[index], record),))
        return found

    def write(self, batch: Batch) -> None:
        self._inner.write(batch)
        self.lru.put(batch.records)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        """Past the cache: a scan of everything would evict all that is hot."""
        return self._inner.scan(start, end)

    def get_meta(self, name: bytes) -> bytes | None:
        return self._inner.get_meta(name)

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._inner.scan_hints(start, end)

    def sync(self) -> None:
        self._inner.sync()

    def bytes_used(self) -> int:
        return self._inner.bytes_used()

    def checkpoint(self, directory: Path) -> None:
        self._inner.checkpoint(directory)

    def close(self) -> None:
        self._inner.close()
