# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a write: here a PUT becomes a mutation.

Stamp a version, send the record to every replica, answer when W distinct replicas have it on disk.
Replicas that cannot be asked, or do not answer in time, get a hint, which never counts.

Re-stamping (an optimistic multi-writer ABD register: Attiya, Bar-Noy, Dolev 1995; Lynch, Shvartsman
1997): a replica that holds a higher version acks with it. If the first W acks report one, the write
is stamped once more above the highest reported, sent again, and answered when W hold that stamp,
superseded again or not. One extra round is enough: every write that finished before ours began is
held by a majority, which meets our first W acks; what supersedes the second stamp ran while we did.

A *derived* write (EXPIRE, PERSIST, ...) carries on the content of a version that was read. For
example: EXPIRE reads version 7 of a key and writes its value back with an expiry. Meanwhile a
client SETs another value, version 9. The EXPIRE must not undo that, so its version lies directly
above 7: the same stamp, and a higher tie-break, of which the lower part is drawn, because two such
writes may start from one version. It is never re-stamped. (The next stamp, 8, would not do: a node
that saw 7 gives out 8 to its next client.)

A coordinator whose own disk takes nothing, or cannot be read to see what a write must beat, goes on
without its own copy if W others can be reached. That copy stays behind until a read repairs it: it
gets no hint, as there is no disk to keep one.

A replica may refuse a stamp for being too old (`core.horizons`): that is no ack. When enough have
answered, the write is stamped above what they refuse, as often as need be.

