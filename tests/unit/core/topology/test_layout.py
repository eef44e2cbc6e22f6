# SPDX-License-Identifier: GPL-3.0-or-later
"""The first layout: one for all, balanced, and moved as little as can be (I17)."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest

from quorate.core.topology.admission import SpentToken
from quorate.core.topology.layout import (
    FIRST_LEVEL,
    Layout,
    Member,
    check_known,
    decode_layout,
    first_layout,
    unmet_id,
)
from quorate.core.values.slots import PARTITION_COUNT
from quorate.errors import FormatUnsupported


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
        _changed(level=0),
        _changed(level=-1),
        _changed(members=()),
        _changed(spent=(SpentToken(b"short", 1, 1, (b"c" * 16,)),)),
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


def _fields(layout: Layout) -> list[object]:
    """Those that are always written: the level, and what came behind it, are left out."""
    return list(msgspec.structs.astuple(layout))[:-2]


def test_at_the_first_level_every_release_writes_the_same_bytes() -> None:
    """So a hash is the same everywhere: a release that knows no levels wrote no such field."""
    layout = first_layout(_urls(3), replication=3)
    without = msgspec.msgpack.encode(_fields(layout))
    assert layout.encode() == without
    assert decode_layout(without) == layout
    assert layout.level == FIRST_LEVEL
    raised = msgspec.structs.replace(layout, level=2)
    assert decode_layout(raised.encode()) == raised
    assert raised.hash() != layout.hash()


def test_a_layout_of_an_earlier_release_may_lack_fields() -> None:
    layout = first_layout(_urls(3), replication=3)
    assert decode_layout(msgspec.msgpack.encode(_fields(layout)[:5])) == layout


def test_a_layout_is_taken_only_if_all_of_it_is_understood() -> None:
    layout = first_layout(_urls(3), replication=3)
    check_known(layout, layout.encode(), level=1)
    raised = msgspec.structs.replace(layout, level=2)
    check_known(raised, raised.encode(), level=2)
    longer = msgspec.msgpack.encode([*_fields(layout), 2, [], "made up"])
    for data in (raised.encode(), longer):
        with pytest.raises(FormatUnsupported, match="found=2 supported=1"):
            check_known(decode_layout(data), data, level=1)
    odd = msgspec.msgpack.encode([*_fields(layout), 1, [], "made up"])
    with pytest.raises(ValueError, match="fields that its feature level does not have"):
        check_known(decode_layout(odd), odd, level=1)
