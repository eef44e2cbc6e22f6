# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes of a large cluster say to each other while nothing happens: `python -m
tests.simulation.idle 10 100 1000` prints what one node sends, and how often it steps.

Nodes alone, in virtual time, each with links to all others, and a record in each partition, so that
there are digests to tell. Frames are made bytes as they are sent, and delivered a millisecond
later. There are no links, sockets and greetings: what these cost is paid when a node starts.
"""

from __future__ import annotations

import sys
from heapq import heappop, heappush
from random import Random
from typing import Final, NamedTuple

from msgspec.msgpack import encode
from msgspec.structs import replace

from quorate.core.node import Node
from quorate.core.topology.layout import Layout
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.values.events import Batch, Durable, Event, Instant, LinkUp, Met, PeerFrame
from quorate.core.values.messages import Agree, Frame
from quorate.core.values.record import Record
from quorate.core.values.slots import PARTITION_COUNT, partition_of, row_of
from quorate.core.values.versions import pack_version
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import founded, id_of, settings_of, url_of
from quorate.sim.disk import Disk
from quorate.wire.frames import encode_frame

REST_MS: Final = 150_000
"""Until all digests are told, and all who started are known."""
MEASURED_MS: Final = 60_000
LATENCY_MS: Final = 1


class Paid(NamedTuple):
    """By one node in a second, on average."""

    steps: float
    frames: float
    heartbeats: float
    """Bytes of pings, of their answers, and of frames."""
    digests: float
    """Bytes of digests; the more, the more copies a node holds."""


class Idle:
    """A cluster to which nothing happens."""

    def __init__(self, count: int) -> None:
        self.now_ms = 0
        self.steps = self.frames = self.heartbeats = self.digests = 0
        members = tuple([(url_of(index), id_of(index)) for index in range(count)])
        layout = founded(members, 3)
        listed = settings_of(0, range(count)).nodes
        self.disks = [_disk_of(layout, index) for index in range(count)]
        self._entered = 0
        self._due: list[tuple[int, int, int, Event | None]] = []
        """When, the number of the entry, which node, and what happens to it."""
        self.nodes: list[Node] = []
        self._woken_ms: list[int] = []
        for index in range(count):
            settings = replace(settings_of(index, ()), nodes=listed)
            node = Node(settings, self.disks[index], Random(index), self._instant())
            self.nodes.append(node)
            self._woken_ms.append(-1)
        greetings = [
            Met(replace(node.membership.greeting(), layout=b""), is_answer=True)
            for node in self.nodes
        ]
        for index in range(count):
            # Each begins somewhere in a heartbeat.
            self.run(self.now_ms + 1)
            self._step(index, [each for i, each in enumerate(greetings) if i != index])
            self._step(index, [LinkUp(id_of(i)) for i in range(count) if i != index])

    def _instant(self) -> Instant:
        return Instant(self.now_ms, EPOCH_MS + self.now_ms)

    def run(self, until_ms: int) -> None:
        """Let time pass."""
        due = self._due
        while due and due[0][0] <= until_ms:
            self.now_ms, _, index, event = heappop(due)
            if event is not None:
                self._step(index, [event])
            elif self._woken_ms[index] == self.now_ms:
                self._woken_ms[index] = -1
                self._step(index, [])
        self.now_ms = until_ms

    def _step(self, index: int, events: list[Event]) -> None:
        node = self.nodes[index]
        self.steps += 1
        effects = node.step(events, self._instant())
        if effects.batch is not None:
            self.disks[index].write(effects.batch)
            self.disks[index].sync()
            self._enter(self.now_ms + LATENCY_MS, index, Durable(effects.mark))
        for peer, messages in effects.sends.items():
            epoch, clock = node.frame_header()
            frame = Frame(epoch, clock, messages)
            self.frames += 1
            digests = sum([len(encode(each)) for each in messages if isinstance(each, Agree)])
            self.digests += digests
            self.heartbeats += len(encode_frame(frame)) - digests
            self._enter(self.now_ms + LATENCY_MS, peer - id_of(0), PeerFrame(id_of(index), frame))
        wake_ms = effects.wake_ms
        if wake_ms is not None and wake_ms != self._woken_ms[index]:
            self._woken_ms[index] = max(wake_ms, self.now_ms)
            self._enter(self._woken_ms[index], index, None)

    def _enter(self, at_ms: int, index: int, event: Event | None) -> None:
        self._entered += 1
        heappush(self._due, (at_ms, self._entered, index, event))


def measured(count: int) -> Paid:
    """What a node of so many pays while nothing happens."""
    idle = Idle(count)
    idle.run(REST_MS)
    before = idle.steps, idle.frames, idle.heartbeats, idle.digests
    idle.run(REST_MS + MEASURED_MS)
    after = idle.steps, idle.frames, idle.heartbeats, idle.digests
    share = count * MEASURED_MS / 1_000
    return Paid(*[(b - a) / share for a, b in zip(before, after, strict=True)])


def _disk_of(layout: Layout, index: int) -> Disk:
    """A disk with the records that this node is to hold."""
    disk = Disk()
    place = [each.id for each in layout.members].index(id_of(index))
    held = [row for row in ROWS if place in layout.table[partition_of(row)]]
    disk.format(Batch([(row, RECORD) for row in held], [], [(LAYOUT_META, layout.encode())]))
    return disk


def _rows() -> list[bytes]:
    """One in each partition."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < PARTITION_COUNT:
        row = row_of(b"%d" % number)
        found.setdefault(partition_of(row), row)
        number += 1
    return list(found.values())


ROWS: Final = _rows()
RECORD: Final = Record(pack_version(EPOCH_MS - 600_000 << 16, 1), b"value")


def main() -> None:
    """Measure, and print a table."""
    print("| nodes | steps/s | frames/s | heartbeats, bytes/s | digests, bytes/s |")
    for count in map(int, sys.argv[1:]):
        paid = measured(count)
        rates = (
            f"{paid.steps:.1f} | {paid.frames:.1f} | {paid.heartbeats:,.0f} | {paid.digests:,.0f}"
        )
        print(f"| {count:,} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
