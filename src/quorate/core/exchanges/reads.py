# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a read: ask R replicas, newest wins, repair before answering where that is promised.

This node is asked first if it is a replica, then the fastest others: one full record, versions from
the rest. In place of a late replica, or a lost one, another is asked in each group that it was in.

Among those as fast as each other reads prefer whom their step asks or writes to anyway, so that a
step sends fewer frames. The first read of a step follows the layout's preference, which differs by
partition, and the others follow it: so over many steps each peer is asked as much as without that.

When answers differ ("missing" is an old version), the newest is written back until a majority holds
it, and only then is the read answered, if R + W > N; else the repair goes on behind the answer. If
a replica acks the write-back as superseded, what was read is already old, and the read looks again
with fresh questions (docs/design.md#reads-and-repair says what goes wrong otherwise). A late
write-back is hedged too.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import Final

from quorate.core.exchanges.look import Look
from quorate.core.exchanges.outbox import Outbox, Questions, Records
from quorate.core.horizons import Fenced
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import Group, Groups, Replicas, count_of, lacking
from quorate.core.turn import Alarm, Parked, Parts
from quorate.core.values.events import Get, GetResult
from quorate.core.values.messages import Mutated, ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import InvalidRequest, NotReady, QuorateError, StorageError

READ_WAIT_MS: Final = 500
"""How long a read waits for enough reachable replicas: a link that broke is re-made in less."""
WRITE_BACK_AGAIN_MS: Final = 20
"""Between two tries to find a replica for a write-back that nobody could take."""
WRITE_BACK_HEDGE_MS: Final = 50
"""Slower than most disks. Most that are written to then hold it already, and store nothing."""

_NONE: Final[frozenset[bytes]] = frozenset()
_speed: Final = attrgetter("speed")


class Reads:
    """All reads that this node coordinates; the exchange that asks."""

    __slots__ = (
        "_again",
        "_lanes",
        "_late",
        "_marks",
        "_membership",
        "_replica",
        "_requests",
        "_stranded",
        "_timeout_ms",
        "_turn",
        "_writing_back",
        "repairs",
    )

    def __init__(self, parts: Parts, membership: Membership) -> None:
        self._membership = membership
        self._marks = membership.marks
        self._replica = parts.replica
        self._requests = parts.requests
        self._turn = parts.turn
        self._timeout_ms = parts.settings.timeout_ms
        self._stranded: list[Look] = []
        """Reads whose answer waits for one more copy that no replica could take."""
        self._again = Alarm(parts.turn, self._write_back_again)
        self._writing_back: deque[tuple[int, Look]] = deque()
        """Reads whose answer waits for copies that were sent, oldest first, and when to hedge them.
        Those that were answered are dropped when they reach the head."""
        self._late = Alarm(parts.turn, self._hedge_write_backs)
        self._lanes: list[Questions[Look]] = []
        """By the index of the peer."""
        self.repairs = Repairs(self, parts)

    def open(self, outbox: Outbox) -> None:
        """Be able to ask one more peer."""
        self.repairs.open(outbox)
        self._lanes.append(Questions(outbox, self, self._hedge))

    # --- asking ----------------------------------------------------------------------------

    def begin(self, event: Get, parked: Parked | None = None) -> None:
        """Begin an admitted read, or park it. InvalidRequest for an R that cannot be."""
        try:
            topology = self._membership.current()
        except NotReady as error:
            self._park(event, parked, error)
            return
        row = row_of(event.key)
        replicas = topology.partitions[partition_of(row)]
        groups = replicas.asked(event.r, name="r") if event.r else replicas.readers
        record, is_intact = None, False
        if replicas.is_mine:
            if not self._marks.counts and replicas.overlaps(groups):
                is_short = lacking(replicas.reachable(), groups)
                reason = replicas.unreachable(groups) if is_short else self._marks.error()
                self._park(event, parked, reason)
                return
            record, is_intact = self._own(row)
            if is_intact and not lacking(OWN_BIT, groups):
                # Without a look: most of what such a read would cost.
                self._requests.learn_size(record)
                self._requests.answer(event.waiter, GetResult(record, 1), 0)
                return
        look = Look(event, row, replicas, groups)
        if replicas.is_mine:
            look.note_own(record, is_intact=is_intact)
        look.size = self._requests.typical_bytes
        self._requests.bytes += look.size
        if not self._ask(look):
            self._requests.bytes -= look.size
            self._park(event, parked, self._unreachable(look))
            return
        self._requests.watch(look, event.timeout_ms or self._timeout_ms)

    def _hedge(self, late: Peer, ops: list[Look]) -> None:
        """Ask others for what a slow replica has not answered by its p95."""
        for look in ops:
            if look.waiter is not None and not look.keepers and self._ask_more(look, late.bit):
                self._turn.counters["reads_hedged"] += 1

    def _park(self, event: Get, parked: Parked | None, error: QuorateError) -> None:
        self._requests.park(event, error, wait_ms=READ_WAIT_MS, again=parked)

    def _unreachable(self, look: Look) -> QuorateError:
        live = look.replicas.reachable() & ~look.damaged
        return look.failed_for_want_of(live, "too few replicas can be reached")

    def _own(self, row: bytes) -> tuple[Record | None, bool]:
        """What this replica has, and whether it could be read."""
        try:
            return self._replica.shown(row), True
        except StorageError:
            return None, False

    def _ask_self(self, look: Look) -> None:
        record, is_intact = self._own(look.row)
        look.note_own(record, is_intact=is_intact)

    def _ask(self, look: Look) -> bool:
        """Ask as many replicas as are still needed; False, asking none, if there are too few."""
        chosen = look.replicas.fastest(look.answers, look.groups)
        asked = 0
        for peer in chosen:
            asked |= peer.bit
        if lacking(look.answers | asked, look.groups):
            return False
        look.asked = asked
        lanes, is_full = self._lanes, not look.answers
        for peer in chosen:
            if is_full:
                lanes[peer.index].ask_record(look.row, look, size=look.size)
                is_full = False
            else:
                lanes[peer.index].ask_version(look.row, look)
        if not chosen:
            self._judge(look)
        return True

    def _ask_more(self, look: Look, bit: int) -> bool:
        """In place of a replica that is late or lost ask another one in each group that it was in;
        whether there was any."""
        vacant = [g for g in look.groups if g.mask & bit and lacking(look.answers, (g,))]
        before = look.asked
        for peer in sorted(look.replicas.others, key=_speed) if vacant else ():
            rest = [group for group in vacant if not group.mask & peer.bit]
            if len(rest) == len(vacant) or look.asked & peer.bit or not peer.is_reachable:
                continue
            vacant = rest
            look.asked |= peer.bit
            lane = self._lanes[peer.index]
            if look.record is None:
                lane.ask_record(look.row, look, size=look.size)
            else:
                lane.ask_version(look.row, look)
        return look.asked != before

    # --- hearing ---------------------------------------------------------------------------

    def answered(self, peer: Peer, ops: list[Look], answer: ReadAnswer) -> None:
        """A replica told its records, and after them versions."""
        records, versions, told = answer.records, answer.versions, answer.failed
        failed = frozenset(told) if told else _NONE
        full_count = len(records)
        assert len(ops) == full_count + len(versions), "each was answered, and nothing else"
        # By index: a `zip` costs as much as hearing a dozen answers.
        for index, look in enumerate(ops):
            is_failed = bool(told) and look.row in failed
            if index < full_count:
                record = records[index]
                version = ABSENT if record is None else record.version
                self._heard(peer, look, version, record, is_failed=is_failed)
            else:
                version = versions[index - full_count]
                self._heard(peer, look, version, None, is_failed=is_failed)

    def lost(self, peer: Peer, ops: list[Look]) -> None:
        """A replica did not answer: ask another."""
        for look in ops:
            self._missed(look, [peer.bit])

    def _heard(
        self, peer: Peer, look: Look, version: bytes, record: Record | None, *, is_failed: bool
    ) -> None:
        if look.waiter is None or look.keepers:
            return
        if is_failed:
            look.damaged |= peer.bit
            self._missed(look, [peer.bit])
            return
        look.note(peer.bit, version, record)
        if not lacking(look.answers, look.groups):
            self._judge(look)

    def _missed(self, look: Look, bits: list[int]) -> None:
        """Replicas will not answer: ask others. Without enough answers that may still come the
        read has failed."""
        if look.waiter is None or look.keepers:
            return
        for bit in bits:
            look.failed |= bit
            self._ask_more(look, bit)
        live = look.answers | look.asked & ~look.failed
        if lacking(live, look.groups):
            detail = "replicas were lost while they were being read"
            self._requests.end(look, look.failed_for_want_of(live, detail))

    # --- judging ---------------------------------------------------------------------------

    def _judge(self, look: Look) -> None:
        """Enough replicas answered: answer, fetch the newest, or repair."""
        if look.is_settled():
            self._answer(look)
            return
        versions = look.versions
        newest = max(versions.values())
        if self._turn.is_ahead(newest) and min(versions.values()) != newest:
            self._distrust(look)
            return
        if newest > look.version:
            self._fetch(look, newest)
            return
        behind = 0
        for bit, version in versions.items():
            if version != newest:
                behind |= bit
        if behind or look.damaged:
            self._repair(look, behind)
        else:
            self._answer(look)

    def _distrust(self, look: Look) -> None:
        """Do not count answers that are further ahead than clocks may differ.

        Only where others disagree. For example: two replicas answer "yesterday's version", the
        third one "a version of next year". Its clock was wrong, or a client's node's was; written
        back, that one wrong clock would be everyone's. Ask another replica in its place.
        """
        ahead = [bit for bit, version in look.versions.items() if self._turn.is_ahead(version)]
        self._turn.counters["read_answers_distrusted"] += len(ahead)
        for bit in ahead:
            look.take_back(bit)
        # The record that came may have been of one of these.
        look.record = None
        look.version = ABSENT
        if look.answers & OWN_BIT:
            look.take_back(OWN_BIT)
            self._ask_self(look)
            if look.damaged & OWN_BIT:
                ahead.append(OWN_BIT)  # It was readable when the read began.
        self._missed(look, ahead)
        if look.waiter is not None and not lacking(look.answers, look.groups):
            self._judge(look)

    def _fetch(self, look: Look, newest: bytes) -> None:
        """Ask the first replica that reported the newest version for its record.

        Its answer no longer counts, and counts again with the record: so if it dies meanwhile it
        is a replica that did not answer, as any other.
        """
        bit = next(bit for bit, version in look.versions.items() if version == newest)
        look.take_back(bit)
        # This node's own answer is always a full record, so the newest version is a peer's.
        peer = next(peer for peer in look.replicas.others if peer.bit == bit)
        self._lanes[peer.index].ask_record(look.row, look, size=look.size)

    def _repair(self, look: Look, behind: int) -> None:
        """Write the newest record to the replicas that are behind; where reads promise to be no
        older than finished writes, answer only when a majority holds it."""
        record, replicas = look.record, look.replicas
        holders = look.answers & ~behind
        is_strict = replicas.overlaps(look.groups)
        if is_strict:
            # Only then do the others know of every finished write that the damaged copy held.
            behind |= look.damaged
        if record is None or not behind:
            self._answer(look)
            return
        look.repaired = behind.bit_count()
        self._turn.counters["reads_repaired"] += 1
        self._turn.counters["replicas_repaired"] += look.repaired
        if is_strict:
            keepers = tuple(
                [
                    Group(each.mask, min(each.needed, (each.mask & look.answers).bit_count()))
                    for each in replicas.majorities
                ]
            )
            if lacking(holders, keepers):
                look.keepers, look.holders = keepers, holders
                look.asked = look.answers | look.damaged
                self._hedge_write_back_later(look)
        self.repairs.send(look, record, behind)
        if not look.keepers:
            self._answer(look)

    def _answer(self, look: Look) -> None:
        waiter = look.waiter
        assert waiter is not None
        look.waiter = None
        record = look.record
        self._requests.learn_size(record)
        answers = count_of(look.answers)
        self._requests.answer(waiter, GetResult(record, answers, look.repaired), look.size)

    def wrote_back(self, look: Look, bit: int, *, is_superseded: bool) -> None:
        """A replica holds what this look read, or something newer."""
        if look.waiter is None or not look.keepers:
            return
        look.holders |= bit
        look.is_superseded |= is_superseded
        if lacking(look.holders, look.keepers):
            return
        if look.is_superseded:
            self._look_again(look)
        else:
            self._answer(look)

    def not_written_back(self, look: Look, bit: int) -> None:
        """A replica did not take what was to be written back: send it to another. If none is left,
        try all again WRITE_BACK_AGAIN_MS later."""
        if look.waiter is None or not look.keepers:
            return
        look.lost |= bit
        if not self._write_back(look):
            self._strand(look)

    def _hedge_write_back_later(self, look: Look) -> None:
        order, due_ms = self._writing_back, self._turn.mono_ms + WRITE_BACK_HEDGE_MS
        while order and order[0][1].waiter is None:
            order.popleft()
        order.append((due_ms, look))
        self._late.at(due_ms)

    def _hedge_write_backs(self) -> None:
        """Send what a slow replica has not taken to all that were not sent it."""
        order = self._writing_back
        while order and order[0][0] <= self._turn.mono_ms:
            _, look = order.popleft()
            if look.waiter is not None and self._write_back(look):
                self._turn.counters["reads_hedged"] += 1
                while self._write_back(look):
                    pass
        if order:
            self._late.at(order[0][0])

    def _write_back_again(self) -> None:
        """Send what nobody could take to those once more that did not take it."""
        stranded, self._stranded = self._stranded, []
        for look in stranded:
            if look.waiter is None:
                continue
            if look.is_fenced:
                self._look_again(look)
                continue
            # Not before: two replicas that take nothing would be sent it in turns, as fast as they
            # refuse.
            is_own_lost = look.lost & OWN_BIT
            look.asked &= ~look.lost
            look.lost = 0
            if is_own_lost and look.record is not None:
                self.repairs.send(look, look.record, OWN_BIT)
            elif not self._write_back(look):
                self._strand(look)

    def _strand(self, look: Look) -> None:
        self._stranded.append(look)
        self._again.at(self._turn.mono_ms + WRITE_BACK_AGAIN_MS)

    def _write_back(self, look: Look) -> bool:
        """Send what was read to one more replica; False if none can be reached."""
        wanted = lacking(look.holders, look.keepers) & ~look.asked
        for peer in look.replicas.others:
            if wanted & peer.bit and peer.is_reachable:
                assert look.record is not None, "there is something to write back"
                look.asked |= peer.bit
                self.repairs.send(look, look.record, peer.bit)
                return True
        return False

    def _look_again(self, look: Look) -> None:
        self._turn.counters["reads_looked_again"] += 1
        self._ask_anew(look, look.replicas, look.groups)

    def begin_anew(self, look: Look) -> None:
        """Another layout is in force: ask its replicas."""
        replicas = self._membership.current().partitions[partition_of(look.row)]
        r = look.event.r
        try:
            groups = replicas.asked(r, name="r") if r else replicas.readers
        except InvalidRequest as error:
            # There are fewer replicas than it asked for, by now.
            self._requests.end(look, error)
            return
        self._ask_anew(look, replicas, groups)

    def _ask_anew(self, look: Look, replicas: Replicas, groups: Groups) -> None:
        """Have another look take the place of one under way."""
        again = Look(look.event, look.row, replicas, groups)
        again.size = look.size
        if replicas.is_mine:
            self._ask_self(again)
        if not self._ask(again):
            self._requests.end(look, self._unreachable(again))
            return
        look.waiter = None
        self._requests.watch(again, max(look.deadline_ms - self._turn.mono_ms, 1))


class Repairs:
    """The exchange that writes records back to replicas that reads found behind."""

    __slots__ = ("_lanes", "_reads", "_replica", "_turn")

    def __init__(self, reads: Reads, parts: Parts) -> None:
        self._lanes: list[Records[Look]] = []
        """By the index of the peer."""
        self._reads = reads
        self._replica = parts.replica
        self._turn = parts.turn

    def open(self, outbox: Outbox) -> None:
        """Be able to write back to one more peer."""
        self._lanes.append(Records(outbox, self))

    def send(self, look: Look, record: Record, behind: int) -> None:
        """Write `record` to the replicas that are behind."""
        if behind & OWN_BIT:
            self._write_here(look, record)
        for peer in look.replicas.others:
            if behind & peer.bit:
                if peer.is_reachable:
                    self._lanes[peer.index].add(look.row, record, look)
                else:
                    self._reads.not_written_back(look, peer.bit)

    def answered(self, peer: Peer, ops: list[Look], answer: Mutated) -> None:
        """A replica holds the records."""
        superseded = {index for index, _ in answer.superseded}
        fenced = {index for index, _ in answer.fenced}
        refused = fenced.union([index for index, _ in answer.refused])
        for index, look in enumerate(ops):
            look.is_fenced |= index in fenced
            if index in refused:
                self._reads.not_written_back(look, peer.bit)
            else:
                self._reads.wrote_back(look, peer.bit, is_superseded=index in superseded)

    def lost(self, peer: Peer, ops: list[Look]) -> None:
        """A replica did not answer; the next read of the key will find it behind again."""
        for look in ops:
            self._reads.not_written_back(look, peer.bit)

    def _write_here(self, look: Look, record: Record) -> None:
        # Others may agree on what is past the guard here: that is believed, but not taken.
        if self._replica.trouble.code or self._turn.is_ahead(record.version):
            self._reads.not_written_back(look, OWN_BIT)
            return
        try:
            higher = self._replica.apply(look.row, record)
        except (StorageError, Fenced) as error:
            look.is_fenced |= isinstance(error, Fenced)
            self._reads.not_written_back(look, OWN_BIT)
            return
        reads = self._reads
        self._replica.when_durable(
            lambda: reads.wrote_back(look, OWN_BIT, is_superseded=bool(higher))
        )
