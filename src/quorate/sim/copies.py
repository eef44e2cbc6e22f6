# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault budget: which keys lost more copies than can be repaired, and since when.

A replica whose disk was emptied is none any more: it votes no more, and the others are asked. One
that comes back with what it held long ago votes by that at once: nothing in the protocol tells such
a vote from that of a replica which never had more. A majority that counts it may then miss a
finished write, though the write is still on W - 1 disks. That is a known limit of the store, not a
defect to be found here.

So a loss is within budget for a key exactly where no vote can mislead. Let `m` be the version that
the replica held. Every write that it ever acknowledged is at `m` or below; if so many *other*
replicas hold `m` or above durably that every quorum of those who vote meets one of them, then
whatever was finished or read is still met by all. This is looked up on the disks at the moment of
the loss, key by key: a lost disk costs nothing where all copies had arrived and been synced, and
several losses one after another are each judged by what was there then. Otherwise the key has
forgotten from that moment on: what is checked of it later is that nobody lies.

What was under way at that moment is another matter: a read may have asked one of the others before
it held `m`, and asks this one after. Of such requests no order is asked.

Damaged bytes are told from missing ones: the replica does not vote. But the next write takes their
place, also an older one that a hint or a repair brings late, so the same rule holds for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt
from quorate.sim.cluster import SimCluster

Versions = Mapping[bytes, bytes]
"""By key, what a replica has of it; ABSENT for nothing."""


class Copies:
    """Watches the keys of one world."""

    def __init__(self, cluster: SimCluster, keys: list[bytes], *, quorum: int) -> None:
        """`quorum`: the smaller of R and W."""
        self.forgot_ms: dict[bytes, float] = {}
        """By key that is out of budget: since when."""
        self.lost_ms: dict[bytes, list[float]] = {}
        """By key: when a replica lost what it held, within budget or not."""
        self._cluster = cluster
        self.replicas = {key: cluster.replicas(key) for key in keys}
        """The machines that hold a key, in order of preference; without those whose disk was lost.
        """
        self.quorum = quorum

    def held(self, index: int) -> Versions:
        """What a machine has of each key of which it is a replica, durable or not."""
        return {
            key: self._version(index, key)
            for key, replicas in self.replicas.items()
            if index in replicas
        }

    def judge(self, index: int, before: Versions, *, is_lost: bool = False) -> None:
        """Note what a machine held `before` and does not hold any more; `is_lost`: nor is it a
        replica of anything any more."""
        if is_lost:
            for replicas in self.replicas.values():
                if index in replicas:
                    replicas.remove(index)
        for key, version in before.items():
            if self._version(index, key) >= version:
                continue
            now_ms = self._cluster.world.now
            self.lost_ms.setdefault(key, []).append(now_ms)
            if not self._is_harmless(index, key, version):
                self.forgot_ms.setdefault(key, now_ms)

    def _is_harmless(self, index: int, key: bytes, version: bytes) -> bool:
        replicas = self.replicas[key]
        holders = sum(self.durable(each, key) >= version for each in replicas if each != index)
        return holders > 0 and holders + self.quorum > len(replicas)

    def _version(self, index: int, key: bytes) -> bytes:
        return _version_of(self._cluster.machines[index].disk.held, key)

    def durable(self, index: int, key: bytes) -> bytes:
        """The version that a power cut would leave; ABSENT for nothing, and for damaged bytes."""
        return _version_of(self._cluster.machines[index].disk.durable, key)


def _version_of(read: Callable[[bytes], Record | None], key: bytes) -> bytes:
    try:
        record = read(row_of(key))
    except Corrupt:
        return ABSENT
    return ABSENT if record is None else record.version
