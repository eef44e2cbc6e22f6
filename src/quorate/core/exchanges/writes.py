# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a write: here a PUT becomes a mutation.

Stamp a version, send the record to every replica, answer when W distinct replicas have it on disk.
Replicas that cannot be asked, or do not answer in time, get a hint, which never counts.

A replica that holds a higher version acks with that: it was AHEAD. Others HELD the stamp, as did
those that hold what a read-modify-write built on it. (An optimistic multi-writer ABD register:
Attiya, Bar-Noy, Dolev 1995; Lynch, Shvartsman 1997; with what read-modify-writes need of it.)

1. A majority held it: done. Every write that finished before ours began is held by a majority,
   which has a replica in common with this one; so our stamp is above all of them.
2. A majority never held it, and is ahead (`core.replaced`), or all answered, and none held it:
   nobody has read it, so it is stamped once more above the highest that was told, and answered when
   W hold that stamp or something higher. What supersedes the second stamp ran while we did.
3. It may have been read, and built on: stamped again it would overwrite that. So it is *moved*:
   the replicas decide (`successions`) whether what comes after this stamp is the same write under a
   higher one, or what somebody built on it, and then it has taken effect. For example: A held 9, B
   is ahead with 11, C is silent. An INCR may have read 9 at A and C, and be about to write 9+1.

Where W is less than a majority nothing of that is promised: the first W acks decide, and if one was
ahead the write is stamped again.

A coordinator whose own disk takes nothing, or cannot be read to see what a write must beat, goes on
without its own copy if W others can be reached. That copy stays behind until a read repairs it: it
gets no hint, as there is no disk to keep one.

A replica may refuse a stamp for being too old (`core.horizons`): that is no ack, and it did not
hold it. The write is stamped above what they refuse, as often as need be, unless it is known that
somebody built on it.

Outcomes: NOT_APPLIED only while no replica, this one included, was handed the record.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Final

from quorate.core.exchanges.hints import Hints
from quorate.core.exchanges.outbox import Outbox, Records
from quorate.core.exchanges.rounds import Rounds
from quorate.core.exchanges.spreads import Spread, Spreads
from quorate.core.exchanges.successions import Decided, Succession
from quorate.core.exchanges.write import Write
from quorate.core.horizons import Fenced
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import (
    LOST,
    MET,
    Groups,
    Replicas,
    are_majorities,
    do_meet,
    lacking,
    verdict,
)
from quorate.core.turn import Alarm, Parked, Parts, size_of
from quorate.core.values.events import Put
from quorate.core.values.messages import Mutated
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT, chain_of, pack_version, stamp_of
from quorate.core.votes import is_phantom
from quorate.errors import (
    ClockUntrusted,
    InvalidRequest,
    NotReady,
    Outcome,
    QuorateError,
    QuorumUnreachable,
    StorageError,
)

PATIENCE_MS: Final = 100
"""How long those that have not answered are waited for, where their answer decides whether a write
is moved: slower than most disks."""


