# SPDX-License-Identifier: GPL-3.0-or-later
"""The node as a whole: what enters is checked, what leaves is ordered, what ends is left clean."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.node import CEILING_META, STARTUP_SKEW_MS_MAX, Node
from quorate.core.values.events import (
    Batch,
    Event,
    Explain,
    Forget,
    ForgetResult,
    Get,
    GetResult,
    Instant,
    Join,
    JoinResult,
    LinkDown,
    LinkRefused,
    LinkRoom,
    LinkUp,
    LocalGet,
    LocalPut,
    LocalResult,
    LocalScan,
    PeerFrame,
    Put,
    PutResult,
    Scan,
    Stop,
    StorageState,
)
from quorate.core.values.messages import Frame, Mutate, Mutated, Ping, Pong, Read
from quorate.core.values.record import EXPIRES_MS_MAX, Record
from quorate.core.values.settings import MEMBERS_MAX
from quorate.core.values.slots import row_of
from quorate.core.values.versions import stamp_at
from quorate.errors import (
    ClockUntrusted,
    InvalidRequest,
    KeyMissing,
    KeyTooLarge,
    NotReady,
    Outcome,
    Overloaded,
    ValueTooLarge,
)
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import id_of, settings_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone, Asker, record_at


def _result(alone: Alone, event: Event) -> object:
    alone.step(event)
    waiter = event.waiter  # type: ignore[union-attr]
    assert isinstance(waiter, Asker)
    return waiter.result


# --- on entry ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "kind"), [(b"", KeyMissing), (b"k" * 1_025, KeyTooLarge), (b"k" * 1_024, type(None))]
)
def test_a_key_has_one_to_1024_bytes(key: bytes, kind: type[object]) -> None:
    for event in (Put(Asker(), key, b"v"), Get(Asker(), key), Explain(Asker(), key)):
        result = _result(Alone(3), event)
        if kind is not type(None):
            assert isinstance(result, kind)
        else:
            assert not isinstance(result, InvalidRequest)


def test_a_value_over_the_limit_is_refused_and_one_at_it_is_not() -> None:
    alone = Alone(1, value_bytes_max=10)
    error = _result(alone, Put(Asker(), b"k", b"x" * 11))
    assert isinstance(error, ValueTooLarge)
    assert error.outcome is Outcome.NOT_APPLIED
    assert error.facts == {"bytes": 11, "bytes_max": 10}
    assert isinstance(_result(alone, Put(Asker(), b"k", b"x" * 10)), PutResult)


@pytest.mark.parametrize("expires_ms", [-1, EXPIRES_MS_MAX + 1, 10**30])
def test_an_expiry_that_no_frame_can_carry_is_refused(expires_ms: int) -> None:
    """Else peers would drop the link for it."""
    alone = Alone(1)
    assert isinstance(alone.put(b"k", b"v", expires_ms=expires_ms).result, InvalidRequest)
    assert isinstance(alone.put(b"k", b"v", expires_ms=EXPIRES_MS_MAX).result, PutResult)


def test_one_request_over_the_maximum_is_shed_and_the_others_go_on() -> None:
    """P7."""
    alone = Alone(3, inflight_max=2)
    parked = [alone.put(b"k%d" % number, b"v") for number in range(2)]
    for event in (Put(Asker(), b"k", b"v"), Get(Asker(), b"k"), Scan(Asker())):
        error = _result(alone, event)
        assert isinstance(error, Overloaded)
        assert error.outcome is Outcome.NOT_APPLIED
    assert [asker.results for asker in parked] == [[], []]
    alone.link(1)
    for mutate in alone.take(1, Mutate):
        alone.hear(1, Mutated(mutate.batch, [], []))
    assert all(isinstance(asker.result, PutResult) for asker in parked)
    assert alone.node.inflight == 0


def test_one_byte_over_the_maximum_is_shed() -> None:
    alone = Alone(3, inflight_bytes_max=100)
    alone.put(b"k", b"x" * 60)
    assert isinstance(_result(alone, Put(Asker(), b"k", b"x" * 41)), Overloaded)
    assert _result(alone, Put(Asker(), b"k", b"x" * 40)) is None
    assert alone.node.parts.requests.bytes == 100


def _requests(number: int) -> list[Event]:
    """Of each kind one that is served, and ones that no settings allow."""
    key, value, far = b"k%d" % number, b"x" * 10, record_at(3_600_000, b"x" * 10)
    return [
        *(Put(Asker(), key, value, w=w) for w in (1, 2, 3, 4)),
        *(Put(Asker(), key, value, expires_ms=at_ms) for at_ms in (-1, EPOCH_MS)),
        *(Put(Asker(), b"", value), Put(Asker(), key, b"x" * 101), Get(Asker(), b"")),
        *(Get(Asker(), key, r=r) for r in (1, 2, 3, 4)),
        *(Scan(Asker(), limit=0), Scan(Asker(), cursor=b"x"), Scan(Asker(), r=4), Scan(Asker())),
        *(LocalScan(Asker(), limit=limit) for limit in (0, 1)),
        *(Explain(Asker(), key), Explain(Asker(), b""), LocalGet(Asker(), key)),
        *(LocalPut(Asker(), key, record) for record in (record_at(0), far, Record(b"", value))),
        *(LocalPut(Asker(), b"", record_at(0)), Join(Asker(), url_of(1)), Forget(Asker(), "x")),
    ]


@pytest.mark.parametrize("state", ["whole", "alone", "blank", "full", "unreadable", "stopping"])
def test_however_a_request_ends_it_is_answered_once_and_what_it_counted_for_is_given_back(
    state: str,
) -> None:
    """P7: else a node takes fewer and fewer, until it takes none."""
    alone = Alone(3, listed=[1, 2] if state == "blank" else None, value_bytes_max=100)
    if state in ("whole", "full", "unreadable"):
        alone.link(1, 2)
    if state == "full":
        alone.step(StorageState("disk_full", "no space left"))
    for number in range(2):
        events = _requests(number)
        if state == "unreadable":
            alone.disk.format(Batch([(row_of(b"k%d" % number), record_at(0))], [], []))
            assert alone.disk.rot(row_of(b"k%d" % number), Random(1))
        alone.step(*events)
        if state == "stopping":
            alone.step(Stop())
        for _ in range(4):
            alone.step(after_ms=3_000)
            alone.hear(1, Pong(1))
            alone.hear(2, Pong(1))
        for event in events:
            waiter = event.waiter  # type: ignore[union-attr]
            assert isinstance(waiter, Asker)
            assert len(waiter.results) == 1, event
        requests = alone.node.parts.requests
        assert (requests.count, requests.bytes, alone.node.inflight) == (0, 0, 0)


def test_a_stopping_node_refuses_what_is_new_and_what_has_not_begun() -> None:
    alone = Alone(3)
    parked = alone.put(b"k", b"v")
    alone.step(Stop())
    assert isinstance(parked.result, NotReady)
    for event in (
        Put(Asker(), b"k", b"v"),
        Get(Asker(), b"k"),
        Scan(Asker()),
        LocalPut(Asker(), b"k", record_at(0)),
    ):
        error = _result(alone, event)
        assert isinstance(error, NotReady)
        assert error.outcome is Outcome.NOT_APPLIED


def test_a_stopping_node_finishes_what_is_under_way() -> None:
    alone = Alone(3)
    alone.link(1, 2)
    asker = alone.put(b"k", b"v")
    alone.step(Stop())
    for mutate in alone.take(1, Mutate):
        alone.hear(1, Mutated(mutate.batch, [], []))
    assert isinstance(asker.result, PutResult)
    assert alone.node.inflight == 0


def test_without_a_layout_requests_wait_for_one_and_are_refused_as_not_ready() -> None:
    alone = Alone(listed=[1])
    put, get = alone.put(b"k", b"v"), alone.get(b"k")
    assert put.results == get.results == []
    alone.step(after_ms=3_000)
    for asker in (put, get):
        assert isinstance(asker.result, NotReady)


# --- turns -------------------------------------------------------------------------------------


def test_all_that_one_turn_says_to_a_peer_leaves_together() -> None:
    alone = Alone(3, w=1)
    alone.link(1, 2)
    alone.put(b"first", b"v")
    alone.take(1, Mutate)
    events: list[Event] = [Put(Asker(), b"k%d" % n, b"v") for n in range(4)]
    events += [Get(Asker(), b"g%d" % n, r=3) for n in range(4)]
    effects = alone.step(*events)
    kinds = [type(message) for message in effects.sends[id_of(1)]]
    assert kinds == [Mutate, Read]
    assert effects.batch is not None
    assert len(effects.batch.records) == 4


def test_a_write_and_the_read_behind_it_see_each_other_when_it_was_acknowledged() -> None:
    alone = Alone(1)
    put = alone.put(b"k", b"v")
    assert isinstance(put.result, PutResult)
    got = alone.get(b"k").result
    assert isinstance(got, GetResult)
    assert got.record is not None
    assert got.record.version == put.result.version


def test_a_read_does_not_see_what_is_not_durable() -> None:
    """P1: a reader must not rely on what a power cut may take back."""
    alone = Alone(1)
    alone.put(b"k", b"old")
    alone.syncs = False
    alone.put(b"k", b"new")
    got = alone.get(b"k").result
    assert isinstance(got, GetResult)
    assert got.record is not None
    assert got.record.value == b"old"


def test_a_node_with_nothing_to_do_wakes_for_the_next_heartbeat_only() -> None:
    alone = Alone(3, heartbeat_ms=2_000)
    alone.link(1, 2)
    assert alone.wake_ms == 2_000
    effects = alone.step(after_ms=10)
    assert (effects.batch, effects.sends, effects.answers) == (None, {}, [])


def test_nothing_is_sent_where_no_link_leads() -> None:
    alone = Alone(3, heartbeat_ms=2_000)
    for _ in range(3):
        assert alone.step(after_ms=2_000).sends == {}
    alone.step(alone.met(1), LinkUp(id_of(1)))
    assert alone.step(after_ms=2_000).sends.keys() == {id_of(1)}


def test_what_was_said_to_a_link_that_broke_in_the_same_turn_is_lost_at_once() -> None:
    """A reply would never come: better to know now than at the deadline."""
    alone = Alone(2, w=1)
    alone.link(1)
    alone.put(b"first write", b"v")
    alone.take(1, Mutate)
    alone.unlink(1)
    alone.link(1)
    hints = alone.node.hints.count(alone.peer(1))
    asker = Asker()
    alone.step(Put(asker, b"k", b"v"), LinkDown(id_of(1)), LinkUp(id_of(1)))
    assert isinstance(asker.result, PutResult)
    assert alone.node.hints.count(alone.peer(1)) == hints + 1


def test_a_peer_is_asked_only_once_it_was_heard_on_the_link_that_it_has_to_us() -> None:
    """Its answers come that way: before, they would be lost, and the request with them."""
    alone = Alone(2)
    asker = alone.put(b"k", b"v")
    alone.step(alone.met(1), LinkUp(id_of(1)))
    assert alone.take(1, Mutate) == []
    (ping,) = alone.take(1, Ping)
    alone.hear(1, Pong(ping.batch))
    (mutate,) = alone.take(1, Mutate)
    alone.hear(1, Mutated(mutate.batch, [], []))
    assert isinstance(asker.result, PutResult)
    alone.unlink(1)
    alone.step(LinkUp(id_of(1)))
    asker = alone.get(b"k")
    assert alone.take(1, Read) == []


def test_what_is_told_of_a_peer_that_nobody_knows_means_nothing() -> None:
    """It may have been forgotten while this was on its way."""
    alone = Alone(3)
    alone.link(1)
    before = alone.node.status()
    frame = Frame(alone.node.membership.epoch, 0, [Ping(1, [], 0, 0), Read(2, [row_of(b"k")], [])])
    for event in (
        PeerFrame(77, frame),
        LinkUp(77),
        LinkDown(77),
        LinkRoom(77),
        LinkRefused(url_of(7), "no"),
    ):
        effects = alone.step(event)
        assert (effects.batch, effects.sends, effects.peers) == (None, {}, None)
    assert alone.node.status() == before


# --- restarts ----------------------------------------------------------------------------------


def _node_at(wall_ms: int, *, ceiling_ms: int) -> Node:
    disk = Disk()
    disk.format(Batch([], [], [(CEILING_META, stamp_at(ceiling_ms).to_bytes(8, "big"))]))
    return Node(settings_of(0, [0]), disk, Random(1), Instant(0, wall_ms))


def test_a_clock_absurdly_behind_the_last_stamp_keeps_the_node_from_starting() -> None:
    limit_ms = EPOCH_MS - STARTUP_SKEW_MS_MAX
    _node_at(limit_ms, ceiling_ms=EPOCH_MS)
    with pytest.raises(ClockUntrusted) as caught:
        _node_at(limit_ms - 1_000, ceiling_ms=EPOCH_MS)
    assert caught.value.facts == {"behind_s": 61}


def test_frames_carry_what_this_node_has_seen_of_all_clocks() -> None:
    """So that stamps of nodes whose clocks differ are seldom in conflict."""
    alone = Alone(3)
    alone.link(1, 2)
    wall = stamp_at(EPOCH_MS + alone.mono_ms)
    assert alone.node.frame_header() == (2, wall)
    alone.hear(1, clock=wall + 7)
    assert alone.node.frame_header() == (2, wall + 7)


def test_no_version_is_given_out_twice_over_crashes_and_clock_steps() -> None:
    """I8."""
    disk, versions = Disk(), []
    random = Random(4)
    wall_offset_ms = 0
    for life in range(30):
        alone = Alone(1, disk=disk, seed=life)
        alone.wall_offset_ms = wall_offset_ms
        for number in range(3):
            result = alone.put(b"k%d" % number, b"v").result
            if isinstance(result, PutResult):
                versions.append(result.version)
        wall_offset_ms += random.choice((-800, -50, 0, 50, 1_500))
        disk = alone.disk
        disk.crash(random)
    assert len(versions) > 20
    assert versions == sorted(set(versions))


def test_an_answer_meant_for_the_process_before_is_no_ack() -> None:
    """P1: a peer that was slow to sync acknowledges the old batch to the new process."""
    before = Alone(2, seed=1)
    before.link(1)
    before.put(b"k", b"old")
    old = before.take(1, Mutate)
    after = Alone(2, seed=2, disk=before.disk)
    after.link(1)
    asker = after.put(b"k", b"new")
    assert after.take(1, Mutate)
    for mutate in old:
        after.hear(1, Mutated(mutate.batch, [], []))
    assert not asker.results


# --- members -----------------------------------------------------------------------------------


def test_a_join_resets_the_failures_of_that_node_only() -> None:
    alone = Alone(3)
    alone.link(1, 2)
    for _ in range(3):
        alone.step(after_ms=2_000)
    assert [alone.peer(i).misses for i in (1, 2)] == [2, 2]
    assert _result(alone, Join(Asker(), url_of(1))) == JoinResult(
        known=True, owns=True, member=True
    )
    assert [alone.peer(i).misses for i in (1, 2)] == [0, 2]


def test_a_stranger_that_joins_becomes_a_member_that_owns_nothing() -> None:
    alone = Alone(3)
    assert _result(alone, Join(Asker(), url_of(8))) == JoinResult(
        known=False, owns=False, member=False
    )
    assert _result(alone, Join(Asker(), url_of(8))) == JoinResult(
        known=True, owns=False, member=False
    )
    assert _result(alone, Join(Asker(), url_of(0))) == JoinResult(
        known=True, owns=True, member=True
    )
    assert alone.node.membership.roster.at(url_of(8)) is not None


def test_one_member_too_many_is_refused_with_one_answer() -> None:
    alone = Alone(1)
    joins = [Join(Asker(), f"http://x{number}:8000") for number in range(MEMBERS_MAX + 1)]
    alone.step(*joins)
    *_, last, surplus = [join.waiter for join in joins]
    assert isinstance(last, Asker)
    assert isinstance(surplus, Asker)
    assert last.result == JoinResult(known=False, owns=False, member=False)
    assert isinstance(surplus.result, InvalidRequest)
    assert surplus.result.outcome is Outcome.NOT_APPLIED


def test_a_member_is_forgotten_or_that_is_refused_with_one_answer() -> None:
    alone = Alone(3)
    alone.step(Join(Asker(), url_of(8)))
    for known in (True, False):
        assert _result(alone, Forget(Asker(), url_of(8))) == ForgetResult(known)
    for listed in (0, 1):
        assert isinstance(_result(alone, Forget(Asker(), url_of(listed))), InvalidRequest)


def test_who_introduces_itself_is_a_member() -> None:
    alone = Alone(2)
    alone.step(alone.met(7))
    assert alone.peer(7).id == id_of(7)
    alone.link(7)
    alone.hear(7, Ping(2, [], 0, 0))
    assert alone.take(7, Pong) == [Pong(2)]


def test_a_local_read_shows_tombstones() -> None:
    alone = Alone(1)
    alone.put(b"k", None)
    held = alone.disk.get(row_of(b"k"))
    assert held is not None
    assert held.value is None
    assert _result(alone, LocalGet(Asker(), b"k")) == LocalResult(held)
