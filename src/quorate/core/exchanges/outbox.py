# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on its way to another node: the messages of this turn, and those without an answer yet.

Whoever sends a message that is to be answered is an *exchange* (writes, repairs, reads, scans,
hints). It is told `answered`, or `lost` when the link breaks or the answer does not come in time.
What many operations say to one peer in a turn is gathered in *lanes* into few messages, so that the
core keeps nothing per operation and peer: a lane of records to keep (`Records`), or of questions
for records and versions (`Questions`).

Unanswered bytes are bounded: past the bound the peer is clogged, and counts as unreachable until it
catches up. So is one that has more than its share while all peers together are past a bound of
their own: a thousand that answer slowly take no more memory than eight that do not answer at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from quorate.core.topology.peer import Peer
from quorate.core.turn import Alarm, Turn
from quorate.core.values.messages import (
    Listed,
    Message,
    Mutate,
    Mutated,
    Ping,
    PulledVotes,
    Read,
    ReadAnswer,
    RowsVoted,
    ScannedRows,
    Sums,
    Voted,
)
from quorate.core.values.record import Record
from quorate.core.values.settings import MEMBERS_MAX

MESSAGE_BYTES_MAX: Final = 1 << 20
"""A message is cut here (one item may exceed it), so that frames stay far under their limit."""
UNANSWERED_BYTES_MAX: Final = 64 << 20
UNANSWERED_BYTES_MAX_ALL: Final = 512 << 20
"""By all peers; then each may leave a share of it unanswered."""
SHARES: Final = MEMBERS_MAX
ITEM_BYTES: Final = 100
"""Counted for each item on top of its value."""
SHARED_BYTES_MAX: Final = 64 << 10
"""Of questions to one peer in a step and their answers: beside so much a frame costs nothing, and
others may as well be asked."""
STEP_BYTES_MAX: Final = 8 << 20
"""Of answers to one peer in a step; one value may exceed it."""
STEP_BYTES_MAX_ALL: Final = 64 << 20
"""Of answers to all; one peer's may exceed it."""
ROW_BYTES: Final = 512
"""Counted for each row that is looked for, whatever is found."""
HEDGE_MS_MIN: Final = 10.0
"""Below this a hedge costs more than it saves, and times in whole milliseconds say little."""

PeerAnswer = Mutated | ReadAnswer | ScannedRows | Voted | Sums | Listed | RowsVoted | PulledVotes
Op = TypeVar("Op")
A = TypeVar("A", bound=PeerAnswer)
A_contra = TypeVar("A_contra", bound=PeerAnswer, contravariant=True)


class Exchange(Protocol[Op, A_contra]):
    """Who sent a message, and wants to know what became of it: each of the operations that it is
    for is told exactly once, answered or lost."""

    def answered(self, peer: Peer, ops: list[Op], answer: A_contra) -> None:
        """The peer answered, in the order of the operations."""

    def lost(self, peer: Peer, ops: list[Op]) -> None:
        """No answer will be taken: the link broke, the time is over, or it was none to what was
        asked."""


class Unanswered:
    """A message that waits for its answer, as the outbox sees it."""

    __slots__ = ("batch", "bytes", "is_done", "outbox", "sent_ms")

    def __init__(self, outbox: Outbox, size: int) -> None:
        self.outbox = outbox
        self.batch = outbox.next_batch()
        self.sent_ms = outbox.turn.mono_ms
        self.bytes = size
        self.is_done = False

    def hear(self, answer: PeerAnswer) -> bool:
        """Hand the answer on. False if it is none to what was asked, which then is lost."""
        raise NotImplementedError

    def lose(self) -> None:
        """Tell the exchange that no answer will be taken."""
        raise NotImplementedError


class Sent(Unanswered, Generic[Op, A]):
    """A message of one exchange to one peer, and the operations that it is for."""

    __slots__ = ("exchange", "kind", "ops")

    def __init__(
        self, outbox: Outbox, exchange: Exchange[Op, A], kind: type[A], ops: list[Op], size: int
    ) -> None:
        super().__init__(outbox, size)
        self.exchange = exchange
        self.kind = kind
        self.ops = ops

    def hear(self, answer: PeerAnswer) -> bool:
        self.outbox.close(self)
        if not isinstance(answer, self.kind):
            self.lose()
            return False
        if isinstance(answer, Mutated) and answer.busy:
            self.lose()
        else:
            self.exchange.answered(self.outbox.peer, self.ops, answer)
        return True

    def lose(self) -> None:
        self.exchange.lost(self.outbox.peer, self.ops)


