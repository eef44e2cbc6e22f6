# SPDX-License-Identifier: GPL-3.0-or-later
"""What every client request goes through: limits on entry, waiting for replicas, deadlines.

Requests of one timeout expire in the order they came, so each timeout has a queue whose head is
looked at when the oldest of all is due, and no request has a timer. Requests that cannot begin yet
(too few reachable replicas, the clock's ceiling not durable) are *parked*, likewise in order, with
the error that refuses them when their time is over.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from quorate.core.turn import NEVER_MS, Alarm, Turn
from quorate.core.values.events import Get, Put, Result, Waiter
from quorate.errors import Outcome, Overloaded, QuorateError

ANSWERED_MAX: Final = 64
"""A queue is cleared of answered operations when it has so many more than twice the unanswered."""


class Operation:
    """A request that has begun. `waiter` is None once it was answered."""

    __slots__ = ("deadline_ms", "size", "waiter")

    def __init__(self, waiter: Waiter, size: int) -> None:
        self.waiter: Waiter | None = waiter
        self.size = size
        """The bytes it was admitted with."""
        self.deadline_ms = 0

    def expired(self) -> Result:
        """The answer at the deadline: what is known by then, mostly an error."""
        raise NotImplementedError


class Parked:
    """A request that waits for a chance to begin; nothing of it was sent to any replica."""

    __slots__ = ("deadline_ms", "error", "event", "wait_ms")

    def __init__(
        self, event: Get | Put, error: QuorateError, *, wait_ms: int, deadline_ms: int
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
        "_turn",
        "bytes",
        "count",
    )

    def __init__(self, *, turn: Turn, count_max: int, bytes_max: int) -> None:
        self._turn = turn
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._alarm = Alarm(turn, self._sweep)
        self._begun: dict[int, deque[Operation]] = {}
        """By timeout, so that each queue is in order of deadline, nearly."""
        self._parked: dict[int, deque[Parked]] = {}
        """By wait, likewise."""
        self.count = 0
        """Requests admitted and not answered."""
        self.bytes = 0
        """Value bytes of them: of writes what they bring, of reads what they may."""

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

    def charge(self, size: int) -> None:
        """Count `size` more bytes for a request that was admitted with none."""
        self.bytes += size

    def answer(self, waiter: Waiter, result: Result, size: int) -> None:
        """Answer an admitted request and count it out."""
        self.count -= 1
        self.bytes -= size
        self._turn.answers.append((waiter, result))

    def end(self, operation: Operation, result: Result) -> None:
        """Answer a begun request, unless it was answered."""
        waiter = operation.waiter
        if waiter is not None:
            operation.waiter = None
            if isinstance(result, QuorateError):
                self._turn.counters[f"failed_{result.code}"] += 1
            self.answer(waiter, result, operation.size)

    def watch(self, operation: Operation, timeout_ms: int) -> None:
        """Expire the operation `timeout_ms` from now unless it is answered before."""
        operation.deadline_ms = self._turn.mono_ms + timeout_ms
        # Six leading bits: at most 32 late in 1000, and few queues whatever clients ask for.
        shift = max(timeout_ms.bit_length() - 6, 0)
        kind = timeout_ms >> shift << shift
        queue = self._begun.get(kind)
        if queue is None:
            queue = self._begun[kind] = deque()
        while queue and queue[0].waiter is None:
            queue.popleft()
        if len(queue) > 2 * self.count + ANSWERED_MAX:
            # Behind one that waits long, the answered would keep their values in memory.
            queue = self._begun[kind] = deque([each for each in queue if each.waiter is not None])
        queue.append(operation)
        self._alarm.at(operation.deadline_ms)

    def park(
        self, event: Get | Put, error: QuorateError, *, wait_ms: int, again: Parked | None
    ) -> None:
        """Keep an admitted request to try again; `error` refuses it after `wait_ms`.

        `again`: it was parked before, and keeps its deadline.
        """
        if again is None:
            deadline_ms = self._turn.mono_ms + wait_ms
            again = Parked(event, error, wait_ms=wait_ms, deadline_ms=deadline_ms)
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
            while begun and (begun[0].waiter is None or begun[0].deadline_ms <= now):
                operation = begun.popleft()
                if operation.waiter is not None:
                    self.end(operation, operation.expired())
            if begun:
                next_ms = min(next_ms, begun[0].deadline_ms)
            else:
                del self._begun[timeout_ms]
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


def size_of(event: Get | Put) -> int:
    """The bytes that a request is counted with."""
    if isinstance(event, Put) and event.value is not None:
        return len(event.value)
    return 0
