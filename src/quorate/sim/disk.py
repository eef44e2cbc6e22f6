# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine holds, and how much of it a crash keeps. Satisfies `storage.engine.Engine`.

Only bytes are held, of records as of all else: no node gets back what it wrote, and what rots is
found by the checksum that finds it in the field. A batch is seen at once (as unsynced writes of a
real engine are) and durable when a sync that began after it is over. A crash keeps a drawn prefix
of the batches that were not durable; it may tear the next one, which recovery finds by its checksum
and drops, as RocksDB does with the end of its log.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from quorate.core.horizons import StoredFence, fence_name
from quorate.core.values.events import Batch
from quorate.core.values.record import (
    Record,
    decode_stored,
    encode_stored,
    open_votes,
    seal,
    sound_votes,
    wins,
)
from quorate.errors import Corrupt, DiskFull, StorageBusy, StorageError

_Changes = list[tuple[bytes, bytes | None]]
_Ranges = list[tuple[bytes, bytes]]
_Log = tuple[_Changes, _Changes, _Changes, _Changes, _Ranges, _Ranges]
"""A batch as bytes: records, hints, meta, votes; and the ranges of rows and of hints that go
before."""

_Blobs = dict[bytes, bytes]
_Columns = tuple[_Blobs, _Blobs, _Blobs, _Blobs]
"""By name: records, hints, meta, votes."""

_HEAD_BYTES: Final = 8
_encode_log: Final = msgspec.msgpack.Encoder().encode
_decode_log: Final = msgspec.msgpack.Decoder(_Log).decode


class Crash(NamedTuple):
    """What became of the batches that were not durable."""

    kept: int
    lost: int
    is_torn: bool
    """Whether a part of a lost batch was found, and dropped for its checksum."""


class Lowered(NamedTuple):
    """A record that took the place of one that it does not win over."""

    row: bytes
    before: Record
    after: Record


