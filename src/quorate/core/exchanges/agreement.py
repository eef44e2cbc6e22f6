# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the replicas of each partition hold the same, and since when that is known.

Every 15 seconds a node tells each other replica of its partitions the digest of what it holds,
durably, of all stamps below a *boundary*: the beginning of the minute before this one (`digests`),
by the hybrid clock, so that nodes whose wall clocks differ are at one boundary.
Where all of them told the same at one boundary, under one layout in which the partition stays where
it is, the replicas *agreed* there. The age of the last agreement, of the partition that waits
longest, is what an operator looks at. Where two differ, `anti_entropy` looks for the records.

For example: at 12:02:05 the boundary is 12:01:00. A, B and C tell the digest of partition 17 there.
A and B are equal and C is not. So partition 17 last agreed at 12:00:00, and C holds it up.

All is told each time, and not only what changed, a sixteenth of the partitions in a step: some
12 bytes for each copy that another node has, which is 2 kB a second at three copies, whatever the
size of the cluster. So nothing has to be remembered of what got lost on the way.

After a start, and for a partition that is new here, the digest is made by going through what is
held (`counting`). Until then nothing is told of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from quorate.core.exchanges.anti_entropy import AntiEntropy
from quorate.core.exchanges.collection import Collection
from quorate.core.exchanges.counting import Counting
from quorate.core.exchanges.open_votes import OpenVotes
from quorate.core.exchanges.outbox import Outbox
from quorate.core.topology.layout import Layout
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Replicas
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import Agree
from quorate.core.values.slots import PARTITION_COUNT
from quorate.core.values.versions import ms_of

ROUNDS_PER_SLICE: Final = 4
"""In each all is told once: well under a slice, so that all replicas tell of each boundary."""
ROUND_STEPS: Final = 16
FIRST_MS: Final = 4_000
"""After a start, which has better to do."""
PARTITIONS_PER_STEP: Final = PARTITION_COUNT // ROUND_STEPS
LEAD_BOUNDARIES: Final = 10
"""For so many the replica of the lowest id has to bring others together; then they take turns, for
it may be unable to: its disk may be full, or its `-repair-rate` 0."""

ByPartition = dict[int, int]
"""Digests by partition."""


class HeldUp(NamedTuple):
    """What keeps replicas from agreeing."""

    why: str = ""
    """One line: a partition, who, and why; empty if nothing does."""
    peer: Peer | None = None
    """Who does; None if this node does, or nobody by itself."""
    is_own: bool = False


class Heard:
    """What a peer told at one boundary of partitions that both hold."""

    __slots__ = ("before", "boundary", "digests", "mono_ms")

    def __init__(self, boundary: int, before: ByPartition) -> None:
        self.boundary = boundary
        self.digests: ByPartition = {}
        self.before = before
        """The same at the boundary before it, if it told then."""
        self.mono_ms = 0
        """When it told last."""

    def has_told(self, partition: int) -> bool:
        """Whether it lately told anything of a partition."""
        return partition in self.digests or partition in self.before


