# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums by which two replicas see whether they hold the same, without a scan.

A *digest* says which version of each row a replica holds, of all stamps below a *boundary*, a time
in the past. So it does not depend on what is being written now. Tombstones count; expiry does not,
as an expired record is a record.

    digest = sum over rows of term(row, version), modulo 2^62

A term is a polynomial whose coefficients are 28 bits of the version each, modulo 2^31 - 1, at two
points that are made of the row's CRC-32 (Carter, Wegman 1979). Two versions of a row have one
term once in 2^56. That a record took the place of another adds the new term and takes the old one
away. A row that is not there counts 0. It is no defence against a client that chooses its keys for
it and can see to it that replicas miss just the right writes.

What is kept is gathered, and counted some hundreds at a time. Terms are counted by the machine's
own arithmetic where this module is compiled, so nothing here is above 2^63. Numbers of any size
took two and a half times as long; hashing by BLAKE2 three times.

The rows of a partition are in 64 buckets, by the same hash, with a sum each, so that a difference
is looked for in a share of the rows. Sums are kept by *slices* of a minute of stamp time:

    base      slice 57   slice 58   slice 59         the boundary is the beginning of slice 57:
    |---------|----------|----------|-------> stamps  the base is the digest there

What is kept goes to the slice of its stamp, or to the base if that is older. When the boundary
moves, old slices are added to the base.

For example: `x` had version 1 of slice 40 and gets version 9 of slice 58. The base counts version 1
until slice 58 is part of it. A replica that missed version 1 and got 9 differs until then, and not
longer. All slices together say what is held now, always.

