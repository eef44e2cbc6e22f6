# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault budget: which keys lost more copies than can be repaired, and since when.

A replica whose disk was emptied is none any more: it votes no more, and the others are asked, until
its successor has pulled what they have. One that comes back with what it held long ago votes by
that at once: nothing in the protocol tells such a vote from that of a replica which never had more.
A majority that counts it may then miss a finished write, though the write is still on W - 1 disks.
That is a known limit of the store, not a defect to be found here.

So a loss is within budget for a key exactly where no vote can mislead. Let `m` be the version that
the replica held. Every write that it ever acknowledged is at `m` or below; if so many *other*
replicas hold `m` or above durably that every quorum of those who vote meets one of them, and so
does everybody who pulls, then whatever was finished or read is still met by all. While the
partition moves this is asked of both its rows; of the next without those who have yet to pull. It
is looked up on the disks at the moment of the loss, key by key: a lost disk costs nothing where all
copies had arrived and been synced, and several losses one after another are each judged by what was
there then. Otherwise the key has forgotten from that moment on: what is checked of it later is that
nobody lies.

What an old disk comes to is not known before it counts, is emptied, or is given up. It may take
writes until then, where R + W <= N, and be put back once more. So what is judged in the end is the
newest that its machine had of each key on any of these disks (`put_aside`).

A disk that a layout says is lost is one, though it may be whole: who is replaced while nobody hears
it is asked nothing any more.

What was under way at that moment is another matter: a read may have asked one of the others before
it held `m`, and asks this one after. Of such requests no order is asked.

Damaged bytes are told from missing ones: the replica does not vote. But the next write takes their
place, also an older one that a hint or a repair brings late, so the same rule holds for them.
Where disks are lost beside that, the loss may mislead no vote and still leave too few sound copies
for a read to repair the damaged one. Example: of three replicas one lost its disk, one has a
damaged copy, one is sound. The sound one cannot know whether the other two had a newer write, so
nothing is put over the damaged bytes. Such a key is *beyond repair* until it is written again. Its
damaged copy may stay as it is; everything else is asked of the key.

Votes are damaged until somebody asks for them, and that replica then votes on nothing that was made
up to that moment. A put does not ask for any unless it meets another one, and may have to be moved:
so puts at once need a majority whose votes are sound (`can_decide_without`).

How many disks may be lost at all is another rule (`can_lose`): of those that any row of the layout
names, the next ones of what moves too, a majority must not be, and of its voters a majority must be
left; else nobody could pull, or decide. So disks may be lost one after another's refill without
end. A damaged copy counts as lost there, as it is no source. So does a disk that is lost before its
founder is bound: a layout may bind it all the same, as who proposes that has not heard of the loss,
or goes on with what others accepted before. Example: the disk of one of five founders is lost while
they vote on the second layout; where N = 1 nobody can pull then what is in its rows, though it
never held anything. A ruin keeps no such rule: what is given up then is judged key by key as ever,
and who pulls what a recovery left asks all that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from quorate.core.exchanges.pulls import PULL_META
from quorate.core.topology.layout import FIRST_EPOCH, Layout, unmet_id
from quorate.core.values.events import Effects
from quorate.core.values.record import Record
from quorate.core.values.settings import majority
from quorate.core.values.slots import key_of, partition_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt
from quorate.sim.cluster import SimCluster
from quorate.sim.layouts import Holders, rows_of
from quorate.sim.machine import Machine

Versions = Mapping[bytes, bytes]
"""By key, what a replica has of it; ABSENT for nothing."""


