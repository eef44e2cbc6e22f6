# SPDX-License-Identifier: GPL-3.0-or-later
"""Any well-formed frame and greeting, for hypothesis."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from quorate.core.values.messages import (
    BALLOT_BITS,
    BALLOT_COUNT_MAX,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Accept,
    AcceptRows,
    Agree,
    AskSums,
    Foundation,
    FoundStage,
    Frame,
    Greeting,
    Instance,
    Known,
    ListBuckets,
    Listed,
    Message,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Pong,
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
    Sums,
    Vote,
    Voted,
    Whereabouts,
)
from quorate.core.values.record import Record
from quorate.core.values.settings import NODE_ID_MAX
from quorate.core.values.slots import BUCKETS, PARTITION_COUNT, row_of
from quorate.core.values.versions import ABSENT, successor

UINT64 = st.integers(0, 2**64 - 1)
BATCH = st.integers(0, 2**63 - 1)
ROW = st.binary(min_size=1, max_size=1024).map(row_of)
STAMPED = st.binary(min_size=14, max_size=14)
LINK = st.integers(1, 2**64 - 1)
VERSION = STAMPED | st.builds(successor, STAMPED, LINK)
VERSION_OR_ABSENT = st.one_of(st.just(ABSENT), VERSION)
STAMPED_RECORD = st.builds(
    Record,
    version=STAMPED,
    value=st.none() | st.binary(max_size=200),
    expires_ms=st.integers(0, 2**48),
    prior=VERSION_OR_ABSENT,
)
WINNERS = st.lists(st.tuples(st.integers(0, 2**63), UINT64), max_size=6).map(
    lambda winners: tuple(sorted(winners))
)


def linked(record: Record, base: bytes, winners: tuple[tuple[int, int], ...]) -> Record:
    """The record as a successor of a version."""
    link = max([link for link, _ in winners], default=0) + 1
    version = successor(base, link)
    return Record(version, record.value, record.expires_ms, record.prior, winners)


def with_records(held: list[tuple[bytes, Record]], count: int) -> ScannedRows:
    """A list of these rows, and so many of their records."""
    rows = [ScannedRow(row, each.version, True, each.expires_ms) for row, each in held]
    return ScannedRows(1, rows, more=True, records=[each for _, each in held[:count]])


LINKED_RECORD = st.builds(linked, STAMPED_RECORD, STAMPED, WINNERS)
RECORD = STAMPED_RECORD | LINKED_RECORD
PARTITION = st.integers(0, PARTITION_COUNT - 1)
NUMBER = st.integers(1, 2**31)
BALLOT = st.tuples(st.integers(0, BALLOT_COUNT_MAX), st.integers(0, (1 << BALLOT_BITS) - 1))
SHOWN = st.text(min_size=1, max_size=20).filter(str.isprintable)
ACCEPTED = st.builds(
    lambda row, base, ballot, record, winners: (row, base, ballot, linked(record, base, winners)),
    ROW,
    STAMPED,
    BALLOT,
    STAMPED_RECORD,
    WINNERS,
) | st.tuples(ROW, st.just(bytes(14)), BALLOT, STAMPED_RECORD.filter(lambda put: any(put.version)))
INSTANCE = st.builds(Instance, VERSION, BALLOT, BALLOT, st.none() | LINKED_RECORD, st.booleans())
ROW_VOTE = st.builds(
    RowVote,
    st.sampled_from(Said).map(int),
    VERSION_OR_ABSENT,
    BALLOT,
    BALLOT,
    st.none() | LINKED_RECORD,
    st.none() | RECORD,
)
KINDS: Final[tuple[st.SearchStrategy[Message], ...]] = (
    st.builds(Mutate, BATCH, st.lists(st.tuples(ROW, RECORD), max_size=5), BATCH),
    st.builds(
        Mutated,
        BATCH,
        st.lists(st.tuples(st.integers(0, 1000), VERSION), max_size=3),
        st.lists(st.tuples(st.integers(0, 1000), SHOWN), max_size=3),
    ),
    st.builds(
        Read,
        BATCH,
        st.lists(ROW, max_size=4),
        st.lists(ROW, max_size=4),
        st.integers(-1, PARTITION_COUNT - 1),
    ),
    st.builds(
        ReadAnswer,
        BATCH,
        st.lists(st.none() | RECORD, max_size=4),
        st.lists(VERSION_OR_ABSENT, max_size=4),
        st.lists(ROW, max_size=2),
        BATCH,
    ),
    st.builds(
        ScanRows,
        BATCH,
        PARTITION,
        st.binary(max_size=20),
        st.binary(max_size=20),
        st.integers(1, 10_000),
    ),
    st.builds(
        ScannedRows,
        BATCH,
        st.lists(st.builds(ScannedRow, ROW, VERSION, st.booleans(), BATCH), max_size=4),
        st.booleans(),
    ),
    st.builds(with_records, st.lists(st.tuples(ROW, RECORD), max_size=4), st.integers(0, 4)),
    st.builds(
        Ping,
        BATCH,
        st.lists(st.builds(Whereabouts, st.integers(0, NODE_ID_MAX), BATCH, SHOWN), max_size=4),
        BATCH,
        BATCH,
        waits=st.booleans(),
    ),
    st.builds(Known, st.lists(st.tuples(st.integers(0, NODE_ID_MAX), BATCH), max_size=4)),
    st.builds(Prepare, BATCH, NUMBER, BALLOT),
    st.builds(Accept, BATCH, NUMBER, BALLOT, st.binary(max_size=9)),
    st.builds(
        Voted, BATCH, st.builds(Vote, NUMBER, st.booleans(), BALLOT, BALLOT, st.binary(max_size=9))
    ),
    st.builds(Pong, BATCH),
    st.builds(
        Pull,
        BATCH,
        PARTITION,
        st.binary(max_size=20),
        st.integers(1, 10_000),
        st.none() | VERSION_OR_ABSENT,
    ),
    st.builds(Agree, BATCH, st.lists(st.tuples(PARTITION, BATCH), max_size=3)),
    st.builds(AskSums, BATCH, PARTITION, BATCH),
    st.builds(Sums, BATCH, st.sampled_from([[], list(range(BUCKETS))])),
    st.builds(
        ListBuckets,
        BATCH,
        PARTITION,
        st.integers(0, (1 << BUCKETS) - 1),
        st.binary(max_size=20),
        st.integers(1, 10_000),
    ),
    st.builds(Listed, BATCH, st.lists(st.tuples(ROW, VERSION), max_size=3), st.binary(max_size=9)),
    st.builds(
        Foundation,
        st.sampled_from(FoundStage),
        st.lists(
            st.tuples(st.integers(1, NODE_ID_MAX), st.just("http://n1:8000")),
            min_size=1,
            max_size=4,
        ),
        st.integers(1, 64),
    ),
    st.builds(
        PrepareRows,
        BATCH,
        st.lists(st.tuples(ROW, st.none() | VERSION, BALLOT, VERSION_OR_ABSENT), max_size=3),
    ),
    st.builds(AcceptRows, BATCH, st.lists(ACCEPTED, max_size=3)),
    st.builds(RowsVoted, BATCH, st.lists(ROW_VOTE, max_size=3)),
    st.builds(
        PulledVotes,
        BATCH,
        st.lists(st.tuples(ROW, VERSION_OR_ABSENT, UINT64, st.none() | INSTANCE), max_size=3),
        st.booleans(),
    ),
    st.builds(
        OtherEpoch, st.integers(0, 2**31), st.lists(BATCH, max_size=4), st.binary(max_size=9)
    ),
)
MESSAGE = st.one_of(*KINDS)
ONE_OF_EACH = st.tuples(*KINDS)
"""A message of every kind."""
FRAME = st.builds(Frame, st.integers(0, 2**31), UINT64, st.lists(MESSAGE, max_size=4))
GREETING = st.builds(
    Greeting,
    protocol_min=st.just(PROTOCOL_MIN),
    protocol_max=st.just(PROTOCOL_MAX),
    cluster=st.text(max_size=20),
    url=st.text(max_size=40),
    node_id=st.integers(0, 2**48 - 1),
    epoch=st.integers(0, 2**31),
    layout_hash=st.binary(max_size=16),
    version=st.text(max_size=10),
    layout=st.binary(max_size=300),
    refusal=st.text(max_size=40),
    process=st.integers(0, 2**48 - 1),
    reached=st.integers(0, 2**48 - 1),
)
