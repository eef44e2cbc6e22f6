# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that walk over keys: SCAN, KEYS, RANDOMKEY, FLUSHDB.

A SCAN cursor is the number of the partition to go on with, so any node can continue a scan that
another began, and a call finishes the partition it is in even if that is more than COUNT. Only in a
partition of more than ROWS_MAX rows a call stops halfway: then the upper bits of the cursor are a
fingerprint of the position, which this node remembers for a while. Where it is not remembered the
partition begins again: keys may be listed twice then, as SCAN allows, but none is missed.
A call that passes many deleted or expired keys ends with what it has found, which may be nothing.

A walk that could not reach enough replicas of some partition is an error, never a shorter list.
One whose client is gone asks for nothing more.
"""

from __future__ import annotations

import hashlib
import random
import re
from functools import partial
from typing import Final

from quorate.core.values.events import SCAN_ROWS_MAX, Put, PutResult, Result, Scan, ScanResult
from quorate.core.values.messages import ScannedRow
from quorate.core.values.slots import PARTITION_COUNT, key_of, partition_bounds, partition_of
from quorate.doors.access import Role
from quorate.doors.flow import CLOSED
from quorate.doors.limits import no_room_for_reply
from quorate.doors.pages import live_keys
from quorate.doors.redis.command import Access, Command, audited, integer_argument, pattern_argument
from quorate.doors.redis.gather import PartsTally
from quorate.doors.redis.glob import compile_glob, literal_prefix, steps_per_byte
from quorate.doors.redis.session import (
    Collecting,
    CommandError,
    RespDoor,
    Session,
)
from quorate.errors import InvalidRequest, QuorateError, QuorumUnreachable, Unavailable
from quorate.wire import resp

ROWS_MAX: Final = 10_000
"""Rows in one SCAN reply, about; also the largest COUNT."""
KEYS_MAX: Final = 100_000
"""Keys in one KEYS reply."""
RANDOM_PAGES_MAX: Final = 50
"""Pages of one RANDOMKEY. One that has no key and is not the last passed about 2,000 dead ones."""
POSITIONS_MAX: Final = 1024
_PAGE_ROWS_MIN: Final = 16
_FLUSH_ROWS: Final = 256
_RANDOM_ROWS: Final = 16
_PARTITION_BITS: Final = 10
_COMPILE_STEPS: Final = 4000
"""What a byte of a pattern costs at most to be compiled, in steps of a match."""
_KEY_STEPS: Final = 30
_KEY_OVERHEAD_BYTES: Final = 64
"""What a key that was listed takes beside its bytes."""


class Walk(Collecting):
    """Asks for one page of keys after another; `expired`: also for those that have expired."""

    __slots__ = ("_expired", "asked", "page_rows", "prefix")

    def __init__(
        self,
        session: Session,
        *,
        prefix: bytes,
        cursor: bytes,
        page_rows: int,
        expired: bool = False,
    ) -> None:
        super().__init__(session)
        self._expired = expired
        self.prefix = prefix
        self.page_rows = page_rows
        self.asked = page_rows
        """Rows of the page under way."""
        self.go_on(cursor)

    def go_on(self, cursor: bytes) -> None:
        """Ask for the page after `cursor`."""
        if self.session.flow.state is CLOSED:
            return
        self.session.store.submit(
            Scan(self, self.prefix, cursor, self.page_rows, expired=self._expired)
        )
        self.asked = self.page_rows
        # Few rows are enough as a rule; a walk that goes on is a long one.
        self.page_rows = min(self.page_rows * 2, SCAN_ROWS_MAX)

    def done(self, result: Result) -> None:
        """Take a page."""
        if isinstance(result, ScanResult):
            if result.complete:
                self.take(result)
                return
            result = QuorumUnreachable("too few replicas of some partition answered")
        self.fail(result)

    def fail(self, result: Result) -> None:
        """Take the error that ends the walk."""
        self.resolve_failed(result)

    def take(self, page: ScanResult) -> None:
        """Take a page that nothing is missing from; then `go_on` or `resolve`."""
        raise NotImplementedError

    def live(self, rows: list[ScannedRow]) -> list[bytes]:
        """The keys of rows that clients may see."""
        return live_keys(rows, wall_ms=self.session.store.wall_ms())


class _MatchWalk(Walk):
    """Compares keys with a pattern, which may take more than one turn."""

    __slots__ = (
        "_at",
        "_found_bytes",
        "_keys",
        "_match",
        "_page_bytes",
        "_pattern",
        "_steps_per_byte",
        "found",
    )

    def __init__(self, session: Session, pattern: bytes, *, cursor: bytes, page_rows: int) -> None:
        self._pattern = pattern
        self._match: re.Pattern[bytes] | None = None
        self._steps_per_byte = steps_per_byte(pattern)
        self._keys: list[bytes] = []
        self._at = 0
        self._page_bytes = 0
        self.found: list[bytes] = []
        """The keys that match, encoded."""
        self._found_bytes = 0
        prefix = literal_prefix(pattern)
        super().__init__(session, prefix=prefix, cursor=cursor, page_rows=page_rows)

    def compare(self, rows: list[ScannedRow]) -> None:
        """Have `compared` called once the keys of rows that match are in `found`."""
        self._keys = self.live(rows)
        self._at = 0
        self._page_bytes = sum(map(len, self._keys)) + _KEY_OVERHEAD_BYTES * len(self._keys)
        if self.hold(self._page_bytes):
            self.session.door.work.add(self)
        else:
            self.fail(no_room_for_reply())

    def compared(self) -> None:
        """All rows were compared; then `go_on` or `resolve`."""
        raise NotImplementedError

    def work(self, steps: int) -> int:
        """Part of `Job`."""
        if self._match is None:
            self._match = compile_glob(self._pattern)
            steps -= _COMPILE_STEPS * len(self._pattern)
        keys, fullmatch, before = self._keys, self._match.fullmatch, self._found_bytes
        while self._at < len(keys) and steps > 0:
            key = keys[self._at]
            self._at += 1
            steps -= _KEY_STEPS + self._steps_per_byte * len(key)
            if fullmatch(key):
                self.found.append(resp.bulk(key))
                self._found_bytes += len(key) + _KEY_OVERHEAD_BYTES
        if not self.hold(self._found_bytes - before):
            self.fail(no_room_for_reply())
            return steps if steps > 0 else 1
        if self._at < len(keys) or steps <= 0:
            return 0
        self._keys = []
        self.release(self._page_bytes)
        self.compared()
        return steps


class _ScanWalk(_MatchWalk):
    __slots__ = ("_count", "_following", "_rows")

    def __init__(self, session: Session, cursor: int, *, count: int, pattern: bytes) -> None:
        self._count = min(count, ROWS_MAX)
        self._rows: list[ScannedRow] = []
        self._following = 0
        super().__init__(
            session,
            pattern,
            cursor=_position(session.door, cursor),
            page_rows=min(max(self._count + 1, _PAGE_ROWS_MIN), SCAN_ROWS_MAX),
        )

    def take(self, page: ScanResult) -> None:
        examined = len(self._rows)
        size = sum([len(row.row) + 2 * _KEY_OVERHEAD_BYTES for row in page.rows])
        if not self.hold(size):
            self.fail(no_room_for_reply())
            return
        self._rows += page.rows
        if not page.cursor:
            self._reply(0)
            return
        end = self._partition_end(max(examined, self._count), page.cursor)
        if end:
            following = self._rows[end].row if end < len(self._rows) else page.cursor
            del self._rows[end:]
            self._reply(partition_of(following))
        elif len(self._rows) >= ROWS_MAX or len(page.rows) < self.asked:
            at = page.cursor
            is_inside = len(at) > len(partition_bounds(0)[0])
            self._reply(_remember(self.session.door, at) if is_inside else partition_of(at))
        else:
            self.go_on(page.cursor)

    def _partition_end(self, start: int, position: bytes) -> int:
        """The first row from `start` on that begins another partition; 0 if none does."""
        partitions = [row.row[:2] for row in self._rows]
        partitions.append(position[:2])
        for at in range(max(start, 1), len(partitions)):
            if partitions[at] != partitions[at - 1]:
                return at
        return 0

    def _reply(self, cursor: int) -> None:
        self._following = cursor
        self.compare(self._rows)

    def compared(self) -> None:
        cursor = resp.bulk(b"%d" % self._following)
        self.resolve(resp.array([cursor, resp.array(self.found)]))


def _position(door: RespDoor, cursor: int) -> bytes:
    """The row that a client's cursor says to go on after."""
    position = door.scan_positions.get(cursor)
    if position is not None:
        return position
    partition = cursor % PARTITION_COUNT
    return partition_bounds(partition)[0] if partition else b""


