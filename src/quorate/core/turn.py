# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a node share during one step: the time, what is due, what the step has to say.

All that a node does because of the time is in one heap of deadlines. A part that waits for a time
has an `Alarm`: a call, and when to make it. Where there is much of a kind (requests of one timeout,
messages to one peer) only the oldest has an alarm, which is set again for the next when it rings.

Every client request is counted, bounded and expired by `Requests`. Those of one timeout expire in
the order they came, so each timeout has a queue whose head is looked at when the oldest of all is
due. A request that cannot begin yet (too few reachable replicas, a clock too far behind)
is *parked*, likewise in order, with the error that refuses it when its time is over.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from quorate.core.replica import Reader, Replica
from quorate.core.values.events import Get, Note, Put, Result, Update, Waiter
from quorate.core.values.record import Record
from quorate.core.values.settings import Settings
from quorate.core.values.versions import (
    ABSENT,
    LINK_BYTES,
    TIE_MAX,
    TIES,
    VERSION_BYTES,
    HybridClock,
    chain_of,
    pack_version,
    stamp_of,
)
from quorate.core.votes import Votes
from quorate.errors import Corrupt, Outcome, Overloaded, QuorateError, too_large_value

if TYPE_CHECKING:
    from random import Random

AHEAD_META: Final = b"ahead"
"""The highest chain above its clock that a node took."""
NOTE_AGAIN_MS: Final = 10_000
_NOTED_MAX: Final = 10_000
"""Events of peers remembered as noted; beyond it all are forgotten, and may be noted again."""
NEVER_MS: Final = 1 << 60
ANSWERED_MAX: Final = 64
"""A queue is cleared of answered operations when it has so many more than twice the unanswered."""
ANSWERED_BYTES_MAX: Final = 32 << 20
"""Or so many more bytes than these were admitted with."""


class Turn:
    """One object for the life of a node; `begin` at the start of each step."""

    __slots__ = (
        "_entered",
        "_heap",
        "_note_ms",
        "_stamp_max",
        "_version_max",
        "answers",
        "counters",
        "mono_ms",
        "notes",
        "said_bytes",
        "unanswered_bytes",
        "wall_ms",
    )

    def __init__(self) -> None:
        self.mono_ms = 0
        self.wall_ms = 0
        self._stamp_max = 0
        """The highest to take from a peer: clocks that differ more are not trusted."""
        self._version_max = ABSENT
        self.answers: list[tuple[Waiter, Result]] = []
        self.notes: list[Note] = []
        self.counters: Counter[str] = Counter()
        self.said_bytes = 0
        """Of this step's answers to all peers, about."""
        self.unanswered_bytes = 0
        """Of all that is on its way to peers, and waits for their answers."""
        self._note_ms: dict[tuple[str, str], int] = {}
        """When `note_rarely` may note an event of a peer again."""
        self._heap: list[tuple[int, int, Alarm]] = []
        """Time, number of the entry, and whose it is; void if the alarm's time is another."""
        self._entered = 0

    def begin(self, mono_ms: int, wall_ms: int, *, stamp_max: int) -> None:
        """Start a step: fresh lists, the time as given."""
        self.mono_ms = mono_ms
        self.wall_ms = wall_ms
        if stamp_max != self._stamp_max:
            self._stamp_max = stamp_max
            self._version_max = pack_version(stamp_max, TIE_MAX)
        self.answers = []
        self.notes = []
        self.said_bytes = 0

    def is_ahead(self, version: bytes) -> bool:
        """Whether a version was stamped, or made, further ahead than clocks may differ."""
        highest = self._version_max
        if len(version) > VERSION_BYTES and version[VERSION_BYTES:] > highest[:LINK_BYTES]:
            return True
        return version > highest

    # --- deadlines ---------------------------------------------------------------------------

    def enter(self, mono_ms: int, alarm: Alarm) -> None:
        """Put an alarm's time into the heap."""
        self._entered += 1
        heappush(self._heap, (mono_ms, self._entered, alarm))

    def ring(self) -> None:
        """Make the calls that are due, in order of time, then of entry.

        What these calls enter for now rings in the next step, which `wake_ms` asks for at once: so
        nothing can go round and round within a step.
        """
        heap, now = self._heap, self.mono_ms
        if not heap or heap[0][0] > now:
            return
        last = self._entered
        fresh: list[tuple[int, int, Alarm]] = []
        while heap and heap[0][0] <= now:
            entry = heappop(heap)
            if entry[1] > last:
                fresh.append(entry)
            else:
                entry[2].ring(entry[0])
        for entry in fresh:
            heappush(heap, entry)

    def wake_ms(self) -> int | None:
        """When the next call is due; None if none is."""
        heap = self._heap
        while heap and heap[0][2].due_ms != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    # --- notes -------------------------------------------------------------------------------

    def note(self, level: str, event: str, **facts: int | str) -> None:
        """Tell the operator."""
        self.notes.append(Note(level, event, facts))

    def note_rarely(self, level: str, event: str, *, peer: str = "", **facts: int | str) -> None:
        """Tell the operator of what may happen with every message of a peer, or without a peer with
        every request: once in a while."""
        if self._note_ms.get((event, peer), self.mono_ms) <= self.mono_ms:
            if len(self._note_ms) >= _NOTED_MAX:
                self._note_ms.clear()
            self._note_ms[event, peer] = self.mono_ms + NOTE_AGAIN_MS
            if peer:
                self.note(level, event, peer=peer, **facts)
            else:
                self.note(level, event, **facts)


