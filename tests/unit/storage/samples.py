# SPDX-License-Identifier: GPL-3.0-or-later
"""Records and batches to store, made by number or by hypothesis, and an engine to store them in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from quorate.core.values.events import Batch
from quorate.core.values.record import EXPIRES_MS_MAX, Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import ABSENT, pack_version, successor
from quorate.storage.rocks import RocksEngine

EVERYTHING = (b"", b"\xff" * 3)
"""Bounds of a scan of all rows: partitions end at 1023, far below."""

VERSION = st.binary(min_size=14, max_size=14)
LINK = st.integers(1, 2**64 - 1)
LINKED = st.builds(successor, VERSION, LINK)
WINNERS = st.lists(st.tuples(LINK, st.integers(0, 2**64 - 1)), max_size=6).map(tuple)
_STAMPED_RECORD = st.builds(
    Record,
    version=VERSION,
    value=st.none() | st.binary(max_size=60),
    expires_ms=st.just(0) | st.integers(1, EXPIRES_MS_MAX),
    prior=st.just(ABSENT) | VERSION | LINKED,
)
RECORD = _STAMPED_RECORD | st.builds(
    lambda record, link, winners: Record(
        successor(record.version, link), record.value, record.expires_ms, record.prior, winners
    ),
    _STAMPED_RECORD,
    LINK,
    WINNERS,
)
ROW = st.binary(min_size=1, max_size=20).map(row_of)


def record(number: int, *, size: int = 20) -> Record:
    """A record whose version and value tell its number."""
    return Record(pack_version(number, 7), (b"%d;" % number * size)[:size])


def row(number: int) -> bytes:
    return row_of(b"key-%d" % number)


def batch(
    records: Sequence[tuple[bytes, Record | None]] = (),
    *,
    hints: Sequence[tuple[bytes, bytes | None]] = (),
    meta: Sequence[tuple[bytes, bytes | None]] = (),
    dropped_rows: Sequence[tuple[bytes, bytes]] = (),
    dropped_hints: Sequence[tuple[bytes, bytes]] = (),
    votes: Sequence[tuple[bytes, bytes | None]] = (),
) -> Batch:
    dropped = list(dropped_rows), list(dropped_hints)
    return Batch(list(records), list(hints), list(meta), *dropped, list(votes))


def numbered_batch(number: int, *, rows: int = 5, size: int = 20) -> Batch:
    """`rows` records, a hint and a meta entry that all tell the batch's number."""
    first = number * rows
    return batch(
        [(row(index), record(index, size=size)) for index in range(first, first + rows)],
        hints=[(b"hint-%08d" % number, b"%d" % number)],
        meta=[(b"last", b"%d" % number)],
    )


def open_engine(directory: Path) -> RocksEngine:
    """The engine of a directory, synced."""
    return RocksEngine.open(directory, durability="sync")
