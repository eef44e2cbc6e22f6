# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that say who made them, and operations that say what became of them."""

from __future__ import annotations

import math
from operator import attrgetter

import pytest

from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version, successor
from quorate.errors import DeadlineExceeded, Outcome, QuorumUnreachable
from quorate.sim.history import (
    UPDATES,
    ClientOperation,
    Evidence,
    History,
    Kind,
)
from quorate.sim.layouts import Holders
from quorate.sim.tokens import behind, token_of

VERSION = pack_version(7, 1)


def _asked(kind: Kind) -> ClientOperation:
    return ClientOperation(
        1, 2, 0, kind, b"k", asked_ms=5.0, value=b"v" if kind is Kind.PUT else None
    )


@pytest.mark.parametrize("kind", [Kind.PUT, Kind.DELETE])
def test_a_write_is_acknowledged_refused_or_unknown(kind: Kind) -> None:
    op = _asked(kind)
    assert op.is_write
    assert (op.is_refused, op.version, op.over_ms) == (False, b"", math.inf)
    op.result = PutResult(VERSION, 2, 3)
    assert (op.is_refused, op.version) == (False, VERSION)
    op.result = DeadlineExceeded("", outcome=Outcome.UNKNOWN)
    assert (op.is_refused, op.version) == (False, b"")
    op.result = QuorumUnreachable("", outcome=Outcome.NOT_APPLIED)
    assert (op.is_refused, op.version) == (True, b"")


def test_a_record_may_be_of_a_write_that_has_its_value_and_not_another_version() -> None:
    op, record = _asked(Kind.PUT), Record(VERSION, b"v", 7)
    assert op.may_have_written(record)
    assert not op.may_have_written(Record(VERSION, None))
    op.result = PutResult(VERSION, 2, 3)
    assert op.may_have_written(record)
    op.result = PutResult(pack_version(8, 1), 2, 3)
    assert not op.may_have_written(record)
    # It may be the first stamp of two.
    op.result = PutResult(pack_version(8, 1), 2, 3, restamped=True)
    assert op.may_have_written(record)
    op.result = PutResult(pack_version(6, 1), 2, 3, restamped=True)
    assert not op.may_have_written(record)
    op.result = QuorumUnreachable("", outcome=Outcome.NOT_APPLIED)
    assert not op.may_have_written(record)
    assert not _asked(Kind.GET).may_have_written(Record(VERSION, None))


@pytest.mark.parametrize(
    ("kind", "r", "w", "is_promised"),
    [
        (Kind.GET, 2, 1, True),
        (Kind.GET, 1, 3, False),
        (Kind.PUT, 1, 2, True),
        (Kind.DELETE, 3, 1, False),
    ],
)
def test_order_is_promised_where_reading_and_writing_ask_majorities(
    kind: Kind, r: int, w: int, *, is_promised: bool
) -> None:
    op = ClientOperation(1, 0, 0, kind, b"k", asked_ms=0.0, r=r, w=w)
    assert Evidence(n=3, r=2, w=2, epoch_ms=0).is_promised(op) is is_promised
    # A read that does not write back may be older than one before it.
    is_read = kind is Kind.GET
    assert Evidence(n=3, r=2, w=1, epoch_ms=0).is_promised(op) is (is_promised and not is_read)


@pytest.mark.parametrize("kind", sorted(UPDATES, key=attrgetter("value")))
def test_a_read_modify_write_needs_majorities_whatever_is_asked(kind: Kind) -> None:
    op = ClientOperation(1, 0, 0, kind, b"k", asked_ms=0.0)
    assert Evidence(n=3, r=2, w=2, epoch_ms=0).is_promised(op)
    assert not Evidence(n=3, r=2, w=1, epoch_ms=0).is_promised(op)
    assert Evidence(n=3, r=3, w=3, set_w=3, epoch_ms=0).needed(op, Holders((0, 1, 2))) == 2


@pytest.mark.parametrize(
    ("asked", "started_with", "needed"), [(0, 0, 3), (0, 2, 2), (1, 2, 1), (4, 0, 4)]
)
def test_a_number_that_nodes_were_started_with_does_not_grow_with_the_copies(
    asked: int, started_with: int, needed: int
) -> None:
    """A majority of 3 is 2, and of 5 copies 3."""
    evidence = Evidence(n=3, r=2, w=2, set_r=started_with, set_w=started_with, epoch_ms=0)
    for kind in (Kind.GET, Kind.PUT):
        op = ClientOperation(1, 0, 0, kind, b"k", asked_ms=0.0, r=asked, w=asked)
        assert evidence.needed(op, Holders((0, 1, 2, 3, 4))) == needed


