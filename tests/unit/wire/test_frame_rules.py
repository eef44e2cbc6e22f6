# SPDX-License-Identifier: GPL-3.0-or-later
"""What types let through and the core must never see."""

from __future__ import annotations

import pytest
from hypothesis import given

from quorate.core.topology.layout import EPOCH_MAX, LAYOUT_BYTES_MAX
from quorate.core.values.messages import (
    Accept,
    AcceptRows,
    Foundation,
    Frame,
    Instance,
    Known,
    Listed,
    Message,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Prepare,
    PrepareRows,
    Pull,
    PulledVotes,
    Read,
    ReadAnswer,
    RowsVoted,
    RowVote,
    Said,
    ScannedRow,
    ScannedRows,
    ScanRows,
    Vote,
    Voted,
    Whereabouts,
)
from quorate.core.values.record import WINNERS_MAX, Record
from quorate.core.values.slots import PARTITION_COUNT, row_of
from quorate.core.values.versions import successor
from quorate.errors import PeerProtocolError
from quorate.wire.frame_rules import check_frame
from tests.unit.wire.frame_strategies import FRAME

ROW = row_of(b"k")
LAST_ROW = (PARTITION_COUNT - 1).to_bytes(2, "big") + b"\xff\xff" + b"k" * 1024
VERSION = b"v" * 14
LINKED = successor(VERSION, 7)
NEXT = Record(LINKED, b"x")
BAD_ROWS = [b"", b"\0", ROW[:4], ROW[:4] + bytes(1025), PARTITION_COUNT.to_bytes(2, "big") + b"xxk"]
BAD_RECORDS = [
    Record(b"", b"x"),
    Record(VERSION[1:], b"x"),
    Record(VERSION + b"v", None),
    Record(VERSION, b"x", -1),
    Record(VERSION, b"x", 0, b"p"),
    Record(VERSION, b"x", 0, VERSION + b"p"),
    Record(VERSION, b"x", winners=((1, 1),)),
    Record(VERSION + bytes(7), b"x"),
    Record(VERSION + bytes(8), b"x"),
    Record(VERSION + b"v" * 9, b"x"),
    Record(LINKED[:-1], b"x"),
    Record(LINKED, b"x", winners=((8, 1),)),
    Record(LINKED, b"x", winners=((7, 1),)),
    Record(LINKED, b"x", winners=((2, 1), (1, 1))),
    Record(LINKED, b"x", winners=((0, 1),) * (WINNERS_MAX + 1)),
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
        lambda row: ReadAnswer(1, [], [], [], 0, [row]),
        lambda row: ScannedRows(1, [ScannedRow(row, VERSION, True, 0)], False),
        lambda row: PrepareRows(1, [(ROW, None, (1, 1), b""), (row, None, (1, 1), b"")]),
        lambda row: AcceptRows(1, [(row, VERSION, (1, 1), NEXT)]),
        lambda row: PulledVotes(1, [(row, b"", 0, None)], False),
    ],
    ids=[
        "mutate",
        "full",
        "brief",
        "failed",
        "withheld",
        "scanned",
        "prepared",
        "accepted",
        "pulled",
    ],
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
    with pytest.raises(PeerProtocolError):
        check_frame(Frame(1, 1, [AcceptRows(1, [(ROW, VERSION[:14], (1, 1), record)])]))
    with pytest.raises(PeerProtocolError):
        check_frame(Frame(1, 1, [RowsVoted(1, [RowVote(0, VERSION, held=record)])]))


def test_the_base_of_a_row_of_which_nothing_is_held_is_allowed() -> None:
    """It has no process's tie-break, and is all zero where there is no lock."""
    for base in (bytes(14), VERSION[:8] + bytes(6)):
        record = Record(successor(base, 3), b"x", winners=((0, 9),))
        vote = RowVote(Said.PROMISED, base, (1, 1), (1, 1), record)
        accept = AcceptRows(1, [(ROW, base, (0, 0), record)])
        check_frame(Frame(1, 1, [PrepareRows(1, [(ROW, base, (1, 1), base)]), accept]))
        check_frame(Frame(1, 1, [RowsVoted(1, [vote]), Mutate(1, [(ROW, record)])]))


