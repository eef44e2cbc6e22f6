# SPDX-License-Identifier: GPL-3.0-or-later
"""The two kinds of lanes: records to keep, and questions for records and versions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from quorate.core.exchanges.outbox import (
    ITEM_BYTES,
    MESSAGE_BYTES_MAX,
    UNANSWERED_BYTES_MAX,
    Answer,
    Exchange,
    Lane,
    Outbox,
    Sent,
)
from quorate.core.turn import Alarm
from quorate.core.values.messages import Mutate, Mutated, Read, ReadAnswer
from quorate.core.values.record import Record

Op = TypeVar("Op")


class Records(Lane, Generic[Op]):
    """Records of one exchange that one peer is to keep."""

    __slots__ = ("_exchange", "_items", "_ops")

    def __init__(self, outbox: Outbox, exchange: Exchange[Op, Mutated]) -> None:
        super().__init__(outbox)
        self._exchange = exchange
        self._items: list[tuple[bytes, Record]] = []
        self._ops: list[Op] = []

    def add(self, row: bytes, record: Record, op: Op) -> None:
        """Send a record; `op` is handed back to the exchange."""
        self.outbox.is_stirred = True
        self._items.append((row, record))
        self._ops.append(op)
        value = record.value
        self.bytes += ITEM_BYTES + (len(value) if value is not None else 0)
        if self.bytes >= MESSAGE_BYTES_MAX:
            self.cut()

    def cut(self) -> None:
        sent = Sent(self.outbox, self._exchange, Mutated, self._ops, self.bytes)
        self.outbox.send(sent, Mutate(sent.batch, self._items))
        self._items, self._ops, self.bytes = [], [], 0


class Asked(Sent[Op, ReadAnswer]):
    """Questions on their way; the first `full_count` operations wait for records, the others for
    versions."""

    __slots__ = ("full_count",)

    def __init__(
        self,
        outbox: Outbox,
        exchange: Exchange[Op, ReadAnswer],
        ops: list[Op],
        size: int,
        full_count: int,
    ) -> None:
        super().__init__(outbox, exchange, ReadAnswer, ops, size)
        self.full_count = full_count

    def hear(self, answer: Answer) -> bool:
        """A long answer comes in pieces, records first; each is handed on as it comes."""
        outbox = self.outbox
        if not isinstance(answer, ReadAnswer) or not self._is_fit(answer):
            outbox.close(self)
            self.lose()
            return False
        ops, count = self.ops, len(answer.records) + len(answer.versions)
        if count < len(ops):
            self.ops = ops[count:]
            self.full_count -= len(answer.records)
            ops = ops[:count]
        else:
            outbox.time(outbox.turn.mono_ms - self.sent_ms)
            outbox.close(self)
        self.exchange.answered(outbox.peer, ops, answer)
        return True

    def _is_fit(self, answer: ReadAnswer) -> bool:
        """Whether it has an answer, none too many, and no version before the last record."""
        records, versions = len(answer.records), len(answer.versions)
        if versions and records != self.full_count:
            return False
        return records <= self.full_count and 0 < records + versions <= len(self.ops)


class Questions(Lane, Generic[Op]):
    """What one exchange asks of one peer.

    `hedge` is called with the operations of a message that has waited longer than the peer's p95,
    once for each message.
    """

    __slots__ = (
        "_alarm",
        "_brief",
        "_brief_ops",
        "_exchange",
        "_full",
        "_full_ops",
        "_hedge",
        "_order",
    )

    def __init__(
        self,
        outbox: Outbox,
        exchange: Exchange[Op, ReadAnswer],
        hedge: Callable[[list[Op]], None],
    ) -> None:
        super().__init__(outbox)
        self._exchange = exchange
        self._hedge = hedge
        self._full: list[bytes] = []
        self._full_ops: list[Op] = []
        self._brief: list[bytes] = []
        self._brief_ops: list[Op] = []
        self._order: deque[Asked[Op]] = deque()
        """Those that may become overdue, oldest first."""
        self._alarm = Alarm(outbox.turn, self._look_for_overdue)

    def ask_record(self, row: bytes, op: Op, *, size: int) -> None:
        """Ask for a record, of perhaps `size` bytes."""
        self.outbox.is_stirred = True
        self._full.append(row)
        self._full_ops.append(op)
        self.bytes += ITEM_BYTES + size
        if self.outbox.unanswered_bytes + self.bytes >= UNANSWERED_BYTES_MAX:
            # At once: a turn may ask for more than the link could hold.
            self.outbox.clog()

    def ask_version(self, row: bytes, op: Op) -> None:
        """Ask for a version."""
        self.outbox.is_stirred = True
        self._brief.append(row)
        self._brief_ops.append(op)
        self.bytes += ITEM_BYTES

    def cut(self) -> None:
        outbox = self.outbox
        ops = self._full_ops + self._brief_ops
        sent = Asked(outbox, self._exchange, ops, self.bytes, len(self._full))
        order = self._order
        while order and order[0].is_done:
            order.popleft()
        order.append(sent)
        self._alarm.at(sent.sent_ms + int(outbox.p95_ms) + 1)
        outbox.send(sent, Read(sent.batch, self._full, self._brief))
        self._full, self._full_ops, self._brief, self._brief_ops = [], [], [], []
        self.bytes = 0

    def _look_for_overdue(self) -> None:
        order, outbox = self._order, self.outbox
        while order:
            sent = order[0]
            if not sent.is_done:
                due_ms = sent.sent_ms + int(outbox.p95_ms) + 1
                if due_ms > outbox.turn.mono_ms:
                    self._alarm.at(due_ms)
                    return
                self._hedge(sent.ops)
            order.popleft()
