# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node knows of each other node, and what it is about to tell it.

A `Peer` gathers a turn's items into few messages, and remembers each until it is answered: an
*exchange* (writes, reads, scans, hints) is then told `answered`, or `lost` when the link breaks or
the answer does not come in time. So the core keeps nothing per operation and peer.

Unanswered items are bounded: past the bound the peer counts as unreachable until it catches up.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from quorate.core.values.messages import Message, Mutate, Mutated, Read, ReadAnswer, ScannedRows
from quorate.core.values.record import Record

MESSAGE_BYTES_MAX: Final = 1 << 20
"""A message is cut here (one item may exceed it), so that frames stay far under their limit."""
UNANSWERED_BYTES_MAX: Final = 64 << 20
ITEM_BYTES: Final = 100
"""Counted for each item on top of its value."""

HEDGE_MS_MIN: Final = 10.0
"""Below this a hedge costs more than it saves, and times in whole milliseconds say little."""

Answer = Mutated | ReadAnswer | ScannedRows


class Exchange(Protocol):
    """Who sent a message, and wants to know what became of it: each of its `ops` and `more` is told
    exactly once, answered or lost."""

    def answered(self, peer: Peer, sent: Sent, answer: Answer) -> None:
        """The peer answered, with as many records as `ops` and versions as `more` of a read."""

    def lost(self, peer: Peer, sent: Sent) -> None:
        """No answer will be taken: the link broke, or the time is over."""


class Sent:
    """A message that waits for its answer. `ops` and `more` belong to the exchange; of a read, the
    records of the answer are for `ops` and its versions for `more`."""

    __slots__ = (
        "batch",
        "bytes",
        "exchange",
        "is_done",
        "is_hedged",
        "kind",
        "more",
        "ops",
        "sent_ms",
    )

    def __init__(
        self, batch: int, exchange: Exchange, kind: type[Answer], *, sent_ms: int, size: int
    ) -> None:
        self.batch = batch
        self.exchange = exchange
        self.kind = kind
        self.sent_ms = sent_ms
        self.ops: list[object] = []
        self.more: list[object] = []
        self.bytes = size
        self.is_done = False
        self.is_hedged = False

    def is_answered_by(self, answer: Answer) -> bool:
        """Whether the answer is of the right kind and, for a read, not of more than was asked."""
        if type(answer) is not self.kind:
            return False
        if isinstance(answer, ReadAnswer):
            records, versions = len(answer.records), len(answer.versions)
            return (
                records <= len(self.ops) and versions <= len(self.more) and records + versions > 0
            )
        return True

    def take_piece(self, answer: ReadAnswer) -> Sent | None:
        """What a part of the answer is for, which is then no longer waited for; None if nothing
        else is."""
        records, versions = len(answer.records), len(answer.versions)
        if records == len(self.ops) and versions == len(self.more):
            return None
        piece = Sent(self.batch, self.exchange, self.kind, sent_ms=self.sent_ms, size=0)
        piece.ops, self.ops = self.ops[:records], self.ops[records:]
        piece.more, self.more = self.more[:versions], self.more[versions:]
        return piece


class Lane:
    """Records of one exchange that leave for one peer at the end of the turn."""

    __slots__ = ("bytes", "exchange", "items", "ops")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.items: list[tuple[bytes, Record]] = []
        self.ops: list[object] = []
        self.bytes = 0