def _remember(door: RespDoor, row: bytes) -> int:
    """The cursor that leads back to `row`."""
    token = int.from_bytes(hashlib.blake2b(row, digest_size=6).digest(), "big") | 1
    cursor = token << _PARTITION_BITS | partition_of(row)
    positions = door.scan_positions
    positions.pop(cursor, None)
    positions[cursor] = row
    if len(positions) > POSITIONS_MAX:
        del positions[next(iter(positions))]
    return cursor


def _scan(session: Session, args: list[bytes]) -> None:
    cursor = int(args[1]) if re.fullmatch(rb"[0-9]{1,20}", args[1]) else 1 << 64
    if cursor >= 1 << 64:
        raise CommandError("ERR invalid cursor")
    pattern, count, kind = b"*", 10, b"string"
    if len(args) % 2:
        raise CommandError("ERR syntax error")
    for name, argument in zip(args[2::2], args[3::2], strict=True):
        if name.upper() == b"MATCH":
            pattern = pattern_argument(argument)
        elif name.upper() == b"COUNT":
            count = integer_argument(argument)
        elif name.upper() == b"TYPE":
            kind = argument.lower()
        else:
            raise CommandError("ERR syntax error")
    if count < 1:
        raise CommandError("ERR syntax error")
    if kind != b"string":
        session.answer_value(["0", []])
        return
    _ScanWalk(session, cursor, count=count, pattern=pattern)


