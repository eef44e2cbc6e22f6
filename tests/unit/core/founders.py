# SPDX-License-Identifier: GPL-3.0-or-later
"""One real node that founds a cluster; the other founders are the test."""

from __future__ import annotations

from typing import Any

from quorate.core.exchanges.hints import peer_of
from quorate.core.topology.layout import Layout, decode_layout, first_layout
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.topology.wants import SETTLE_MS
from quorate.core.values.events import Batch
from quorate.core.values.messages import (
    NO_BALLOT,
    Accept,
    Ballot,
    Mutate,
    Mutated,
    OtherEpoch,
    Prepare,
    Vote,
    Voted,
)
from quorate.sim.cluster import bound_to, id_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone, Asker

DRAWN = b"another!"
LOW, HIGH = (1, 1), (500, 1)
"""Ballots below and above all that the node draws."""


def new(count: int = 3, **settings: Any) -> Alone:
    """Node 0 of `count` founders, which hold every key, and of which it has met none."""
    # No heartbeat comes between.
    settings = {"replication": count, "heartbeat_ms": 3_600_000, **settings}
    return Alone(count, is_new=True, **settings)


def first(count: int = 3) -> Layout:
    return first_layout([url_of(index) for index in range(count)], replication=count)


def second(*met: int, count: int = 3) -> Layout:
    """A second layout in which these founders are bound."""
    ids = {url_of(index): id_of(index) for index in met}
    return bound_to(first(count), ids, drawn=DRAWN)


def third(count: int = 3) -> Layout:
    """What follows where all but the last were bound before."""
    last = count - 1
    return bound_to(second(*range(last), count=count), {url_of(last): id_of(last)}, drawn=DRAWN)


def disk_of(layout: Layout) -> Disk:
    """A disk of a node that has this layout."""
    disk = Disk()
    disk.format(Batch([], [], [(LAYOUT_META, layout.encode())]))
    return disk


def bound(layout: Layout) -> list[str]:
    return [each.url for each in layout.members if each.is_bound]


def grant(alone: Alone, *indices: int, accepted: Ballot = NO_BALLOT, value: bytes = b"") -> None:
    """These peers promise what they are asked for, and tell what they accepted before."""
    for index in indices:
        (asked,) = alone.take(index, Prepare)
        vote = Vote(asked.number, True, asked.ballot, accepted, value)
        alone.hear(index, Voted(asked.batch, vote))


def accept(alone: Alone, *indices: int) -> list[Layout]:
    """These peers accept what they are asked to; what that is."""
    values = []
    for index in indices:
        (asked,) = alone.take(index, Accept)
        values.append(decode_layout(asked.value))
        vote = Vote(asked.number, True, asked.ballot, asked.ballot)
        alone.hear(index, Voted(asked.batch, vote))
    return values


def found(alone: Alone, *indices: int) -> Layout:
    """Meet these founders, and decide the second layout with them."""
    alone.link(*indices)
    alone.step(after_ms=SETTLE_MS)
    grant(alone, indices[0])
    accept(alone, indices[0])
    assert alone.node.membership.epoch == 2
    for index in indices:
        for kind in (Prepare, Accept, OtherEpoch):
            alone.take(index, kind)
    return layout_of(alone)


def ask(
    alone: Alone, index: int, ballot: Ballot, value: bytes | None = None, number: int = 2
) -> None:
    """Peer `index` asks for this node's vote."""
    ask = Prepare(7, number, ballot) if value is None else Accept(7, number, ballot, value)
    alone.hear(index, ask)


def vote(alone: Alone, index: int) -> Vote:
    (voted,) = alone.take(index, Voted)
    assert voted.batch == 7
    return voted.vote


def of_others(*met: int) -> Layout:
    """The second layout of a cluster of nodes 1, 2 and 3."""
    first = first_layout([url_of(index) for index in (1, 2, 3)], replication=3)
    return bound_to(first, {url_of(index): id_of(index) for index in met}, drawn=DRAWN)


def adopt(alone: Alone, layout: Layout) -> None:
    """Hear of a layout by peer 1."""
    alone.link(1)
    alone.hear(1, OtherEpoch(layout.epoch, [], layout.encode()), epoch=layout.epoch)
    assert layout_of(alone) == layout


def ack(alone: Alone, index: int) -> list[bytes | None]:
    """Peer `index` keeps what it is told to; the values."""
    values: list[bytes | None] = []
    for mutate in alone.take(index, Mutate):
        values += [record.value for _, record in mutate.items]
        alone.hear(index, Mutated(mutate.batch, [], []))
    return values


def put(alone: Alone, value: bytes) -> Asker:
    """Write a key, which peer 1 keeps."""
    asker = alone.put(b"k" + value, value)
    ack(alone, 1)
    return asker


def bind(alone: Alone) -> None:
    """Decide the third layout with peer 1."""
    grant(alone, 1)
    accept(alone, 1)
    assert bound(layout_of(alone)) == [url_of(index) for index in range(3)]


def hinted(alone: Alone) -> set[int]:
    """Whom stored hints are for, by what layouts call them."""
    return {peer_of(name) for name, _ in alone.disk.scan_hints(b"", b"\xff" * 16)}


def layout_of(alone: Alone) -> Layout:
    layout = alone.node.membership.layout
    assert layout is not None
    return layout
