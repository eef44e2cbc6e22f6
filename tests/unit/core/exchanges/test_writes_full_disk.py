# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a write while this node's own disk takes nothing."""

from __future__ import annotations

import pytest

from quorate.core.values.events import PutResult, StorageState
from quorate.core.values.messages import Mutate
from quorate.errors import DiskFull, Outcome, QuorumUnreachable
from tests.unit.core.exchanges.test_writes import KEY, ROW
from tests.unit.core.write_stage import ack, alone_of, error_of


def test_a_full_disk_here_is_in_the_way_only_of_writes_that_need_its_copy() -> None:
    """I25. Its own copy counts for nothing, and is left as it was."""
    alone = alone_of()
    alone.put(KEY, b"before")
    for peer in (1, 2):
        alone.take(peer, Mutate)
    alone.step(StorageState("disk_full", "no space"))
    asker = alone.put(KEY, b"v")
    ack(alone, 1)
    assert not asker.results
    (record,) = ack(alone, 2)
    assert asker.result == PutResult(record.version, acks=2, replicas=3)
    held = alone.disk.get(ROW)
    assert held is not None
    assert (held.value, held.version < record.version) == (b"before", True)
    assert alone.node.status().counters["own_copies_missed"] == 1
    alone.step(StorageState())
    alone.put(KEY, b"after")
    assert alone.disk.get(ROW).value == b"after"  # type: ignore[union-attr]


@pytest.mark.parametrize(("w", "unlinked"), [(3, []), (2, [1]), (1, [1, 2])])
def test_with_too_few_peers_a_full_disk_refuses_before_anything_is_sent(
    w: int, unlinked: list[int]
) -> None:
    alone = alone_of()
    alone.unlink(*unlinked)
    for peer in (1, 2):
        alone.take(peer, Mutate)
    alone.step(StorageState("disk_full", "no space"))
    error_of(alone.put(KEY, b"v", w=w), DiskFull, Outcome.NOT_APPLIED)
    assert alone.take(1, Mutate) == alone.take(2, Mutate) == []


def test_where_peers_are_lost_the_copy_that_is_left_out_is_not_waited_for() -> None:
    alone = alone_of()
    alone.step(StorageState("disk_full", "no space"))
    asker = alone.put(KEY, b"v")
    alone.unlink(1)
    error = error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
    assert error.facts == {"needed": 2, "acked": 0}
