# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls of a node that fail: a sample of what `scripts/faults` tries one by one."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.alone import WRITES, Alone
from tests.faults.calls import FOR_EVER, Action, Kind, build
from tests.faults.node import Fault
from tests.faults.three import Three

SAMPLE = [
    Fault(Kind.WRITE, 7, Action.FAIL, errno.EIO),
    Fault(Kind.WRITE, 3, Action.FAIL, errno.ENOSPC, times=FOR_EVER),
    Fault(Kind.WRITE, 1, Action.CUT, times=FOR_EVER),
    Fault(Kind.SYNC, 5, Action.FAIL, errno.EIO),
    Fault(Kind.SYNC, 4, Action.STALL, 1_500),
    Fault(Kind.LOG, 1, Action.FAIL, errno.EPIPE, times=FOR_EVER, at_start=True),
    Fault(Kind.LOG, 1, Action.CUT, times=FOR_EVER, at_start=True),
    Fault(Kind.SEND, 9, Action.FAIL, errno.ECONNRESET),
    Fault(Kind.SEND, 1, Action.CUT, times=FOR_EVER),
    Fault(Kind.RECEIVE, 1, Action.CUT, times=FOR_EVER),
    Fault(Kind.ACCEPT, 1, Action.FAIL, errno.EMFILE),
    Fault(Kind.OPEN, 9, Action.FAIL, errno.EIO, at_start=True),
    Fault(Kind.READ, 16, Action.FAIL, errno.EIO, at_start=True),
    Fault(Kind.READ, 1, Action.CUT, times=FOR_EVER, at_start=True),
    Fault(Kind.READ, 30, Action.STALL, 1_500, at_start=True),
    Fault(Kind.ACCEPT, 1, Action.STALL, 1_500),
    Fault(Kind.WRITE, 33, Action.FAIL, errno.EIO, at_start=True),
    Fault(Kind.SYNC, 8, Action.FAIL, errno.EIO, at_start=True),
]
SAMPLE_OF_THREE = [
    Fault(Kind.WRITE, 7, Action.FAIL, errno.EIO),
    Fault(Kind.SYNC, 5, Action.FAIL, errno.EIO),
    Fault(Kind.SYNC, 1, Action.STALL, 1_500, times=FOR_EVER),
    Fault(Kind.SEND, 1, Action.CUT, times=FOR_EVER),
    Fault(Kind.SEND, 1, Action.FAIL, errno.ECONNRESET, times=FOR_EVER),
    Fault(Kind.RECEIVE, 20, Action.FAIL, errno.ECONNRESET),
    Fault(Kind.RECEIVE, 9, Action.STALL, 1_500),
    Fault(Kind.OPEN, 20, Action.FAIL, errno.EMFILE, at_start=True),
    Fault(Kind.SYNC, 8, Action.FAIL, errno.EIO, at_start=True),
    Fault(Kind.ACCEPT, 2, Action.FAIL, errno.EMFILE, at_start=True),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = build(tmp_path_factory.mktemp("calls"))
    if built is None:
        pytest.skip("there is no C compiler to build the layer with")
    return built


@pytest.mark.parametrize("fault", SAMPLE, ids=str)
def test_what_a_node_told_is_so_whichever_call_fails(
    fault: Fault, library: Path, tmp_path: Path
) -> None:
    """P1, P3."""
    with Alone(tmp_path, library) as alone:
        found = alone.meet(fault)
    assert found.has_met(fault), "it was never met"
    assert found.wrong == []


@pytest.fixture(scope="module")
def nodes(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    with Three(tmp_path_factory.mktemp("three"), library) as three:
        yield three


@pytest.mark.parametrize("fault", SAMPLE_OF_THREE, ids=str)
def test_two_of_three_nodes_serve_and_nothing_is_lost_whichever_call_of_the_third_fails(
    fault: Fault, nodes: Three
) -> None:
    """P1 to P3, I7, I25."""
    found = nodes.meet(fault)
    assert found.has_met(fault), "it was never met"
    assert found.wrong == []


def test_each_acknowledged_write_was_synced_by_the_kernel(library: Path, tmp_path: Path) -> None:
    """P1. One that comes after another was answered shares no sync with it."""
    with Alone(tmp_path, library) as alone:
        found = alone.meet(None)
    assert found.wrong == []
    known = [told.known for told in alone.told.values()]
    assert known == [None, b"v25", b"v26", b"v27", b"v28", None]
    assert alone.counted.least == alone.counted.most == WRITES // 3
    assert found.counts[Kind.SYNC] >= WRITES


def test_without_a_sync_the_layer_would_tell(library: Path, tmp_path: Path) -> None:
    """With `-durability os` the same writes are acknowledged unsynced: the count is no constant."""
    with Alone(tmp_path, library, durability="os") as alone:
        found = alone.meet(None)
    assert found.wrong == []
    assert found.counts[Kind.SYNC] < WRITES
