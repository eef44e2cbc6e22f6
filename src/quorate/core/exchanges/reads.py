# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a read: ask R replicas, newest wins, repair before answering where that is promised.

This node is asked first if it is a replica, then the fastest others: one full record, versions from
the rest. A late answer is hedged by asking one more replica; a lost one is replaced.

When answers differ ("missing" is an old version), the newest is written back until a majority holds
it, and only then is the read answered, if R + W > N; else the repair goes on behind the answer. If
a replica acks the write-back as superseded, what was read is already old, and the read looks again
with fresh questions. A model checker found that leaving this out breaks linearizability.
"""

from __future__ import annotations

from operator import attrgetter, itemgetter
from typing import Final, cast

from quorate.core.exchanges.outbox import Answer, Peer, Sent
from quorate.core.parts import Parts
from quorate.core.requests.admission import Operation, Parked
from quorate.core.topology.placement import Placement
from quorate.core.values.events import Get, GetResult
from quorate.core.values.messages import Mutated, ReadAnswer
from quorate.core.values.quorum import Verdict, majority, verdict
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import (
    DeadlineExceeded,
    NotReady,
    QuorateError,
    QuorumUnreachable,
    StorageError,
)

READ_WAIT_MS: Final = 500
"""How long a read waits for enough reachable replicas: a link that broke is re-made in less."""
WRITE_BACK_AGAIN_MS: Final = 20
"""Between two tries to find a replica for a write-back that nobody could take."""

_speed: Final = attrgetter("speed")
_version: Final = itemgetter(1)


class Look(Operation):
    """One round of asking for one key."""

    __slots__ = (
        "asked",
        "damaged",
        "event",
        "failed",
        "holders",
        "is_superseded",
        "lost",
        "n",
        "needed",
        "others",
        "r",
        "record",
        "repaired",
        "row",
        "seen",
        "version",
    )

    def __init__(self, event: Get, row: bytes, others: tuple[Peer, ...], *, n: int, r: int) -> None:
        super().__init__(event.waiter, 0)
        self.event = event
        self.row = row
        self.others = others
        self.n = n
        self.r = r
        self.record: Record | None = None
        """The newest full record that came."""
        self.version = ABSENT
        """Its version."""
        self.seen: list[tuple[Peer | None, bytes]] = []
        """Who answered what; None is this node."""
        self.asked: list[Peer] = []
        """Peers not to ask again; while writing back: those that hold it, are sent it or lost."""
        self.lost: list[Peer | None] = []
        """While writing back: replicas that did not take it when they were last sent it."""
        self.damaged: list[Peer | None] = []
        """Replicas whose copy cannot be read."""
        self.failed = 0
        self.repaired = 0
        # While writing back:
        self.holders = 0
        self.needed = 0
        self.is_superseded = False

    def expired(self) -> QuorateError:
        return DeadlineExceeded(
            "too few replicas answered in time", needed=self.r, answered=len(self.seen)
        )

    def note(self, peer: Peer | None, version: bytes, record: Record | None) -> None:
        """Take one answer."""
        if record is not None and version > self.version:
            self.record = record
            self.version = version
        self.seen.append((peer, version))

    def note_own(self, record: Record | None, *, is_intact: bool) -> None:
        """Take this node's own answer, if it has a readable one."""
        if is_intact:
            self.note(None, ABSENT if record is None else record.version, record)
        else:
            self.failed += 1
            self.damaged.append(None)