class _KeysWalk(_MatchWalk):
    __slots__ = ("_cursor",)

    def __init__(self, session: Session, args: list[bytes]) -> None:
        self._cursor = b""
        pattern = pattern_argument(args[1])
        super().__init__(session, pattern, cursor=b"", page_rows=SCAN_ROWS_MAX)

    def take(self, page: ScanResult) -> None:
        self._cursor = page.cursor
        self.compare(page.rows)

    def compared(self) -> None:
        if len(self.found) > KEYS_MAX:
            self.resolve_failed(InvalidRequest(f"over {KEYS_MAX} keys match: use SCAN"))
        elif self._cursor:
            self.go_on(self._cursor)
        else:
            self.resolve(resp.array(self.found))


class _RandomKeyWalk(Walk):
    """Begins in a partition picked at random, and goes around until a page has a key or it is back
    where it began: then there is none. It gives up after many pages that were full of dead keys;
    which of them it passes is chance, so that asking again may find one."""

    __slots__ = ("_is_around", "_pages", "_start")

    def __init__(self, session: Session, _args: list[bytes]) -> None:
        self._start = partition_bounds(random.randrange(PARTITION_COUNT))[0]
        self._is_around = False
        self._pages = 0
        super().__init__(session, prefix=b"", cursor=self._start, page_rows=_RANDOM_ROWS)

    def take(self, page: ScanResult) -> None:
        keys = self.live(page.rows)
        self._pages += 1
        if keys:
            self.resolve(resp.bulk(random.choice(keys)))
        elif self._is_around and (not page.cursor or page.cursor >= self._start):
            self.resolve(self.session.null)
        elif self._pages > RANDOM_PAGES_MAX:
            dead = "only deleted and expired keys were found so far"
            self.fail(Unavailable(f"{dead}: use SCAN, or try again"))
        else:
            self._is_around = self._is_around or not page.cursor
            self.go_on(page.cursor)


class _FlushWalk(Walk):
    """Deletes page after page, each key by a tombstone of its own. Keys that have expired too, or
    DBSIZE would count them for ever."""

    __slots__ = ("_cursor", "_running", "_tally")

    def __init__(self, session: Session) -> None:
        self._cursor = b""
        self._running = 0
        self._tally = PartsTally()
        super().__init__(session, prefix=b"", cursor=b"", page_rows=_FLUSH_ROWS, expired=True)

    def take(self, page: ScanResult) -> None:
        self._cursor = page.cursor
        self.page_rows = _FLUSH_ROWS
        self._running = len(page.rows)
        for row in page.rows:
            self.session.store.submit(Put(_Deletion(self), key_of(row.row), None))
        if not page.rows:
            self._page_deleted()

    def fail(self, result: Result) -> None:
        assert isinstance(result, QuorateError)
        self._tally.failed(result)
        self._page_deleted()

    def on_deleted(self, result: Result) -> None:
        """One key of the page is gone, or not."""
        self._running -= 1
        if isinstance(result, QuorateError):
            self._tally.failed(result)
        elif isinstance(result, PutResult):
            self._tally.wrote = True
            self.session.acks_min = min(self.session.acks_min, result.acks)
        if not self._running:
            self._page_deleted()

    def _page_deleted(self) -> None:
        tally = self._tally
        if tally.error is not None:
            self.resolve_failed(tally.error, wrote=tally.wrote)
        elif self._cursor:
            self.go_on(self._cursor)
        else:
            self.resolve(resp.OK)


class _Deletion:
    """The waiter for one key of a flush."""

    __slots__ = ("_flush",)

    def __init__(self, flush: _FlushWalk) -> None:
        self._flush = flush

    def done(self, result: Result) -> None:
        """Pass the result on."""
        self._flush.on_deleted(result)


def _flush(session: Session, args: list[bytes]) -> None:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError("ERR syntax error")
    if not session.store.config.allow_flush:
        name = args[0].upper().decode()
        raise CommandError(f"ERR {name} is switched off: start the node with -allow-flush")
    _FlushWalk(session)


_walk = partial(Command, group="generic", role=Role.READ, access=Access.ALONE)
_flush_all = partial(_walk, role=Role.ADMIN)

COMMANDS: Final = (
    _walk("scan", -2, _scan, "List keys a few at a time", "2.8.0"),
    _walk("keys", 2, _KeysWalk, "List all keys that match a pattern"),
    _walk("randomkey", 1, _RandomKeyWalk, "Get a key at random"),
    _flush_all("flushdb", -1, audited(_flush, "flushdb"), "Delete all keys, if the node allows it"),
    _flush_all(
        "flushall", -1, audited(_flush, "flushall"), "Delete all keys, if the node allows it"
    ),
)
