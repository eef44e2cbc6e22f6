# SPDX-License-Identifier: GPL-3.0-or-later
"""What this replica votes on the successors of its rows' versions.

Which read-modify-write comes directly after a version, its *base*, is decided once: by
single-decree Paxos (`consensus`) among the row's replicas, an *instance* for each base. What is
accepted is seen by nobody before it is decided and written as a record. A replica that holds
something newer goes on voting: who proposed has to come to an end, whatever was put meanwhile.

For each row the last INSTANCES_MAX are kept. One that was dropped, and any below it, is GONE for
good (`floor`): the replica may have voted, and an answer as if it had not would let two successors
be decided. If a later link of the base's chain is held the instance is RESOLVED, and the record's
`winners` tell who won.

What has no live record may have been collected (`horizons`): its version is not the same at all
replicas, and what lies directly above it would be below the lock. There the base is a *phantom*,
the lowest version that is not below the lock. For example: two replicas locked 12:01 and hold
nothing, or a tombstone of 11:50. Both tell `12:01` as the base, and its successor is `12:01+1`,
which the lock lets in. A vote on a phantom counts only while the lock is this one: until it is
taken back nothing below can win here, so nothing below can be finished by others without this
replica.

A vote is *open* while its record is accepted and neither it nor anything newer is held. Locks wait
for open votes: one that would refuse the record is not set, and that on whose ground it was
accepted is not taken back. Else something that is decided could never be stored. Who proposed may
be dead; so this node then brings the instance to its end, or gives it up (`exchanges.open_votes`).

Who gains a copy gets the votes with it (`moved_votes`). What is damaged on this disk may have been
a vote on anything that was made up to now, held here or not: this node votes on the row again once
its version is a later one.

Invariants: a vote is durable before it is told; a promise is kept for all lower ballots; the floor
never falls. Each is broken on purpose in the model of the protocol (docs/simulation.md).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from quorate.core.consensus import may_accept, may_promise
from quorate.core.replica import Replica
from quorate.core.values.messages import NO_BALLOT, Ballot, Instance, RowVote, Said
from quorate.core.values.record import Record, packed, unpack, winners_of
from quorate.core.values.slots import partition_bounds, partition_of
from quorate.core.values.stored import StoredVotes
from quorate.core.values.versions import (
    ABSENT,
    VERSION_BYTES,
    HybridClock,
    chain_of,
    made_of,
    stamp_of,
)
from quorate.errors import Corrupt, StorageError

INSTANCES_MAX: Final = 32
"""Of a row: as many proposers may be late at once, also of nodes that put one key at the same time.
With one, 1.3 % of contended requests could not be told what became of them."""
RESOLVED_MAX: Final = 8
"""Beyond so many those go at the low end that are resolved: each vote reads and writes all that is
remembered."""
NOTED_MAX: Final = 100
"""Of rows of a partition that accepted something since their votes were gone through."""
VOTES_BYTES_MAX: Final = 1 << 20
"""Of accepted values of a row, beyond which the lowest instances go that a newer record has
overtaken."""
PROMISED: Final = int(Said.PROMISED)
ACCEPTED: Final = int(Said.ACCEPTED)
OUTBID: Final = int(Said.OUTBID)
RESOLVED: Final = int(Said.RESOLVED)
GONE: Final = int(Said.GONE)
REFUSED: Final = int(Said.REFUSED)
"""Plain numbers: a member of an enum costs 500 instructions at each use, and dozens of votes are
looked at for each update."""
DECODED_MAX: Final = 2048
"""Rows whose votes are kept as they were decoded."""
DECODED_BYTES_MAX: Final = 4096
"""Of each, in bytes."""
_TIE_OF_PHANTOM: Final = bytes(6)
_BELOW_ALL: Final[Ballot] = (-1, 0)
NO_VOTES: Final = StoredVotes()
_encode: Final = msgspec.msgpack.Encoder(enc_hook=packed).encode
_decode: Final = msgspec.msgpack.Decoder(StoredVotes).decode


def is_phantom(version: bytes) -> bool:
    """Whether it is the beginning of a slice, which no process stamps."""
    return len(version) == VERSION_BYTES and version.endswith(_TIE_OF_PHANTOM)


def encode_votes(votes: StoredVotes) -> bytes:
    """As an engine keeps it."""
    return _encode(votes)


def decode_votes(blob: bytes) -> StoredVotes:
    """The reverse. Corrupt if it is none."""
    try:
        votes = _decode(blob)
        for instance in votes.instances:
            unpack(instance, "record")
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(f"stored votes have an impossible shape: {error}") from None
    return votes


class Votes:
    """The voter of all rows that this node holds."""

    __slots__ = ("_accepted", "_clock", "_decoded", "_replica", "_unread")

    def __init__(self, replica: Replica, clock: HybridClock) -> None:
        self._replica = replica
        self._accepted: dict[int, dict[bytes, None]] = {}
        """By partition: rows of which a vote may be open. None of a partition that has to be gone
        through to know."""
        self._unread: dict[int, bytes] = {}
        """By partition that is being gone through: from which row on."""
        self._clock = clock
        """Never behind what was voted on: see `remembered`."""
        self._decoded: dict[bytes, tuple[bytes, StoredVotes]] = {}
        """By row: votes as they are stored, and what these bytes say. A vote mostly follows another
        on the same row, and to decode is a third of what it costs."""

    def prepare(self, row: bytes, base: bytes | None, ballot: Ballot, known: bytes) -> RowVote:
        """Promise for the successor of `base`, None for what is held. Tell only when durable.
        StorageError if that cannot be read."""
        held = self._replica.latest(row)
        own = self._base_of(row, held)
        told = None if held is None or held.version == known else held
        if base is None:
            base = own
        said, kept, votes = self._enter(row, base, held, own)
        if said != PROMISED:
            return RowVote(said, own, record=kept.record, held=told)
        if not may_promise(ballot, kept.promised):
            return RowVote(OUTBID, own, kept.promised, held=told)
        accepted, record = kept.accepted, kept.record
        boxed: Any = ballot  # Compiled, it would be made an object for each that takes it.
        self._keep(row, votes, Instance(base, boxed, accepted, record), base, held)
        return RowVote(PROMISED, own, boxed, accepted, record, told)

    def accept(self, row: bytes, base: bytes, ballot: Ballot, record: Record) -> RowVote:
        """Accept a record as the successor of `base`. Tell only when durable. StorageError if that
        cannot be read."""
        held = self._replica.latest(row)
        own = self._base_of(row, held)
        said, kept, votes = self._enter(row, base, held, own)
        if said != PROMISED:
            return RowVote(said, own, record=kept.record)
        if not may_accept(ballot, kept.promised):
            return RowVote(OUTBID, own, kept.promised)
        fences, partition = self._replica.fences, partition_of(row)
        is_newer = held is None or record.version > held.version
        if is_newer and fences.refuses(record, held, fences.boundary(partition)):
            return RowVote(REFUSED, own)
        boxed: Any = ballot
        self._keep(row, votes, Instance(base, boxed, boxed, record), base, held)
        self.note_accepted(row)
        return RowVote(ACCEPTED, own, boxed, boxed)

    def note_accepted(self, row: bytes) -> None:
        """A vote on a successor of this row may be open."""
        partition = partition_of(row)
        rows = self._accepted.get(partition)
        if rows is None:
            return
        rows[row] = None
        if len(rows) > NOTED_MAX and partition not in self._unread:
            # The records of most are held by now. To go through all votes costs more by far.
            try:
                self._open(partition, list(rows))
                is_short = len(rows) <= NOTED_MAX // 2
            except StorageError:
                is_short = False
            if not is_short:
                del self._accepted[partition]

    def is_known(self, partition: int) -> bool:
        """Whether it is known which votes of a partition are open. Not after a restart: they are to
        be gone through before."""
        return partition in self._accepted and partition not in self._unread

    def go_through(self, partition: int, limit: int) -> int:
        """Go through some of the votes of a partition of which it is not known which are open: of
        about `limit` rows; returns of how many. StorageError if they cannot be read."""
        start, end = partition_bounds(partition)
        page, has_more = self._replica.votes.page(
            self._unread.get(partition, start), end, limit=limit
        )
        rows = self._accepted.setdefault(partition, {})
        found = list(page)
        rows.update(dict.fromkeys(found))
        if has_more:
            self._unread[partition] = found[-1] + b"\0"
        else:
            self._unread.pop(partition, None)
        self._open(partition, found)
        return len(found)

    def open_below(self, partition: int, boundary: int) -> list[bytes]:
        """The rows of which a vote is open whose record a lock at this boundary would refuse. Ask
        where `is_known`."""
        fences = self._replica.fences
        found: list[bytes] = []
        for row, each, held in self._open(partition, list(self._accepted[partition])):
            if each.record is not None and fences.refuses(each.record, held, boundary):
                found.append(row)
        return found

    def open_on(self, partition: int) -> list[tuple[bytes, Instance]]:
        """The open votes that count on the lock of the partition, and their rows. Ask where
        `is_known`."""
        lock = self._replica.fences.locked(partition)
        found = self._open(partition, list(self._accepted[partition]))
        return [(row, each) for row, each, _ in found if each.base == lock]

    def give_up(self, row: bytes, instance: Instance) -> None:
        """Forget what was accepted for an instance, as of now, which cannot be decided any more;
        not what was promised."""
        votes = self.remembered(row)
        instances: list[Instance] = []
        for each in votes.instances:
            is_it = each.base == instance.base and each.accepted == instance.accepted
            if is_it and not each.is_resolved:
                instances.append(Instance(each.base, each.promised))
            else:
                instances.append(each)
        self.put(row, StoredVotes(votes.floor, instances, votes.lost))

    def _open(
        self, partition: int, rows: list[bytes]
    ) -> list[tuple[bytes, Instance, Record | None]]:
        """The open votes of these rows of a partition; those that have none are noted no more.
        StorageError if they cannot be read."""
        found: list[tuple[bytes, Instance, Record | None]] = []
        for row in rows:
            held = self._replica.latest(row)
            version = ABSENT if held is None else held.version
            is_open = False
            for each in self.remembered(row).instances:
                record = each.record
                if record is not None and not each.is_resolved and record.version > version:
                    found.append((row, each, held))
                    is_open = True
            if not is_open:
                del self._accepted[partition][row]
        return found

    def forget(self, start: bytes, end: bytes, *, limit: int) -> None:
        """Forget the votes of rows of [start, end) of which nothing is held, and whose instances
        are all below the horizon: these are gone by that. At most `limit` at once."""
        votes = self._replica.votes
        horizon = self._replica.fences.collected(partition_of(start))
        found: list[bytes] = []
        for row, blob in votes.scan(start, end):
            if len(found) == limit:
                break
            if _is_below(blob, horizon) and self._replica.latest(row) is None:
                found.append(row)
        for row in found:
            votes.put(row, None)

    def _base_of(self, row: bytes, held: Record | None) -> bytes:
        """The version whose successor is open here."""
        fences, partition = self._replica.fences, partition_of(row)
        if held is None or fences.is_garbage(held, fences.boundary(partition)):
            return fences.locked(partition)
        return held.version

    def _enter(
        self, row: bytes, base: bytes, held: Record | None, own: bytes
    ) -> tuple[int, Instance, StoredVotes]:
        """What was voted on an instance so far; or RESOLVED, with who won as its record, or
        GONE."""
        if held is not None and _is_resolved(base, held):
            return RESOLVED, Instance(base, _BELOW_ALL, record=winners_of(held)), NO_VOTES
        if base < own or is_phantom(base):
            lock = self._replica.fences.locked(partition_of(row))
            if base < own == lock or (is_phantom(base) and (base != lock or own < base)):
                return GONE, Instance(base, _BELOW_ALL), NO_VOTES
        votes, found = self.remembered(row), None
        for each in votes.instances:
            of = each.base
            if of == base:
                found = each
            elif base < of:
                if _counts_on_lock(each):
                    # What it accepted there comes after nothing, with which what is below is lost.
                    return GONE, Instance(base, _BELOW_ALL), NO_VOTES
                if each.is_resolved and chain_of(of) == chain_of(base):
                    # So is what is below on its chain.
                    found = each
        if found is not None:
            return RESOLVED if found.is_resolved else PROMISED, found, votes
        fresh = Instance(base, _BELOW_ALL)
        is_lost = votes.lost > 0 and made_of(base) <= votes.lost
        if is_lost or base <= votes.floor or self._is_forgotten(row, base, held, votes):
            return GONE, fresh, NO_VOTES
        return PROMISED, fresh, votes

    def _is_forgotten(
        self, row: bytes, base: bytes, held: Record | None, votes: StoredVotes
    ) -> bool:
        """Whether votes on an instance may have been dropped without a floor, or would be."""
        if len(votes.instances) == INSTANCES_MAX and base < votes.instances[0].base:
            return True
        if is_phantom(base):
            return False
        if held is not None and chain_of(held.version) == chain_of(base):
            return False
        # What is below the horizon may have been collected, with its votes.
        return base < self._replica.fences.collected(partition_of(row))

    def remembered(self, row: bytes) -> StoredVotes:
        """What is remembered of a row. Of damaged votes, from then on: that there may have been
        any, up to now. It may have voted on what it does not hold."""
        try:
            blob = self._replica.votes.get(row)
            if blob is None:
                return NO_VOTES
            entry = self._decoded.get(row)
            if entry is not None and entry[0] is blob:
                return entry[1]
            votes = decode_votes(blob)
            self._note_decoded(row, blob, votes)
            return votes
        except Corrupt:
            lost = StoredVotes(lost=self._clock.last)
            self.put(row, lost)
            return lost

    def put(self, row: bytes, votes: StoredVotes) -> None:
        """Remember this of a row, with this step's batch. Of more than INSTANCES_MAX the lowest
        go. Who has added an acceptance calls `note_accepted`."""
        instances = votes.instances
        cut = max(len(instances) - INSTANCES_MAX, 0)
        while len(instances) - cut > RESOLVED_MAX and instances[cut].is_resolved:
            cut += 1
        if cut:
            floor = max(votes.floor, instances[cut - 1].base)
            votes = StoredVotes(floor, instances[cut:], votes.lost)
        blob = encode_votes(votes)
        self._note_decoded(row, blob, votes)
        self._replica.votes.put(row, blob)

    def _note_decoded(self, row: bytes, blob: bytes, votes: StoredVotes) -> None:
        """Need not decode this again soon, unless it is large."""
        if len(self._decoded) >= DECODED_MAX:
            self._decoded.clear()
        if len(blob) <= DECODED_BYTES_MAX:
            self._decoded[row] = blob, votes

    def _keep(
        self, row: bytes, votes: StoredVotes, fresh: Instance, base: bytes, held: Record | None
    ) -> None:
        """Remember a vote, on the successor of `base`; the lowest instance goes where there are too
        many. Of those that are resolved the records go, which may be large. Of those of one chain,
        one behind the other, all but the last go too: the winners in its record reach back as far
        as any record's, and each vote on a hot counter would else write its last RESOLVED_MAX."""
        instances: list[Instance] = []
        size, last, resolved = _size_of(fresh), ABSENT, ABSENT
        """The base of the last of them, and its chain if it is resolved."""
        for each in votes.instances:
            of = each.base
            if of == base:
                continue
            known = settled(each, held)
            chain = chain_of(of) if known.is_resolved else ABSENT
            if chain and chain == resolved:
                size -= _size_of(instances.pop())
            size += _size_of(known)
            instances.append(known)
            last, resolved = of, chain
        instances.append(fresh)
        if last > base:
            instances.sort(key=_base)
        floor = votes.floor
        while size > VOTES_BYTES_MAX and _is_overtaken(instances[0], fresh, held):
            # Each vote reads and writes all that is remembered.
            size -= _size_of(instances[0])
            floor = max(floor, instances.pop(0).base)
        self._clock.observe(made_of(base))
        self.put(row, StoredVotes(floor, instances, votes.lost))


