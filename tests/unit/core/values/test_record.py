# SPDX-License-Identifier: GPL-3.0-or-later
"""Newest wins, by a total order that is the same everywhere (I9)."""

from __future__ import annotations

import functools
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.record import Record, is_live, record_of, wins
from quorate.core.values.versions import (
    ABSENT,
    pack_version,
    stamp_of,
    successor,
)

_STAMPED = st.builds(pack_version, st.integers(1, 3), st.integers(1, 2))
_VERSIONS = st.one_of(_STAMPED, st.builds(successor, _STAMPED, st.integers(1, 2)))
_RECORDS = st.builds(
    Record,
    _VERSIONS,
    st.one_of(st.none(), st.sampled_from([b"", b"a", b"b"])),
    st.sampled_from([0, 1, 2]),
    st.one_of(st.just(ABSENT), _VERSIONS),
    st.sampled_from([(), ((1, 7),), ((1, 8),)]),
)


def test_nothing_here_has_stamp_0_and_loses_to_everything() -> None:
    assert stamp_of(ABSENT) == 0
    assert wins(Record(pack_version(0, 0), None), None)


@given(_RECORDS, _RECORDS)
def test_of_two_different_records_exactly_one_wins(one: Record, other: Record) -> None:
    assert wins(one, other) + wins(other, one) == (one != other)


def _merge(old: Record, new: Record) -> Record:
    return new if wins(new, old) else old


@given(st.lists(_RECORDS, min_size=1, max_size=5))
def test_replicas_end_with_one_record_whatever_the_order_of_arrival(records: list[Record]) -> None:
    """Equal timestamps included; I9: commutative, associative, idempotent."""
    twice = records + records
    ends = {repr(functools.reduce(_merge, order)) for order in permutations(records)}
    assert ends == {repr(functools.reduce(_merge, twice))}
    assert max(record.version for record in records) == functools.reduce(_merge, records).version


def test_a_tombstone_wins_over_a_value_of_the_same_version() -> None:
    version = pack_version(7, 1)
    assert wins(Record(version, None), Record(version, b"\xff" * 9, 99))


def test_a_link_wins_over_its_base_and_loses_to_the_next_stamp() -> None:
    base = pack_version(7, 1)
    linked = Record(successor(base), b"linked", winners=((1, 9),))
    assert wins(linked, Record(base, None))
    assert wins(Record(pack_version(7, 2), b"next"), linked)


@pytest.mark.parametrize(
    ("record", "is_seen"),
    [
        (None, False),
        (Record(b"v", None), False),
        (Record(b"v", b""), True),
        (Record(b"v", b"x", expires_ms=1000), False),
        (Record(b"v", b"x", expires_ms=1001), True),
        (Record(b"v", None, expires_ms=1001), False),
    ],
)
def test_deleted_and_expired_records_are_not_seen(record: Record | None, is_seen: bool) -> None:
    """I16: from its instant on, an expired value is gone."""
    assert is_live(record, wall_ms=1000) is is_seen


# --- as bytes ------------------------------------------------------------------------------------

_HEAD = pack_version(2**40, 7)
_LINK = (9).to_bytes(8, "big")
_NO_BODIES = [
    b"",
    b"\1",
    b"\1\0" + _HEAD[1:],
    b"\0\0" + _HEAD,
    b"\3\0" + _HEAD,
    b"\1\x08" + _HEAD + _LINK,
    b"\1\2" + _HEAD + _LINK[1:],
    b"\1\2" + _HEAD + bytes(8),
    b"\1\4" + _HEAD + _HEAD[1:],
    b"\1\1" + _HEAD + b"x",
    b"\2\7" + _HEAD + _LINK + _HEAD,
    b"\2\x20" + _HEAD + _LINK,
    b"\2\x08" + _HEAD + _LINK,
    b"\2\x08" + _HEAD + _LINK[1:],
    b"\2\x08" + _HEAD + _LINK + b"\1" + bytes(15),
    b"\2\x09" + _HEAD + _LINK + b"\0x",
    b"\2\x0a" + _HEAD + bytes(8) + _LINK + b"\0",
    b"\2\x10" + _HEAD + _LINK,
    b"\2\x14" + _HEAD + _HEAD + _LINK[1:],
]


@given(_RECORDS)
def test_a_record_has_one_body_and_a_body_one_record(record: Record) -> None:
    if len(record.version) == len(_HEAD):
        record = Record(record.version, record.value, record.expires_ms, record.prior)
    found = record_of(record.body)
    assert found == record
    assert found.body == record.body
    assert (found.size, found.is_tombstone) == (record.size, record.is_tombstone)


@given(_RECORDS)
def test_a_record_says_the_same_before_and_after_its_body_was_made(record: Record) -> None:
    before = repr(record), record.size, record.value, record.prior
    assert record.body
    assert (repr(record), record.size, record.value, record.prior) == before


@pytest.mark.parametrize("body", _NO_BODIES, ids=bytes.hex)
def test_bytes_that_are_no_record_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="a record"):
        record_of(body)
