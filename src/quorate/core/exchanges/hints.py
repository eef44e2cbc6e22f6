# SPDX-License-Identifier: GPL-3.0-or-later
"""Hints: writes kept for replicas that did not take them (Dynamo, 4.6).

For example: a write is for A, B and C, and C is down. The coordinator stores the record as a hint
for C, in a log on its own disk. When C can be reached again its hints are sent to it, oldest first,
one message at a time, so that they never crowd out requests.

Invariants:
- A hint never counts toward W.
- Hints survive a restart.
- A hint is deleted when its replica acknowledged it. One that its replica cannot take yet, as it
  has locked what is older (`horizons`), goes behind the others. A hint is dropped, which is counted
  and noted, in three cases: its replica refuses it for good; it cannot be read and one behind it
  can be; the log is full and it is among the oldest of the peer with most.
- The log never holds more than its stated bytes. What this step added cannot be dropped, so where
  that alone fills the log, the next hints are not kept.

On disk: what layouts call the peer (8 bytes), sequence number (8 bytes, big-endian) -> msgpack of
`StoredHint`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

import msgspec

from quorate.core.exchanges.outbox import ITEM_BYTES, MESSAGE_BYTES_MAX, Outbox, Sent
from quorate.core.replica import Reader, Replica
from quorate.core.topology.peer import Peer
from quorate.core.turn import Alarm, Turn
from quorate.core.values.messages import Mutate, Mutated
from quorate.core.values.record import Record, packed
from quorate.core.values.stored import StoredHint, hint_of
from quorate.errors import Corrupt, StorageError

PREFIX_BYTES: Final = 8
_END: Final = b"\xff" * (PREFIX_BYTES + 9)
"""Past all names."""
SEQUENCE_END: Final = (1 << 64) - 1
REPLAY_ITEMS_MAX: Final = 512
FENCED_MS: Final = 15_000
"""Until hints are sent again none of which could be taken yet."""
RETRY_MS: Final = 1_000
"""Between attempts at a peer that takes no hints: its disk may be full."""
DROP_ITEMS_MAX: Final = 256
DROP_SHARE: Final = 256
"""A full log drops a 256th of its bytes at once, but no more than DROP_ITEMS_MAX hints: one by one
would cost a scan for each write, and many at once would hold up the step."""
DAMAGE_NEAR: Final = 64
"""So many hints behind a damaged one are tried one after another, about what one block of the
engine holds; farther away the search takes larger steps."""

_Name = tuple[bytes, int]
"""Of a stored hint, and its size."""

_encode = msgspec.msgpack.Encoder(enc_hook=packed).encode


def peer_of(name: bytes) -> int:
    """What layouts call the peer that a hint of this name is for."""
    return int.from_bytes(name[:PREFIX_BYTES], "big")


class _Queue:
    """The hints of one peer: sequence numbers [first, next), deleted from the front only."""

    __slots__ = (
        "alarm",
        "bytes",
        "called",
        "due_ms",
        "first",
        "has_fresh",
        "is_under_way",
        "next",
        "outbox",
        "peer",
        "prefix",
        "uncounted",
    )

    def __init__(self, outbox: Outbox, replay: Callable[[Peer], None]) -> None:
        peer = outbox.peer
        self.peer = peer
        self.outbox = outbox
        self.called = peer.names[0] if peer.names else 0
        """The name of the peer that is in use; 0 while it has none."""
        self.prefix = self.called.to_bytes(PREFIX_BYTES, "big")
        self.first = 0
        self.next = 0
        self.bytes = 0
        """About, once some of them could not be read; 0 without any."""
        self.uncounted: int | None = 0
        """From here on what an earlier run left is not counted yet; None once all of it is."""
        self.has_fresh = False
        """Whether hints were added in this step."""
        self.is_under_way = False
        """The first of them were sent, and wait for an answer."""
        self.due_ms = 0
        """Nothing is sent before."""
        self.alarm = Alarm(outbox.turn, lambda: replay(peer))

    @property
    def count(self) -> int:
        return self.next - self.first

    def name(self, sequence: int) -> bytes:
        return self.prefix + sequence.to_bytes(8, "big")


class Hints:
    """All hints of this node; the exchange that replays them."""

    __slots__ = ("_bytes_max", "_engine", "_queues", "_replica", "_turn", "bytes", "fresh")

    def __init__(self, *, engine: Reader, replica: Replica, turn: Turn, bytes_max: int) -> None:
        self._engine = engine
        self._replica = replica
        self._turn = turn
        self._bytes_max = bytes_max
        self._queues: list[_Queue] = []
        """By the index of the peer."""
        self.fresh: list[_Queue] = []
        """Those to which hints were added in this step."""
        self.bytes = 0

    def open(self, outbox: Outbox) -> None:
        """Keep hints for one more peer; count what an earlier run left for it. Cost: a scan."""
        queue = _Queue(outbox, self.replay)
        index = queue.peer.index
        self._queues[index : index + 1] = [queue]
        self._count(queue)

    def _count(self, queue: _Queue) -> None:
        """Count what an earlier run left; later, where the disk cannot be read at the moment."""
        before = queue.bytes
        try:
            while queue.uncounted is not None:
                queue.uncounted = self._count_on(queue, queue.uncounted)
        except StorageError as error:
            self._note_unreadable(queue, error)
            self._put_off(queue)
        self.bytes += queue.bytes - before

    def _count_on(self, queue: _Queue, start: int) -> int | None:
        """Count what is stored from `start` on. Returns where to go on behind damage, or None at
        the end."""
        try:
            for name, blob in self._scan(queue, start, SEQUENCE_END):
                if not queue.next:
                    queue.first = _sequence_of(name)
                start = queue.uncounted = queue.next = _sequence_of(name) + 1
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

    def rename(self) -> None:
        """Call peers what the layout in force calls them, and drop what is for nobody: its
        successor gets all that from others."""
        for index, queue in enumerate(self._queues):
            if queue.called not in (queue.peer.names or (0,)):
                # What it held is for another node, whose queue counts it; or for nobody.
                self.bytes -= queue.bytes
                if queue.count and not queue.peer.names:
                    self._note_dropped(queue, queue.count)
                self.open(queue.outbox)
                # It may be there already: then nothing else would have them sent.
                self._queues[index].alarm.soon()
            self._rename(self._queues[index])
        self._drop_strays()

    def _drop_strays(self) -> None:
        """Drop what is stored between the hints for those that are known; these are not read, as
        some may be damaged. What cannot be read now has its turn with the next layout."""
        start = b""
        for name in sorted({name for queue in self._queues for name in queue.peer.names}):
            first, end = _bounds(name)
            self._drop_between(start, first)
            start = end
        self._drop_between(start, _END)

    def _drop_between(self, start: bytes, end: bytes) -> None:
        with suppress(StorageError):
            if start < end and next(iter(self._engine.scan_hints(start, end)), None) is not None:
                self._replica.drop_hints(start, end)

    def _rename(self, queue: _Queue) -> None:
        """Take the peer's next name, once nothing waits under the one before: a founder's hints
        were stored under the name of its URL until it was bound."""
        names = queue.peer.names
        while names and queue.called != names[-1]:
            if queue.count or queue.uncounted is not None or queue.is_under_way:
                return
            queue.called = names[names.index(queue.called) + 1]
            queue.prefix = queue.called.to_bytes(PREFIX_BYTES, "big")
            queue.first = queue.next = queue.uncounted = 0
            self._count(queue)

    def count(self, peer: Peer) -> int:
        """Hints waiting for the peer."""
        return self._queues[peer.index].count

    @property
    def total(self) -> int:
        """Hints waiting for anyone."""
        return sum(queue.count for queue in self._queues)

    def add(self, peer: Peer, row: bytes, record: Record) -> None:
        """Keep `record` for `peer`; stored with this step's batch."""
        queue = self._queues[peer.index]
        if not queue.called:
            return  # Its disk is lost: who takes its place gets this from others.
        if self._replica.trouble.code or queue.uncounted is not None:
            # What cannot be stored now would pile up in memory; what is not counted has a number
            # that a hint may have already.
            self._note_dropped(queue, 1)
            return
        blob = _encode(StoredHint(row, record))
        while self.bytes + len(blob) > self._bytes_max:
            if not self._drop_oldest(room=len(blob)):
                self._note_dropped(queue, 1)
                return
        self._replica.put_hint(queue.name(queue.next), blob)
        queue.next += 1
        if not queue.has_fresh:
            queue.has_fresh = True
            self.fresh.append(queue)
        queue.bytes += len(blob)
        self.bytes += len(blob)
        self._turn.counters["hints_stored"] += 1

    def replay(self, peer: Peer) -> None:
        """Send the next hints, oldest first, if the peer can be reached and none are under way."""
        queue = self._queues[peer.index]
        if queue.uncounted is not None:
            self._count(queue)
            # What waits under the next name could not be looked for before.
            self._rename(queue)
        if not queue.count or queue.is_under_way or not peer.is_reachable:
            return
        if self._replica.trouble.code:
            # What the peer then acknowledges would pile up in memory, as deletions.
            self._put_off(queue)
        if queue.due_ms > self._turn.mono_ms:
            queue.alarm.at(queue.due_ms)
            return
        names: list[_Name] = []
        items: list[tuple[bytes, Record]] = []
        size = 0
        for name, blob in islice(self._waiting(queue), REPLAY_ITEMS_MAX):
            hint = hint_of(blob)
            names.append((name, len(blob)))
            items.append((hint.row, hint.record))
            size += len(blob) + ITEM_BYTES
            if size >= MESSAGE_BYTES_MAX:
                break
        if items:
            queue.is_under_way = True
            sent = Sent(queue.outbox, self, Mutated, names, size)
            queue.outbox.send(sent, Mutate(sent.batch, items))

    def close_turn(self) -> None:
        """Have the hints of this step sent once they are stored."""
        fresh, self.fresh = self.fresh, []
        for queue in fresh:
            queue.has_fresh = False
        self._replica.when_durable(lambda: self._stored(fresh))

    def _stored(self, queues: list[_Queue]) -> None:
        for queue in queues:
            if queue.peer.is_reachable:
                queue.alarm.soon()

    def answered(self, peer: Peer, ops: list[_Name], answer: Mutated) -> None:
        """The replica holds them: forget them, and go on."""
        queue = self._queues[peer.index]
        if not ops[0][0].startswith(queue.prefix):
            return  # The queue is another by now.
        queue.is_under_way = False
        refused = answer.refused
        if refused:
            self._turn.note_rarely("warning", "hints_refused", peer=peer.url, reason=refused[0][1])
            self._turn.counters["hints_refused"] += len(refused)
        final = {index for index, _ in refused}
        put_off = [ops[index] for index, _ in answer.fenced if index not in final]
        self._turn.counters["hints_replayed"] += len(ops) - len(refused) - len(put_off)
        if put_off and len(put_off) + len(refused) == len(ops):
            queue.due_ms = self._turn.mono_ms + FENCED_MS
        for name in put_off:
            self._put_behind(queue, name)
        self._forget(queue, ops)
        self._rename(queue)
        self.replay(peer)

    def _put_behind(self, queue: _Queue, name: _Name) -> None:
        """Keep a hint once more, behind all others, for the one that is about to be forgotten."""
        sequence = _sequence_of(name[0])
        if sequence < queue.first:
            return  # dropped as oldest while under way
        try:
            stored = next(iter(self._scan(queue, sequence, sequence + 1)), None)
        except StorageError as error:
            self._note_unreadable(queue, error)
            stored = None
        if stored is None or self._replica.trouble.code:
            self._note_dropped(queue, 1)
            return
        hint = hint_of(stored[1])
        self.add(queue.peer, hint.row, hint.record)

    def lost(self, peer: Peer, ops: list[_Name]) -> None:
        """They stay, and are sent again a little later if the peer is reachable."""
        del ops
        queue = self._queues[peer.index]
        queue.is_under_way = False
        self._put_off(queue)

    def _put_off(self, queue: _Queue) -> None:
        queue.due_ms = self._turn.mono_ms + RETRY_MS
        queue.alarm.at(queue.due_ms)

    def _waiting(self, queue: _Queue) -> Iterator[tuple[bytes, bytes]]:
        """Names and blobs, oldest first, as far as the engine has them and can read them."""
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
                    self._put_off(queue)
                    return
                # What is before the damage goes first.
                if has_read or not self._pass_over(queue):
                    return

    def _scan(self, queue: _Queue, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        return self._engine.scan_hints(queue.name(start), queue.name(end))

    def _pass_over(self, queue: _Queue) -> bool:
        """The oldest hint cannot be read: drop it, and those behind it up to one that can be.

        False if the first cannot be read even now. Of many that are to be dropped a step drops
        some. And where no hint can be read, the disk may recover (its cable was loose, say):
        all are kept then and tried later, as they are if it recovered while this looked. Reads
        repair what a dropped hint would have brought.
        """
        first = self._behind_damage(queue, queue.first, queue.next)
        if first is None or first == queue.next or self._can_read(queue, queue.first, first):
            self._put_off(queue)
            return False
        last = min(first, queue.first + DROP_ITEMS_MAX)
        self._drop_unread(queue, last)
        if last < first:
            queue.alarm.soon()
        return last == first

    def _drop_unread(self, queue: _Queue, first: int) -> None:
        """Drop all hints before `first`. Their sizes cannot be read: take the queue's mean."""
        names = [(queue.name(each), 0) for each in range(queue.first, first)]
        share = queue.bytes * len(names) // queue.count
        self._forget(queue, names)
        self._shrink(queue, share)
        self._note_dropped(queue, len(names))

    def _behind_damage(self, queue: _Queue, start: int, end: int) -> int | None:
        """The first sequence number behind `start` from which the queue can be read, where reading
        from `start` fails; `end` if no hint is left there, None if nothing can be read.

        Near `start` each number is tried. Farther away the steps double, then halve, so the answer
        may lie a little behind the first: a few sound hints are then dropped with the damage.
        """
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

    def _forget(self, queue: _Queue, names: list[_Name]) -> None:
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
        """Drop some of the oldest hints to make room for `room` bytes, of the peer with most that
        has any. False if nothing can be dropped."""
        excess = max(self.bytes + room - self._bytes_max, self._bytes_max // DROP_SHARE)
        for queue in sorted(self._queues, key=lambda queue: -queue.bytes):
            oldest: list[_Name] = []
            for name, blob in islice(self._waiting(queue), DROP_ITEMS_MAX):
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
        self._turn.note_rarely("error", "hints_unreadable", peer=queue.peer.url, reason=str(error))

    def _note_dropped(self, queue: _Queue, count: int) -> None:
        self._turn.counters["hints_dropped"] += count
        self._turn.note_rarely("warning", "hints_dropped", peer=queue.peer.url, count=count)


def _bounds(peer: int) -> tuple[bytes, bytes]:
    """Before the first name of a hint for a peer, and past the last."""
    return peer.to_bytes(PREFIX_BYTES, "big"), (peer + 1).to_bytes(PREFIX_BYTES, "big")


def _sequence_of(name: bytes) -> int:
    return int.from_bytes(name[PREFIX_BYTES:], "big")
