# SPDX-License-Identifier: GPL-3.0-or-later
"""What is promised of a whole run, as clients saw it (P2)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.errors import DeadlineExceeded, Outcome
from quorate.sim.checkers import linearizability
from quorate.sim.checkers.register import read
from quorate.sim.history import ClientOperation, Kind
from quorate.sim.tokens import behind, token_of
from tests.unit.sim.checkers.told import (
    EPOCH_MS,
    KEY,
    evidence,
    history,
    linked,
    of_get,
    of_put,
    of_update,
    record,
    token,
    version,
)


def _stale(**changes: int) -> list[str]:
    """A write was acknowledged, then missed."""
    operations = history(
        of_put(b"1", 0, 1, w=changes.pop("put_w", 0)), of_get(None, 2, 3, r=changes.pop("get_r", 0))
    )
    return [each.invariant for each in linearizability.check(operations, evidence(**changes))]


def test_a_stale_read_is_found_at_strict_majorities() -> None:
    assert _stale() == ["P2"]
    assert _stale(get_r=3) == ["P2"]
    assert _stale(put_w=3) == ["P2"]
    assert _stale(n=5, r=3, w=3) == ["P2"]


def test_the_read_that_nothing_explains_is_named() -> None:
    operations = history(
        of_put(b"1", 0, 1),
        of_put(None, 2, 3, number=2),
        of_get(b"1", 4, 5, number=1),
        of_get(b"1", 2, 9, number=1),
        *[of_get(None, each, each + 0.5, number=2) for each in range(10, 40)],
    )
    (found,) = linearizability.check(operations, evidence())
    assert f"explains {read(4.0, 5.0, b'1', version(1))}" in found.told


def test_nothing_is_promised_with_fewer() -> None:
    assert _stale(get_r=1) == []
    assert _stale(put_w=1) == []
    assert _stale(r=1, w=1) == []
    assert _stale(r=2, w=1) == []


def test_the_outcome_of_a_write_decides_whether_it_must_be_seen() -> None:
    def told(result: PutResult | DeadlineExceeded | None) -> list[str]:
        put = of_put(b"1", 0, 1)
        put.result = result
        reads = of_get(None, 2, 3), of_get(b"1", 4, 5), of_get(None, 6, 7)
        missing = linearizability.check(history(put, reads[0]), evidence())
        present = linearizability.check(history(put, reads[1]), evidence())
        both = linearizability.check(history(put, *reads), evidence())
        return ["".join("x" if each else "." for each in (missing, present, both))]

    version = pack_version(1, 1)
    assert told(PutResult(version, 2, 3)) == ["x.x"]
    assert told(None) == ["..x"]
    assert told(DeadlineExceeded("", outcome=Outcome.UNKNOWN)) == ["..x"]
    assert told(DeadlineExceeded("", outcome=Outcome.NOT_APPLIED)) == [".xx"]
    # Superseded or not: who was answered comes after what had finished.
    assert told(PutResult(version, 2, 3, superseded=True)) == ["x.x"]
    assert told(PutResult(version, 2, 3, restamped=True, superseded=True)) == ["x.x"]


def test_what_was_over_before_a_replica_forgot_is_judged_and_nothing_later() -> None:
    operations = history(of_put(b"1", 0, 1), of_get(None, 2, 3))
    assert linearizability.check(operations, evidence(forgot_ms={KEY: 4.0}))
    assert not linearizability.check(operations, evidence(forgot_ms={KEY: 2.5}))
    assert not linearizability.check(operations, evidence(forgot_ms={KEY: 0.5}))


def test_what_went_on_while_a_copy_was_lost_is_in_no_order() -> None:
    operations = history(of_put(b"a", 0, 1), of_get(None, 2, 3))
    assert linearizability.check(operations, evidence(lost_ms={KEY: [1.5, 3.5]}))
    assert not linearizability.check(operations, evidence(lost_ms={KEY: [0.5]}))
    assert not linearizability.check(operations, evidence(lost_ms={KEY: [2.5]}))


def test_an_expired_value_is_still_what_the_register_holds() -> None:
    put, get = of_put(b"1", 0, 1), of_get(None, 2, 3)
    put.expires_ms = 1
    get.result = GetResult(Record(pack_version(1, 1), b"1", expires_ms=1), 2)
    assert not linearizability.check(history(put, get), evidence())


def test_a_value_that_expires_is_not_the_one_that_does_not() -> None:
    get = of_get(None, 2, 3)
    get.result = GetResult(record(b"1", expires_ms=9), 2)
    assert linearizability.check(history(of_put(b"1", 0, 1), get), evidence())


def _appended(label: bytes, before: Record, link: int) -> tuple[Record, ClientOperation]:
    assert before.value is not None
    client = int.from_bytes(label, "big")
    after = linked(behind(before.value, (client, 0, 0), KEY), link)
    start = 10.0 * link
    update = of_update(Kind.APPEND, start, start + 5, client=client, before=before, after=after)
    return after, update


def test_an_update_takes_effect_on_what_it_found_and_once() -> None:
    put = of_put(token(b"v"), 0, 1)
    one, append = _appended(b"a", record(token(b"v")), 1)
    two, other = _appended(b"b", one, 2)
    read = of_get(None, 30, 31)
    read.result = GetResult(two, 2)
    assert not linearizability.check(history(put, append, other, read), evidence())
    read.result = GetResult(one, 2)
    assert linearizability.check(history(put, append, other, read), evidence())
    _, lost = _appended(b"b", record(token(b"v")), 2)
    assert linearizability.check(history(put, append, lost), evidence())


def test_an_update_that_nobody_knows_of_took_effect_where_it_was_seen_or_never() -> None:
    put = of_put(token(b"v"), 0, 1)
    one, append = _appended(b"a", record(token(b"v")), 1)
    append.result = None
    read = of_get(None, 30, 31)
    for result in (one, record(token(b"v"))):
        read.result = GetResult(result, 2)
        assert not linearizability.check(history(put, append, read), evidence())
    append.result = DeadlineExceeded("", outcome=Outcome.NOT_APPLIED)
    read.result = GetResult(one, 2)
    assert linearizability.check(history(put, append, read), evidence())


def test_an_update_that_left_things_alone_is_a_read() -> None:
    put, delete = of_put(token(b"v"), 0, 1), of_put(None, 4, 5, number=2)
    cas = of_update(Kind.CAS, 2, 3, before=record(token(b"v")))
    nothing = of_update(Kind.UNLOCK, 6, 7)
    assert not linearizability.check(history(put, cas, delete, nothing), evidence())
    cas.result, nothing.result = nothing.result, cas.result
    assert linearizability.check(history(put, cas, delete), evidence())
    assert linearizability.check(history(put, delete, nothing), evidence())


def test_writes_that_nobody_saw_hide_no_stale_read() -> None:
    """Many puts and read-modify-writes without an answer, of which two took effect."""
    put, later = of_put(token(b"v"), 0, 1), of_put(token(b"w"), 40, 41, number=9)
    unseen = [of_put(token(b"%d" % number), 2, 3) for number in range(20, 40)]
    kinds = Kind.GETDEL, Kind.APPEND, Kind.INCREMENT
    unseen += [of_update(kind, 2, 3, client=900 + each) for each in range(5) for kind in kinds]
    for op in unseen:
        op.done_ms = op.result = None
    deleted = of_get(None, 30, 31, number=0)
    appended, append = _appended(b"a", record(token(b"v")), 1)
    append.result = None
    seen = of_get(None, 21, 22)
    seen.result = GetResult(appended, 2)
    right = [put, append, seen, *unseen, deleted, later, of_get(token(b"w"), 42, 43, number=9)]
    assert not linearizability.check(history(*right), evidence(), states_max=500)
    stale = of_get(None, 50, 51, number=0)
    stale.result = seen.result
    (found,) = linearizability.check(history(*right, stale), evidence(), states_max=5_000)
    assert "no order" in found.told


def test_who_finds_what_expired_by_its_clock_finds_nothing() -> None:
    put = of_put(token(b"v"), 0, 1)
    put.expires_ms = EPOCH_MS + 50
    for asked_ms, is_wrong in ((60, False), (10, True)):
        lock = of_update(
            Kind.LOCK, asked_ms, asked_ms + 5, after=linked(token_of((900, 0, 0), KEY), 1)
        )
        assert bool(linearizability.check(history(put, lock), evidence())) is is_wrong


def test_reads_that_only_the_exception_explains_are_counted() -> None:
    """One sees the put before it was moved, the next sees another, the third the put."""
    put, other = of_put(b"1", 0, 9, number=3), of_put(b"2", 0, 9, number=2)
    put.result = PutResult(version(3), 2, 3, restamped=True, moved=True)
    reads = of_get(b"1", 1, 2), of_get(b"2", 3, 4, number=2), of_get(b"1", 5, 6, number=3)
    played = history(put, other, *reads)
    assert not linearizability.check(played, evidence())
    assert len(linearizability.strict(played, evidence())) == 1
    assert not linearizability.strict(played, evidence(forgot_ms={KEY: 99.0}))
    assert not linearizability.strict(history(put, other, *reads[1:]), evidence())
    # A first stamp that nothing else was seen after is in order.
    assert not linearizability.strict(history(put, reads[0], reads[2]), evidence())
    put.result = PutResult(version(3), 2, 3, restamped=True)
    assert linearizability.check(played, evidence()), "nobody can have seen it before"


def test_a_put_without_an_answer_that_was_seen_twice_is_counted() -> None:
    """It was moved, and then its coordinator died."""
    put, other = of_put(b"1", 0, 9, number=4), of_put(b"2", 0, 9, number=2)
    put.done_ms = put.result = None
    reads = of_get(b"1", 1, 2), of_get(b"2", 3, 4, number=2), of_get(b"1", 15, 16, number=3)
    played = history(put, other, *reads)
    assert not linearizability.check(played, evidence())
    assert len(linearizability.strict(played, evidence())) == 1
    assert not linearizability.strict(history(put, other, *reads[1:]), evidence())
    # Seen under both stamps, with nothing in between.
    assert not linearizability.strict(history(put, other, reads[0], reads[2]), evidence())


def test_a_put_without_an_answer_whose_last_stamp_an_update_found_was_seen_twice() -> None:
    put, other = of_put(token(b"a"), 0, 9), of_put(token(b"b"), 0, 9, number=2)
    put.done_ms = put.result = None
    first, between = of_get(token(b"a"), 1, 2, number=1), of_get(token(b"b"), 3, 4, number=2)
    one, append = _appended(b"c", record(token(b"a"), 3), 1)
    after = linked(one.value, 1, number=3)
    append.result = UpdateResult(record(token(b"a"), 3), after, 2, 3)
    played = history(put, other, first, between, append)
    assert not linearizability.check(played, evidence())
    assert len(linearizability.strict(played, evidence())) == 1
    assert not linearizability.strict(history(put, other, between, append), evidence())


@pytest.mark.parametrize("is_known", [True, False])
def test_a_moved_delete_that_was_seen_twice_is_counted(is_known: bool) -> None:
    delete, other = of_put(None, 0, 9, number=3), of_put(b"2", 0, 9, number=2)
    delete.result = PutResult(version(3), 2, 3, restamped=True, moved=True)
    if not is_known:
        delete.done_ms = delete.result = None
    early = of_put(b"0", -9, -8, number=1)
    reads = of_get(None, 1, 2, number=1), of_get(b"2", 3, 4, number=2), of_get(None, 5, 6, number=3)
    reads[0].result = GetResult(Record(version(1, 2), None), 2)
    played = history(early, delete, other, *reads)
    assert not linearizability.check(played, evidence())
    assert len(linearizability.strict(played, evidence())) == 1
    assert not linearizability.strict(history(early, delete, other, *reads[1:]), evidence())
    assert not linearizability.strict(history(early, delete, other, reads[0], reads[2]), evidence())
    # Another delete that nobody knows of may be the one that was seen first.
    unknown = of_put(None, 0, 9, number=5)
    unknown.done_ms = unknown.result = None
    assert not linearizability.strict(history(early, delete, unknown, other, *reads), evidence())
    if is_known:
        delete.result = PutResult(version(3), 2, 3, restamped=True)
        assert linearizability.check(played, evidence()), "nobody can have seen it before"


def test_a_moved_delete_is_counted_though_reads_tell_no_version_of_nothing() -> None:
    """As those over HTTP."""
    delete, other = of_put(None, 0, 9, number=3), of_put(b"2", 0, 9, number=2)
    delete.result = PutResult(version(3), 2, 3, restamped=True, moved=True)
    early = of_put(b"0", -9, -8, number=1)
    reads = of_get(None, 1, 2), of_get(b"2", 3, 4, number=2), of_get(None, 5, 6)
    played = history(early, delete, other, *reads)
    assert len(linearizability.strict(played, evidence())) == 1
    assert not linearizability.strict(history(early, delete, other, *reads[1:]), evidence())
