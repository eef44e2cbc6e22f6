# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a read-modify-write: exactly once, on the same keys as plain reads and writes.

1. Ask all replicas what they hold, and for a promise for its successor. A majority tells one
   version, the *base*: it is held by a majority, so what was finished or read before is not newer.
   Where they differ, the newest is written back until a majority holds it, as a read does.
2. The edit makes of the base what is to be there. If it leaves the key alone, this was a read.
3. The replicas decide what the successor of the base is (`successions`): our record, or another's.
   If another's, that one is brought to its end, and we begin again on what is there then.
4. The record is written to all; W have it, which are a majority at least: done.

So a put that comes in between is no matter: it is stamped above the whole chain, and our request
took effect directly before it. Only another read-modify-write makes us begin again.

Requests of this node for one row wait for each other, and what has come together meanwhile is one
proposal: each edit is given what the one before made. Each has a link of the chain, so that each
has its version. For example: three INCRs that wait while 41 is decided are one record, 44, and
are answered 42, 43 and 44.

What is not live (nothing, a tombstone, expired by this node's clock) is None to the edit. Its base
may be a phantom (`core.votes`), which replicas tell only together: while they differ, all is asked
again. A tombstone that an edit makes has its own time as its expiry, by the clock that locks are
set by: it lies at the base's stamp, and would else be garbage below a lock at once.

Outcomes: NOT_APPLIED until a replica was asked to accept what the request made; then UNKNOWN,
unless it is decided. Source: the protocol was checked as a model (docs/simulation.md).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from quorate.core.exchanges.attempt import REMEMBERED, Attempt, BegunUpdate
from quorate.core.exchanges.bases import base_of, holders, newest
from quorate.core.exchanges.rounds import TELLING, Round, Rounds
from quorate.core.exchanges.spreads import Spread, Spreads
from quorate.core.exchanges.successions import (
    Decided,
    Succession,
    accepted_in,
    is_same,
    next_ballot,
)
from quorate.core.topology.membership import Membership
from quorate.core.topology.topology import LOST, MET, lacking
from quorate.core.turn import Alarm, Parked, Parts, not_applied, too_large
from quorate.core.values.events import Update, UpdateResult
from quorate.core.values.record import Record, is_live, last_winners, winner_after
from quorate.core.values.settings import majority
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT, link_of, ms_of, successor
from quorate.core.votes import OUTBID, PROMISED, is_phantom
from quorate.errors import (
    InvalidRequest,
    NotReady,
    Outcome,
    QuorateError,
    QuorumUnreachable,
    StorageError,
)

FINISH_MS: Final = 2_000
"""For which what others proposed is brought to its end, if that does not come at once."""
SPREAD_MS: Final = 1_000
"""After which a record that no majority has confirmed is sent again: who was away may be there by
now, and a disk may confirm nothing for hours."""
REMEMBERED_NUMBERS: Final = 32
"""`REMEMBERED` of a proposal that has numbered requests: these may be sent again later."""
NUMBERED_MAX: Final = 64
"""What a proposal tells of its requests: which numbered ones it has, and where they end."""
COMBINED_MAX: Final = 256
"""Requests in one proposal."""
COMBINED_BYTES_MAX: Final = 4 << 20
"""Of the values that they make, each of which is kept until it is answered; one may exceed it."""
PROPOSAL_BITS: Final = 64


class Updates:
    """All read-modify-writes that this node coordinates."""

    __slots__ = (
        "_attempts",
        "_counters",
        "_membership",
        "_parts",
        "_requests",
        "_rounds",
        "_spreads",
        "_turn",
    )

    def __init__(
        self, parts: Parts, membership: Membership, rounds: Rounds, spreads: Spreads
    ) -> None:
        self._parts = parts
        self._turn = parts.turn
        self._counters = parts.turn.counters
        self._requests = parts.requests
        self._membership = membership
        self._rounds = rounds
        self._spreads = spreads
        self._attempts: dict[bytes, Attempt] = {}
        """By row."""

    # --- beginning ---------------------------------------------------------------------------

    def begin(self, event: Update, parked: Parked | None = None) -> None:
        """Begin an admitted request, or park it. InvalidRequest where quorums need not meet."""
        try:
            topology = self._membership.current()
        except NotReady as error:
            self._park(event, parked, error)
            return
        row = row_of(event.key)
        replicas = topology.partitions[partition_of(row)]
        needed = majority(topology.n)
        if topology.w < needed or topology.r < needed:
            name, given = ("W", topology.w) if topology.w < needed else ("R", topology.r)
            raise InvalidRequest(
                f"a read-modify-write needs a majority, and -{name} is set to less",
                given=given,
                needed=needed,
            )
        if lacking(replicas.reachable(), replicas.update_writers):
            self._park(event, parked, replicas.unreachable(replicas.update_writers))
            return
        job = BegunUpdate(event)
        self._requests.watch(job, event.timeout_ms or self._parts.settings.timeout_ms)
        attempt = self._attempts.get(row)
        if attempt is None:
            attempt = self._attempts[row] = Attempt(row, replicas)
            attempt.waiting.append(job)
            self._ask(attempt)
            return
        attempt.waiting.append(job)
        if attempt.carried and not attempt.is_carried_wanted():
            # What it waits for may be a disk that confirms nothing for hours.
            self._done(attempt)

    def _park(self, event: Update, parked: Parked | None, error: QuorateError) -> None:
        wait_ms = self._parts.settings.write_wait_ms
        self._requests.park(event, not_applied(error), wait_ms=wait_ms, again=parked)

    def begin_anew(self) -> None:
        """Another layout is in force: all rounds begin again, with its replicas."""
        for attempt in list(self._attempts.values()):
            topology = self._membership.current()
            attempt.replicas = topology.partitions[partition_of(attempt.row)]
            if attempt.succession is not None:
                attempt.succession.begin(attempt.replicas)
            elif attempt.decided is None:
                self._start_again(attempt)
            elif attempt.spread is not None:
                attempt.spread.is_over = True
                self._finish(attempt, attempt.decided, is_ours=attempt.is_won)

    def finish(self, row: bytes) -> None:
        """Bring to its end what this replica accepted for a row: who proposed it may be dead."""
        topology = self._membership.topology
        if row in self._attempts or topology is None:
            return
        attempt = Attempt(row, topology.partitions[partition_of(row)])
        attempt.finish_by_ms = self._turn.mono_ms + FINISH_MS
        self._attempts[row] = attempt
        self._ask(attempt)

    # --- what is there -----------------------------------------------------------------------

    def _ask(self, attempt: Attempt) -> None:
        """Ask what is held, and for a promise for its successor."""
        attempt.retry = None
        if not self._is_wanted(attempt):
            self._end(attempt)
            return
        attempt.asking = len(attempt.waiting)
        asked = Round(
            attempt.row,
            None,
            next_ballot(self._parts, attempt.above),
            replicas=attempt.replicas,
            heard=partial(self._heard, attempt),
            held=self._own(attempt),
        )
        attempt.round = asked
        # Who holds what this node holds does not send it.
        senders = 0 if asked.known else attempt.replicas.n
        self._charge(attempt, senders * self._requests.typical_bytes)
        self._rounds.ask(asked)

    def _charge(self, attempt: Attempt, size: int) -> None:
        """Count what the attempt keeps in memory now among the bytes of requests."""
        self._requests.bytes += size - attempt.charged
        attempt.charged = size

    def _is_wanted(self, attempt: Attempt) -> bool:
        return attempt.is_wanted(self._turn.mono_ms)

    def _own(self, attempt: Attempt) -> Record | None:
        if not attempt.replicas.is_mine:
            return None
        try:
            return self._parts.replica.latest(attempt.row)
        except StorageError:
            return None

    def _heard(self, attempt: Attempt) -> None:
        """Judge the answers as soon as a majority has answered."""
        asked = attempt.round
        if asked is None or asked.is_over:
            return
        if asked.is_late and not self._is_wanted(attempt):
            self._end(attempt)
            return
        told = asked.telling()
        judged = asked.verdict(told)
        if judged is LOST:
            self._start_again(attempt)
        elif judged is MET:
            self._look(attempt, asked, is_last=asked.is_late or told == attempt.replicas.mask)

    def _look(self, attempt: Attempt, asked: Round, *, is_last: bool) -> None:
        """Choose the base, and make sure that a majority holds it. `is_last`: nobody is waited for
        any more."""
        votes = {bit: vote for bit, vote in asked.told.items() if vote.said in TELLING}
        record = newest(asked, votes)
        base = base_of(record, votes, attempt.replicas.majorities)
        if base is None:
            if is_last:
                self._counters["updates_met_two_locks"] += 1
                self._start_again(attempt)
            return
        asked.is_over = True
        if lacking(holders(votes, base), attempt.replicas.majorities):
            self._write_back(attempt, record, holders(votes, base))
            return
        promised = {bit: vote for bit, vote in votes.items() if vote.said == PROMISED}
        is_promised = not lacking(holders(promised, base), attempt.replicas.majorities)
        if not is_promised:
            outbid = [vote.promised[0] for vote in votes.values() if vote.said == OUTBID]
            attempt.above = max([attempt.above, *outbid])
        attempt.base = asked.base = base
        # What was promised for another base says nothing of what was accepted for this one.
        asked.told = {bit: vote for bit, vote in votes.items() if vote.base == base}
        if is_phantom(base):
            record = None
        self._build(attempt, record, asked if is_promised else None)

    def _write_back(self, attempt: Attempt, record: Record | None, holders: int) -> None:
        """Have a majority hold the base, and look again."""
        if record is None:
            self._start_again(attempt)
            return
        self._counters["updates_wrote_back"] += 1
        attempt.round = None
        attempt.spread = Spread(
            *(attempt.row, record, attempt.replicas),
            # Who would not take it will hardly do so at once.
            lambda spread: self._start_again(attempt, at_once=spread.verdict() is MET),
            holders=holders,
            is_hinted=False,
        )
        self._begin_spread(attempt, attempt.spread)

    def _begin_spread(self, attempt: Attempt, spread: Spread) -> None:
        if attempt.retry is not None:
            attempt.retry.cancel()
        attempt.retry = Alarm(self._turn, partial(self._spread_late, attempt))
        attempt.retry.at(self._turn.mono_ms + SPREAD_MS)
        self._spreads.begin(spread)

    def _spread_late(self, attempt: Attempt) -> None:
        spread = attempt.spread
        assert spread is not None, "it is cancelled with the spread"
        spread.is_over = True
        if not self._is_wanted(attempt):
            self._done(attempt)
        elif attempt.decided is None:
            self._start_again(attempt)
        else:
            self._finish(attempt, attempt.decided, is_ours=attempt.is_won, before=spread)

    def _start_again(self, attempt: Attempt, *, at_once: bool = False) -> None:
        """Begin again, a little later unless there is no need to wait."""
        attempt.clear()
        wait_ms = 0 if at_once else self._rounds.back_off_ms(attempt.tries)
        attempt.tries += 1
        attempt.retry = Alarm(self._turn, partial(self._ask, attempt))
        attempt.retry.at(self._turn.mono_ms + wait_ms)

    # --- what is to be there -----------------------------------------------------------------

    def _build(self, attempt: Attempt, held: Record | None, promised: Round | None) -> None:
        """Make a proposal of all that waited when the base was asked for."""
        attempt.round = None
        self._requests.learn_size(held)
        before = () if held is None or not link_of(attempt.base) else held.winners
        now, last = held if is_live(held, wall_ms=self._turn.wall_ms) else None, None
        stamp, version = self._parts.clock.reading, attempt.base
        skew_ms = self._parts.settings.max_clock_skew_ms
        numbered: list[tuple[int, int]] = []
        room = COMBINED_BYTES_MAX
        while attempt.asking and len(attempt.carried) < COMBINED_MAX and room > 0:
            job = attempt.waiting[0]
            if job.event.request and len(numbered) + 1 >= NUMBERED_MAX:
                break
            attempt.waiting.popleft()
            attempt.asking -= 1
            if job.waiter is None:
                continue
            made: Record | None = None
            found = last or held
            job.result = job.remembered(attempt, found, (*before, *numbered), skew_ms=skew_ms)
            if job.result is None:
                made = self._edit(job, now, successor(version, stamp))
            if made is None and last is None:
                # It was a read, of what a majority holds.
                self._requests.end(job, job.told())
                continue
            attempt.carried.append(job)
            if made is not None:
                if job.event.request or (numbered and numbered[-1][1]):
                    # Without a number it tells where the one before it ends.
                    numbered.append((link_of(version), job.event.request))
                last, version = made, made.version
                room -= made.size
                now = made if is_live(made, wall_ms=self._turn.wall_ms) else None
        if last is None:
            self._adopt(attempt, promised)
            return
        attempt.proposal = self._parts.random.getrandbits(PROPOSAL_BITS) | 1
        kept = last_winners(before, REMEMBERED_NUMBERS if numbered else REMEMBERED)
        prior = ABSENT if held is None else attempt.base
        winners = (*kept, (link_of(attempt.base), attempt.proposal), *numbered)
        mine = Record(last.version, last.value, last.expires_ms, prior, winners)
        self._propose(attempt, mine, promised)

    def _adopt(self, attempt: Attempt, promised: Round | None) -> None:
        """Nobody wants anything written: propose what was accepted, if that is to be finished."""
        if promised is None and attempt.finish_by_ms and self._is_wanted(attempt):
            self._start_again(attempt)  # Above the ballots that were told.
            return
        is_needed = promised is not None and attempt.finish_by_ms
        attempt.finish_by_ms = 0
        accepted = accepted_in(promised) if is_needed and promised is not None else None
        if accepted is None:
            self._done(attempt)
        else:
            self._propose(attempt, accepted, promised)

    def _edit(self, job: BegunUpdate, now: Record | None, version: bytes) -> Record | None:
        """What a request makes of what is there; None if nothing. Notes its answer."""
        try:
            made = job.event.edit(now)
            settings = self._parts.settings
            value = None if made is None else made.value
            if value is not None and len(value) > settings.value_bytes_max:
                raise too_large(value, settings)
        except QuorateError as error:
            job.result = not_applied(error)
            return None
        if made is None:
            job.result = UpdateResult(now, None, 0, 0)
            return None
        clock_ms = max(self._turn.wall_ms, ms_of(self._parts.clock.reading))
        expires_ms = clock_ms if made.value is None else made.expires_ms
        record = Record(version, made.value, expires_ms)
        job.result = UpdateResult(now, record, 0, 0)
        return record

    # --- deciding ----------------------------------------------------------------------------

    def _propose(self, attempt: Attempt, mine: Record, promised: Round | None) -> None:
        if promised is None:
            # Somebody else is about it: most likely there is another base when we ask again.
            self._take_back(attempt)
            self._start_again(attempt)
            return
        for job in attempt.carried:
            job.is_sent = job.writes()
        self._charge(attempt, mine.size)
        attempt.succession = Succession(
            self._parts,
            self._rounds,
            attempt.row,
            attempt.base,
            mine,
            then=partial(self._decided, attempt, mine),
            is_wanted=partial(self._is_wanted, attempt),
        )
        attempt.succession.go_on(promised)

    def _decided(
        self, attempt: Attempt, mine: Record, decided: Decided, record: Record | None
    ) -> None:
        succession = attempt.succession
        assert succession is not None
        attempt.succession = None
        self._charge(attempt, 0)
        if decided is Decided.RESOLVED and record is not None:
            number = winner_after(record, link_of(attempt.base))
            if number == attempt.proposal:
                self._finish(attempt, mine, is_ours=True)
                return
            if number is not None or not succession.is_sent:
                self._lose(attempt)
                return
        elif decided is Decided.RECORD and record is not None:
            self._finish(attempt, record, is_ours=is_same(record, mine))
            return
        if succession.is_sent:
            self._counters["updates_gone"] += 1
            self._give_up(attempt, "too late to learn which write was decided")
        else:
            self._lose(attempt)

    def _lose(self, attempt: Attempt, *, is_stored: bool = True) -> None:
        """Another proposal won: all that were in ours are in none."""
        self._counters["updates_lost_race"] += 1
        self._take_back(attempt)
        # Who lost before goes before who did not.
        attempt.above += 1
        if is_stored:
            attempt.tries = 0
        self._start_again(attempt, at_once=is_stored)

    def _take_back(self, attempt: Attempt) -> None:
        """Have those that are in our proposal wait for the next one."""
        for job in reversed(attempt.carried):
            job.result = None
            # Another attempt of the request may be what won.
            job.is_sent = job.is_sent and job.event.request != 0
            attempt.waiting.appendleft(job)
        attempt.carried = []

    def _give_up(self, attempt: Attempt, detail: str) -> None:
        for job in attempt.carried:
            outcome = Outcome.UNKNOWN if job.is_sent else Outcome.NOT_APPLIED
            self._requests.end(job, QuorumUnreachable(detail, outcome=outcome))
        self._done(attempt)

    def _finish(
        self, attempt: Attempt, record: Record, *, is_ours: bool, before: Spread | None = None
    ) -> None:
        """Write what was decided. `before`: what came of that so far."""
        attempt.decided, attempt.is_won = record, is_ours
        replicas = attempt.replicas
        is_same_layout = before is not None and before.replicas is replicas
        attempt.spread = Spread(
            attempt.row,
            record,
            replicas,
            partial(self._spread_out, attempt),
            groups=replicas.update_writers if is_ours else replicas.majorities,
            holders=before.acks if before is not None and is_same_layout else 0,
            is_hinted=not is_same_layout,
        )
        self._begin_spread(attempt, attempt.spread)

    def _spread_out(self, attempt: Attempt, spread: Spread) -> None:
        attempt.spread = None
        if attempt.retry is not None:
            attempt.retry.cancel()
        if not attempt.is_won:
            self._lose(attempt, is_stored=spread.verdict() is MET)
            return
        if spread.verdict() is not MET:
            # It is decided: there is nothing to do but to try again, until nobody waits.
            if self._is_wanted(attempt):
                again = partial(self._finish, attempt, spread.record, is_ours=True, before=spread)
                attempt.retry = Alarm(self._turn, again)
                attempt.retry.at(self._turn.mono_ms + self._rounds.back_off_ms(attempt.tries))
                attempt.tries += 1
            else:
                self._done(attempt)
            return
        self._counters["updates_combined"] += max(len(attempt.carried) - 1, 0)
        acks, n = spread.acks.bit_count(), spread.replicas.n
        for job in attempt.carried:
            result = job.told()
            if isinstance(result, UpdateResult) and not result.is_repeated:
                result = UpdateResult(result.before, result.after, acks, n)
            self._requests.end(job, result)
        self._done(attempt)

    def _done(self, attempt: Attempt) -> None:
        """Nothing is under way any more: go on with those that wait."""
        attempt.clear()
        attempt.tries = attempt.above = 0
        if attempt.waiting:
            self._ask(attempt)
        else:
            self._end(attempt)

    def _end(self, attempt: Attempt) -> None:
        attempt.stop()
        self._charge(attempt, 0)
        if self._attempts.get(attempt.row) is attempt:
            del self._attempts[attempt.row]