class Writes:
    """All writes that this node coordinates; the exchange that sends them."""

    __slots__ = (
        "_clock",
        "_hints",
        "_impatient",
        "_lanes",
        "_late",
        "_marks",
        "_membership",
        "_parts",
        "_process",
        "_replica",
        "_requests",
        "_retry",
        "_rounds",
        "_spreads",
        "_timeout_ms",
        "_turn",
        "_wait_ms",
        "has_stamped",
        "own",
    )

    def __init__(
        self,
        parts: Parts,
        membership: Membership,
        rounds: Rounds,
        spreads: Spreads,
        *,
        hints: Hints,
        retry: Alarm,
    ) -> None:
        """`retry` has parked requests tried again, though nothing else happens. `rounds` and
        `spreads` move writes."""
        self._parts = parts
        self._rounds = rounds
        self._spreads = spreads
        self._impatient: deque[Write] = deque()
        """Writes that wait for others, though enough have answered; in order of `due_ms`."""
        self._late = Alarm(parts.turn, self._look_at_late)
        self._clock = parts.clock
        self._membership = membership
        self._marks = membership.marks
        self._hints = hints
        self._lanes: list[Records[Write]] = []
        """By the index of the peer."""
        self._retry = retry
        self._replica = parts.replica
        self._requests = parts.requests
        self._turn = parts.turn
        self._process = parts.process
        self._timeout_ms = parts.settings.timeout_ms
        self._wait_ms = parts.settings.write_wait_ms
        self.own: list[Write] = []
        """Applied here in this step: acked when durable."""
        self.has_stamped = False
        """Since the node last looked: its clock's ceiling may have to be raised."""

    def open(self, outbox: Outbox) -> None:
        """Be able to send to one more peer."""
        self._lanes.append(Records(outbox, self))

    # --- beginning -------------------------------------------------------------------------

    def begin(self, event: Put, parked: Parked | None = None) -> None:
        """Begin an admitted write, or park it. InvalidRequest for a W that cannot be."""
        try:
            topology = self._membership.current()
        except NotReady as error:
            self._park(event, parked, error)
            return
        row = row_of(event.key)
        replicas = topology.partitions[partition_of(row)]
        groups = replicas.asked(event.w, name="w") if event.w else replicas.writers
        held, refusal = self._own(row) if replicas.is_mine else (None, None)
        live = replicas.reachable()
        if refusal is not None and lacking(live & ~OWN_BIT, groups):
            raise refusal
        if lacking(live, groups):
            self._park(event, parked, replicas.unreachable(groups))
            return
        if replicas.is_mine and not self._marks.counts and do_meet(replicas.readers, groups):
            self._park(event, parked, self._marks.error())
            return
        version = self._stamp(held)
        if not version:
            self._park(event, parked, self._untrusted(ABSENT if held is None else held.version))
            return
        prior = ABSENT if held is None else held.version
        record = Record(version, event.value, event.expires_ms, prior)
        write = Write(event.waiter, size_of(event), row, record, replicas=replicas, groups=groups)
        write.w = event.w
        is_kept = self._is_kept(write, refusal)
        self._send(write, is_mine=is_kept, held=held, others=replicas.others)
        self._requests.watch(write, event.timeout_ms or self._timeout_ms)

    def _own(self, row: bytes) -> tuple[Record | None, QuorateError | None]:
        """What this replica holds, if it can be read, and why it takes no write now."""
        trouble = self._replica.trouble
        refusal = trouble.error() if trouble.code else None
        try:
            return self._replica.latest(row), refusal
        except StorageError as error:
            return None, refusal or error

    def _is_kept(self, write: Write, refusal: QuorateError | None) -> bool:
        """Whether this node keeps a copy of the write. Counts one that it cannot keep."""
        if not write.replicas.is_mine:
            return False
        if refusal is not None:
            write.failed |= OWN_BIT
            self._turn.counters["own_copies_missed"] += 1
        return refusal is None

    def _stamp(self, held: Record | None) -> bytes:
        """A version for the write, above what this replica holds; ABSENT if none may be given."""
        self.has_stamped = True
        stamp = self._clock.next()
        if held is not None and stamp:
            version = pack_version(stamp, self._process)
            if held.version < version:
                return version
            stamp = self._clock.next(stamp_of(held.version))
        return pack_version(stamp, self._process) if stamp else ABSENT

    def _untrusted(self, held: bytes) -> QuorateError:
        """Why there is no stamp above that of `held`."""
        # By then the clock should have caught up with what it is behind of.
        self._retry.at(self._turn.mono_ms + self._clock.untrusted_ms(stamp_of(held)))
        return ClockUntrusted("this node's clock is too far behind what it has seen")

    def _park(self, event: Put, parked: Parked | None, error: QuorateError) -> None:
        error.outcome = Outcome.NOT_APPLIED
        self._requests.park(event, error, wait_ms=self._wait_ms, again=parked)

    def _send(
        self, write: Write, *, is_mine: bool, held: Record | None, others: tuple[Peer, ...]
    ) -> None:
        row, record = write.row, write.record
        if is_mine:
            try:
                highest = self._replica.apply_over(row, record, held)
                if highest and not self._note_ahead(write, OWN_BIT, highest):
                    self._note_fenced(write, OWN_BIT, highest)
                else:
                    self.own.append(write)
            except Fenced as error:
                self._note_fenced(write, OWN_BIT, error.bound)
        lanes = self._lanes
        for peer in others:
            if peer.is_reachable:
                lanes[peer.index].add(row, record, write)
            else:
                write.failed |= peer.bit
                self._hints.add(peer, row, record)

    def close_turn(self) -> None:
        """Have this step's own copies acked once they are durable."""
        own, self.own = self.own, []
        self._replica.when_durable(lambda: self._acked(own, OWN_BIT))

    # --- answers ---------------------------------------------------------------------------

    def answered(self, peer: Peer, ops: list[Write], answer: Mutated) -> None:
        """A replica has the batch on disk."""
        writes, refused, fenced = ops, answer.refused, answer.fenced
        for index, version in answer.superseded:
            if self._turn.is_ahead(version):
                reason = "it holds a stamp further ahead than clocks may differ"
                refused = [*refused, (index, reason)]
            elif index < len(ops) and not self._note_ahead(ops[index], peer.bit, version):
                fenced = [*fenced, (index, version)]
        for index in answer.denied:
            if index < len(ops):
                ops[index].denied |= peer.bit
        if refused or fenced:
            writes = self._without_refused(peer, writes, refused, fenced)
        self._acked(writes, peer.bit)

    def lost(self, peer: Peer, ops: list[Write]) -> None:
        """A replica did not answer: it gets hints."""
        for write in ops:
            if write.is_renewed:
                continue
            self._hints.add(peer, write.row, write.record)
            self._failed(write, peer.bit)

    def _acked(self, writes: list[Write], bit: int) -> None:
        for write in writes:
            write.acks |= bit
            if write.waiter is not None:
                if write.ahead or write.fenced:
                    self._judge(write)
                elif verdict(write.acks, write.failed, write.groups) is MET:
                    self._met(write)

    def _note_ahead(self, write: Write, bit: int, version: bytes) -> bool:
        """A replica holds a higher version: it acks, but may never have held this one, unless what
        it holds was built on this one. False, and it is no ack, if that was built on nothing, as
        there was at a lock above the stamp: nobody overtook this write, it came too late."""
        chain = chain_of(version)
        if chain == write.record.version:
            return True
        if is_phantom(chain) and not write.has_effect:
            return False
        write.ahead |= bit
        write.highest = max(write.highest, version)
        return True

    def _note_fenced(self, write: Write, bit: int, bound: bytes) -> None:
        """A replica refuses the stamp: that is no ack, and no hint would be taken either."""
        self._turn.counters["writes_fenced"] += 1
        write.fence = max(write.fence, bound)
        write.fenced |= bit

    def _failed(self, write: Write, bit: int) -> None:
        write.failed |= bit
        if write.waiter is None:
            return
        if verdict(write.acks | write.fenced, write.failed, write.groups) is LOST:
            self._requests.end(
                write, write.lost("replicas were lost while they were being written")
            )
        elif write.ahead or write.fenced:
            self._judge(write)

    def _judge(self, write: Write) -> None:
        """Some replica was ahead, or refused the stamp: is it done, to be stamped again, to be
        moved, or is there more to come?"""
        if write.succession is not None:
            return
        did_answer = write.acks | write.fenced
        is_acked = verdict(write.acks, write.failed, write.groups) is MET
        held = write.acks & ~write.ahead
        is_held = not lacking(held, write.replicas.majorities)
        if is_acked and (is_held or write.is_settled):
            self._met(write)
        elif write.has_effect:
            # What somebody built on it may have been collected: it is waited for no more, and not
            # stamped again, even if all refuse it.
            if verdict(write.acks, write.failed | write.fenced, write.groups) is LOST:
                self._requests.end(write, write.lost("it took effect, and is too old by now"))
        elif verdict(did_answer, write.failed, write.groups) is not MET:
            return
        elif not are_majorities(write.groups) or self._is_unseen(write, held):
            self._restamp(write)
        elif not write.replicas.mask & ~(did_answer | write.failed) or self._is_late(write):
            self._move(write)

    def _is_unseen(self, write: Write, held: int) -> bool:
        """Whether nobody can have read the stamp. A majority of an earlier layout may have had it;
        who has not answered may hold it, or get the hint, but this node keeps none for itself."""
        if write.is_renewal:
            return False
        silent = write.replicas.mask & ~(write.acks | write.fenced | write.failed & OWN_BIT)
        return not (held or silent) or write.is_denied()

    def _is_late(self, write: Write) -> bool:
        """Whether others were waited for long enough."""
        now = self._turn.mono_ms
        if not write.due_ms:
            write.due_ms = now + PATIENCE_MS
            self._impatient.append(write)
            self._late.at(write.due_ms)
        return write.due_ms <= now

    def _look_at_late(self) -> None:
        """Judge those again that waited for others long enough."""
        waiting = self._impatient
        while waiting and (waiting[0].waiter is None or waiting[0].due_ms <= self._turn.mono_ms):
            write = waiting.popleft()
            if write.waiter is not None:
                self._judge(write)
        if waiting:
            self._late.at(waiting[0].due_ms)

    def _without_refused(
        self,
        peer: Peer,
        writes: list[Write],
        refused: list[tuple[int, str]],
        fenced: list[tuple[int, bytes]],
    ) -> list[Write]:
        bounds = {index: bound for index, bound in fenced if index < len(writes)}
        reasons = {index: reason for index, reason in refused if index < len(writes)}
        for index in sorted({*bounds, *reasons}):
            if index in bounds:
                self._note_fenced(writes[index], peer.bit, bounds[index])
                if writes[index].waiter is not None:
                    self._judge(writes[index])
                continue
            reason = reasons[index]
            self._turn.note_rarely("warning", "writes_refused", peer=peer.url, reason=reason)
            self._failed(writes[index], peer.bit)
        indices = {*bounds, *reasons}
        return [write for index, write in enumerate(writes) if index not in indices]

    def _met(self, write: Write) -> None:
        waiter = write.waiter
        assert waiter is not None
        write.waiter = None
        self._requests.answer(waiter, write.result(), write.size)

    def _above(self, write: Write) -> Record | None:
        """The same write, stamped above all that was told. None, and it is answered, if no stamp
        may be given out."""
        above = max(write.highest, write.fence)
        self.has_stamped = True
        stamp = self._clock.next(stamp_of(above))
        if not stamp:
            # The first stamp may be visible at some replica: no longer NOT_APPLIED.
            error = self._untrusted(above)
            error.outcome = Outcome.UNKNOWN
            self._requests.end(write, error)
            return None
        first = write.record
        version = pack_version(stamp, self._process)
        return Record(version, first.value, first.expires_ms, write.highest or first.prior)

    def _restamp(self, write: Write) -> None:
        """Send the write once more, stamped above what its first acks reported, or refused."""
        record = self._above(write)
        if record is not None:
            self._turn.counters["writes_restamped"] += 1
            self._replace(write, record)

    def _replace(self, write: Write, record: Record) -> None:
        again = self._send_again(write, record, write.replicas, write.groups)
        # A lock is no other writer: what was only refused is as good as never sent.
        again.is_restamp = write.is_restamp or write.is_moved or bool(write.highest)
        again.is_settled = again.is_restamp

    def _move(self, write: Write) -> None:
        """Have the replicas decide whether the write goes on under a higher stamp, or has taken
        effect."""
        record = self._above(write)
        if record is None:
            return
        self._turn.counters["writes_moved"] += 1
        write.succession = Succession(
            *(self._parts, self._rounds, write.row, write.record.version, record),
            then=partial(self._moved, write),
            is_wanted=lambda: write.waiter is not None,
        )
        write.succession.move(write.replicas)

    def _moved(self, write: Write, decided: Decided, record: Record | None) -> None:
        succession, write.succession = write.succession, None
        assert succession is not None
        if write.waiter is None:
            return
        if decided is Decided.RECORD and record is succession.mine:
            write.is_moved = True
            self._replace(write, record)
        elif decided is Decided.RECORD and record is not None:
            # Somebody built on it: it has taken effect, once that is held by a majority.
            built = Spread(write.row, record, write.replicas, partial(self._built_on, write))
            self._spreads.begin(built)
        elif decided is Decided.RESOLVED:
            self._settle(write)
        else:
            error = QuorumUnreachable(
                "too late to learn whether the write was moved", outcome=Outcome.UNKNOWN
            )
            self._requests.end(write, error)

    def _built_on(self, write: Write, spread: Spread) -> None:
        if write.waiter is not None and spread.verdict() is MET:
            self._settle(write)

    def _settle(self, write: Write) -> None:
        """The write has taken effect: send it to the replicas in force by now, and answer once it,
        or a newer record, is held by enough of them."""
        again = self._send_again(write, write.record, write.replicas, write.groups)
        again.is_restamp, again.is_settled, again.has_effect = write.is_restamp, True, True
        again.highest = write.highest

    def begin_anew(self, write: Write) -> None:
        """Another layout is in force: ask its replicas, with the same stamp. What the replicas of
        the one before answered does not count."""
        replicas = self._membership.current().partitions[partition_of(write.row)]
        try:
            groups = replicas.asked(write.w, name="w") if write.w else replicas.writers
        except InvalidRequest as error:
            # There are fewer replicas than it asked for, by now.
            error.outcome = Outcome.UNKNOWN
            self._requests.end(write, error)
            return
        if write.succession is not None:
            write.replicas, write.groups = replicas, groups
            write.succession.begin(replicas)
            return
        again = self._send_again(write, write.record, replicas, groups)
        # A replica may be ahead by now of what it held before.
        again.is_restamp, again.is_settled = write.is_restamp, write.is_settled
        again.has_effect, again.is_renewal = write.has_effect, True
        write.is_renewed = True

    def _send_again(
        self, write: Write, record: Record, replicas: Replicas, groups: Groups
    ) -> Write:
        """Have another write, of this record, take the place of one under way."""
        waiter = write.waiter
        assert waiter is not None
        again = Write(waiter, write.size, write.row, record, replicas=replicas, groups=groups)
        again.w, again.is_moved = write.w, write.is_moved
        write.waiter = None
        held, refusal = self._own(write.row) if replicas.is_mine else (None, None)
        if replicas.is_mine and not self._marks.counts and do_meet(replicas.readers, groups):
            refusal = self._marks.error()
        is_kept = self._is_kept(again, refusal)
        self._send(again, is_mine=is_kept, held=held, others=replicas.others)
        left_ms = write.deadline_ms - self._turn.mono_ms
        self._requests.watch(again, max(left_ms, 1))
        return again