Outcomes: NOT_APPLIED only while no replica, this one included, was handed the record.
"""

from __future__ import annotations

from typing import Final

from quorate.core.exchanges.hints import Hints
from quorate.core.exchanges.outbox import Outbox, Records
from quorate.core.horizons import Fenced
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import (
    Groups,
    Replicas,
    Verdict,
    do_meet,
    lacking,
    needed_of,
    verdict,
)
from quorate.core.turn import Alarm, Begun, Parked, Parts, size_of
from quorate.core.values.events import Put, PutResult, Waiter
from quorate.core.values.messages import Mutated
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import (
    ABSENT,
    DERIVED_BITS,
    derived_version,
    pack_version,
    stamp_of,
)
from quorate.errors import (
    ClockUntrusted,
    DeadlineExceeded,
    InvalidRequest,
    NotReady,
    Outcome,
    QuorateError,
    QuorumUnreachable,
    StorageError,
)

_MET: Final = Verdict.MET
_LOST: Final = Verdict.LOST


class Write(Begun):
    """One stamp of one write, until every replica has answered or been given up."""

    __slots__ = (
        "acks",
        "failed",
        "fence",
        "fenced",
        "groups",
        "highest",
        "is_derived",
        "is_renewed",
        "is_restamp",
        "record",
        "replicas",
        "row",
        "w",
    )

    def __init__(
        self,
        waiter: Waiter,
        size: int,
        row: bytes,
        record: Record,
        *,
        replicas: Replicas,
        groups: Groups,
    ) -> None:
        self.waiter = waiter  # Not by super(): a call for each write.
        self.size = size
        self.deadline_ms = 0
        self.row = row
        self.record = record
        self.replicas = replicas
        """Of the topology that the write began with."""
        self.groups = groups
        """Who must ack."""
        self.w = 0
        """How many it asked for; 0 if it asked for no number."""
        self.acks = 0
        """The replicas that hold this stamp, or a higher one, durably."""
        self.failed = 0
        """The replicas that will not ack any more."""
        self.highest = ABSENT
        """The highest version that an ack reported above ours."""
        self.fenced = 0
        """The replicas that refused it, as nothing so old may win there any more."""
        self.fence = ABSENT
        """Above which it has to be stamped for these."""
        self.is_restamp = False
        self.is_derived = False
        self.is_renewed = False
        """Whether another one has taken its place, under another layout."""

    def expired(self) -> QuorateError:
        return DeadlineExceeded(
            "too few replicas confirmed the write in time",
            outcome=Outcome.UNKNOWN,
            needed=needed_of(self.groups),
            acked=self.acks.bit_count(),
        )


class Writes:
    """All writes that this node coordinates; the exchange that sends them."""

    __slots__ = (
        "_clock",
        "_hints",
        "_lanes",
        "_marks",
        "_membership",
        "_process",
        "_random",
        "_replica",
        "_requests",
        "_retry",
        "_timeout_ms",
        "_turn",
        "_wait_ms",
        "has_stamped",
        "own",
    )

    def __init__(self, parts: Parts, membership: Membership, hints: Hints, retry: Alarm) -> None:
        """`retry` has parked requests tried again, though nothing else happens."""
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
        self._random = parts.random
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
        version = self._stamp(event, held)
        if not version:
            self._park(event, parked, self._untrusted(ABSENT if held is None else held.version))
            return
        prior = event.derived_from or (ABSENT if held is None else held.version)
        expires_ms = event.expires_ms
        if event.derived_from is not None and event.value is None:
            # With the stamp of what it carries on it may be below a lock. It is no garbage there,
            # and so may take its place, if its time is that of now.
            expires_ms = self._turn.wall_ms
        record = Record(version, event.value, expires_ms, prior)
        write = Write(event.waiter, size_of(event), row, record, replicas=replicas, groups=groups)
        write.w = event.w
        write.is_derived = event.derived_from is not None
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

    def _stamp(self, event: Put, held: Record | None) -> bytes:
        """A version for the write, above what this replica holds; ABSENT if none may be given."""
        seen = event.derived_from
        if seen is not None:
            if seen > self._turn.version_max:
                raise ClockUntrusted("what was read is further ahead than clocks may differ")
            return derived_version(seen, self._random.getrandbits(DERIVED_BITS))
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
                if highest:
                    write.highest = highest
                self.own.append(write)
            except Fenced as error:
                write.fence = error.bound
                write.failed |= OWN_BIT if write.is_derived else 0
                write.fenced |= 0 if write.is_derived else OWN_BIT
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
        writes, refused = ops, answer.refused
        for index, version in answer.superseded:
            if version > self._turn.version_max:
                refused = [
                    *refused,
                    (index, "it holds a stamp further ahead than clocks may differ"),
                ]
            elif index < len(writes):
                write = writes[index]
                write.highest = max(write.highest, version)
        if refused or answer.fenced:
            writes = self._without_refused(peer, writes, refused, answer.fenced)
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
                if verdict(write.acks, write.failed, write.groups) is _MET:
                    self._met(write)
                elif write.fenced:
                    self._look_at_fenced(write)

    def _fence(self, write: Write, bit: int, bound: bytes) -> None:
        """A replica refuses the stamp: that is no ack, and no hint would be taken either."""
        self._turn.counters["writes_fenced"] += 1
        write.fence = max(write.fence, bound)
        if write.is_derived:
            # What it carries on is gone, or will be.
            self._failed(write, bit)
            return
        write.fenced |= bit
        self._look_at_fenced(write)

    def _look_at_fenced(self, write: Write) -> None:
        """Stamp a write again once enough have answered: a lock is no other writer, so this may
        happen any number of times until the deadline."""
        if write.waiter is None or verdict(write.acks, write.failed, write.groups) is _MET:
            return
        if verdict(write.acks | write.fenced, write.failed, write.groups) is _MET:
            is_restamp = write.is_restamp
            again = self._restamp(write, max(write.fence, write.highest))
            if again is not None:
                again.is_restamp = is_restamp

    def _failed(self, write: Write, bit: int) -> None:
        write.failed |= bit
        if write.waiter is None:
            return
        if verdict(write.acks, write.failed, write.groups) is _LOST:
            error = QuorumUnreachable(
                "replicas were lost while they were being written",
                outcome=Outcome.UNKNOWN,
                needed=needed_of(write.groups),
                acked=write.acks.bit_count(),
            )
            self._requests.end(write, error)

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
                self._fence(writes[index], peer.bit, bounds[index])
                continue
            reason = reasons[index]
            self._turn.note_rarely("warning", "writes_refused", peer=peer.url, reason=reason)
            self._failed(writes[index], peer.bit)
        indices = {*bounds, *reasons}
        return [write for index, write in enumerate(writes) if index not in indices]

    def _met(self, write: Write) -> None:
        waiter = write.waiter
        assert waiter is not None
        if write.highest and not write.is_restamp and not write.is_derived:
            again = self._restamp(write, write.highest)
            if again is not None:
                again.is_restamp = True
            return
        write.waiter = None
        superseded = bool(write.highest)
        acks, n = write.acks.bit_count(), write.replicas.n
        result = PutResult(write.record.version, acks, n, write.is_restamp, superseded)
        self._requests.answer(waiter, result, write.size)

    def _restamp(self, write: Write, above: bytes) -> Write | None:
        """Send the write once more, stamped above what its first acks reported, or refused."""
        self.has_stamped = True
        stamp = self._clock.next(stamp_of(above))
        if not stamp:
            # The first stamp may be visible at some replica: no longer NOT_APPLIED.
            error = self._untrusted(above)
            error.outcome = Outcome.UNKNOWN
            self._requests.end(write, error)
            return None
        self._turn.counters["writes_restamped"] += 1
        first = write.record
        version = pack_version(stamp, self._process)
        record = Record(version, first.value, first.expires_ms, write.highest or first.prior)
        return self._send_again(write, record, write.replicas, write.groups)

    def begin_anew(self, write: Write) -> None:
        """Another layout is in force: ask its replicas, with the same stamp."""
        replicas = self._membership.current().partitions[partition_of(write.row)]
        try:
            groups = replicas.asked(write.w, name="w") if write.w else replicas.writers
        except InvalidRequest as error:
            # There are fewer replicas than it asked for, by now.
            error.outcome = Outcome.UNKNOWN
            self._requests.end(write, error)
            return
        again = self._send_again(write, write.record, replicas, groups)
        again.is_restamp, again.is_derived = write.is_restamp, write.is_derived
        write.is_renewed = True

    def _send_again(
        self, write: Write, record: Record, replicas: Replicas, groups: Groups
    ) -> Write:
        """Have another write, of this record, take the place of one under way."""
        waiter = write.waiter
        assert waiter is not None
        again = Write(waiter, write.size, write.row, record, replicas=replicas, groups=groups)
        again.w = write.w
        write.waiter = None
        held, refusal = self._own(write.row) if replicas.is_mine else (None, None)
        is_kept = self._is_kept(again, refusal)
        self._send(again, is_mine=is_kept, held=held, others=replicas.others)
        left_ms = write.deadline_ms - self._turn.mono_ms
        self._requests.watch(again, max(left_ms, 1))
        return again
