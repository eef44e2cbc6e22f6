# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes kept for replicas that did not take them, replayed when they come back (Dynamo, 4.6).

Invariants: a hint never counts toward W; it is deleted only after its replica acknowledged it, or,
counted and noted, when its replica will never take it, or it cannot be read and what is behind it
can, or the log is full and it is the oldest of the peer with most; a log never holds more than its
stated bytes (where all it holds came in one step, what comes next is dropped). Hints survive a
restart. One message of hints is under way to a peer at a time, so replay never crowds out requests.

On disk: digest of the peer's URL (8 bytes), sequence number (8 bytes, big-endian) -> msgpack of
`StoredHint`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Final, cast

import msgspec

from quorate.core.exchanges.outbox import ITEM_BYTES, MESSAGE_BYTES_MAX, Answer, Peer, Sent
from quorate.core.replica import Reader, Replica
from quorate.core.requests.turn import Turn
from quorate.core.values.messages import Mutated, StoredHint
from quorate.core.values.record import Record
from quorate.errors import Corrupt, StorageError

SEQUENCE_END: Final = (1 << 64) - 1
REPLAY_ITEMS_MAX: Final = 512
RETRY_MS: Final = 1_000
"""Between attempts at a peer that takes no hints: its disk may be full."""
DROP_ITEMS_MAX: Final = 256
DROP_SHARE: Final = 256
"""A full log drops one part in so many at once, or so many hints, and so costs little per write."""
DAMAGE_NEAR: Final = 64
"""How far behind damage every single place is tried: about what one block holds."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredHint).decode


class _Queue:
    """The hints of one peer: sequence numbers [first, next), deleted from the front only."""

    __slots__ = ("bytes", "due_ms", "first", "next", "prefix", "sent", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = hashlib.blake2b(url.encode(), digest_size=8).digest()
        self.first = 0
        self.next = 0
        self.bytes = 0
        """About, once some of them could not be read; 0 without any."""
        self.sent: Sent | None = None
        self.due_ms = 0

    @property
    def count(self) -> int:
        return self.next - self.first

    def name(self, sequence: int) -> bytes:
        return self.prefix + sequence.to_bytes(8, "big")


class Hints:
    """All hints of this node; the exchange that replays them."""

    __slots__ = ("_bytes_max", "_engine", "_queues", "_replica", "_turn", "bytes")

    def __init__(self, *, engine: Reader, replica: Replica, turn: Turn, bytes_max: int) -> None:
        self._engine = engine
        self._replica = replica
        self._turn = turn
        self._bytes_max = bytes_max
        self._queues: dict[str, _Queue] = {}
        self.bytes = 0

    def open(self, url: str) -> None:
        """Count what an earlier run left for `url`. Cost: a scan of its hints."""
        queue = self._queues[url] = _Queue(url)
        start: int | None = 0
        while start is not None:
            start = self._count(queue, start)
        self.bytes += queue.bytes

    def _count(self, queue: _Queue, start: int) -> int | None:
        """Count what is stored from `start` up to damage; where to go on, None at the end."""
        try:
            for name, blob in self._scan(queue, start, SEQUENCE_END):
                if not queue.next:
                    queue.first = _sequence_of(name)
                start = queue.next = _sequence_of(name) + 1
                queue.bytes += len(blob)
        except Corrupt as error:
            self._note_unreadable(queue, error)
            behind = self._behind_damage(queue, start, SEQUENCE_END)
            if behind is not None:
                # What cannot be read keeps its number: a new hint in its place would hide it.
                queue.first = queue.first if queue.next else behind
                queue.next = behind
            return behind
        return None

    def count(self, url: str) -> int:
        """Hints waiting for `url`."""
        queue = self._queues.get(url)
        return queue.count if queue else 0

    @property
    def total(self) -> int:
        """Hints waiting for anyone."""
        return sum(queue.count for queue in self._queues.values())

    def add(self, url: str, row: bytes, record: Record) -> None:
        """Keep `record` for `url`; stored with this step's batch."""
        queue = self._queues[url]
        if self._replica.trouble.code:
            # What cannot be stored now would pile up in memory.
            self._note_dropped(queue, 1)
            return
        blob = _encode(StoredHint(row, record))
        while self.bytes + len(blob) > self._bytes_max:
            if not self._drop_oldest(room=len(blob)):
                self._note_dropped(queue, 1)
                return
        self._replica.put_hint(queue.name(queue.next), blob)
        queue.next += 1
        queue.bytes += len(blob)
        self.bytes += len(blob)
        self._turn.counters["hints_stored"] += 1

    def replay(self, peer: Peer) -> None:
        """Send the next hints to a reachable peer, oldest first, unless some are under way."""
        queue = self._queues[peer.url]
        if not queue.count or queue.sent is not None:
            return
        if self._replica.trouble.code:
            # What the peer then acknowledges would pile up in memory, as deletions.
            queue.due_ms = self._turn.mono_ms + RETRY_MS
        if queue.due_ms > self._turn.mono_ms:
            self._turn.wake_at(queue.due_ms)
            return
        names: list[object] = []
        items: list[tuple[bytes, Record]] = []
        size = 0
        for name, blob in islice(self._stored(queue), REPLAY_ITEMS_MAX):
            hint = _decode(blob)
            names.append((name, len(blob)))
            items.append((hint.row, hint.record))
            size += len(blob) + ITEM_BYTES
            if size >= MESSAGE_BYTES_MAX:
                break
        # None are found while the first of them is still on its way to the engine.
        if items:
            queue.sent = peer.send_items(self, items, names, size=size)

    def answered(self, peer: Peer, sent: Sent, answer: Answer) -> None:
        """The replica holds them: forget them, and go on."""
        queue = self._queues[peer.url]
        queue.sent = None
        refused = cast(Mutated, answer).refused
        if refused:
            self._turn.note_rarely("warning", "hints_refused", peer=peer.url, reason=refused[0][1])
            self._turn.counters["hints_refused"] += len(refused)
        self._turn.counters["hints_replayed"] += len(sent.ops) - len(refused)
        self._forget(queue, cast("list[tuple[bytes, int]]", sent.ops))
        self.replay(peer)

    def lost(self, peer: Peer, sent: Sent) -> None:
        """They stay, and are sent again a little later if the peer is reachable."""
        del sent
        queue = self._queues[peer.url]
        queue.sent = None
        queue.due_ms = self._turn.mono_ms + RETRY_MS

    def _stored(self, queue: _Queue) -> Iterator[tuple[bytes, bytes]]:
        """Oldest first, without those of this step; up to damage, if there is any."""
        has_read = False
        while True:
            try:
                for stored in self._scan(queue, queue.first, queue.next):
                    yield stored
                    has_read = True
                return
            except StorageError as error:
                self._note_unreadable(queue, error)
                if not isinstance(error, Corrupt):
                    queue.due_ms = self._turn.mono_ms + RETRY_MS
                    return
                # What is before the damage goes first.
                if has_read or not self._pass_over(queue):
                    return

    def _scan(self, queue: _Queue, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        return self._engine.scan_hints(queue.name(start), queue.name(end))

    def _pass_over(self, queue: _Queue) -> bool:
        """Drop what cannot be read at the front, if something behind it can be; repair covers it.
        Where nothing can be read the disk may get over it, or has while this looked: all is tried
        again later."""
        first = self._behind_damage(queue, queue.first, queue.next)
        if first is None or first == queue.next or self._can_read(queue, queue.first, first):
            queue.due_ms = self._turn.mono_ms + RETRY_MS
            return False
        self._drop_unread(queue, first)
        return True

    def _drop_unread(self, queue: _Queue, first: int) -> None:
        """Drop all before `first`, whose sizes nobody knows any more."""
        names = [(queue.name(each), 0) for each in range(queue.first, first)]
        share = queue.bytes * len(names) // queue.count
        self._forget(queue, names)
        self._shrink(queue, share)
        self._note_dropped(queue, len(names))

    def _behind_damage(self, queue: _Queue, start: int, end: int) -> int | None:
        """The first place behind `start`, which cannot be read, from which reading is possible;
        `end` if there is nothing there. Behind a long stretch, a place not far behind it."""
        for place in range(start + 1, min(start + DAMAGE_NEAR, end)):
            if self._can_read(queue, place, end):
                return place
        step = DAMAGE_NEAR
        while not self._can_read(queue, min(start + step, end), end):
            if start + step >= end:
                return None
            step *= 2
        bad, good = start + step // 2, min(start + step, end)
        while good - bad > 1:
            middle = (bad + good) // 2
            if self._can_read(queue, middle, end):
                good = middle
            else:
                bad = middle
        return good

    def _can_read(self, queue: _Queue, start: int, end: int) -> bool:
        try:
            next(self._scan(queue, start, end), None)
        except StorageError:
            return False
        return True

    def _forget(self, queue: _Queue, names: list[tuple[bytes, int]]) -> None:
        for name, size in names:
            sequence = _sequence_of(name)
            if sequence < queue.first:
                continue  # dropped as oldest while under way
            self._replica.put_hint(name, None)
            queue.first = sequence + 1
            self._shrink(queue, size)

    def _shrink(self, queue: _Queue, size: int) -> None:
        size = min(size, queue.bytes) if queue.count else queue.bytes
        queue.bytes -= size
        self.bytes -= size

    def _drop_oldest(self, *, room: int) -> bool:
        """Drop some of the oldest to make room; False if there is nothing that could be."""
        excess = max(self.bytes + room - self._bytes_max, self._bytes_max // DROP_SHARE)
        for queue in sorted(self._queues.values(), key=lambda queue: -queue.bytes):
            oldest: list[tuple[bytes, int]] = []
            for name, blob in islice(self._stored(queue), DROP_ITEMS_MAX):
                oldest.append((name, len(blob)))
                excess -= len(blob)
                if excess <= 0:
                    break
            if oldest:
                self._forget(queue, oldest)
                self._note_dropped(queue, len(oldest))
                return True
            if queue.count and not self._can_read(queue, queue.first, queue.next):
                # Nothing of it can be read, and something has to go.
                self._drop_unread(queue, queue.first + min(queue.count, DROP_ITEMS_MAX))
                return True
        return False

    def _note_unreadable(self, queue: _Queue, error: StorageError) -> None:
        self._turn.note_rarely("error", "hints_unreadable", peer=queue.url, reason=str(error))

    def _note_dropped(self, queue: _Queue, count: int) -> None:
        self._turn.counters["hints_dropped"] += count
        self._turn.note_rarely("warning", "hints_dropped", peer=queue.url, count=count)


def _sequence_of(name: bytes) -> int:
    return int.from_bytes(name[8:], "big")