class Agreement:
    """What this node and others told of their copies."""

    __slots__ = (
        "_agreed_ms",
        "_alarm",
        "_anti_entropy",
        "_collection",
        "_equal",
        "_equal_before",
        "_heard",
        "_membership",
        "_mine",
        "_moving",
        "_open_votes",
        "_outboxes",
        "_own",
        "_parts",
        "_place",
        "_replica",
        "_round_ms",
        "_rows",
        "_slice_ms",
        "_turn",
        "_undecided",
        "boundary",
        "counting",
    )

    def __init__(
        self,
        parts: Parts,
        membership: Membership,
        outboxes: list[Outbox],
        open_votes: OpenVotes,
    ) -> None:
        self._parts = parts
        self._turn = parts.turn
        self._replica = parts.replica
        self._membership = membership
        self._outboxes = outboxes
        self._anti_entropy = AntiEntropy(parts, outboxes)
        self._slice_ms = parts.settings.slice_ms
        self._round_ms = max(self._slice_ms // ROUNDS_PER_SLICE, ROUND_STEPS)
        self._open_votes = open_votes
        self._collection = Collection(parts, self._tell_fences, open_votes)
        self._alarm = Alarm(parts.turn, self._tell_some)
        self.counting: Final = Counting(parts)
        self.boundary = 0
        """Of which this node tells."""
        self._own: ByPartition = {}
        """What it told, durable."""
        self._heard: dict[Peer, Heard] = {}
        self._equal = [0] * PARTITION_COUNT
        """Who told what this node did, at the boundary."""
        self._equal_before = self._equal
        """The same at the one before it."""
        self._agreed_ms = [0] * PARTITION_COUNT
        """The boundary of the last agreement, or since when the partition is watched."""
        self._rows: dict[int, tuple[int, ...]] = {}
        """The ids of who holds each of this node's partitions."""
        self._moving: frozenset[int] = frozenset()
        self._mine: list[int] = []
        self._undecided: set[int] = set()
        """Partitions of which it does not agree, as it accepted what a lock would refuse."""
        self._place = 0
        """The partition with which the next step of telling begins."""

    def adopted(self, layout: Layout) -> None:
        """Another layout is in force: what was told under an earlier one is none of it."""
        self._anti_entropy.adopted()
        topology = self._membership.topology
        partitions: list[Replicas] = [] if topology is None else topology.partitions
        self._moving = frozenset([partition for partition, _ in layout.moves])
        rows: dict[int, tuple[int, ...]] = {}
        for partition, replicas in enumerate(partitions):
            if not replicas.is_mine:
                self._replica.digests.forget(partition)
                continue
            before = self._rows.get(partition)
            ids = tuple([layout.members[index].id for index in layout.table[partition]])
            if before is not None and partition in self._moving:
                ids = before
            if ids != before:
                self._agreed_ms[partition] = self._turn.wall_ms
            rows[partition] = ids
        self._rows = rows
        self._mine = list(rows)
        self.counting.keep(frozenset(rows) - self._moving)
        self._own, self._heard = {}, {}
        self._undecided.clear()
        self._equal_before = self._equal = [0] * PARTITION_COUNT
        self._collection.adopted(rows, self._moving)
        self._alarm.at(self._turn.mono_ms + min(FIRST_MS, self._slice_ms))

    # --- telling -----------------------------------------------------------------------------

    def _tell_some(self) -> None:
        """Tell a part of the digests, if the base is at the boundary."""
        if not self._mine:
            return
        if not self._move_on():
            self._alarm.soon()
            return
        self._alarm.at(self._turn.mono_ms + self._round_ms // ROUND_STEPS)
        first = self._place
        self._place = (first + PARTITIONS_PER_STEP) % PARTITION_COUNT
        if self._replica.trouble.code:
            # What waits to be durable would be more and more.
            return
        told: ByPartition = {}
        fenced: list[int] = []
        """Of these only how far they are fenced off is told: others may wait for it."""
        digests, fences = self._replica.digests, self._replica.fences
        partitions = range(first, first + PARTITIONS_PER_STEP)
        self._undecided.difference_update(partitions)
        for partition in partitions:
            if partition not in self._rows or partition in self._moving:
                continue
            if not fences.is_swept(partition):
                fenced.append(partition)
            elif digests.is_whole(partition):
                # Who could not lock the boundary does not agree on it: who locks votes no more on
                # what is dead below, and what is open here would never be decided.
                if self._open_votes.stand_in_the_way(partition, self.boundary):
                    self._undecided.add(partition)
                    fenced.append(partition)
                else:
                    told[partition] = digests.total(partition)
            else:
                self._own.pop(partition, None)
                self.counting.want(partition)
        if fenced:
            self._tell_fences(fenced)
        if told:
            boundary, epoch = self.boundary, self._membership.epoch
            horizons = fences.horizons(told)
            self._replica.when_durable(lambda: self._say(told, horizons, boundary, epoch))

    def _move_on(self) -> bool:
        """Move the boundary on with the clock. False until the base is there."""
        boundary = max(ms_of(self._parts.clock.reading) // self._slice_ms - 1, 0)
        digests = self._replica.digests
        if boundary < self.boundary - 1:
            # The clock was ahead, and what is in the base by now nobody else will tell for long.
            digests.forget_all()
            self._collection.set_back(self.boundary)
            self.counting.stop()
            self.boundary = 0
        if boundary > self.boundary:
            is_next = boundary == self.boundary + 1
            self.boundary = boundary
            self._equal_before = self._equal if is_next else [0] * PARTITION_COUNT
            self._own, self._equal = {}, [0] * PARTITION_COUNT
            # Else it would be zero until the clock is again what it was before it was set back.
            now = self._turn.wall_ms
            self._agreed_ms = [min(each, now) for each in self._agreed_ms]
        return digests.advance(self.boundary)

    def _say(self, told: ByPartition, horizons: ByPartition, boundary: int, epoch: int) -> None:
        """What was told is durable by now: say it, and compare it with what others said."""
        if boundary != self.boundary or epoch != self._membership.epoch:
            return
        since = self._replica.fences.horizons(told)
        if since != horizons:
            # Where the horizon moved on meanwhile, it is of what is dropped by now.
            told = {each: told[each] for each in told if since.get(each) == horizons.get(each)}
        for partition, digest in told.items():
            if self._own.get(partition) != digest:
                self._own[partition] = digest
                self._equal[partition] = 0
        partitions = self._membership.current().partitions
        shares: dict[Peer, list[tuple[int, int]]] = {}
        for partition, digest in told.items():
            replicas = partitions[partition]
            if not replicas.others:
                self._agreed_ms[partition] = boundary * self._slice_ms
                self._collection.agreed(partition, (), boundary, digest)
            share = partition, digest
            for peer in replicas.others:
                shares.setdefault(peer, []).append(share)
        for peer, each_told in shares.items():
            shared = [partition for partition, _ in each_told]
            if peer.is_reachable:
                fenced = self._collection.told(shared)
                self._outboxes[peer.index].say(Agree(boundary, each_told, fenced))
            self._compare(peer, shared)

    def _tell_fences(self, partitions: list[int]) -> None:
        """Tell what is fenced off, once that is durable: others wait for it."""
        epoch = self._membership.epoch
        self._replica.when_durable(lambda: self._say_fences(partitions, epoch))

    def _say_fences(self, partitions: list[int], epoch: int) -> None:
        if epoch != self._membership.epoch:
            return
        known = self._membership.current().partitions
        for partition in partitions:
            if not self._replica.fences.is_swept(partition):
                self._own.pop(partition, None)
                self._equal[partition] = 0
        for peer in self._membership.roster.peers:
            share = [each for each in partitions if peer in known[each].others]
            fenced = self._collection.told(share, without=True)
            if fenced and peer.is_reachable:
                self._outboxes[peer.index].say(Agree(self.boundary, [], fenced))

    # --- hearing -----------------------------------------------------------------------------

    def hear(self, peer: Peer, message: Agree) -> None:
        """A peer told, under the layout in force here."""
        topology = self._membership.topology
        if topology is None:
            return
        known = topology.partitions
        told = {each: digest for each, digest in message.digests if peer in known[each].others}
        fences = {
            fencing[0]: fencing
            for fencing in message.fences
            if peer in known[fencing[0]].others and fencing[0] not in self._moving
        }
        if not (told or fences):
            return
        heard = self._heard.get(peer)
        if heard is None or heard.boundary != message.boundary:
            # Or an earlier one, where its clock was set back.
            is_next = heard is not None and heard.boundary == message.boundary - 1
            before = heard.digests if heard is not None and is_next else {}
            heard = self._heard[peer] = Heard(message.boundary, before)
        heard.mono_ms = self._turn.mono_ms
        for partition in sorted({*self._collection.fenced(peer, told), *fences} - self._moving):
            fencing = fences.get(partition, (partition, 0, 0, 0))
            others = known[partition].others
            if self._collection.hear(peer, others, message.boundary, fencing):
                # It told what it held before it dropped some of it.
                heard.digests.pop(partition, None)
                self._equal[partition] &= ~peer.bit
        heard.digests.update(told)
        self._compare(peer, list(told))
        for partition in fences:
            self._look_at(partition, known[partition].others)

    def _compare(self, peer: Peer, partitions: list[int]) -> None:
        """See whether a peer told the same as this node, at the same boundary."""
        heard = self._heard.get(peer)
        if heard is None or heard.boundary != self.boundary or not self._own:
            return
        known = self._membership.current().partitions
        for partition in partitions:
            own, other = self._own.get(partition), heard.digests.get(partition)
            if own == other and self._equal[partition] & peer.bit:
                continue  # It told so before.
            if own is None or other is None or peer not in known[partition].others:
                continue
            if not self._collection.is_comparable(peer, partition):
                continue
            if own != other:
                self._equal[partition] &= ~peer.bit
                if self._leads(partition, known[partition].others):
                    self._anti_entropy.differ(partition, peer)
                continue
            self._equal[partition] |= peer.bit
            self._anti_entropy.same(partition, peer)
            self._look_at(partition, known[partition].others)

    def _look_at(self, partition: int, others: tuple[Peer, ...]) -> None:
        """See whether all told the same as this node, at the same boundary."""
        own = self._own.get(partition)
        if own is not None and all([self._equal[partition] & each.bit for each in others]):
            self._agreed_ms[partition] = self.boundary * self._slice_ms
            self._collection.agreed(partition, others, self.boundary, own)

    def _leads(self, partition: int, others: tuple[Peer, ...]) -> bool:
        """Whether this node is the one that repairs the partition; `others` are its replicas on
        other nodes. It is the replica with the lowest id of those that told their digests at this
        boundary or the one beside it. After LEAD_BOUNDARIES without agreement the replicas take
        turns, by boundary."""
        lower, count = 0, 1
        for peer in others:
            heard = self._heard.get(peer)
            if heard is None or abs(heard.boundary - self.boundary) > 1:
                continue
            if heard.has_told(partition):
                count += 1
                lower += peer.id < self._parts.settings.node_id
        since = self.boundary - self._agreed_ms[partition] // self._slice_ms
        return lower == (self.boundary % count if since > LEAD_BOUNDARIES else 0)

    def gained(self, partition: int) -> None:
        """This node has all of a copy: of what it got some may be garbage."""
        if not self._replica.fences.is_swept(partition):
            self._collection.sweep(partition)

    def sums(self, partition: int, boundary: int) -> list[int]:
        """The sums of a partition's buckets at a boundary; empty if there are none."""
        digests = self._replica.digests
        is_there = digests.is_whole(partition) and partition not in self._moving
        is_there = is_there and self._replica.fences.is_swept(partition)
        if not is_there or boundary != self.boundary or not digests.advance(boundary):
            return []
        return digests.sums(partition)

    # --- looking -----------------------------------------------------------------------------

    def age_ms(self) -> int:
        """Since when all replicas of all of this node's partitions are known to be equal."""
        now = self._turn.wall_ms
        return max(now - min([self._agreed_ms[each] for each in self._mine], default=now), 0)

    def check(self) -> None:
        """Count what is held once more, and compare."""
        self.counting.check([each for each in self._mine if each not in self._moving])

    @property
    def is_repairing(self) -> bool:
        """Whether this node goes through what it and others differ in."""
        return self._anti_entropy.is_busy

    def waits_for(self) -> HeldUp:
        """What holds up the partition that agreed longest ago."""
        partition = min(self._mine, key=self._agreed_ms.__getitem__, default=-1)
        # At the last boundary some may have yet to tell.
        if partition < 0 or self._agreed_ms[partition] >= (self.boundary - 1) * self._slice_ms:
            return HeldUp()
        return self._held_up(partition)

    def tombstones_wait_for(self) -> str:
        """What keeps the tombstones of the partition that has most from being dropped, one line;
        empty if nothing does."""
        tombstones = self._replica.tombstones
        partition = max(self._mine, key=tombstones.__getitem__, default=-1)
        # What was deleted lately waits for nobody but for the time to pass.
        late_ms = (self.boundary - 2) * self._slice_ms
        if partition < 0 or not tombstones[partition] or self._agreed_ms[partition] >= late_ms:
            return ""
        return f"{sum(tombstones)} tombstones: {self._held_up(partition).why}"

    def _held_up(self, partition: int) -> HeldUp:
        """Why the replicas of a partition do not agree at the last boundary."""
        if partition in self._moving:
            return HeldUp(f"partition {partition}: its copies move")
        own = self._own_trouble(partition)
        if own:
            return HeldUp(f"partition {partition}: {own}", is_own=True)
        # Just after the boundary moved nobody has told there.
        equal = self._equal[partition] | self._equal_before[partition]
        others = self._membership.current().partitions[partition].others
        # Who is away first: others may only not have told yet.
        for peer in sorted(others, key=lambda peer: peer.is_reachable):
            if not equal & peer.bit:
                why = f"partition {partition}: {peer.url} {self._why(partition, peer)}"
                return HeldUp(why, peer)
        return HeldUp()

    def _own_trouble(self, partition: int) -> str:
        """Why this node tells nothing of a partition; empty if it does."""
        if self._replica.trouble.code:
            return "this node's disk takes no writes"
        if partition in self.counting.unreadable:
            return "this node cannot read all that it holds"
        if not self._replica.digests.is_whole(partition):
            return "this node has yet to go through what it holds"
        if partition in self._undecided:
            return "updates that this node accepted are yet to be decided"
        return ""

    def _why(self, partition: int, peer: Peer) -> str:
        if peer.is_lost:
            return "lost its disk"
        if not peer.is_reachable:
            return "cannot be reached"
        heard = self._heard.get(peer)
        if heard is None or self._turn.mono_ms - heard.mono_ms > 2 * self._round_ms:
            return "has not told what it holds"
        if abs(heard.boundary - self.boundary) > 1:
            return "tells of another minute: its clock differs from this node's"
        return "holds something else" if heard.has_told(partition) else "has not told what it holds"