class Reads:
    """All reads that this node coordinates; the exchange that asks."""

    __slots__ = (
        "_again_ms",
        "_replica",
        "_requests",
        "_stranded",
        "_timeout_ms",
        "_turn",
        "_typical_bytes",
        "peers",
        "placement",
        "repairs",
    )

    def __init__(self, parts: Parts) -> None:
        self._replica = parts.replica
        self._requests = parts.requests
        self._turn = parts.turn
        self._timeout_ms = parts.settings.timeout_ms
        self._typical_bytes = 0
        """What a read is charged with: the largest value that was read lately. Nobody knows what a
        read will bring, and many large ones at once are what could exhaust the memory."""
        self._stranded: list[Look] = []
        """Reads whose answer waits for one more copy that no replica could take."""
        self._again_ms: int | None = None
        """When to try again; None without any."""
        self.repairs = Repairs(self, parts)
        self.peers: dict[str, Peer] = {}
        self.placement: Placement | None = None

    # --- asking ----------------------------------------------------------------------------

    def begin(self, event: Get, parked: Parked | None = None) -> None:
        """Begin an admitted read, or park it. InvalidRequest for an R that cannot be."""
        placement = self.placement
        if placement is None:
            self._park(event, parked, NotReady("the cluster's layout is not known yet"))
            return
        row = row_of(event.key)
        partition = partition_of(row)
        r = placement.needed(event.r, placement.r, name="r") if event.r else placement.r
        record, is_intact = None, False
        is_mine = placement.is_mine[partition]
        if is_mine:
            record, is_intact = self._own(row)
            if r == 1 and is_intact:
                # Without a look: most of what such a read would cost.
                self._learn_size(record)
                self._requests.answer(event.waiter, GetResult(record, 1), 0)
                return
        look = Look(event, row, placement.others[partition], n=placement.n, r=r)
        if is_mine:
            look.note_own(record, is_intact=is_intact)
        look.size = self._typical_bytes
        self._requests.charge(look.size)
        if not self._ask(look):
            self._requests.charge(-look.size)
            live = placement.live(partition)
            error = QuorumUnreachable("too few replicas can be reached", needed=r, live=live)
            self._park(event, parked, error)
            return
        self._requests.watch(look, event.timeout_ms or self._timeout_ms)

    def hedge(self) -> None:
        """Ask one more replica for what a slow one has not answered by its p95."""
        for peer in self.peers.values():
            while (sent := peer.overdue()) is not None:
                self._hedge(sent)

    def _hedge(self, sent: Sent) -> None:
        sent.is_hedged = True
        for look in cast("list[Look]", [*sent.ops, *sent.more]):
            if look.waiter is not None and not look.needed and self._ask_more(look):
                self._turn.counters["reads_hedged"] += 1

    def _park(self, event: Get, parked: Parked | None, error: QuorateError) -> None:
        self._requests.park(event, error, wait_ms=READ_WAIT_MS, again=parked)

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
        reachable = [peer for peer in look.others if peer.is_reachable]
        missing = look.r - len(look.seen)
        if len(reachable) < missing:
            return False
        look.failed += len(look.others) - len(reachable)
        if len(reachable) > missing:
            reachable.sort(key=_speed)
            del reachable[missing:]
        is_full = not look.seen
        for peer in reachable:
            look.asked.append(peer)
            if is_full:
                peer.read_full(look.row, look, size=look.size)
                is_full = False
            else:
                peer.read_brief(look.row, look)
        if not missing:
            self._judge(look)
        return True

    def _ask_more(self, look: Look) -> bool:
        """Ask a replica that was not asked before; whether there was any."""
        fresh = [peer for peer in look.others if peer.is_reachable and peer not in look.asked]
        if not fresh:
            return False
        peer = min(fresh, key=_speed)
        look.asked.append(peer)
        if look.record is None:
            peer.read_full(look.row, look, size=look.size)
        else:
            peer.read_brief(look.row, look)
        return True

    # --- hearing ---------------------------------------------------------------------------

    def answered(self, peer: Peer, sent: Sent, answer: Answer) -> None:
        """A replica told its records and versions."""
        told = cast(ReadAnswer, answer)
        full, brief = cast("list[Look]", sent.ops), cast("list[Look]", sent.more)
        failed = frozenset(told.failed)
        for look, record in zip(full, told.records, strict=True):
            version = ABSENT if record is None else record.version
            self._heard(peer, look, version, record, is_failed=look.row in failed)
        for look, version in zip(brief, told.versions, strict=True):
            self._heard(peer, look, version, None, is_failed=look.row in failed)

    def lost(self, peer: Peer, sent: Sent) -> None:
        """A replica did not answer: ask another."""
        del peer
        for look in cast("list[Look]", [*sent.ops, *sent.more]):
            self._missed(look)

    def _heard(
        self, peer: Peer, look: Look, version: bytes, record: Record | None, *, is_failed: bool
    ) -> None:
        if look.waiter is None or look.needed:
            return
        if is_failed:
            look.damaged.append(peer)
            self._missed(look)
            return
        look.note(peer, version, record)
        if verdict(len(look.seen), look.failed, look.n, look.r) is Verdict.MET:
            self._judge(look)

    def _missed(self, look: Look) -> None:
        if look.waiter is None or look.needed:
            return
        look.failed += 1
        if self._ask_more(look):
            return
        if verdict(len(look.seen), look.failed, look.n, look.r) is Verdict.LOST:
            error = QuorumUnreachable(
                "replicas were lost while they were being read",
                needed=look.r,
                answered=len(look.seen),
            )
            self._requests.end(look, error)

    # --- judging ---------------------------------------------------------------------------

    def _judge(self, look: Look) -> None:
        """R replicas answered: answer, fetch the newest, or repair."""
        newest = max([version for _, version in look.seen])
        if newest > self._turn.version_max and min(look.seen, key=_version)[1] != newest:
            self._distrust(look)
            return
        if newest > look.version:
            self._fetch(look, newest)
            return
        behind = [peer for peer, version in look.seen if version != newest]
        if behind or look.damaged:
            self._repair(look, behind)
        else:
            self._answer(look)

    def _distrust(self, look: Look) -> None:
        """Take back answers that are further ahead than clocks may differ, where others do not
        agree: written back, one wrong clock would be everyone's."""
        trusted = [each for each in look.seen if each[1] <= self._turn.version_max]
        missed = len(look.seen) - len(trusted)
        self._turn.counters["read_answers_distrusted"] += missed
        look.seen = [each for each in trusted if each[0] is not None]
        look.record = None
        look.version = ABSENT
        if len(look.seen) < len(trusted):
            self._ask_self(look)
        for _ in range(missed):
            self._missed(look)
        if look.waiter is not None and len(look.seen) >= look.r:
            self._judge(look)

    def _fetch(self, look: Look, newest: bytes) -> None:
        """Ask one that reported the newest version for its record. Its answer is withdrawn and
        counts when it comes again, so a replica that dies meanwhile is simply one that did not
        answer."""
        index = next(i for i, (_, version) in enumerate(look.seen) if version == newest)
        peer, _ = look.seen.pop(index)
        # This node's own answer is always a full record, so the newest version is a peer's.
        assert peer is not None
        peer.read_full(look.row, look, size=look.size)

    def _repair(self, look: Look, behind: list[Peer | None]) -> None:
        record, placement = look.record, self.placement
        assert placement is not None
        holders = len(look.seen) - len(behind)
        needed = min(majority(look.n), len(look.seen))
        is_strict = look.r + placement.w > look.n
        if is_strict:
            # Only then do the others know of every finished write that the damaged copy held.
            behind += look.damaged
        if record is None or not behind:
            self._answer(look)
            return
        look.repaired = len(behind)
        self._turn.counters["reads_repaired"] += 1
        self._turn.counters["replicas_repaired"] += len(behind)
        if is_strict and holders < needed:
            look.holders = holders
            look.needed = needed
            told = [*(peer for peer, _ in look.seen), *look.damaged]
            look.asked = [peer for peer in told if peer is not None]
        self.repairs.send(look, record, behind)
        if not look.needed:
            self._answer(look)

    def _answer(self, look: Look) -> None:
        waiter = look.waiter
        assert waiter is not None
        look.waiter = None
        record = look.record
        self._learn_size(record)
        self._requests.answer(waiter, GetResult(record, len(look.seen), look.repaired), look.size)

    def _learn_size(self, record: Record | None) -> None:
        if record is not None and record.value is not None:
            lately = self._typical_bytes - (self._typical_bytes >> 6)
            self._typical_bytes = max(lately, len(record.value))

    def wrote_back(self, look: Look, *, is_superseded: bool) -> None:
        """One more replica holds what this look read, or something newer."""
        if look.waiter is None or not look.needed:
            return
        look.holders += 1
        look.is_superseded |= is_superseded
        if look.holders < look.needed:
            return
        if look.is_superseded:
            self._look_again(look)
        else:
            self._answer(look)

    def not_written_back(self, look: Look, peer: Peer | None) -> None:
        """A replica that was to be repaired is lost: another takes its place; where there is none,
        a little later, whichever takes it by then."""
        if look.waiter is None or not look.needed:
            return
        look.lost.append(peer)
        if not self._write_back(look):
            self._strand(look)

    def write_back_again(self) -> None:
        """Try once more what nobody could take, if it is time."""
        if self._again_ms is None:
            return
        if self._again_ms > self._turn.mono_ms:
            self._turn.wake_at(self._again_ms)
            return
        self._again_ms = None
        stranded, self._stranded = self._stranded, []
        for look in stranded:
            if look.waiter is None:
                continue
            # Only now: two that take nothing would be sent it in turns, as fast as they refuse.
            is_own_lost = None in look.lost
            look.asked = [peer for peer in look.asked if peer not in look.lost]
            look.lost = []
            if is_own_lost and look.record is not None:
                self.repairs.send(look, look.record, [None])
            elif not self._write_back(look):
                self._strand(look)

    def _strand(self, look: Look) -> None:
        self._stranded.append(look)
        if self._again_ms is None:
            self._again_ms = self._turn.mono_ms + WRITE_BACK_AGAIN_MS
            self._turn.wake_at(self._again_ms)

    def _write_back(self, look: Look) -> bool:
        """Send what was read to one more replica; False if none can be reached."""
        fresh = [peer for peer in look.others if peer.is_reachable and peer not in look.asked]
        if not fresh:
            return False
        assert look.record is not None, "there is something to write back"
        look.asked.append(fresh[0])
        self.repairs.send(look, look.record, [fresh[0]])
        return True

    def _look_again(self, look: Look) -> None:
        self._turn.counters["reads_looked_again"] += 1
        again = Look(look.event, look.row, look.others, n=look.n, r=look.r)
        again.size = look.size
        placement = self.placement
        assert placement is not None
        if placement.is_mine[partition_of(look.row)]:
            self._ask_self(again)
        if not self._ask(again):
            error = QuorumUnreachable("too few replicas can be reached", needed=look.r)
            self._requests.end(look, error)
            return
        look.waiter = None
        self._requests.watch(again, max(look.deadline_ms - self._turn.mono_ms, 1))