def _size_of(instance: Instance) -> int:
    record = instance.record
    return 0 if record is None else record.size


def _is_overtaken(instance: Instance, fresh: Instance, held: Record | None) -> bool:
    """Whether an instance may be forgotten, as the held record is newer than anything accepted for
    it. Then only its own proposer still asks, and is told that it is gone."""
    if instance is fresh or held is None:
        return False
    return instance.record is None or instance.record.version < held.version


def settled(instance: Instance, held: Record | None) -> Instance:
    """What to remember of an instance; without a record that may be large if it is resolved."""
    if held is None or instance.is_resolved or not _is_resolved(instance.base, held):
        return instance
    base, promised, accepted = instance.base, instance.promised, instance.accepted
    return Instance(base, promised, accepted, winners_of(held), True)


def _is_below(blob: bytes, bound: bytes) -> bool:
    """Whether all votes in `blob` are on successors of versions below `bound`, a horizon, where no
    successor can win any more. False if the blob is damaged."""
    try:
        votes = decode_votes(blob)
    except Corrupt:
        return False
    top = votes.instances[-1].base if votes.instances else votes.floor
    return top < bound and votes.lost < stamp_of(bound)


def _counts_on_lock(instance: Instance) -> bool:
    """Whether something was accepted on the ground of a lock, which may have been taken back."""
    return is_phantom(instance.base) and instance.accepted > NO_BALLOT


def _is_resolved(base: bytes, held: Record) -> bool:
    """Whether a successor of `base` is held, or what was built on one."""
    return held.version > base and chain_of(held.version) == chain_of(base)


def _base(instance: Instance) -> bytes:
    return instance.base