class Alarm:
    """A call that is made once its time has come; then it has none until it is set again."""

    __slots__ = ("_call", "_turn", "due_ms")

    def __init__(self, turn: Turn, call: Callable[[], None]) -> None:
        self._turn = turn
        self._call = call
        self.due_ms = NEVER_MS

    def at(self, mono_ms: int) -> None:
        """Make the call by `mono_ms`: then, unless an earlier time is set."""
        if mono_ms < self.due_ms:
            self.due_ms = mono_ms
            self._turn.enter(mono_ms, self)

    def soon(self) -> None:
        """Make the call in this step, or in the next if this one is past its events."""
        self.at(self._turn.mono_ms)

    def cancel(self) -> None:
        """Do not make the call."""
        self.due_ms = NEVER_MS

    def ring(self, mono_ms: int) -> None:
        """Make the call if it is set for this very time."""
        if mono_ms == self.due_ms:
            self.due_ms = NEVER_MS
            self._call()


# --- client requests ---------------------------------------------------------------------------


class Begun:
    """A request that has begun. `waiter` is None once it was answered."""

    __slots__ = ("deadline_ms", "next", "size", "waiter")

    def __init__(self, waiter: Waiter, size: int) -> None:
        self.waiter: Waiter | None = waiter
        self.size = size
        """The bytes it was admitted with."""
        self.deadline_ms = 0
        self.next: Begun | None = None
        """Which began after it, in its queue."""

    def expired(self) -> Result:
        """The answer at the deadline: what is known by then, mostly an error."""
        raise NotImplementedError


class Queue:
    """Begun requests of one timeout, in the order they came.

    Linked by what they are: a deque's calls would be a tenth of what the core does for a read."""

    __slots__ = ("bytes", "first", "last", "length")

    def __init__(self) -> None:
        self.first: Begun | None = None
        self.last: Begun | None = None
        self.length = 0
        self.bytes = 0
        """That these were admitted with."""

    def append(self, operation: Begun) -> None:
        """Let it be the last."""
        last, self.last = self.last, operation
        if last is None:
            self.first = operation
        else:
            last.next = operation
        self.length += 1
        self.bytes += operation.size

    def drop(self, first: Begun) -> None:
        """Let go of the first, which somebody may still have: not with all that came after it."""
        self.first, first.next = first.next, None
        if self.first is None:
            self.last = None
        self.length -= 1
        self.bytes -= first.size

    def unanswered(self) -> list[Begun]:
        """Those that are not answered, in order."""
        found: list[Begun] = []
        each = self.first
        while each is not None:
            if each.waiter is not None:
                found.append(each)
            each = each.next
        return found


class Parked:
    """A request that waits for a chance to begin; nothing of it was sent to any replica."""

    __slots__ = ("deadline_ms", "error", "event", "wait_ms")

    def __init__(
        self, event: Get | Put | Update, error: QuorateError, *, wait_ms: int, deadline_ms: int
    ) -> None:
        self.event = event
        self.error = error
        self.wait_ms = wait_ms
        self.deadline_ms = deadline_ms


