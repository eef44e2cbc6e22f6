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
with fresh questions (docs/design.md#reads-and-repair says what goes wrong otherwise).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from quorate.core.exchanges.look import Look
from quorate.core.exchanges.outbox import Outbox, Questions
from quorate.core.exchanges.repairs import Repairs
from quorate.core.exchanges.surplus import withheld_of
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import Group, Groups, Replicas, count_of, lacking
from quorate.core.turn import Alarm, Parked, Parts
from quorate.core.values.events import Get, GetResult
from quorate.core.values.messages import ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import InvalidRequest, NotReady, QuorateError, StorageError

READ_WAIT_MS: Final = 500
"""How long a read waits for enough reachable replicas: a link that broke is re-made in less."""
WITHHELD_AGAIN_MS: Final = 20
"""Until a read asks again that replicas could not answer yet: longer than a disk's sync."""

_NONE: Final[frozenset[bytes]] = frozenset()
_speed: Final = attrgetter("speed")


class Reads:
    """All reads that this node coordinates; the exchange that asks."""

    __slots__ = (
        "_again",
        "_lanes",
        "_marks",
        "_membership",
        "_replica",
        "_requests",
        "_timeout_ms",
        "_turn",
        "_withheld",
        "repairs",
    )

    def __init__(self, parts: Parts, membership: Membership) -> None:
        self._membership = membership
        self._marks = membership.marks
        self._replica = parts.replica
        self._requests = parts.requests
        self._turn = parts.turn
        self._timeout_ms = parts.settings.timeout_ms
        self._withheld: list[Look] = []
        """Reads that wait until replicas have given up what they hold of an earlier layout."""
        self._again = Alarm(parts.turn, self._look_at_withheld)
        self._lanes: list[Questions[Look]] = []
        """By the index of the peer."""
        self.repairs = Repairs(parts, answer=self._answer, look_again=self._look_again)

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
            self._note_own(look, record, is_intact=is_intact)
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
        live = look.replicas.reachable() & ~(look.damaged | look.withheld)
        return look.failed_for_want_of(live, "too few replicas can be reached")

    def _waits_for_withheld(self, look: Look, live: int) -> bool:
        """Whether it lacks only answers of replicas that first give up what they hold of it, beside
        those in `live`: then these are asked once more WITHHELD_AGAIN_MS later.

        For example: a move is called off while this key is copied, and begun once more. Until what
        was copied is dropped the gainer has nothing to tell; some milliseconds later it has."""
        if not look.withheld or lacking(live | look.withheld, look.groups):
            return False
        self._withheld.append(look)
        self._again.at(self._turn.mono_ms + WITHHELD_AGAIN_MS)
        return True

    def _look_at_withheld(self) -> None:
        withheld, self._withheld = self._withheld, []
        for look in withheld:
            if look.waiter is not None and not look.keepers:
                self._ask_once_more(look)

    def _ask_once_more(self, look: Look) -> None:
        """Ask those that withheld it. What others answered goes on to count."""
        bits, look.withheld = look.withheld, 0
        look.asked &= ~bits
        look.failed &= ~bits
        if bits & OWN_BIT:
            self._ask_self(look)
        lost = []
        for peer in look.replicas.others:
            if bits & peer.bit and peer.is_reachable:
                self._ask_also(look, peer)
            elif bits & peer.bit:
                lost.append(peer.bit)
        if lacking(look.answers, look.groups):
            self._missed(look, lost)
        else:
            self._judge(look)

    def _own(self, row: bytes) -> tuple[Record | None, bool]:
        """What this replica has, and whether it could be read."""
        try:
            return self._replica.shown(row), True
        except StorageError:
            return None, False

    def _ask_self(self, look: Look) -> None:
        if not self._marks.counts and look.replicas.overlaps(look.groups):
            # A read that begins now would not count it either.
            look.withheld |= OWN_BIT
            return
        record, is_intact = self._own(look.row)
        self._note_own(look, record, is_intact=is_intact)

    def _note_own(self, look: Look, record: Record | None, *, is_intact: bool) -> None:
        """Take this node's own answer, if it has a readable one."""
        if is_intact:
            look.note(OWN_BIT, ABSENT if record is None else record.version, record)
        else:
            look.note_unread(OWN_BIT, is_withheld=bool(withheld_of(self._replica, (look.row,))))

    def _ask(self, look: Look) -> bool:
        """Ask as many replicas as are still needed; False, asking none, if there are too few."""
        chosen = look.replicas.fastest(look.answers, look.groups)
        asked = 0
        for peer in chosen:
            asked |= peer.bit
        come = look.answers | asked
        if lacking(come, look.groups) and not self._waits_for_withheld(look, come):
            return False
        look.asked = asked
        lanes, is_full = self._lanes, not look.answers
        for peer in chosen:
            if is_full:
                lanes[peer.index].ask_record(look.row, look, size=look.size)
                is_full = False
            else:
                lanes[peer.index].ask_version(look.row, look)
        if not chosen and not look.withheld:
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
            self._ask_also(look, peer)
        return look.asked != before

    def _ask_also(self, look: Look, peer: Peer) -> None:
        look.asked |= peer.bit
        lane = self._lanes[peer.index]
        if look.record is None:
            lane.ask_record(look.row, look, size=look.size)
        else:
            lane.ask_version(look.row, look)

    # --- hearing ---------------------------------------------------------------------------

    def answered(self, peer: Peer, ops: list[Look], answer: ReadAnswer) -> None:
        """A replica told its records, and after them versions."""
        records, versions, told = answer.records, answer.versions, answer.failed
        failed = frozenset(told) if told else _NONE
        full_count = len(records)
        assert len(ops) == full_count + len(versions), "each was answered, and nothing else"
        # By index: a `zip` costs as much as hearing a dozen answers.
        for index, look in enumerate(ops):
            if told and look.row in failed:
                self._not_read(look, peer.bit, is_withheld=look.row in answer.withheld)
            elif index < full_count:
                record = records[index]
                version = ABSENT if record is None else record.version
                self._heard(peer, look, version, record)
            else:
                self._heard(peer, look, versions[index - full_count], None)

    def lost(self, peer: Peer, ops: list[Look]) -> None:
        """A replica did not answer: ask another."""
        for look in ops:
            self._missed(look, [peer.bit])

    def _not_read(self, look: Look, bit: int, *, is_withheld: bool) -> None:
        if look.waiter is None or look.keepers:
            return
        look.note_unread(bit, is_withheld=is_withheld)
        self._missed(look, [bit])

    def _heard(self, peer: Peer, look: Look, version: bytes, record: Record | None) -> None:
        if look.waiter is None or look.keepers:
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
        if lacking(live, look.groups) and not self._waits_for_withheld(look, live):
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
            if not look.answers & OWN_BIT:
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
                self.repairs.hedge_later(look)
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