class Peer:
    """Another node as this one sees it. Owned by the node; mutated by its parts."""

    __slots__ = (
        "_batch",
        "_brief",
        "_brief_ops",
        "_full",
        "_full_bytes",
        "_full_ops",
        "_outbox",
        "_read_order",
        "_reads",
        "bytes_used",
        "has_answered",
        "has_come",
        "id",
        "is_heard",
        "is_linked",
        "is_reachable",
        "is_up",
        "keys",
        "last_answer_ms",
        "misses",
        "mono_ms",
        "order",
        "p95_ms",
        "repairs",
        "rtt_ms",
        "sent",
        "speed",
        "unanswered_bytes",
        "url",
        "version",
        "writes",
    )

    def __init__(
        self, url: str, *, writes: Exchange, repairs: Exchange, reads: Exchange, first_batch: int
    ) -> None:
        """`first_batch`: drawn at random, so that no answer to an earlier process of this node
        passes for one to this process."""
        self.url = url
        self.id = ""
        self.version = ""
        self.keys = 0
        self.bytes_used = 0
        # Liveness
        self.is_linked = False
        self.is_heard = False
        """Whether a frame came from it since our link to it came up: its link to us is up too, so
        answers can come."""
        self.is_up = True
        self.is_reachable = False
        """Linked both ways, up, and keeping up: worth sending a request to. Kept by
        `judge_reachable`."""
        self.has_come = False
        """Whether it became reachable since the node last looked."""
        self.misses = 0
        self.has_answered = True
        """Since the last heartbeat."""
        self.last_answer_ms: int | None = None
        self.rtt_ms = 1.0
        self.speed = 0
        """Rank by round trip, coarse so that noise does not make all nodes prefer one."""
        self.p95_ms = 20.0
        # Messages
        self.mono_ms = 0
        self.sent: dict[int, Sent] = {}
        self.order: deque[Sent] = deque()
        """Of `sent`, oldest first; answered ones are dropped when they reach the head."""
        self.unanswered_bytes = 0
        self.writes = Lane(writes)
        self.repairs = Lane(repairs)
        self._reads = reads
        self._batch = first_batch
        self._outbox: list[Message] = []
        self._full: list[bytes] = []
        self._full_ops: list[object] = []
        self._full_bytes = 0
        """What the records asked for in this turn may weigh."""
        self._brief: list[bytes] = []
        self._brief_ops: list[object] = []
        self._read_order: deque[Sent] = deque()

    def judge_reachable(self) -> None:
        """Renew `is_reachable`."""
        before = self.is_reachable
        self.is_reachable = (
            self.is_linked
            and self.is_heard
            and self.is_up
            and self.unanswered_bytes + self._full_bytes < UNANSWERED_BYTES_MAX
        )
        self.has_come |= self.is_reachable and not before

    @property
    def state(self) -> str:
        """`up`, `down` (too many misses in a row) or `connecting`."""
        if not self.is_up:
            return "down"
        return "up" if self.is_linked else "connecting"

    # --- saying things ---------------------------------------------------------------------

    def mutate(self, lane: Lane, row: bytes, record: Record, op: object) -> None:
        """Send a record; `op` is handed back to the lane's exchange."""
        lane.items.append((row, record))
        lane.ops.append(op)
        value = record.value
        lane.bytes += ITEM_BYTES + (len(value) if value is not None else 0)
        if lane.bytes >= MESSAGE_BYTES_MAX:
            self._cut(lane)

    def read_full(self, row: bytes, op: object, *, size: int) -> None:
        """Ask for a record, of perhaps `size` bytes."""
        self._full.append(row)
        self._full_ops.append(op)
        self._full_bytes += size
        if self.unanswered_bytes + self._full_bytes >= UNANSWERED_BYTES_MAX:
            # At once: a turn may ask for more than the link could hold.
            self.is_reachable = False

    def read_brief(self, row: bytes, op: object) -> None:
        """Ask for a version."""
        self._brief.append(row)
        self._brief_ops.append(op)

    def send_items(
        self, exchange: Exchange, items: list[tuple[bytes, Record]], ops: list[object], *, size: int
    ) -> Sent:
        """Send records as one message of their own."""
        batch = self.next_batch()
        self._outbox.append(Mutate(batch, items))
        sent = self.expect(exchange, batch, Mutated, size=size)
        sent.ops = ops
        return sent

    def say(self, message: Message) -> None:
        """Send a message that nobody waits for an answer to."""
        self._outbox.append(message)

    def next_batch(self) -> int:
        """A number for a message to this peer, never used before, by earlier processes neither."""
        self._batch += 1
        return self._batch

    def expect(self, exchange: Exchange, batch: int, kind: type[Answer], *, size: int) -> Sent:
        """Remember message `batch` until it is answered by a `kind`, or lost."""
        sent = Sent(batch, exchange, kind, sent_ms=self.mono_ms, size=size)
        self.sent[batch] = sent
        self.order.append(sent)
        self.unanswered_bytes += size
        return sent

    def collect(self) -> list[Message]:
        """All that was said in this turn, ready to be framed."""
        if self.writes.items:
            self._cut(self.writes)
        if self.repairs.items:
            self._cut(self.repairs)
        if self._full or self._brief:
            self._cut_reads()
        messages = self._outbox
        if messages:
            self._outbox = []
        return messages

    def _cut(self, lane: Lane) -> None:
        self.send_items(lane.exchange, lane.items, lane.ops, size=lane.bytes)
        lane.items = []
        lane.ops = []
        lane.bytes = 0

    def _cut_reads(self) -> None:
        batch = self.next_batch()
        size = ITEM_BYTES * (len(self._full) + len(self._brief)) + self._full_bytes
        sent = self.expect(self._reads, batch, ReadAnswer, size=size)
        sent.ops, sent.more = self._full_ops, self._brief_ops
        self._read_order.append(sent)
        self._outbox.append(Read(batch, self._full, self._brief))
        self._full, self._full_ops, self._brief, self._brief_ops = [], [], [], []
        self._full_bytes = 0

    # --- hearing things --------------------------------------------------------------------

    def on_answer(self, answer: Answer) -> bool:
        """Hand an answer to the exchange that waits for it; late and unknown ones are dropped.
        False if it is none to what was asked, which then counts as lost."""
        sent = self.sent.get(answer.batch)
        if sent is None:
            return True
        is_fit = sent.is_answered_by(answer)
        if is_fit and isinstance(answer, ReadAnswer):
            piece = sent.take_piece(answer)
            if piece is not None:
                piece.exchange.answered(self, piece, answer)
                return True
            self._time(self.mono_ms - sent.sent_ms)
        del self.sent[sent.batch]
        self._close(sent)
        if not is_fit or (isinstance(answer, Mutated) and answer.busy):
            sent.exchange.lost(self, sent)
        else:
            sent.exchange.answered(self, sent, answer)
        return is_fit

    def lose_before(self, sent_ms: int) -> None:
        """Give up messages sent before `sent_ms`."""
        order = self.order
        while order and (order[0].is_done or order[0].sent_ms < sent_ms):
            sent = order.popleft()
            if not sent.is_done:
                del self.sent[sent.batch]
                self._close(sent)
                sent.exchange.lost(self, sent)

    def lose_all(self) -> None:
        """The link broke: give up every message."""
        self.lose_before(self.mono_ms + 1)

    def overdue(self) -> Sent | None:
        """The oldest read that has waited past the p95 and was not hedged."""
        sent = self._oldest_read()
        if sent is not None and self.mono_ms - sent.sent_ms >= self.p95_ms:
            return sent
        return None

    def overdue_ms(self) -> int | None:
        """When the next read will be overdue."""
        sent = self._oldest_read()
        return sent.sent_ms + int(self.p95_ms) + 1 if sent is not None else None

    def _oldest_read(self) -> Sent | None:
        reads = self._read_order
        while reads and (reads[0].is_done or reads[0].is_hedged):
            reads.popleft()
        return reads[0] if reads else None

    def _close(self, sent: Sent) -> None:
        sent.is_done = True
        self.unanswered_bytes -= sent.bytes
        order = self.order
        while order and order[0].is_done:
            order.popleft()

    def _time(self, rtt_ms: int) -> None:
        self.rtt_ms += (rtt_ms - self.rtt_ms) * 0.1
        self.speed = int(self.rtt_ms) >> 2
        # A quantile by stochastic approximation: up 19 steps for each step down rests at p95.
        step = max(1.0, self.p95_ms * 0.02)
        rise = 0.95 if rtt_ms > self.p95_ms else -0.05
        self.p95_ms = max(HEDGE_MS_MIN, self.p95_ms + rise * step)