class Lane:
    """What one exchange says to one peer in this turn; it leaves at the turn's end."""

    __slots__ = ("bytes", "outbox")

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.bytes = 0
        """Of what waits in it; 0 without any."""
        outbox.lanes.append(self)

    def cut(self) -> None:
        """Make a message of what waits."""
        raise NotImplementedError


class Outbox:
    """All that is on its way to one peer."""

    __slots__ = (
        "_alarm",
        "_batch",
        "_is_timed",
        "_messages",
        "_order",
        "_pinged",
        "_timeout_ms",
        "is_stirred",
        "lanes",
        "p95_ms",
        "peer",
        "rtt_ms",
        "said_bytes",
        "sent",
        "turn",
        "unanswered_bytes",
    )

    def __init__(self, peer: Peer, turn: Turn, *, timeout_ms: int, first_batch: int) -> None:
        """`first_batch`: drawn at random, so that no answer to an earlier process of this node
        passes for one to this process."""
        self.peer = peer
        self.turn = turn
        self.lanes: list[Lane] = []
        """In the order in which their messages leave."""
        self.sent: dict[int, Unanswered] = {}
        self.unanswered_bytes = 0
        self._pinged: tuple[int, int] | None = None
        """The number of the last ping, and when it was; None if reads tell how fast the peer is."""
        self._is_timed = False
        """Whether a read's round trip was timed since the last ping."""
        self.rtt_ms = 1.0
        self.p95_ms = 20.0
        self.is_stirred = False
        """Whether there is anything to collect."""
        self.said_bytes = 0
        """Of this step's answers, about."""
        self._timeout_ms = timeout_ms
        self._batch = first_batch
        self._messages: list[Message] = []
        self._order: deque[Unanswered] = deque()
        """Of `sent`, oldest first; answered ones are dropped when they reach the head."""
        self._alarm = Alarm(turn, self._give_up)
        """Rings when the oldest has waited too long."""

    # --- saying things -----------------------------------------------------------------------

    def say(self, message: Message) -> None:
        """Send a message that nobody waits for an answer to."""
        self._messages.append(message)
        self.is_stirred = True

    def send(self, sent: Unanswered, message: Message) -> None:
        """Send a message, and remember it until it is answered or lost."""
        self._messages.append(message)
        self.address()
        self.sent[sent.batch] = sent
        self._order.append(sent)
        self._alarm.at(sent.sent_ms + self._timeout_ms + 1)
        self.unanswered_bytes += sent.bytes
        self.turn.unanswered_bytes += sent.bytes
        if self.is_full(self.unanswered_bytes):
            self.clog()

    def address(self) -> None:
        """The peer is to be asked something, or to keep something, in this step."""
        self.is_stirred = True
        self.peer.is_addressed = True

    def is_full(self, unanswered_bytes: int) -> bool:
        """Whether no more may be on its way to the peer than so much."""
        return unanswered_bytes >= UNANSWERED_BYTES_MAX or (
            self.turn.unanswered_bytes >= UNANSWERED_BYTES_MAX_ALL
            and unanswered_bytes >= UNANSWERED_BYTES_MAX_ALL // SHARES
        )

    def clog(self) -> None:
        """Ask nothing of the peer until it has answered some of what it was asked."""
        self.peer.is_clogged = True
        self.peer.judge()

    def next_batch(self) -> int:
        """A number for a message to this peer, never used before, by earlier processes neither."""
        self._batch += 1
        return self._batch

    def ping(self, message: Ping) -> None:
        """Have the peer say that it lives."""
        self._pinged = None if self._is_timed else (message.batch, self.turn.mono_ms)
        self._is_timed = False
        self.say(message)

    def ponged(self, batch: int) -> None:
        """A ping was answered. Of a peer that is not read from this tells how fast it is: who was
        slow once would never be asked again otherwise."""
        if self._pinged is not None and self._pinged[0] == batch:
            self.rtt_ms = (self.rtt_ms + self.turn.mono_ms - self._pinged[1]) / 2
            self.peer.speed = int(self.rtt_ms) >> 2
            self._pinged = None

    def collect(self) -> list[Message]:
        """All that was said in this turn, ready to be framed."""
        for lane in self.lanes:
            if lane.bytes:
                lane.cut()
        self.is_stirred = self.peer.is_addressed = False
        self.said_bytes = 0
        messages = self._messages
        if messages:
            self._messages = []
        return messages

    # --- hearing things ----------------------------------------------------------------------

    def on_answer(self, answer: PeerAnswer) -> bool:
        """Hand an answer to the exchange that waits for it; late and unknown ones are dropped.
        False if it is none to what was asked, which then counts as lost."""
        sent = self.sent.get(answer.batch)
        return True if sent is None else sent.hear(answer)

    def on_refusal(self, batches: list[int]) -> None:
        """The peer will not serve these messages: they are lost, at once."""
        for batch in batches:
            sent = self.sent.get(batch)
            if sent is not None:
                self.close(sent)
                sent.lose()

    def owes(self, ms: int) -> bool:
        """Whether something has waited for an answer so long."""
        return bool(self._order) and self._order[0].sent_ms <= self.turn.mono_ms - ms

    def close(self, sent: Unanswered) -> None:
        """Wait for the message no longer."""
        del self.sent[sent.batch]
        sent.is_done = True
        self.unanswered_bytes -= sent.bytes
        self.turn.unanswered_bytes -= sent.bytes
        if self.peer.is_clogged and not self.is_full(self.unanswered_bytes):
            self.peer.is_clogged = False
            self.peer.judge()
        order = self._order
        while order and order[0].is_done:
            order.popleft()

    def lose_all(self) -> None:
        """The link broke: what was said in this very step will not leave, and nothing that was said
        before is waited for."""
        self.collect()
        self._lose_before(self.turn.mono_ms + 1)

    def _give_up(self) -> None:
        self._lose_before(self.turn.mono_ms - self._timeout_ms)
        if self._order:
            self._alarm.at(self._order[0].sent_ms + self._timeout_ms + 1)

    def _lose_before(self, sent_ms: int) -> None:
        order = self._order
        while order and order[0].sent_ms < sent_ms:
            sent = order[0]
            self.close(sent)
            sent.lose()

    def time(self, rtt_ms: int) -> None:
        """Learn from a read's round trip how fast the peer is."""
        self._is_timed = True
        self.rtt_ms += (rtt_ms - self.rtt_ms) * 0.1
        self.peer.speed = int(self.rtt_ms) >> 2
        # A quantile by stochastic approximation: up 19 steps for each step down rests at p95.
        step = max(1.0, self.p95_ms * 0.02)
        rise = 0.95 if rtt_ms > self.p95_ms else -0.05
        self.p95_ms = max(HEDGE_MS_MIN, self.p95_ms + rise * step)


