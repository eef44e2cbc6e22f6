# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that reads, and the replicas that it asks, played by the test."""

from __future__ import annotations

from typing import Any

from quorate.core.topology.layout import first_layout, unmet_id
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.values.events import Batch
from quorate.core.values.messages import Mutate, Mutated, Read, ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.sim.cluster import founded, id_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone, record_at


def _key_of_nodes(*indices: int) -> bytes:
    """A key whose replicas are nodes 0 to 2, in this order."""
    layout = first_layout([url_of(index) for index in range(3)], replication=3)
    wanted = [unmet_id(url_of(index)) for index in indices]
    keys = (b"key%d" % number for number in range(1000))
    return next(key for key in keys if layout.replicas(partition_of(row_of(key))) == wanted)


KEY = _key_of_nodes(0, 1, 2)
ROW = row_of(KEY)
OLD, NEW, NEWER = record_at(1, b"old"), record_at(2, b"new"), record_at(3, b"newer")


def three(**settings: Any) -> Alone:
    """Node 0 of three, which hold every key; the test is nodes 1 and 2."""
    alone = Alone(3, **settings)
    alone.link(1, 2)
    return alone


def outsider(count: int = 5, replication: int = 3) -> tuple[Alone, list[int]]:
    """A node that holds nothing of KEY, and those that do, in the order it asks them."""
    members = tuple([(url_of(index), id_of(index)) for index in range(1, count)])
    layout = founded(members, replication)
    disk = Disk()
    disk.format(Batch([], [], [(LAYOUT_META, layout.encode())]))
    alone = Alone(count, listed=[1], disk=disk)
    alone.link(*range(1, count))
    peers = alone.node.membership.current().partitions[partition_of(ROW)].others
    return alone, [next(i for i in range(count) if url_of(i) == peer.url) for peer in peers]


def give(alone: Alone, record: Record) -> None:
    """Node 0 holds the record already."""
    alone.disk.format(Batch([(ROW, record)], [], []))


def answer(alone: Alone, index: int, record: Record | None) -> int:
    """Peer `index` answers whatever it was asked, as a replica that holds `record`; how often."""
    asked = alone.take(index, Read)
    for read in asked:
        version = ABSENT if record is None else record.version
        alone.hear(
            index, ReadAnswer(read.batch, [record] * len(read.full), [version] * len(read.brief))
        )
    return len(asked)


def ack(alone: Alone, index: int, *, higher: bytes = ABSENT) -> list[Record]:
    """Peer `index` acknowledges what it was told to keep; the records."""
    kept = []
    for mutate in alone.take(index, Mutate):
        kept += [record for _, record in mutate.items]
        superseded = [(at, higher) for at in range(len(mutate.items))] if higher else []
        alone.hear(index, Mutated(mutate.batch, superseded, []))
    return kept