class Disk:
    """An engine whose disk can be crashed, filled, damaged and broken."""

    def __init__(self, *, needs_sync: bool = True) -> None:
        self.needs_sync = needs_sync
        self.note_ms = 0
        self.is_full = False
        """Whether writes fail with DiskFull."""
        self.is_busy = False
        """Whether writes fail with StorageBusy, as in a write stall."""
        self.is_broken = False
        """Whether writes fail with an error that is final."""
        self.is_unreadable = False
        """Whether nothing can be read now, as while a database is opened again."""
        self.log_breaks = False
        """Whether the log refuses everything once a write has met a full disk, until the database
        is opened again."""
        self._is_log_broken = False
        self.is_read_lost: Callable[[], bool] | None = None
        """Asked at each read: whether it fails for want of file descriptors or memory."""
        self.reads_lost: Counter[bytes] = Counter()
        """How many did, by row."""
        self.are_hints_unreadable = False
        """Whether hints cannot be read now."""
        self.written = 0
        """Batches written so far."""
        self._columns: _Columns = {}, {}, {}, {}
        """Records, hints, meta, votes as reads see them."""
        self._durable: _Columns = {}, {}, {}, {}
        """The same as a power cut leaves them."""
        self._decoded: dict[bytes, tuple[bytes, Record]] = {}
        """By row: the blob that was last found sound, and what it says."""
        self._unsynced: deque[tuple[int, _Log]] = deque()
        self._rotten_hints: set[bytes] = set()
        self.rots: Counter[bytes] = Counter()
        """How often each row's record was damaged."""
        self.vote_rots: Counter[bytes] = Counter()
        """How often its votes were."""
        self._drops: list[tuple[bytes, bytes]] = []
        """Ranges of rows that were dropped."""
        self.collected: dict[bytes, Record] = {}
        """What was dropped as garbage, where nothing is held now or was dropped since."""
        self.garbage: dict[bytes, Record] = {}
        """The newest that was ever dropped as garbage, by row."""
        self.lowered: list[Lowered] = []
        """Where a batch replaced a record by a lower one, or by itself: no node may."""

    # --- the engine --------------------------------------------------------------------------

    def get(self, row: bytes) -> Record | None:
        self._look_for_faults(row)
        return self.held(row)

    def _look_for_faults(self, row: bytes = b"") -> None:
        if self.is_unreadable:
            raise StorageError("the database is being opened again")
        if self.is_read_lost is not None and self.is_read_lost():
            self.reads_lost[row] += 1
            raise StorageError("Too many open files")

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        self._look_for_faults()
        entries = _slice(self._columns[0], start, end)
        return self._read_each(entries)

    def _read_each(self, entries: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, Record]]:
        # Compiled, a generator expression would read all at once, and meet all damage first.
        for row, blob in entries:
            yield row, self._read(row, blob)

    def _read(self, row: bytes, blob: bytes) -> Record:
        """Decode a blob, and remember what it says: checkers look at each again and again."""
        known = self._decoded.get(row)
        if known is not None and known[0] is blob:
            return known[1]
        record = decode_stored(row, blob)
        self._decoded[row] = blob, record
        return record

    def _sound(self, row: bytes, blob: bytes) -> Record | None:
        """What a blob says; None if it is damaged."""
        try:
            return self._read(row, blob)
        except Corrupt:
            return None

    def get_meta(self, name: bytes) -> bytes | None:
        return self._columns[2].get(name)

    def get_votes(self, row: bytes) -> bytes | None:
        self._look_for_faults(row)
        blob = self._columns[3].get(row)
        return None if blob is None else open_votes(row, blob)

    def scan_votes(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._look_for_faults()
        return self._open_each(_slice(self._columns[3], start, end))

    def _open_each(self, entries: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for row, blob in entries:
            yield row, sound_votes(row, blob)

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._look_for_faults()
        if self.are_hints_unreadable:
            raise Corrupt("hints cannot be read now")
        return self._sound_hints(_slice(self._columns[1], start, end))

    def _sound_hints(self, hints: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for name, blob in hints:
            if name in self._rotten_hints:
                raise Corrupt("a damaged block of hints")
            yield name, blob

    def write(self, batch: Batch) -> None:
        if self.is_full or self._is_log_broken:
            self._is_log_broken |= self.log_breaks
            raise DiskFull("no space left")
        if self.is_busy:
            raise StorageBusy("a write stall")
        if self.is_broken:
            raise StorageError("the device is gone")
        for row in _drop(self._columns[0], batch.dropped_rows):
            self._decoded.pop(row, None)
        _drop(self._columns[3], batch.dropped_rows)
        if self.collected and batch.dropped_rows:
            for row in [r for r in self.collected if _is_in(r, batch.dropped_rows)]:
                del self.collected[row]
        self._drops += batch.dropped_rows
        self._rotten_hints.difference_update(_drop(self._columns[1], batch.dropped_hints))
        records: _Changes = []
        for row, record in batch.records:
            if record is None:
                gone = self._columns[0].pop(row, None)
                known = None if gone is None else self._sound(row, gone)
                if known is not None:
                    self.collected[row] = self.garbage[row] = known
                records.append((row, None))
                continue
            blob = encode_stored(row, record)
            self._compare(row, record)
            self._columns[0][row] = blob
            self.collected.pop(row, None)
            records.append((row, blob))
        # Lists of its own: the node still reads those that it handed out.
        dropped_rows, dropped_hints = [*batch.dropped_rows], [*batch.dropped_hints]
        votes: _Changes = [
            (row, None if voted is None else seal(row, voted)) for row, voted in batch.votes
        ]
        log = records, [*batch.hints], [*batch.meta], votes, dropped_rows, dropped_hints
        _put(self._columns[1], batch.hints)
        _put(self._columns[2], batch.meta)
        _put(self._columns[3], votes)
        self._rotten_hints.difference_update(name for name, _ in batch.hints)
        self.written += 1
        self._unsynced.append((self.written, log))
        if not self.needs_sync:
            self.sync()

    def _compare(self, row: bytes, record: Record) -> None:
        """Note it if a record replaces one that is higher or the same; a damaged one does not
        count."""
        blob = self._columns[0].get(row)
        before = None if blob is None else self._sound(row, blob)
        if before is not None and not wins(record, before):
            self.lowered.append(Lowered(row, before, record))

    def note_next(self) -> None:
        """Nothing to do: no file of it is ever lost alone."""

    def sync(self) -> None:
        self.end_sync(self.written)

    def recover(self) -> None:
        """Be opened by a new process: what the log has is durable then, and a new log begins."""
        self.is_unreadable = self._is_log_broken = False
        self.sync()

    def begin_sync(self) -> int:
        """How many batches the sync that begins now will make durable. If the log is broken and
        there is room again, the database is closed and opened in this sync, and cannot be read
        meanwhile."""
        self.is_unreadable = self._is_log_broken and not self.is_full
        return self.written

    def end_sync(self, written: int) -> None:
        """The sync is over that was to make the first `written` batches durable."""
        unsynced = self._unsynced
        while unsynced and unsynced[0][0] <= written:
            self._harden(unsynced.popleft()[1])
        if self.is_unreadable:
            self.is_unreadable = self._is_log_broken = False

    def _harden(self, log: _Log) -> None:
        dropped_rows, dropped_hints = log[4:]
        _drop(self._durable[0], dropped_rows)
        _drop(self._durable[3], dropped_rows)
        _drop(self._durable[1], dropped_hints)
        for durable, changes in zip(self._durable, log[:4], strict=True):
            _put(durable, changes)

    def format(self, batch: Batch) -> None:
        """Write a batch that is durable at once."""
        self.write(batch)
        self.sync()

    def bytes_used(self) -> int:
        return sum(len(name) + len(blob) for each in self._columns for name, blob in each.items())

    def close(self) -> None:
        """Nothing to release."""

    # --- what a person with a screwdriver sees -----------------------------------------------

    def held(self, row: bytes) -> Record | None:
        """The record of a row that the bytes say, durable or not. Corrupt if damaged."""
        blob = self._columns[0].get(row)
        return None if blob is None else self._read(row, blob)

    def durable(self, row: bytes) -> Record | None:
        """The record of a row that a power cut would leave. Corrupt if damaged."""
        blob = self._durable[0].get(row)
        return None if blob is None else self._read(row, blob)

    def durable_votes(self, row: bytes) -> bytes | None:
        """What a power cut would leave of the votes on a row. Corrupt if damaged."""
        blob = self._durable[3].get(row)
        return None if blob is None else open_votes(row, blob)

    def remembered(self, row: bytes) -> Record | None:
        """What is held of a row; if nothing, what was dropped as garbage. Corrupt if damaged."""
        record = self.held(row)
        return self.collected.get(row) if record is None else record

    def durable_remembered(self, row: bytes) -> Record | None:
        """The same of what a power cut would leave."""
        record = self.durable(row)
        return self.collected.get(row) if record is None else record

    def fence(self, partition: int) -> tuple[int, int]:
        """The lock and the horizon of a partition that a power cut would leave."""
        blob = self._durable[2].get(fence_name(partition))
        if blob is None:
            return 0, 0
        stored = msgspec.msgpack.decode(blob, type=StoredFence)
        return stored[0], stored[1]

    def damaged(self) -> list[bytes]:
        """Rows whose bytes fail their checksum, in order, until they are written again."""
        return [row for row, blob in self._columns[0].items() if self._sound(row, blob) is None]

    def drops(self, row: bytes) -> int:
        """How often all that there was around a row was dropped."""
        return sum([start <= row < end for start, end in self._drops])

    def rows(self) -> list[bytes]:
        """All rows, in order, damaged or not."""
        return sorted(self._columns[0])

    def hint(self, name: bytes) -> bytes | None:
        """What is stored of a hint; None if it is not there, or cannot be read."""
        if self.are_hints_unreadable or name in self._rotten_hints:
            return None
        return self._columns[1].get(name)

    def hint_names(self) -> list[bytes]:
        """The names of all hints, in order, damaged or not."""
        return sorted(self._columns[1])

    # --- faults ------------------------------------------------------------------------------

    def crash(self, random: Random) -> Crash:
        """Lose what was not durable, but for the first few batches, as many as are drawn, and
        perhaps a part of the next."""
        logs = [_framed(log) for _, log in self._unsynced]
        kept = random.randint(0, len(logs))
        tail = b""
        if kept < len(logs) and random.random() < 0.5:
            tail = _torn(logs[kept], random)
        found = _recover(b"".join(logs[:kept]) + tail)
        for log in found:
            self._harden(log)
        self._unsynced.clear()
        self._read_anew()
        return Crash(len(found), len(logs) - len(found), is_torn=bool(tail))

    def image(self) -> Disk:
        """A disk of its own that holds what a power cut would leave of this one now."""
        image = Disk(needs_sync=self.needs_sync)
        image._durable = _copied(self._durable)
        image.collected, image.garbage = dict(self.collected), dict(self.garbage)
        image._rotten_hints = set(self._rotten_hints)
        image._read_anew()
        return image

    def _read_anew(self) -> None:
        """Have reads see what is durable, and nothing else."""
        self._columns = _copied(self._durable)

    def rot(self, row: bytes, random: Random) -> bool:
        """Flip a bit of what is stored of a row. False if nothing is stored."""
        if row not in self._columns[0]:
            return False
        self.rots[row] += 1
        position = random.random()
        for blobs in (self._columns[0], self._durable[0]):
            blob = blobs.get(row)
            if blob is not None and self._sound(row, blob) is not None:
                blobs[row] = flipped(blob, int(position * len(blob) * 8))
        return True

    def rot_votes(self, row: bytes, random: Random) -> bool:
        """Flip a bit of what was voted of a row. False if nothing is stored."""
        if row not in self._columns[3]:
            return False
        self.vote_rots[row] += 1
        position = random.random()
        for blobs in (self._columns[3], self._durable[3]):
            blob = blobs.get(row)
            if blob is not None and sound_votes(row, blob):
                blobs[row] = flipped(blob, int(position * len(blob) * 8))
        return True

    def has_damaged_votes(self, row: bytes) -> bool:
        """Whether what was voted of a row fails its checksum, until it is written again."""
        blob = self._columns[3].get(row)
        return blob is not None and not sound_votes(row, blob)

    def rot_hint(self, name: bytes) -> None:
        """Damage the block in which a hint is stored, until it is written or deleted."""
        self._rotten_hints.add(name)


def flipped(blob: bytes, bit: int) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(blob)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _slice(blobs: _Blobs, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
    """The entries of [start, end) in order."""
    return [(name, blobs[name]) for name in sorted(blobs) if start <= name < end]


def _copied(columns: _Columns) -> _Columns:
    records, hints, meta, votes = columns
    return dict(records), dict(hints), dict(meta), dict(votes)


def _put(blobs: _Blobs, changes: _Changes) -> None:
    for name, blob in changes:
        if blob is None:
            blobs.pop(name, None)
        else:
            blobs[name] = blob


def _is_in(name: bytes, ranges: _Ranges) -> bool:
    return any([start <= name < end for start, end in ranges])


def _drop(blobs: _Blobs, ranges: _Ranges) -> list[bytes]:
    """Delete the entries of the ranges; returns their names."""
    gone = [name for start, end in ranges for name in blobs if start <= name < end]
    for name in gone:
        blobs.pop(name, None)
    return gone


def _framed(log: _Log) -> bytes:
    payload = _encode_log(log)
    return len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big") + payload


def _torn(framed: bytes, random: Random) -> bytes:
    """What reached the disk of a batch that was being written: an end is missing, or its sectors
    hold something else."""
    cut = random.randrange(1, len(framed))
    if random.random() < 0.5:
        return framed[:cut]
    return framed[:cut] + bytes(byte ^ 0xA5 for byte in framed[cut:])


def _recover(data: bytes) -> list[_Log]:
    """The whole batches at the beginning of a log."""
    found = []
    start = 0
    while start + _HEAD_BYTES <= len(data):
        end = start + _HEAD_BYTES + int.from_bytes(data[start : start + 4], "big")
        payload = data[start + _HEAD_BYTES : end]
        if end > len(data) or crc32(payload) != int.from_bytes(data[start + 4 : start + 8], "big"):
            break
        found.append(_decode_log(payload))
        start = end
    return found