@pytest.mark.parametrize(
    ("set_w", "set_r", "sizes", "is_promised", "do_overlap"),
    [
        (0, 0, {1, 3, 5}, True, True),
        (2, 2, {3}, True, True),
        (2, 2, {2, 3}, True, True),
        (2, 2, {3, 4}, False, False),
        (3, 0, {3, 5}, True, True),
        (2, 0, {3, 5}, False, False),
        (0, 2, {3, 4}, False, True),
    ],
)
def test_what_is_promised_holds_for_every_number_of_copies_that_there_was(
    set_w: int, set_r: int, sizes: set[int], is_promised: bool, do_overlap: bool
) -> None:
    evidence = Evidence(
        n=3,
        r=set_r or 2,
        w=set_w or 2,
        set_r=set_r,
        set_w=set_w,
        sizes=frozenset(sizes),
        epoch_ms=0,
    )
    get, put = _asked(Kind.GET), _asked(Kind.PUT)
    assert evidence.is_promised(get) is is_promised
    assert evidence.do_overlap(get, put) is do_overlap


def test_a_read_is_none_of_these() -> None:
    op = _asked(Kind.GET)
    op.result = QuorumUnreachable("", outcome=Outcome.NOT_APPLIED)
    assert (op.is_write, op.is_refused) == (False, False)


def test_a_door_serves_no_value_past_its_expiry_but_the_record_still_has_it() -> None:
    op = _asked(Kind.GET)
    op.result = GetResult(Record(VERSION, b"v", 1_000), 2)
    op.wall_ms = 999
    assert (op.read, op.served) == (b"v", b"v")
    op.wall_ms = 1_000
    assert (op.read, op.served) == (b"v", None)


def test_a_tombstone_and_nothing_read_the_same() -> None:
    op = _asked(Kind.GET)
    for record in (None, Record(VERSION, None)):
        op.result = GetResult(record, 2)
        assert (op.read, op.served) == (None, None)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (None, "no answer"),
        (PutResult(VERSION, 2, 3, restamped=True), "/0001, 2 of 3 acks, restamped"),
        (GetResult(None, 2), "finds nothing, 2 answers"),
        (GetResult(Record(VERSION, None), 3), "finds a tombstone @"),
        (GetResult(Record(VERSION, b"v"), 3), "finds v @"),
        (DeadlineExceeded("too late", outcome=Outcome.UNKNOWN), "fails: too late, unknown"),
    ],
)
def test_an_operation_tells_all_that_its_client_knows(
    result: GetResult | PutResult | DeadlineExceeded | None, told: str
) -> None:
    op = _asked(Kind.PUT)
    op.result = result
    assert told in repr(op)
    assert "#1 client 2 at n0" in repr(op)
    assert "put b'k' b'v'" in repr(op)


def test_an_update_tells_what_it_found_and_made() -> None:
    op = ClientOperation(1, 2, 0, Kind.EXPIRE, b"k", asked_ms=5.0, attempt=1)
    assert "#1 attempt 1 client 2 at n0 5.000-...: expire b'k' -> no answer" in repr(op)
    before, after = Record(VERSION, b"v"), Record(successor(VERSION, 3), b"v", 9)
    op.result = UpdateResult(before, after, 2, 3)
    assert "makes v @" in repr(op)
    assert "/0001 of v @" not in repr(op)
    assert (op.wrote, op.version, op.told) == (after, after.version, [before, after])
    op.result = UpdateResult(before, None, 0, 0)
    assert "leaves v @" in repr(op)
    assert (op.wrote, op.version, op.told) == (None, VERSION, [before])
    op.result = UpdateResult(None, after, 0, 3, is_repeated=True)
    assert "was done before; there is v @" in repr(op)
    assert op.wrote is None


def test_who_may_have_written_a_record_is_known_by_its_last_token() -> None:
    played, key = History(), b"k"
    put = ClientOperation(1, 2, 0, Kind.PUT, key, asked_ms=0.0, value=token_of((2, 1, 0), key))
    append = ClientOperation(2, 2, 0, Kind.APPEND, key, asked_ms=1.0)
    expire = ClientOperation(3, 2, 0, Kind.EXPIRE, key, asked_ms=2.0, expires_ms=9)
    played.operations = [put, append, expire]
    value = behind(put.value, append.name, key)
    assert played.writers(key, Record(VERSION, put.value)) == [put]
    assert played.writers(key, Record(VERSION, value)) == [append]
    assert played.writers(key, Record(VERSION, value, 9)) == [append, expire]
    assert played.writers(key, Record(VERSION, None)) == []
    assert played.expiries(Record(VERSION, value)) == [0, 9, 9]
    assert played.expiries(Record(VERSION, value), by_ms=1.5) == [0]


def test_operations_are_found_by_key_in_the_order_in_which_they_were_asked() -> None:
    history = History()
    for serial, key in enumerate((b"a", b"b", b"a")):
        history.operations.append(ClientOperation(serial, 0, 0, Kind.GET, key, asked_ms=serial))
    found = history.by_key()
    assert {key: [op.serial for op in ops] for key, ops in found.items()} == {
        b"a": [0, 2],
        b"b": [1],
    }


def test_what_replicas_settle_on_is_what_wins() -> None:
    low, high = Record(pack_version(1, 1), b"a"), Record(pack_version(2, 1), None)
    evidence = Evidence(n=3, r=2, w=2, epoch_ms=0, settled={b"k": {0: low, 1: high, 2: None}})
    assert evidence.merged(b"k") == high
    assert evidence.merged(b"other") is None
