# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing two replicas together where their digests differ (`agreement`).

Of the replicas of a partition the one of the lowest id goes to work, with each that differs from
it, one after another. It asks for the sums of the other's buckets. Then both go through the whole
partition, a page at a time, as rows lie by their keys and not by their buckets, and list those of
the buckets that differ. It gets what is newer there, and sends what is newer here, as any write is
sent. So nothing is ever lowered, by `Replica.apply`; and two that are equal are sent nothing.

For example: a hint for C was lost, and nobody reads its key. A and C tell unequal digests of
partition 17, bucket 5 differs, A goes through 10,000 rows and lists 160, C has one less, and is
sent it.

Records stamped at or after the boundary are left alone: they may be on their way. A difference of
which nothing came, as of a copy that cannot be read or a record that the other refuses, is looked
at again after one boundary, then after two, four, and so on. Each page, and what is sent and
got, counts against `-repair-rate`.

A list of the peer's is checked before it is believed: one that does not come forward would be asked
for without end, and a row of another partition would be kept where nobody looks for it.
"""

from __future__ import annotations

from typing import Final

from quorate.core.digests import bucket_of
from quorate.core.exchanges.outbox import ITEM_BYTES, Outbox, Sent, SentQuestions
from quorate.core.horizons import Fenced
from quorate.core.replica import Replica
from quorate.core.topology.peer import Peer
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import (
    AskSums,
    ListBuckets,
    Listed,
    Mutate,
    Mutated,
    Read,
    ReadAnswer,
    Sums,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import PAGE_BYTES, ascend, is_row, partition_bounds
from quorate.core.values.versions import ABSENT, VERSION_MIN
from quorate.errors import StorageError

LIST_ROWS_MAX: Final = 500
"""Looked at for a page."""
LOOK_BYTES: Final = 32
"""Counted for each of them."""
RECORDS_BYTES: Final = 256 << 10
"""About what is sent or got at once."""
RECORDS_MAX: Final = 256
PAUSE_MAX: Final = 16
"""Boundaries until a difference of which nothing came is looked at again."""


class _Task:
    """A partition in which a peer differs."""

    __slots__ = (
        "after",
        "boundary",
        "buckets",
        "fetch",
        "has_moved",
        "mine",
        "partition",
        "peer",
        "pending",
        "push",
        "pushed",
    )

    def __init__(self, partition: int, peer: Peer, boundary: int) -> None:
        self.partition = partition
        self.peer = peer
        self.boundary = boundary
        self.pending = 0
        """Answers to come."""
        self.buckets = 0
        """Those that differ, a bit each; 0 until the peer's sums came."""
        self.after: bytes | None = b""
        """Rows up to and including it are compared; None when all are."""
        self.mine = Listed(0, [], b"")
        """The page that the peer is asked for, as it is here."""
        self.fetch: list[bytes] = []
        self.push: list[bytes] = []
        self.pushed = 0
        """Records in the message under way."""
        self.has_moved = False
        """Whether a record was got, or taken by the peer."""