@pytest.mark.parametrize(
    "message",
    [
        Mutated(1, [(0, b"")], []),
        Mutated(1, [(-1, VERSION)], []),
        Mutated(1, [(0, VERSION)], [], denied=[-1]),
        Mutated(1, [(0, VERSION)], [], denied=[0, 0]),
        Mutated(1, [], [(-1, "")]),
        Mutated(1, [], [(0, "\x1b[2J")]),
        Mutated(1, [], [(0, "x" * 301)]),
        Mutate(1, [(ROW, Record(VERSION, b""))] * 16_385),
        Mutate(1, [], -1),
        Mutate(1, [], 1 << 63),
        Read(1, [], [], -2),
        Read(1, [], [], PARTITION_COUNT),
        ReadAnswer(1, [None], [], [], -1),
        ReadAnswer(1, [None], [], [], 1 << 63),
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
        ReadAnswer(1, [], [VERSION + b"v"]),
        Mutated(1, [(0, LINKED[:-1])], []),
        Listed(1, [(ROW, b"")], b""),
        Listed(1, [(ROW, LINKED + b"v")], b""),
        ScannedRows(1, [ScannedRow(ROW, LINKED[:-1], True, 0)], False),
        ScannedRows(1, [], False, records=[NEXT]),
        ScannedRows(1, [ScannedRow(ROW, VERSION, True, 0)], False, records=[NEXT]),
        ScannedRows(1, [ScannedRow(ROW, NEXT.version, True, 0)], False, records=[NEXT, NEXT]),
        ScannedRows(
            1, [ScannedRow(ROW, BAD_RECORDS[0].version, True, 0)], False, records=[BAD_RECORDS[0]]
        ),
        PrepareRows(1, [(ROW, b"", (1, 1), b"")]),
        PrepareRows(1, [(ROW, VERSION[1:], (1, 1), b"")]),
        PrepareRows(1, [(ROW, VERSION, (1, 1), VERSION[1:])]),
        PrepareRows(1, [(ROW, None, (1 << 32, 1), b"")]),
        PrepareRows(1, [(ROW, None, (1, -1), b"")]),
        PrepareRows(1, [(ROW, None, (1, 1), b"")] * 16_385),
        AcceptRows(1, [(ROW, b"", (1, 1), NEXT)]),
        AcceptRows(1, [(ROW, VERSION, (1, 1 << 62), NEXT)]),
        AcceptRows(1, [(ROW, LINKED, (1, 1), NEXT)]),
        AcceptRows(1, [(ROW, successor(VERSION, 8), (1, 1), NEXT)]),
        AcceptRows(1, [(ROW, b"u" * 14, (1, 1), NEXT)]),
        AcceptRows(1, [(ROW, VERSION, (1, 1), Record(VERSION, b"x"))]),
        AcceptRows(1, [(ROW, VERSION, (1, 1), NEXT)] * 16_385),
        RowsVoted(1, [RowVote(6)]),
        RowsVoted(1, [RowVote(-1)]),
        RowsVoted(1, [RowVote(0, b"v")]),
        RowsVoted(1, [RowVote(0, VERSION, (-1, 1))]),
        RowsVoted(1, [RowVote(0, VERSION, (1, 1), (1, 1 << 62))]),
        RowsVoted(1, [RowVote(0, VERSION, (1, 1), (1, 1), Record(LINKED[:-1], b"x"))]),
        RowsVoted(1, [RowVote(5)] * 16_385),
        Pull(1, -1, b"", 1),
        Pull(1, 0, b"", 0),
        Pull(1, 0, b"", 1, VERSION[1:]),
        PulledVotes(1, [(ROW, VERSION[1:], 0, None)], False),
        PulledVotes(1, [(ROW, b"", -1, None)], False),
        PulledVotes(1, [(ROW, b"", 1 << 64, None)], False),
        PulledVotes(1, [(ROW, b"", 0, None)] * 16_385, False),
        PulledVotes(1, [(ROW, b"", 0, Instance(b"", (1, 1)))], False),
        PulledVotes(1, [(ROW, b"", 0, Instance(VERSION, (-1, 0)))], False),
        PulledVotes(1, [(ROW, b"", 0, Instance(VERSION, (1, 1), (1, 1 << 62)))], False),
        PulledVotes(1, [(ROW, b"", 0, Instance(VERSION, (1, 1), (1, 1), BAD_RECORDS[0]))], False),
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
