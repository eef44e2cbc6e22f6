# SPDX-License-Identifier: GPL-3.0-or-later
"""The first layout: one for all, balanced, and moved as little as can be (I17)."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest

from quorate.core.topology.layout import (
    Layout,
    Member,
    decode_layout,
    first_layout,
    unmet_id,
)
from quorate.core.values.slots import PARTITION_COUNT


def _urls(count: int) -> list[str]:
    return [f"http://10.0.0.{i}:8000" for i in range(count)]


def _members(urls: list[str]) -> list[Member]:
    return [Member(unmet_id(url), url) for url in urls]


def _shares(layout: Layout) -> list[int]:
    held = Counter(index for row in layout.table for index in row)
    return [held[index] for index in range(len(layout.members))]


def _moved(old: Layout, new: Layout) -> int:
    """Copies that are where they were not before."""
    return sum(len(set(new.replicas(p)) - set(old.replicas(p))) for p in range(PARTITION_COUNT))


def test_the_same_members_compute_the_same_table_in_any_start_order() -> None:
    urls = _urls(7)
    layouts = []
    for seed in range(5):
        Random(seed).shuffle(urls)
        layouts.append(first_layout([*urls, urls[0]], replication=3))
    assert {layout.encode() for layout in layouts} == {layouts[0].encode()}
    assert {layout.hash() for layout in layouts} == {layouts[0].hash()}


@pytest.mark.parametrize(
    ("nodes", "known"),
    [
        (1, "009c0ad1601a26f448cb9783d86284ff"),
        (3, "f33ea5015b146fdc3ad63cd677341f58"),
        (5, "ba7542473efcbd0a3b30db7e6b35124f"),
    ],
)
def test_every_release_computes_the_same_first_layout(nodes: int, known: str) -> None:
    """Else two nodes of different releases, started for the first time, would not agree."""
    assert first_layout(_urls(nodes), replication=3).hash().hex() == known


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 10, 17])
@pytest.mark.parametrize("replication", [1, 2, 3, 5])
def test_every_partition_has_distinct_replicas_and_every_node_its_share(
    nodes: int, replication: int
) -> None:
    """Min(N, members) distinct nodes; shares differ by at most one copy."""
    layout = first_layout(_urls(nodes), replication=replication)
    copies = min(nodes, replication)
    assert len(layout.table) == PARTITION_COUNT
    assert all(len(row) == len(set(row)) == copies for row in layout.table)
    shares = _shares(layout)
    assert max(shares) - min(shares) <= 1
    assert max(shares) * nodes <= 1.05 * PARTITION_COUNT * copies


def test_the_role_of_first_replica_is_spread() -> None:
    layout = first_layout(_urls(3), replication=3)
    firsts = Counter(row[0] for row in layout.table)
    assert max(firsts.values()) - min(firsts.values()) <= 1


def test_an_encoded_layout_comes_back_whole() -> None:
    layout = first_layout(_urls(4), replication=3)
    assert decode_layout(layout.encode()) == layout


def _changed(**fields: object) -> bytes:
    good = first_layout(_urls(3), replication=2)
    return msgspec.structs.replace(good, **fields).encode()


_ROWS = ((0, 1),) * (PARTITION_COUNT - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        msgspec.msgpack.encode([1, 2, ["a"]]),
        _changed(epoch=0),
        _changed(epoch=-1),
        _changed(replication=0),
        _changed(replication=-2),
        _changed(members=()),
        _changed(table=_ROWS),
        _changed(table=(*_ROWS, ())),
        _changed(table=(*_ROWS, (0, 0))),
        _changed(table=(*_ROWS, (0, 1, 1))),
        _changed(table=(*_ROWS, (0, 3))),
        _changed(table=(*_ROWS, (0, -1))),
        _changed(members=tuple(_members(["http://a:1", "http://a:1", "http://b:1"]))),
        _changed(members=tuple(_members(["http://b:1", "http://a:1", "http://c:1"]))),
        _changed(
            members=(Member(7, "http://a:1"), Member(7, "http://b:1"), Member(8, "http://c:1"))
        ),
    ],
)
def test_bytes_that_are_no_layout_are_refused(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, ValueError)):
        decode_layout(data)