class AntiEntropy:
    """The exchange that compares and repairs."""

    __slots__ = (
        "_alarm",
        "_due_ms",
        "_looked",
        "_outboxes",
        "_rate",
        "_record_bytes",
        "_records",
        "_replica",
        "_task",
        "_turn",
        "_wanted",
    )

    def __init__(self, parts: Parts, outboxes: list[Outbox]) -> None:
        self._turn = parts.turn
        self._replica = parts.replica
        self._outboxes = outboxes
        self._rate = parts.settings.repair_rate
        self._alarm = Alarm(parts.turn, self._go_on)
        self._records = _Records(self)
        self._wanted: dict[tuple[int, Peer], None] = {}
        """Differences that nobody looks at yet, in the order in which they were found."""
        self._looked: dict[tuple[int, Peer], tuple[int, int]] = {}
        """From which boundary on each that was looked at is looked at again, and how many it was
        left alone for."""
        self._task: _Task | None = None
        self._due_ms = 0
        """Nothing is begun before."""
        self._record_bytes = RECORDS_BYTES // 16
        """What a record lately took, about; at first few are asked for, as they may be large."""

    @property
    def is_busy(self) -> bool:
        """Whether anything is looked at, or is to be."""
        return self._task is not None or bool(self._wanted)

    def adopted(self) -> None:
        """Another layout is in force: what was found under an earlier one is found again."""
        self._wanted, self._looked, self._task = {}, {}, None

    def differ(self, partition: int, peer: Peer) -> None:
        """A peer holds something else of a partition than this node."""
        place = partition, peer
        if not self._rate or place in self._wanted:
            return
        due, _ = self._looked.get(place, (0, 0))
        # Much later than now: the clock was set back since.
        if not 0 < due - self._replica.digests.boundary <= PAUSE_MAX:
            self._wanted[place] = None
            self._alarm.soon()

    def same(self, partition: int, peer: Peer) -> None:
        """A peer holds the same of a partition: what differs next is another difference."""
        self._looked.pop((partition, peer), None)

    # --- the task ----------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Take the next step, if it is time and nothing is under way."""
        now = self._turn.mono_ms
        task = self._task
        if task is not None and task.pending:
            return
        if now < self._due_ms:
            self._alarm.at(self._due_ms)
            return
        if task is None:
            self._begin()
        elif not task.peer.is_reachable or self._replica.trouble.code:
            self._end()
        elif task.fetch:
            self._fetch(task)
        elif task.push:
            self._push(task)
        elif task.after is not None:
            self._list(task, task.after)
        else:
            if not task.has_moved:
                self._rest(task)
            self._end()

    def _begin(self) -> None:
        boundary = self._replica.digests.boundary
        while self._wanted:
            partition, peer = next(iter(self._wanted))
            del self._wanted[partition, peer]
            if peer.is_reachable and not self._replica.trouble.code:
                self._task = task = _Task(partition, peer, boundary)
                outbox = self._outboxes[peer.index]
                sent = Sent(outbox, self, Sums, [task], ITEM_BYTES)
                task.pending = 1
                outbox.send(sent, AskSums(sent.batch, partition, boundary))
                return

    def _end(self) -> None:
        self._task = None
        self._alarm.soon()

    def _rest(self, task: _Task) -> None:
        """Nothing came of it: leave it alone for longer than last time."""
        place = task.partition, task.peer
        _, pause = self._looked.get(place, (0, 0))
        pause = min(2 * pause, PAUSE_MAX) or 1
        self._looked[place] = task.boundary + pause, pause

    def _charge(self, size: int) -> None:
        now = max(self._due_ms, self._turn.mono_ms)
        # Rounded up: much that is small would cost nothing.
        self._due_ms = now + (size * 1000 - 1) // self._rate + 1

    def _list(self, task: _Task, after: bytes) -> None:
        """List a page here, and ask the peer for the same."""
        task.mine = listed(self._replica, task.partition, task.buckets, after, LIST_ROWS_MAX)
        if task.mine.failed:
            self._end()
            return
        self._charge(LIST_ROWS_MAX * LOOK_BYTES)
        outbox = self._outboxes[task.peer.index]
        sent = Sent(outbox, self, Listed, [task], ITEM_BYTES)
        asked = ListBuckets(sent.batch, task.partition, task.buckets, after, LIST_ROWS_MAX)
        task.pending = 1
        outbox.send(sent, asked)

    def _fetch(self, task: _Task) -> None:
        count = min(max(RECORDS_BYTES // self._record_bytes, 1), RECORDS_MAX)
        rows, task.fetch = task.fetch[:count], task.fetch[count:]
        outbox = self._outboxes[task.peer.index]
        ops = [(task, row) for row in rows]
        sent = SentQuestions(outbox, self._records, ops, len(rows) * ITEM_BYTES, len(rows))
        sent.is_usual = False
        task.pending = len(rows)
        outbox.send(sent, Read(sent.batch, rows, [], task.partition))

    def _push(self, task: _Task) -> None:
        items: list[tuple[bytes, Record]] = []
        size = 0
        try:
            while task.push and len(items) < RECORDS_MAX and size < RECORDS_BYTES:
                row = task.push.pop()
                record = self._replica.shown(row)
                if record is not None:
                    items.append((row, record))
                    size += _size_of(row, record)
        except StorageError:
            self._end()
            return
        if not items:
            self._alarm.soon()
            return
        self._charge(size)
        outbox = self._outboxes[task.peer.index]
        sent = Sent(outbox, self, Mutated, [task], size)
        task.pending, task.pushed = 1, len(items)
        lock = self._replica.fences.boundary(task.partition)
        outbox.send(sent, Mutate(sent.batch, items, lock))

    # --- hearing -----------------------------------------------------------------------------

    def answered(self, peer: Peer, ops: list[_Task], answer: Sums | Listed | Mutated) -> None:
        """The peer answered the step that was under way."""
        task = ops[0]
        if task is not self._task:
            return
        if isinstance(answer, Sums):
            task.buckets = self._unequal(task, answer.sums)
            if not task.buckets:
                self._end()
        elif isinstance(answer, Mutated):
            self._pushed(task, answer)
        elif answer.failed:
            task.after = None
        elif _is_fit(answer, task):
            self._sort(task, answer)
        else:
            self._turn.note_rarely("error", "peer_answered_out_of_shape", peer=peer.url)
            task.after = None
        self.done(task, 1)

    def lost(self, peer: Peer, ops: list[_Task]) -> None:
        """The peer did not answer: the others first. In the next round it tells again."""
        if ops[0] is self._task:
            self._wanted = {place: None for place in self._wanted if place[1] is not peer}
            self._end()

    def done(self, task: _Task, count: int) -> None:
        """So many of the answers came, or will not."""
        task.pending -= count
        if task is self._task and not task.pending:
            self._alarm.soon()

    def _unequal(self, task: _Task, sums: list[int]) -> int:
        """The buckets that differ; none if the peer, or this node, is at another boundary."""
        digests = self._replica.digests
        is_there = digests.is_whole(task.partition) and task.boundary == digests.boundary
        is_there = is_there and self._replica.fences.is_swept(task.partition)
        if not sums or not is_there or not digests.advance(task.boundary):
            return 0
        self._turn.counters["partitions_compared"] += 1
        place = task.partition, task.peer
        _, pause = self._looked.get(place, (0, 0))
        self._looked[place] = task.boundary + 1, pause
        own = digests.sums(task.partition)
        return sum([1 << bucket for bucket, each in enumerate(sums) if each != own[bucket]])

    def _sort(self, task: _Task, theirs: Listed) -> None:
        """Find out which records of a page go which way."""
        bounds = [page.bound for page in (task.mine, theirs) if page.bound]
        bound = min(bounds, default=b"")
        here, there = dict(task.mine.rows), dict(theirs.rows)
        young = self._replica.fences.beginning(task.boundary)
        for row in sorted({**here, **there}):
            if bound and row > bound:
                break
            mine, other = here.get(row, ABSENT), there.get(row, ABSENT)
            if mine < other < young:
                task.fetch.append(row)
            elif other < mine < young:
                task.push.append(row)
        task.after = bound or None

    def _pushed(self, task: _Task, answer: Mutated) -> None:
        """The peer took what it was sent, or refused some of it."""
        counters, refused = self._turn.counters, answer.refused
        if refused:
            reason = refused[0][1]
            self._turn.note_rarely("warning", "repair_refused", peer=task.peer.url, reason=reason)
            counters["repair_records_refused"] += len(refused)
        taken = max(task.pushed - len(refused), 0)
        counters["repair_records_sent"] += taken
        task.has_moved |= taken > 0

    def take(self, task: _Task, found: list[tuple[bytes, Record]], lock: int) -> None:
        """Keep what the peer sent, which has this lock."""
        if task is not self._task:
            # Under another layout these may be for another to hold.
            return
        total = 0
        for row, record in found:
            size = _size_of(row, record)
            total += size
            self._record_bytes += (size - self._record_bytes) // 8
            if self._turn.is_ahead(record.version) or self._replica.trouble.code:
                continue
            try:
                self._replica.apply(row, record, lock)
            except (StorageError, Fenced):
                continue
            self._turn.counters["repair_records_got"] += 1
            task.has_moved = True
        self._charge(total)


class _Records:
    """The exchange that gets records."""

    __slots__ = ("_owner",)

    def __init__(self, owner: AntiEntropy) -> None:
        self._owner = owner

    def answered(self, peer: Peer, ops: list[tuple[_Task, bytes]], answer: ReadAnswer) -> None:
        """The peer sent records, all of them or the first ones."""
        del peer
        failed = frozenset(answer.failed)
        found: list[tuple[bytes, Record]] = []
        for (_, row), record in zip(ops, answer.records, strict=True):
            if record is not None and row not in failed:
                found.append((row, record))
        self._owner.take(ops[0][0], found, answer.lock)
        self._owner.done(ops[0][0], len(ops))

    def lost(self, peer: Peer, ops: list[tuple[_Task, bytes]]) -> None:
        """The peer did not send them: they are found again."""
        del peer
        self._owner.done(ops[0][0], len(ops))


def _size_of(row: bytes, record: Record) -> int:
    return ITEM_BYTES + len(row) + record.size


def _is_fit(answer: Listed, task: _Task) -> bool:
    """Whether these are rows of the buckets that were asked for, behind the last page and in order,
    and the page comes forward."""
    start, end = partition_bounds(task.partition)
    last = max(start, task.after or b"")
    bound = answer.bound or end
    if not last < bound <= end or len(answer.rows) > LIST_ROWS_MAX:
        return False
    rows = [row for row, _ in answer.rows]
    if rows and not (ascend(rows, last) and rows[-1] <= bound):
        return False
    for row, version in answer.rows:
        if not is_row(row) or version < VERSION_MIN or not task.buckets >> bucket_of(row) & 1:
            return False
    return True


def listed(replica: Replica, partition: int, buckets: int, after: bytes, limit: int) -> Listed:
    """Of the `limit` rows of a partition after `after`, those of some buckets: a bit for each.
    Fewer of large records, and up to damage; `failed` if the first is damaged."""
    first, end = partition_bounds(partition)
    start = max(first, after + b"\0") if after else first
    rows: list[tuple[bytes, bytes]] = []
    # Records are read whole, to know their versions.
    bound, room = b"", PAGE_BYTES
    if start >= end:
        return Listed(0, rows, bound)
    try:
        for count, (row, record) in enumerate(replica.scan(start, end)):
            if count == limit or room <= 0:
                return Listed(0, rows, bound)
            bound = row
            room -= _size_of(row, record)
            if buckets >> bucket_of(row) & 1:
                rows.append((row, record.version))
    except StorageError:
        return Listed(0, rows, bound, failed=not bound)
    return Listed(0, rows, b"")