class Requests:
    """Counts, parks and expires the requests of a node."""

    __slots__ = (
        "_alarm",
        "_begun",
        "_bytes_max",
        "_count_max",
        "_parked",
        "_recent",
        "_recent_ms",
        "_turn",
        "bytes",
        "count",
        "typical_bytes",
    )

    def __init__(self, *, turn: Turn, count_max: int, bytes_max: int) -> None:
        self._turn = turn
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._alarm = Alarm(turn, self._sweep)
        self._begun: dict[int, Queue] = {}
        """By timeout, so that each queue is in order of deadline, nearly."""
        self._recent = Queue()
        """That of the timeout `_recent_ms`, which most requests have."""
        self._recent_ms = -1
        self._parked: dict[int, deque[Parked]] = {}
        """By wait, likewise."""
        self.count = 0
        """Requests admitted and not answered."""
        self.bytes = 0
        """Value bytes of them: of writes what they bring, of reads, from their beginning, what they
        may."""
        self.typical_bytes = 0
        """How many bytes a read is charged with, before it is known what it will bring: about the
        largest value that was read lately. Many large reads at once could exhaust the memory."""

    def admit(self, size: int) -> None:
        """Count a request in. Overloaded if a maximum is reached."""
        if self.count >= self._count_max or self.bytes + size > self._bytes_max:
            self._turn.counters["requests_shed"] += 1
            raise Overloaded(
                "too many requests in flight",
                outcome=Outcome.NOT_APPLIED,
                inflight=self.count,
                inflight_bytes=self.bytes,
            )
        self.count += 1
        self.bytes += size

    def answer(self, waiter: Waiter, result: Result, size: int) -> None:
        """Answer an admitted request and count it out."""
        self.count -= 1
        self.bytes -= size
        self._turn.answers.append((waiter, result))

    def learn_size(self, record: Record | None) -> None:
        """A larger value counts at once; smaller ones bring `typical_bytes` down by a 64th each."""
        if record is not None and not record.is_tombstone:
            lately = self.typical_bytes - (self.typical_bytes >> 6)
            self.typical_bytes = max(lately, record.size)

    def end(self, operation: Begun, result: Result) -> None:
        """Answer a begun request, unless it was answered."""
        waiter = operation.waiter
        if waiter is not None:
            operation.waiter = None
            if isinstance(result, QuorateError):
                self._turn.counters[f"failed_{result.code}"] += 1
            self.answer(waiter, result, operation.size)

    def watch(self, operation: Begun, timeout_ms: int) -> None:
        """Expire the operation `timeout_ms` from now unless it is answered before."""
        operation.deadline_ms = self._turn.mono_ms + timeout_ms
        if timeout_ms != self._recent_ms:
            self._recent, self._recent_ms = self._queue(timeout_ms), timeout_ms
        queue = self._recent
        while (first := queue.first) is not None and first.waiter is None:
            queue.drop(first)
        is_long = queue.length > 2 * self.count + ANSWERED_MAX
        if is_long or queue.bytes > 2 * self.bytes + ANSWERED_BYTES_MAX:
            # Behind one that waits long, the answered would keep their values in memory.
            unanswered = queue.unanswered()
            while (first := queue.first) is not None:
                queue.drop(first)
            for each in unanswered:
                queue.append(each)
        queue.append(operation)
        self._alarm.at(operation.deadline_ms)

    def _queue(self, timeout_ms: int) -> Queue:
        # Six leading bits: at most 32 late in 1000, and few queues whatever clients ask for.
        shift = max(timeout_ms.bit_length() - 6, 0)
        kind = timeout_ms >> shift << shift
        queue = self._begun.get(kind)
        if queue is None:
            queue = self._begun[kind] = Queue()
        return queue

    def under_way(self) -> list[Begun]:
        """All that have begun and are not answered."""
        return [each for queue in self._begun.values() for each in queue.unanswered()]

    def park(
        self, event: Get | Put | Update, error: QuorateError, *, wait_ms: int, again: Parked | None
    ) -> None:
        """Keep an admitted request to try again; `error` refuses it after `wait_ms`.

        `again`: it was parked before, and keeps its deadline.
        """
        if again is None:
            deadline_ms = self._turn.mono_ms + wait_ms
            again = Parked(event, error, wait_ms=wait_ms, deadline_ms=deadline_ms)
        error.__traceback__ = None  # See `not_applied`: it holds what is parked here.
        again.error = error
        self._parked.setdefault(again.wait_ms, deque()).append(again)
        self._alarm.at(again.deadline_ms)

    @property
    def has_parked(self) -> bool:
        """Whether any request waits to begin."""
        return bool(self._parked)

    def unpark(self) -> list[Parked]:
        """All parked requests, those of one wait in the order they came, to be tried again now."""
        parked = [each for queue in self._parked.values() for each in queue]
        self._parked.clear()
        return parked

    def _sweep(self) -> None:
        """Expire what is due, and wait for the next."""
        now, next_ms = self._turn.mono_ms, NEVER_MS
        for timeout_ms, begun in list(self._begun.items()):
            while (first := begun.first) is not None and (
                first.waiter is None or first.deadline_ms <= now
            ):
                begun.drop(first)
                if first.waiter is not None:
                    self.end(first, first.expired())
            if first is not None:
                next_ms = min(next_ms, first.deadline_ms)
            else:
                del self._begun[timeout_ms]
                self._recent_ms = -1
        for wait_ms, parked in list(self._parked.items()):
            while parked and parked[0].deadline_ms <= now:
                self.refuse(parked.popleft())
            if parked:
                next_ms = min(next_ms, parked[0].deadline_ms)
            else:
                del self._parked[wait_ms]
        self._alarm.at(next_ms)

    def refuse(self, parked: Parked) -> None:
        """Answer a parked request with its error."""
        self._turn.counters[f"failed_{parked.error.code}"] += 1
        self.answer(parked.event.waiter, parked.error, size_of(parked.event))


