# SPDX-License-Identifier: GPL-3.0-or-later
"""What types let through and the core must never see."""

from __future__ import annotations

import pytest
from hypothesis import given

from quorate.core.topology.layout import EPOCH_MAX, LAYOUT_BYTES_MAX
from quorate.core.values.messages import (
    Accept,
    Foundation,
    Frame,
    Known,
    Message,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Prepare,
    Read,
    ReadAnswer,
    ScannedRow,
    ScannedRows,
    ScanRows,
    Vote,
    Voted,
    Whereabouts,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import PARTITION_COUNT, row_of
from quorate.errors import PeerProtocolError
from quorate.wire.frames import check_frame
from tests.unit.wire.frame_strategies import FRAME

ROW = row_of(b"k")
LAST_ROW = (PARTITION_COUNT - 1).to_bytes(2, "big") + b"\xff\xff" + b"k" * 1024
VERSION = b"v" * 14
BAD_ROWS = [b"", b"\0", ROW[:4], ROW[:4] + bytes(1025), PARTITION_COUNT.to_bytes(2, "big") + b"xxk"]
BAD_RECORDS = [
    Record(b"", b"x"),
    Record(VERSION[1:], b"x"),
    Record(VERSION + b"v", None),
    Record(VERSION, b"x", -1),
    Record(VERSION, b"x", 0, b"p"),
]


@given(frame=FRAME)
def test_every_frame_that_nodes_make_is_allowed(frame: Frame) -> None:
    check_frame(frame)


@pytest.mark.parametrize("row", [ROW, LAST_ROW, b"\0\0\0\0k"])
def test_rows_at_the_bounds_are_allowed(row: bytes) -> None:
    check_frame(Frame(0, 0, [Mutate(1, [(row, Record(VERSION, b""))]), Read(2, [row], [row])]))


@pytest.mark.parametrize("row", BAD_ROWS, ids=lambda row: f"{len(row)} bytes")
@pytest.mark.parametrize(
    "message",
    [
        lambda row: Mutate(1, [(ROW, Record(VERSION, b"")), (row, Record(VERSION, b""))]),
        lambda row: Read(1, [ROW, row], []),
        lambda row: Read(1, [], [row, ROW]),
        lambda row: ReadAnswer(1, [], [], [row]),
        lambda row: ScannedRows(1, [ScannedRow(row, VERSION, True, 0)], False),
    ],
    ids=["mutate", "full", "brief", "failed", "scanned"],
)
def test_a_row_that_cannot_be_one_refuses_the_frame(message: object, row: bytes) -> None:
    assert callable(message)
    with pytest.raises(PeerProtocolError):
        check_frame(Frame(1, 1, [message(row)]))


@pytest.mark.parametrize("record", BAD_RECORDS, ids=repr)
def test_a_record_that_cannot_be_one_refuses_the_frame(record: Record) -> None:
    good = Record(VERSION, b"x")
    with pytest.raises(PeerProtocolError):
        check_frame(Frame(1, 1, [Mutate(1, [(ROW, good), (ROW, record)])]))
    with pytest.raises(PeerProtocolError):
        check_frame(Frame(1, 1, [ReadAnswer(1, [None, good, record], [])]))


@pytest.mark.parametrize(
    "message",
    [
        Mutated(1, [(0, b"")], []),
        Mutated(1, [(-1, VERSION)], []),
        Mutated(1, [], [(-1, "")]),
        Mutated(1, [], [(0, "\x1b[2J")]),
        Mutated(1, [], [(0, "x" * 301)]),
        Mutate(1, [(ROW, Record(VERSION, b""))] * 16_385),
        Ping(1, [Whereabouts(1, 0, "")], 0, 0),
        Ping(1, [Whereabouts(1, 0, "http://n1:8000\n")], 0, 0),
        Ping(1, [Whereabouts(1, 0, "x" * 301)], 0, 0),
        Ping(1, [Whereabouts(1, 0, "http://n1:8000", "x" * 301)], 0, 0),
        Ping(1, [Whereabouts(1, 0, "http://n1:8000", "\n")], 0, 0),
        Ping(1, [Whereabouts(-1, 0, "http://n1:8000")], 0, 0),
        Ping(1, [Whereabouts(1 << 48, 0, "http://n1:8000")], 0, 0),
        Ping(1, [Whereabouts(1, -1, "http://n1:8000")], 0, 0),
        Ping(1, [Whereabouts(1, 0, "http://n1:8000")] * 1_002, 0, 0),
        Ping(1, [Whereabouts(1, 1 << 63, "http://n1:8000")], 0, 0),
        Ping(1, [], -1, 0),
        Ping(1, [], 0, 1 << 63),
        Ping(1, [], 0, 0, facts=-1),
        Known([(-1, 0)]),
        Known([(1 << 48, 0)]),
        Known([(1, -1)]),
        Known([(1, 1 << 63)]),
        Known([(1, 0)] * 1_002),
        Known([], [Whereabouts(1, 0, "")]),
        Foundation(4, [(1, "http://n1:8000")], 3),
        Foundation(-1, [(1, "http://n1:8000")], 3),
        Foundation(0, [], 3),
        Foundation(0, [(1, "http://n1:8000")] * 65, 3),
        Foundation(0, [(0, "http://n1:8000")], 3),
        Foundation(0, [(1 << 48, "http://n1:8000")], 3),
        Foundation(0, [(1, "no url")], 3),
        Foundation(0, [(1, "http://n1:8000")], 0),
        OtherEpoch(EPOCH_MAX + 1, []),
        Prepare(1, 0, (1, 1)),
        Prepare(1, EPOCH_MAX + 1, (1, 1)),
        Accept(1, 2, (1, 1), bytes(LAYOUT_BYTES_MAX + 1)),
        Voted(1, Vote(2, True, (1, 1), (1, 1), bytes(LAYOUT_BYTES_MAX + 1))),
        Prepare(1, 2, (-1, 1)),
        Prepare(1, 2, (1 << 32, 1)),
        Prepare(1, 2, (1, 1 << 62)),
        Accept(1, 2, (1, -1), b""),
        Voted(1, Vote(0, True, (1, 1))),
        Voted(1, Vote(2, True, (1, -1))),
        Voted(1, Vote(2, True, (1, 1), (1 << 32, 1))),
        ReadAnswer(1, [], [b"v"]),
        ScannedRows(1, [ScannedRow(ROW, b"", True, 0)], False),
        ScanRows(1, -1, b"", b"", 10),
        ScanRows(1, PARTITION_COUNT, b"", b"", 10),
        ScanRows(1, 0, b"", b"", 0),
    ],
    ids=lambda message: repr(message)[:60],
)
def test_a_number_or_version_out_of_range_refuses_the_frame(message: Message) -> None:
    with pytest.raises(PeerProtocolError):
        check_frame(Frame(1, 1, [message]))


@pytest.mark.parametrize("frame", [Frame(-1, 1, []), Frame(1, -1, []), Frame(1, 1 << 64, [])])
def test_a_clock_or_epoch_out_of_range_refuses_the_frame(frame: Frame) -> None:
    with pytest.raises(PeerProtocolError):
        check_frame(frame)