class Repairs:
    """The exchange that writes records back to replicas that reads found behind."""

    __slots__ = ("_reads", "_replica", "_turn")

    def __init__(self, reads: Reads, parts: Parts) -> None:
        self._reads = reads
        self._replica = parts.replica
        self._turn = parts.turn

    def send(self, look: Look, record: Record, behind: list[Peer | None]) -> None:
        """Write `record` to the replicas that are behind; None is this node."""
        for peer in behind:
            if peer is None:
                self._write_here(look, record)
            elif peer.is_reachable:
                peer.mutate(peer.repairs, look.row, record, look)
            else:
                self._reads.not_written_back(look, peer)

    def answered(self, peer: Peer, sent: Sent, answer: Answer) -> None:
        """A replica holds the records."""
        told = cast(Mutated, answer)
        superseded = {index for index, _ in told.superseded}
        refused = {index for index, _ in told.refused}
        for index, look in enumerate(cast("list[Look]", sent.ops)):
            if index in refused:
                self._reads.not_written_back(look, peer)
            else:
                self._reads.wrote_back(look, is_superseded=index in superseded)

    def lost(self, peer: Peer, sent: Sent) -> None:
        """A replica did not answer; the next read of the key will find it behind again."""
        for look in cast("list[Look]", sent.ops):
            self._reads.not_written_back(look, peer)

    def _write_here(self, look: Look, record: Record) -> None:
        # Others may agree on what is past the guard here: that is believed, but not taken.
        if self._replica.trouble.code or record.version > self._turn.version_max:
            self._reads.not_written_back(look, None)
            return
        try:
            higher = self._replica.apply(look.row, record)
        except StorageError:
            self._reads.not_written_back(look, None)
            return
        reads = self._reads
        self._replica.when_durable(lambda: reads.wrote_back(look, is_superseded=bool(higher)))