def not_applied(error: QuorateError) -> QuorateError:
    """The error, saying that nothing was applied unless it says otherwise. It goes without its
    traceback: that holds the request, with its value, which holds the error as its answer."""
    if error.outcome is None:
        error.outcome = Outcome.NOT_APPLIED
    error.__traceback__ = None
    return error


def too_large(value: bytes, settings: Settings) -> QuorateError:
    """Why a value is not taken."""
    return too_large_value(value, settings.value_bytes_max)


def size_of(event: Get | Put | Update) -> int:
    """The bytes that a request is counted with."""
    if isinstance(event, Put):
        return 0 if event.value is None else len(event.value)
    return event.size if isinstance(event, Update) else 0


class Parts:
    """Shared by the coordinators of one node; all of them live as long as the node."""

    __slots__ = (
        "_ahead",
        "clock",
        "process",
        "random",
        "replica",
        "requests",
        "settings",
        "turn",
        "votes",
    )

    def __init__(self, settings: Settings, engine: Reader, random: Random, *, ceiling: int) -> None:
        self.settings = settings
        self.random = random
        self.process = random.choice(TIES)
        """Drawn at each start: the tie-break of versions. Two processes may have one node id, where
        a data directory was copied, and may stamp at one instant."""
        self.turn = Turn()
        self.replica = Replica(engine, self._note_damage, slice_ms=settings.slice_ms)
        # What is stamped here must be above what is locked here, whatever the wall clock says.
        floor = max(ceiling, stamp_of(self.replica.fences.highest))
        # Above these an earlier process held nothing.
        self._ahead = self.replica.meta(AHEAD_META) or ABSENT
        self.replica.replaced.since = max(pack_version(floor, TIE_MAX), self._ahead)
        self.clock = HybridClock(ceiling=floor, skew_ms_max=settings.max_clock_skew_ms)
        self.votes = Votes(self.replica, self.clock)
        self.requests = Requests(
            turn=self.turn,
            count_max=settings.inflight_max,
            bytes_max=settings.inflight_bytes_max,
        )

    def note_ahead(self, version: bytes) -> None:
        """A version above the clock is taken with this step, as a majority has it. Later processes
        do not know what has its place by then, and must not deny that they held it."""
        chain = chain_of(version)
        if chain > self._ahead:
            self._ahead = chain
            self.replica.put_meta(AHEAD_META, chain)

    def _note_damage(self, error: Corrupt) -> None:
        self.turn.counters["copies_damaged"] += 1
        self.turn.note_rarely("error", "copy_damaged", reason=str(error))
