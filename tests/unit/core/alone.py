# SPDX-License-Identifier: GPL-3.0-or-later
"""One real node whose peers, disk and clients are the test."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from quorate.core.node import Node
from quorate.core.topology.greeting import hashed
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.topology.peer import Peer
from quorate.core.values.events import (
    Batch,
    Durable,
    Effects,
    Event,
    Get,
    Instant,
    LinkDown,
    LinkUp,
    Met,
    PeerFrame,
    Put,
    Result,
)
from quorate.core.values.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Frame,
    Greeting,
    Message,
    Ping,
    Pong,
)
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version, stamp_at, successor
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import founded, id_of, settings_of, url_of
from quorate.sim.disk import Disk

M = TypeVar("M")


class Asker:
    """A waiter that keeps what it is told."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def done(self, result: Result) -> None:
        self.results.append(result)

    @property
    def result(self) -> Result | None:
        """The result, if there is one yet."""
        assert len(self.results) <= 1, f"answered twice: {self.results}"
        return self.results[0] if self.results else None


class Alone:
    """Node 0 of `count`, which have found together, unless `is_new`. With `syncs` every batch is
    durable at once, before the next event."""

    def __init__(
        self,
        count: int = 3,
        *,
        listed: list[int] | None = None,
        is_new: bool = False,
        syncs: bool = True,
        disk: Disk | None = None,
        seed: int = 1,
        **settings: Any,
    ) -> None:
        chosen = settings_of(0, listed or range(count), **settings)
        self.disk = disk or _founded(count, chosen.replication, is_new=bool(listed) or is_new)
        self.mono_ms = 0
        self.wall_offset_ms = 0
        self.syncs = syncs
        self.marks: list[int] = []
        """Of batches that are not durable."""
        self.said: dict[int, list[Message]] = {}
        """Everything sent to a peer, by its id, and not `taken`."""
        self.notes: list[str] = []
        self.wake_ms: int | None = None
        self.node = Node(chosen, self.disk, Random(seed), self.now)
        self.step()

    @property
    def now(self) -> Instant:
        return Instant(self.mono_ms, EPOCH_MS + self.mono_ms + self.wall_offset_ms)

    def step(self, *events: Event, after_ms: int = 0) -> Effects:
        """One step, and those that follow from its batch being durable."""
        self.mono_ms += after_ms
        effects = self.node.step(events, self.now)
        self.perform(effects)
        return effects

    def sleep(self) -> Effects:
        """One step at the time at which the node wants to be woken."""
        assert self.wake_ms is not None
        return self.step(after_ms=self.wake_ms - self.mono_ms)

    def perform(self, effects: Effects) -> None:
        """Do what the runtime does."""
        self.wake_ms = effects.wake_ms
        self.notes += [note.event for note in effects.notes]
        for peer, messages in effects.sends.items():
            self.said.setdefault(peer, []).extend(messages)
        for waiter, result in effects.answers:
            waiter.done(result)
        if effects.batch is not None:
            self.disk.write(effects.batch)
            self.marks.append(effects.mark)
            if self.syncs:
                self.sync()

    def sync(self) -> None:
        """Make everything stored so far durable."""
        mark = self.marks[-1]
        self.marks.clear()
        self.disk.sync()
        self.step(Durable(mark))

    def link(self, *indices: int) -> None:
        """Bring up the links to these peers, and theirs to this node."""
        for index in indices:
            self.step(self.met(index), LinkUp(id_of(index)))
        for index in indices:
            for ping in self.take(index, Ping):
                self.hear(index, Pong(ping.batch))

    def met(self, index: int, **changes: Any) -> Met:
        """Peer `index` introduces itself, in its answer to this node's greeting."""
        cluster = hashed(self.node.settings.cluster)
        fields: dict[str, Any] = {"layout_hash": b"", "version": "0.0.0", "process": 1000 + index}
        fields["epoch"] = self.node.membership.epoch
        told = {"url": url_of(index), "node_id": id_of(index), **fields, **changes}
        return Met(Greeting(PROTOCOL_MIN, PROTOCOL_MAX, cluster, **told), is_answer=True)

    def peer(self, index: int) -> Peer:
        """Peer `index`, as the node knows it."""
        peer = self.node.membership.roster.at(url_of(index))
        assert peer is not None
        return peer

    def unlink(self, *indices: int) -> None:
        """Break the links to these peers."""
        self.step(*[LinkDown(id_of(index)) for index in indices])

    def hear(
        self, index: int, *messages: Message, epoch: int | None = None, clock: int = 0
    ) -> Effects:
        """A frame of peer `index` arrives."""
        if epoch is None:
            epoch = self.node.membership.epoch
        return self.step(PeerFrame(id_of(index), Frame(epoch, clock, list(messages))))

    def take(self, index: int, kind: type[M]) -> list[M]:
        """What was said to a peer, of one kind, since it was last taken."""
        said = self.said.get(id_of(index), [])
        taken: list[M] = [message for message in said if isinstance(message, kind)]
        self.said[id_of(index)] = [m for m in said if not isinstance(m, kind)]
        return taken

    def put(self, key: bytes, value: bytes | None, **options: Any) -> Asker:
        """Ask for a write."""
        asker = Asker()
        self.step(Put(asker, key, value, **options))
        return asker

    def get(self, key: bytes, **options: Any) -> Asker:
        """Ask for a read."""
        asker = Asker()
        self.step(Get(asker, key, **options))
        return asker


def _founded(count: int, replication: int, *, is_new: bool) -> Disk:
    """A disk of a cluster of `count`; blank if `is_new`."""
    disk = Disk()
    if not is_new:
        members = tuple([(url_of(index), id_of(index)) for index in range(count)])
        layout = founded(members, replication).encode()
        disk.format(Batch([], [], [(LAYOUT_META, layout)]))
    return disk


def record_at(ms: int, value: bytes | None = b"v", *, node_id: int = 9, count: int = 0) -> Record:
    """A record stamped `ms` after the beginning of the world."""
    return Record(pack_version((EPOCH_MS + ms << 16) + count, node_id), value)


def made_at(ms: int, value: bytes | None = b"v") -> Record:
    """A record that a read-modify-write made then, of one that is older than the world."""
    return Record(successor(record_at(-1).version, stamp_at(EPOCH_MS + ms)), value)