class Copies:
    """Watches the keys of one world."""

    def __init__(self, cluster: SimCluster, keys: list[bytes], *, quorum: int, w: int) -> None:
        """`quorum`: the smallest R or W of any request; `w`: what writes need by default."""
        self.forgot_ms: dict[bytes, float] = {}
        """By key that is out of budget: since when."""
        self.lost_ms: dict[bytes, list[float]] = {}
        """By key: when a replica lost what it held, within budget or not."""
        self.given_up: set[int] = set()
        """Disks that are being given up: a layout that says so may be decided at any time."""
        self._cluster = cluster
        self._keys = keys
        self.quorum = quorum
        self._w = w
        self._layout = cluster.layout()
        self._ids: dict[int, int] = {}
        """The machines, by what layouts call them."""
        self._replicas: dict[bytes, list[int]] = {}
        self._hidden: dict[tuple[int, bytes], bytes] = {}
        """By machine and row: the version in its cache, of bytes that are damaged on its disk."""
        self._cut: dict[int, set[int]] = {}
        """By partition: what a recovery left of its row."""
        self._aside: dict[int, Versions] = {}
        """By machine whose disk another took the place of: the newest that it had of each key on
        any, until that is judged."""
        assert self.replicas is not None

    @property
    def replicas(self) -> dict[bytes, list[int]]:
        """By key: the machines that hold it by the newest layout, and those that shall, in order of
        preference; without those whose disk was lost."""
        layout, ids = self._cluster.layout(), self.called()
        if ids != self._ids or layout.epoch != self._layout.epoch or not self._replicas:
            self._layout, self._ids = layout, ids
            self._replicas = {key: self._found(layout, key) for key in self._keys}
        return self._replicas

    def called(self) -> dict[int, int]:
        """The machines, by what layouts call them."""
        ids = {}
        for index, machine in enumerate(self._cluster.machines):
            ids.update(dict.fromkeys(machine.names(), index))
        return ids

    def _found(self, layout: Layout, key: bytes) -> list[int]:
        rows = rows_of(layout, row_of(key))
        return list(dict.fromkeys([index for row in rows for index in self._voters(row)]))

    def _voters(self, row: Holders) -> list[int]:
        return [self._ids[each] for each in row.ids if each in self._ids and each not in row.lost]

    def rows(self, key: bytes) -> list[tuple[Holders, list[int]]]:
        """The rows of the newest layout that a key is in, each with the machines that vote."""
        assert self.replicas is not None
        return [(row, self._voters(row)) for row in rows_of(self._layout, row_of(key))]

    def held(self, index: int) -> Versions:
        """What a machine has of each key of which it is a replica, durable or not."""
        return {
            key: self._version(index, key)
            for key, replicas in self.replicas.items()
            if index in replicas
        }

    def put_aside(self, index: int) -> None:
        """Another disk takes the place of a machine's. What that comes to is seen later, when more
        may have been lost: where R + W <= N an old disk takes writes before it counts, and with
        W = 1 it has them alone."""
        self._aside[index] = _newest(self._aside.pop(index, {}), self.held(index))

    def judge_aside(self, index: int) -> None:
        """Note what of that a machine does not hold any more."""
        self.judge(index, self._aside.pop(index, {}))

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Part of `cluster.Observer`: judge what a new layout gives up, disks and copies."""
        del effects
        if not machine.is_running or machine.node.membership.epoch <= self._layout.epoch:
            return
        layout = machine.node.membership.layout
        assert layout is not None
        lost = set(layout.lost).difference(self._layout.lost)
        ids = self.called()
        indices = [ids[each] for each in sorted(lost) if each in ids]
        before = {
            index: _newest(self._aside.pop(index, {}), self.held_before(index)) for index in indices
        }
        if layout.recovery > self._layout.recovery:
            had = [set(self._layout.ids(row)) for row in self._layout.table]
            left = [set(layout.ids(row)) for row in layout.table]
            self._cut.update({each: row for each, row in enumerate(left) if row != had[each]})
        assert self.replicas is not None
        for index, versions in before.items():
            for key, version in versions.items():
                self._lose(index, key, version)
        self._judge_hidden()

    def _judge_hidden(self) -> None:
        """Note damage that a cache hides, until it is all that is left: no pull repairs what its
        node reads as it should be."""
        machines = self._cluster.machines
        for index, machine in enumerate(machines):
            for row in machine.disk.damaged() if machine.is_running else ():
                record = machine.lru.get(row)
                if record is not None:
                    self._hidden[index, row] = record.version
        for (index, row), version in self._hidden.items():
            key = key_of(row)
            is_left = index in self.replicas.get(key, ()) and row in machines[index].disk.damaged()
            if is_left and not self._is_harmless(index, key, version):
                self.forgot_ms.setdefault(key, self._cluster.world.now)

    def held_before(self, index: int) -> Versions:
        """`held`, by the layout that was last looked at."""
        return {
            key: self._version(index, key)
            for key, replicas in self._replicas.items()
            if index in replicas
        }

    def judge(self, index: int, before: Versions) -> None:
        """Note what a machine held `before` and does not hold any more."""
        for key, version in before.items():
            if self._version(index, key) < version:
                self._lose(index, key, version)

    def _lose(self, index: int, key: bytes, version: bytes) -> None:
        if version == ABSENT:
            return
        now_ms = self._cluster.world.now
        self.lost_ms.setdefault(key, []).append(now_ms)
        if not self._is_harmless(index, key, version):
            self.forgot_ms.setdefault(key, now_ms)

    def _is_harmless(self, index: int, key: bytes, version: bytes) -> bool:
        for row, replicas in self.rows(key):
            behind = {self._ids.get(each, -1) for each in row.gaining if not self._has(each, key)}
            voters = [each for each in replicas if each not in behind]
            holders = sum(self.durable(each, key) >= version for each in voters if each != index)
            asked = len(row.ids) if self._is_cut(key) else len(row.ids) - row.majority + 1
            met = min(self.quorum, asked)
            is_asked = bool(voters) or not row.gaining
            if is_asked and not (holders and holders + met > len(voters)):
                return False
        return True

    def _is_cut(self, key: bytes) -> bool:
        """Whether a recovery left so few of a key's row that who pulls asks all of them."""
        partition = partition_of(row_of(key))
        return self._cut.get(partition) == set(self._layout.replicas(partition))

    def _has(self, node_id: int, key: bytes) -> bool:
        """Whether who gains a key has pulled it for the newest layout."""
        index = self._ids.get(node_id)
        if index is None:
            return False
        stored = self._cluster.machines[index].disk.get_meta(PULL_META)
        if stored is None:
            return False
        epoch, complete = msgspec.msgpack.decode(stored, type=tuple[int, list[int]])
        return epoch == self._layout.epoch and partition_of(row_of(key)) in complete

    def can_lose(self, index: int) -> bool:
        """Whether the cluster can do without one more disk."""
        layout, ids = self._cluster.layout(), self.called()
        own = self._cluster.machines[index]
        named = {each.id for each in layout.members}
        lost = {each for each in named if each not in ids}
        lost |= {own.settings.node_id, *layout.lost, *self.given_up}
        emptied = [each for each in self._cluster.machines if each.lost_disks]
        voters = layout.voters
        if layout.epoch == FIRST_EPOCH:
            # Who has voted with a disk that is lost may vote once more.
            if len(emptied) + 1 >= majority(len(layout.members)):
                return False
        elif len(lost.intersection(voters)) > len(voters) - majority(len(voters)):
            return False
        # Founders that are not bound yet may still be, as these disks.
        lost |= {unmet_id(each.url) for each in (own, *emptied)}
        rows = {*layout.table, *(row for _, row in layout.moves)}
        return all(
            len(lost.intersection(layout.ids(row))) < majority(len(row)) for row in sorted(rows)
        ) and all(self.has_sources(key, without=index) for key in self._keys)

    def has_sources(self, key: bytes, *, without: int) -> bool:
        """Whether the copies of a key that are sound, but for that of one machine, are as many as
        who gains it has to ask: then it can go on moving."""
        row, machines = row_of(key), self._cluster.machines
        for each, voters in self.rows(key):
            damaged = [i for i in voters if i == without or row in machines[i].disk.damaged()]
            if len(each.ids) - len(voters) + len(damaged) >= each.majority:
                return False
        return True

    def can_vouch_without(self, index: int) -> bool:
        """Whether enough members are left to say of a disk how far it was: before a majority has,
        it counts for nothing. Where none lost its disk only those ask that have just started."""
        machines = self._cluster.machines
        left = {each.settings.node_id for each in machines}
        ids = {each.id for each in self._layout.members}
        is_whole = ids <= left
        left.discard(machines[index].settings.node_id)
        if len(ids & left) >= majority(len(ids)):
            return True
        others = [machine for place, machine in enumerate(machines) if place != index]
        return is_whole and all([_counts(machine) for machine in others])

    def readable(self, key: bytes) -> list[int]:
        """The replicas of a key whose bytes are not damaged."""
        row, machines = row_of(key), self._cluster.machines
        return [each for each in self.replicas[key] if row not in machines[each].disk.damaged()]

    def can_decide_without(self, key: bytes, index: int) -> bool:
        """Whether a majority of each row of a key, but for one machine, can read what it voted."""
        row, machines = row_of(key), self._cluster.machines
        for each, voters in self.rows(key):
            others = [machines[place] for place in voters if place != index]
            able = [machine for machine in others if not machine.disk.has_damaged_votes(row)]
            if len(able) < each.majority:
                return False
        return True

    def is_beyond_repair(self, key: bytes) -> bool:
        """Whether a copy is damaged, and reads of all the others (R of them) cannot repair it, as
        R + W <= N."""
        readable = set(self.readable(key))
        for row, voters in self.rows(key):
            sound = len(readable.intersection(voters))
            w = self._w or row.majority
            if sound < len(voters) and sound + w <= len(row.ids):
                return True
        return False

    def cannot_be_repaired(self, key: bytes) -> bool:
        """The same; or a copy is damaged of what the others dropped as garbage, so that there is
        nothing to write over it until the key is written again."""
        readable, row = self.readable(key), row_of(key)
        disks = [self._cluster.machines[each].disk for each in readable]
        is_dropped = len(readable) < len(self.replicas[key]) and any(
            [row in disk.collected for disk in disks]
        )
        return (is_dropped and not any([disk.held(row) for disk in disks])) or (
            self.is_beyond_repair(key)
        )

    def is_garbage_of_some(self, key: bytes) -> bool:
        """Whether all replicas have the same, but for those that dropped it as garbage: until the
        others do, reads take that for a difference, and repair nothing."""
        disks = [self._cluster.machines[index].disk for index in self.replicas[key]]
        versions = {self._version(index, key) for index in self.replicas[key]}
        return len(versions) == 1 and any([row_of(key) in disk.collected for disk in disks])

    def _version(self, index: int, key: bytes) -> bytes:
        return _version_of(self._cluster.machines[index].disk.remembered, key)

    def durable(self, index: int, key: bytes) -> bytes:
        """The version that a power cut would leave; ABSENT for nothing, and for damaged bytes."""
        return _version_of(self._cluster.machines[index].disk.durable_remembered, key)


def _newest(some: Versions, others: Versions) -> Versions:
    """The higher version of each key."""
    return {key: max(some.get(key, ABSENT), others.get(key, ABSENT)) for key in {**some, **others}}


def _counts(machine: Machine) -> bool:
    """Whether its disk is known to be as far as it was."""
    return machine.is_running and machine.node.membership.marks.counts


def _version_of(read: Callable[[bytes], Record | None], key: bytes) -> bytes:
    try:
        record = read(row_of(key))
    except Corrupt:
        return ABSENT
    return ABSENT if record is None else record.version