# --- the two kinds of lanes ---------------------------------------------------------------------


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
        if not self.bytes:
            self.outbox.address()
        self._items.append((row, record))
        self._ops.append(op)
        self.bytes += ITEM_BYTES + record.size
        if self.bytes >= MESSAGE_BYTES_MAX:
            self.cut()

    def cut(self) -> None:
        sent = Sent(self.outbox, self._exchange, Mutated, self._ops, self.bytes)
        self.outbox.send(sent, Mutate(sent.batch, self._items))
        self._items, self._ops, self.bytes = [], [], 0


class SentQuestions(Sent[Op, ReadAnswer]):
    """Questions on their way; the first `full_count` operations wait for records, the others for
    versions."""

    __slots__ = ("full_count", "is_usual")

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
        self.is_usual = True
        """Whether the time that it takes says how fast the peer is."""

    def hear(self, answer: PeerAnswer) -> bool:
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
            if self.is_usual:
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

    `hedge` is called with the peer and the operations of a message that has waited longer than its
    p95, once for each message.
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
        hedge: Callable[[Peer, list[Op]], None],
    ) -> None:
        super().__init__(outbox)
        self._exchange = exchange
        self._hedge = hedge
        self._full: list[bytes] = []
        self._full_ops: list[Op] = []
        self._brief: list[bytes] = []
        self._brief_ops: list[Op] = []
        self._order: deque[SentQuestions[Op]] = deque()
        """Those that may become overdue, oldest first."""
        self._alarm = Alarm(outbox.turn, self._look_for_overdue)

    def ask_record(self, row: bytes, op: Op, *, size: int) -> None:
        """Ask for a record, of perhaps `size` bytes."""
        if not self.bytes:
            self.outbox.address()
        self._full.append(row)
        self._full_ops.append(op)
        self.bytes += ITEM_BYTES + size
        if self.outbox.is_full(self.outbox.unanswered_bytes + self.bytes):
            # At once: a turn may ask for more than the link could hold.
            self.outbox.clog()
        if self.bytes >= SHARED_BYTES_MAX:
            self.outbox.peer.is_addressed = False

    def ask_version(self, row: bytes, op: Op) -> None:
        """Ask for a version."""
        if not self.bytes:
            self.outbox.address()
        self._brief.append(row)
        self._brief_ops.append(op)
        self.bytes += ITEM_BYTES
        if self.bytes >= SHARED_BYTES_MAX:
            self.outbox.peer.is_addressed = False

    def cut(self) -> None:
        outbox = self.outbox
        ops = self._full_ops + self._brief_ops
        sent = SentQuestions(outbox, self._exchange, ops, self.bytes, len(self._full))
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
                self._hedge(outbox.peer, sent.ops)
            order.popleft()
