# SPDX-License-Identifier: GPL-3.0-or-later
"""Any well-formed frame and greeting, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from quorate.core.values.messages import (
    BALLOT_BITS,
    BALLOT_COUNT_MAX,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Accept,
    Agree,
    AskSums,
    Foundation,
    FoundStage,
    Frame,
    Greeting,
    Known,
    ListBuckets,
    Listed,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Pong,
    Prepare,
    Pull,
    Read,
    ReadAnswer,
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
from quorate.core.values.versions import ABSENT

UINT64 = st.integers(0, 2**64 - 1)
BATCH = st.integers(0, 2**63 - 1)
ROW = st.binary(min_size=1, max_size=1024).map(row_of)
VERSION = st.binary(min_size=14, max_size=14)
VERSION_OR_ABSENT = st.one_of(st.just(ABSENT), VERSION)
RECORD = st.builds(
    Record,
    version=VERSION,
    value=st.none() | st.binary(max_size=200),
    expires_ms=st.integers(0, 2**48),
    prior=VERSION_OR_ABSENT,
)
PARTITION = st.integers(0, PARTITION_COUNT - 1)
NUMBER = st.integers(1, 2**31)
BALLOT = st.tuples(st.integers(0, BALLOT_COUNT_MAX), st.integers(0, (1 << BALLOT_BITS) - 1))
SHOWN = st.text(min_size=1, max_size=20).filter(str.isprintable)
MESSAGE = st.one_of(
    st.builds(Mutate, BATCH, st.lists(st.tuples(ROW, RECORD), max_size=5)),
    st.builds(
        Mutated,
        BATCH,
        st.lists(st.tuples(st.integers(0, 1000), VERSION), max_size=3),
        st.lists(st.tuples(st.integers(0, 1000), SHOWN), max_size=3),
    ),
    st.builds(Read, BATCH, st.lists(ROW, max_size=4), st.lists(ROW, max_size=4)),
    st.builds(
        ReadAnswer,
        BATCH,
        st.lists(st.none() | RECORD, max_size=4),
        st.lists(VERSION_OR_ABSENT, max_size=4),
        st.lists(ROW, max_size=2),
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
    st.builds(
        Ping,
        BATCH,
        st.lists(st.builds(Whereabouts, st.integers(0, NODE_ID_MAX), BATCH, SHOWN), max_size=4),
        BATCH,
        BATCH,
    ),
    st.builds(Known, st.lists(st.tuples(st.integers(0, NODE_ID_MAX), BATCH), max_size=4)),
    st.builds(Prepare, BATCH, NUMBER, BALLOT),
    st.builds(Accept, BATCH, NUMBER, BALLOT, st.binary(max_size=9)),
    st.builds(
        Voted, BATCH, st.builds(Vote, NUMBER, st.booleans(), BALLOT, BALLOT, st.binary(max_size=9))
    ),
    st.builds(Pong, BATCH),
    st.builds(Pull, BATCH, PARTITION, st.binary(max_size=20), st.integers(1, 10_000)),
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
        OtherEpoch, st.integers(0, 2**31), st.lists(BATCH, max_size=4), st.binary(max_size=9)
    ),
)
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
