# SPDX-License-Identifier: GPL-3.0-or-later
"""What read-modify-writes know while they are under way: a request each, and what is tried for the
requests of one row together."""

from __future__ import annotations

from collections import deque
from typing import Final

from quorate.core.exchanges.rounds import Round
from quorate.core.exchanges.spreads import Spread
from quorate.core.exchanges.successions import Succession
from quorate.core.topology.topology import Replicas
from quorate.core.turn import Alarm, Begun
from quorate.core.values.events import Update, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT, stamp_at, stamp_of
from quorate.errors import Conflict, DeadlineExceeded, Outcome, QuorateError

REMEMBERED: Final = 6
"""Winners that the next record of a chain tells of. Who has not heard by then what became of its
proposal may not learn it."""


class BegunUpdate(Begun):
    """One request, until it is answered."""

    __slots__ = ("event", "is_sent", "result")

    def __init__(self, event: Update) -> None:
        super().__init__(event.waiter, event.size)
        self.event = event
        self.is_sent = False
        """Whether any replica was asked to accept what it made."""
        self.result: UpdateResult | QuorateError | None = None
        """What it is answered if the proposal that it is in is decided."""

    def writes(self) -> bool:
        """Whether the proposal has anything of it."""
        return isinstance(self.result, UpdateResult) and self.result.after is not None

    def told(self) -> UpdateResult | QuorateError:
        """The answer, which has the values of before and after, and is not kept."""
        result, self.result = self.result, None
        assert result is not None
        return result

    def remembered(
        self,
        attempt: Attempt,
        held: Record | None,
        winners: tuple[tuple[int, int], ...],
        *,
        skew_ms: int,
    ) -> UpdateResult | QuorateError | None:
        """The answer if it took effect before, or if nobody knows. None if it surely did not.
        `held` is what there is now, with those who won so far."""
        event = self.event
        if not event.request:
            return None
        if any([event.request == number for _, number in winners]):
            return UpdateResult(None, held, 0, attempt.replicas.n, is_repeated=True)
        # By the clock of whoever coordinated it.
        since = stamp_at(max(event.since_ms - skew_ms, 0))
        began = stamp_of(attempt.base)
        reach = winners[0][0] if len(winners) >= REMEMBERED else began
        if event.since_ms and max(began, reach) >= since:
            return Conflict(
                "too much was written since to tell whether this request took effect",
                outcome=Outcome.UNKNOWN,
            )
        return None

    def expired(self) -> QuorateError:
        outcome = Outcome.UNKNOWN if self.is_sent else Outcome.NOT_APPLIED
        return DeadlineExceeded("the replicas did not decide in time", outcome=outcome)


class Attempt:
    """What is under way for one row: a question, a proposal, or a record on its way."""

    __slots__ = (
        "above",
        "asking",
        "base",
        "carried",
        "charged",
        "decided",
        "finish_by_ms",
        "is_won",
        "proposal",
        "replicas",
        "retry",
        "round",
        "row",
        "spread",
        "succession",
        "tries",
        "waiting",
    )

    def __init__(self, row: bytes, replicas: Replicas) -> None:
        self.row = row
        self.replicas = replicas
        self.waiting: deque[BegunUpdate] = deque()
        """Those that are in no proposal."""
        self.asking = 0
        """So many of these came before the question that is under way, or was answered last: what
        replicas tell may be older than the others, which wait for the next."""
        self.carried: list[BegunUpdate] = []
        """Those that are in ours."""
        self.proposal = 0
        """Its number; 0 while there is none."""
        self.decided: Record | None = None
        """What is decided and not yet held by a majority."""
        self.is_won = False
        """Whether that is ours."""
        self.base = ABSENT
        self.round: Round | None = None
        self.succession: Succession | None = None
        self.spread: Spread | None = None
        self.retry: Alarm | None = None
        self.tries = 0
        self.above = 0
        """The count of the next ballot is higher: those that others promised, or the races that
        were lost."""
        self.finish_by_ms = 0
        """Until when what others proposed is brought to its end, though nobody here waits."""
        self.charged = 0
        """Bytes of values that it keeps in memory, which the node's bound counts."""

    def stop(self) -> None:
        """Let what is under way come to nothing."""
        if self.round is not None:
            self.round.is_over = True
        if self.succession is not None:
            self.succession.stop()
        if self.spread is not None:
            self.spread.is_over = True
        if self.retry is not None:
            self.retry.cancel()
        self.round = self.succession = self.spread = self.retry = None

    def clear(self) -> None:
        """The same, and have no proposal."""
        self.stop()
        self.carried, self.proposal, self.decided = [], 0, None

    def is_wanted(self, mono_ms: int) -> bool:
        """Whether anybody waits for it."""
        if mono_ms < self.finish_by_ms:
            return True
        return self.is_carried_wanted() or any(job.waiter is not None for job in self.waiting)

    def is_carried_wanted(self) -> bool:
        """Whether anybody waits for the proposal. Asked for each request: mostly the first does."""
        return any(job.waiter is not None for job in self.carried)
