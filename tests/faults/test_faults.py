# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose system calls fail: a sample of what `scripts/faults` tries one by one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.faults.calls import FOR_EVER, Action, Kind, build
from tests.faults.node import WRITES, Fault, FaultyNode, run

SAMPLE = [
    Fault(Kind.WRITE, 7, Action.FAIL, errno.EIO),
    Fault(Kind.WRITE, 3, Action.FAIL, errno.ENOSPC, times=FOR_EVER),
    Fault(Kind.WRITE, 1, Action.CUT, times=FOR_EVER),
    Fault(Kind.SYNC, 5, Action.FAIL, errno.EIO),
    Fault(Kind.SYNC, 4, Action.STALL, 1_500),
    Fault(Kind.LOG, 1, Action.FAIL, errno.EPIPE, times=FOR_EVER, at_start=True),
    Fault(Kind.SEND, 9, Action.FAIL, errno.ECONNRESET),
    Fault(Kind.SEND, 1, Action.CUT, times=FOR_EVER),
    Fault(Kind.RECEIVE, 1, Action.CUT, times=FOR_EVER),
    Fault(Kind.ACCEPT, 1, Action.FAIL, errno.EMFILE),
    Fault(Kind.OPEN, 9, Action.FAIL, errno.EIO, at_start=True),
    Fault(Kind.READ, 16, Action.FAIL, errno.EIO, at_start=True),
    Fault(Kind.READ, 1, Action.CUT, times=FOR_EVER, at_start=True),
    Fault(Kind.WRITE, 33, Action.FAIL, errno.EIO, at_start=True),
    Fault(Kind.SYNC, 8, Action.FAIL, errno.EIO, at_start=True),
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
    faulty = run(tmp_path, library, fault)
    assert faulty.counts[fault.kind] >= fault.first, "it was never met"
    assert faulty.wrong == []


def test_each_acknowledged_write_was_synced_by_the_kernel(library: Path, tmp_path: Path) -> None:
    """P1. One that comes after another was answered shares no sync with it."""
    faulty = run(tmp_path, library, None)
    assert faulty.wrong == []
    assert all(told.known for told in faulty.told.values())
    assert faulty.counts[Kind.SYNC] >= WRITES


def test_without_a_sync_the_layer_would_tell(library: Path, tmp_path: Path) -> None:
    """With `-durability os` the same writes are acknowledged unsynced: the count is no constant."""
    faulty = FaultyNode(tmp_path, library, durability="os")
    try:
        faulty.start(is_faulty=True)
        faulty.wait_settled()
        faulty.calls.count(is_on=True)
        faulty.load()
        assert faulty.calls.counted(Kind.SYNC) < WRITES
        assert faulty.wrong == []
    finally:
        faulty.end()