Left out: keeping the sums on disk. After a start they are made by a scan (`exchanges.agreement`).
"""

from __future__ import annotations

from array import array
from binascii import crc32
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from quorate.core.values.settings import SLICE_MS
from quorate.core.values.slots import BUCKETS, PARTITION_COUNT, partition_of
from quorate.core.values.versions import ABSENT, LINKED_BYTES, VERSION_BYTES

if TYPE_CHECKING:
    from mypy_extensions import i64

    _Sums = array[int] | defaultdict[int, int]
    """By partition and bucket. An array costs a write one place in memory, a list two, and a table
    several; but a table is small for a slice in which a clock that was years ahead stamped one
    record."""

MASK: Final = (1 << 62) - 1
"""Sums are modulo 2^62."""
CELLS_PER_STEP: Final = 4_096
"""Added to the base in one step."""
_CELLS: Final = PARTITION_COUNT * BUCKETS
DENSE_MAX: Final = 8
"""Slices that have a cell for each sum. There are three at most, unless a clock was wrong."""
GATHERED_MAX: Final = 256
"""Records that are counted at once."""
_UINT64: Final = "L" if array("L").itemsize == 8 else "Q"
"""The array type of 64 bits whose items CPython sets in a fifth of the time."""
_NONE: Final = 0
_PARTIAL: Final = 1
_WHOLE: Final = 2
_CHECKED: Final = 3
"""Nothing is counted; what was scanned; all, and all while it is scanned once more."""
_PRIME: Final = (1 << 31) - 1
_PIECE: Final = (1 << 28) - 1
_HALF: Final = VERSION_BYTES // 2
_CRC32: Final = crc32
"""By a name of ours that cannot change, which the compiled module need not look up."""


def bucket_of(row: bytes) -> int:
    """The bucket of a row."""
    return crc32(row) & BUCKETS - 1


def _term(row_hash: i64, version: bytes) -> i64:
    """What a version of a row counts. A link is two more coefficients, of 24 bits each."""
    if not version:
        return 0
    high: i64 = 0
    low: i64 = 0
    place: i64 = 0
    while place < _HALF:
        high = high << 8 | version[place]
        low = low << 8 | version[place + _HALF]
        place += 1
    x: i64 = (row_hash >> 2) + 1
    y: i64 = (row_hash * 1_640_531_527 >> 20 & _PRIME >> 1) + 1
    a: i64 = high >> 28
    b: i64 = a
    a = a * x + (high & _PIECE)
    b = b * y + (high & _PIECE)
    a = ((a & _PRIME) + (a >> 31)) * x + (low >> 28)
    b = ((b & _PRIME) + (b >> 31)) * y + (low >> 28)
    a = ((a & _PRIME) + (a >> 31)) * x + (low & _PIECE)
    b = ((b & _PRIME) + (b >> 31)) * y + (low & _PIECE)
    if len(version) > VERSION_BYTES:
        place = VERSION_BYTES
        while place < LINKED_BYTES:
            piece: i64 = version[place] << 8 | version[place + 1]
            a = ((a & _PRIME) + (a >> 31)) * x + piece
            b = ((b & _PRIME) + (b >> 31)) * y + piece
            place += 2
    return a % _PRIME << 31 | b % _PRIME


def _ms_of(version: bytes) -> i64:
    """The millisecond of its stamp, or of its link; 0 for ABSENT."""
    ms: i64 = 0
    if version:
        first: i64 = VERSION_BYTES if len(version) > VERSION_BYTES else 0
        place: i64 = first
        while place < first + 6:
            ms = ms << 8 | version[place]
            place += 1
    return ms


class Digests:
    """The sums of this node's partitions. Those of a partition are *whole* when every row that the
    node holds there is counted; before that nothing is said of them."""

    __slots__ = (
        "_base",
        "_before",
        "_folded",
        "_now",
        "_recent",
        "_rows",
        "_scanned",
        "_shadow",
        "_slice_ms",
        "_states",
        "_unfolded",
        "boundary",
    )

    def __init__(self, slice_ms: int = SLICE_MS) -> None:
        self._slice_ms = slice_ms
        self.boundary = 0
        """The first slice that is not part of the base."""
        self._base = _zeros()
        self._recent: dict[int, _Sums] = {}
        """Later slices, and of each what it adds."""
        self._rows: list[bytes] = []
        self._before: list[bytes] = []
        self._now: list[bytes] = []
        """Of what is yet to be counted: the row, and its version before and now."""
        self._unfolded: deque[_Sums] = deque()
        """What is yet to be added to the base, in order."""
        self._folded = 0
        """So many cells of the first of these are, if it is an array."""
        self._states = [_NONE] * PARTITION_COUNT
        self._scanned = b""
        """Rows below are counted of the partition that is being scanned, or checked."""
        self._shadow: list[int] = []
        """The sums of what was gone through of the partition that is being checked."""

    def covers(self, row: bytes) -> bool:
        """Whether what is held of a row is counted: if not, a scan will find it, or nobody asks."""
        state = self._states[partition_of(row)]
        return state >= _WHOLE or (state == _PARTIAL and row < self._scanned)

    def feed(self, row: bytes, old: bytes, new: bytes) -> None:
        """A record of version `new` takes the place of `old`; ABSENT is nothing. What is dropped
        (`new` is ABSENT) is taken from the base: it was below the boundary."""
        state = self._states[partition_of(row)]
        if state != _WHOLE:
            if not self.covers(row):
                return
            if state == _CHECKED and row < self._scanned:
                self._count_aside(row, old, new)
        self._rows.append(row)
        self._before.append(old)
        self._now.append(new)
        if len(self._rows) >= GATHERED_MAX:
            self._count()

    def _count(self) -> None:
        """Count what was gathered."""
        rows, olds, news = self._rows, self._before, self._now
        if not rows:
            return
        self._rows, self._before, self._now = [], [], []
        # Most are of one slice.
        begin: i64 = 0
        end: i64 = 0
        sums: _Sums = self._base
        for place, row in enumerate(rows):
            old, new = olds[place], news[place]
            ms: i64 = _ms_of(new)
            row_hash: i64 = _CRC32(row)
            cell: i64 = partition_of(row) * BUCKETS + (row_hash & BUCKETS - 1)
            if not begin <= ms < end:
                begin = ms - ms % self._slice_ms
                end = begin + self._slice_ms
                sums = self._sums_of(begin // self._slice_ms)
            more: i64 = sums[cell]
            sums[cell] = more + _term(row_hash, new) - _term(row_hash, old) & MASK

    def _count_aside(self, row: bytes, old: bytes, new: bytes) -> None:
        """Count for the check that is under way."""
        row_hash: i64 = crc32(row)
        more = _term(row_hash, new) - _term(row_hash, old)
        self._shadow[row_hash & BUCKETS - 1] += more

    def _sums_of(self, piece: int) -> _Sums:
        """Where records of a slice are counted. Late ones, of slices in the base, are added to it
        with the rest."""
        if piece < self.boundary:
            if not self._unfolded or isinstance(self._unfolded[-1], array):
                self._unfolded.append(defaultdict(int))
            return self._unfolded[-1]
        sums = self._recent.get(piece)
        if sums is None:
            is_dense = len(self._recent) < DENSE_MAX
            sums = self._recent[piece] = _zeros() if is_dense else defaultdict(int)
        return sums

    # --- making them -------------------------------------------------------------------------

    def is_whole(self, partition: int) -> bool:
        """Whether all rows of the partition are counted."""
        return self._states[partition] >= _WHOLE

    def forget(self, partition: int) -> None:
        """The partition's rows are no longer what was counted."""
        if self._states[partition] == _NONE:
            return
        self._count()
        self._states[partition] = _NONE
        cells = range(partition * BUCKETS, (partition + 1) * BUCKETS)
        for sums in (self._base, *self._unfolded, *self._recent.values()):
            for cell in cells:
                if isinstance(sums, array):
                    sums[cell] = 0
                else:
                    sums.pop(cell, None)

    def forget_all(self) -> None:
        """As if nothing was ever counted, nor the boundary moved."""
        for partition in range(PARTITION_COUNT):
            self.forget(partition)
        self.boundary = 0
        self._recent, self._unfolded, self._folded = {}, deque(), 0

    def begin_scan(self, partition: int) -> None:
        """Count the partition's rows from the first on; no other is being scanned."""
        self.forget(partition)
        self._states[partition] = _PARTIAL
        self._scanned = b""

    def begin_check(self, partition: int) -> None:
        """Count what is held of a whole partition once more, beside its sums."""
        assert self._states[partition] == _WHOLE, f"partition {partition} has no digest to check"
        self._states[partition] = _CHECKED
        self._scanned = b""
        self._shadow = [0] * BUCKETS

    def scanned(self, partition: int, rows: list[tuple[bytes, bytes]], past: bytes) -> bool:
        """Count rows of these versions: all that are held below `past` and were not counted yet.
        False if the partition was forgotten since."""
        state = self._states[partition]
        if state == _CHECKED:
            for row, version in rows:
                self._count_aside(row, ABSENT, version)
        elif state == _PARTIAL:
            self._rows += [row for row, _ in rows]
            self._before += [ABSENT] * len(rows)
            self._now += [version for _, version in rows]
            self._count()
        else:
            return False
        self._scanned = past
        return True

    def end_scan(self, partition: int) -> bool:
        """All rows are counted. False, and the digest is forgotten, if it was checked and is not
        what these add up to."""
        is_checked = self._states[partition] == _CHECKED
        self._states[partition] = _WHOLE
        if is_checked and self.held(partition) != [each & MASK for each in self._shadow]:
            self.forget(partition)
            return False
        return True

    # --- the boundary ------------------------------------------------------------------------

    def advance(self, boundary: int) -> bool:
        """Move the boundary on, never back, by a bounded share of the work. True when the base is
        the digest there."""
        self._count()
        if boundary > self.boundary:
            self.boundary = boundary
            past = sorted([piece for piece in self._recent if piece < boundary])
            self._unfolded.extend([self._recent.pop(piece) for piece in past])
        room = CELLS_PER_STEP
        while self._unfolded and room:
            room = self._fold(self._unfolded[0], room)
        return not self._unfolded

    def _fold(self, first: _Sums, room: int) -> int:
        """Add so many cells of the first to the base; returns how many more there is room for."""
        base = self._base
        if isinstance(first, array):
            begin, end = self._folded, min(self._folded + room, _CELLS)
            for cell in range(begin, end):
                if first[cell]:
                    base[cell] = base[cell] + first[cell] & MASK
                    first[cell] = 0
            self._folded = end % _CELLS
            if end == _CELLS:
                self._unfolded.popleft()
            return room - (end - begin)
        while first and room:
            cell, more = first.popitem()
            base[cell] = base[cell] + more & MASK
            room -= 1
        if not first:
            self._unfolded.popleft()
        return room

    def total(self, partition: int) -> int:
        """The digest of a partition at the boundary."""
        return sum(self.sums(partition)) & MASK

    def sums(self, partition: int) -> list[int]:
        """The same of each of its buckets."""
        first = partition * BUCKETS
        return self._base[first : first + BUCKETS].tolist()

    def held(self, partition: int) -> list[int]:
        """The sums of its buckets over all slices: what is held now."""
        self._count()
        first, found = partition * BUCKETS, self.sums(partition)
        for later in (*self._unfolded, *self._recent.values()):
            for bucket in range(BUCKETS):
                cell = first + bucket
                # A table would have one more for each cell that is looked at.
                more = later[cell] if isinstance(later, array) else later.get(cell, 0)
                found[bucket] = found[bucket] + more & MASK
        return found


def _zeros() -> array[int]:
    return array(_UINT64, bytes(8 * _CELLS))


def sums_of(rows: list[tuple[bytes, bytes]]) -> list[int]:
    """The sums of the buckets of one partition that holds these rows at these versions."""
    found = [0] * BUCKETS
    for row, version in rows:
        bucket = bucket_of(row)
        found[bucket] = found[bucket] + _term(crc32(row), version) & MASK
    return found
