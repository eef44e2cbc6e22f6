# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a read-modify-write, answer by answer: node 0 of three, whose replicas 1 and 2 are
the test."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from quorate.core.exchanges.attempt import Attempt, BegunUpdate
from quorate.core.exchanges.rounds import ROUND_MS, Round
from quorate.core.exchanges.spreads import Spread
from quorate.core.exchanges.successions import Succession
from quorate.core.values.events import Edited, StorageState
from quorate.core.values.messages import AcceptRows, Mutate, PrepareRows, Said
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT, chain_of, stamp_at
from quorate.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Outcome,
    PreconditionFailed,
    QuorateError,
    QuorumUnreachable,
    ValueTooLarge,
)
from tests.uncollected import uncollected
from tests.unit.core.alone import record_at
from tests.unit.core.read_stage import KEY as KEY_OF_OTHERS
from tests.unit.core.read_stage import outsider
from tests.unit.core.update_stage import (
    KEY,
    OLD,
    ROW,
    add,
    done,
    leave,
    pass_ms,
    stage,
    update,
    values,
)
from tests.unit.core.vote_stage import Unreadable, accept, promise
from tests.unit.core.write_stage import ack, error_of

# --- the usual way -----------------------------------------------------------------------------


def test_an_update_takes_three_rounds_and_is_answered_when_a_majority_holds_it() -> None:
    alone = stage()
    asker = update(alone)
    (asked,) = promise(alone, 1, OLD)
    assert (asked[0], asked[1], asked[3]) == (ROW, None, OLD.version)
    ((row, base, ballot, record),) = accept(alone, 1)
    assert (row, base, ballot) == (ROW, OLD.version, asked[2])
    assert record.value == b"42"
    assert chain_of(record.version) == OLD.version < record.version
    assert record.prior == OLD.version
    assert [link for link, _ in record.winners] == [0]
    assert not asker.results
    assert ack(alone, 1) == [record]
    assert values(asker) == (b"41", b"42")
    after = done(asker).after
    assert after is not None
    assert after.version == record.version
    assert (done(asker).acks, done(asker).replicas) == (2, 3)
    assert alone.disk.get(ROW) == record
    assert alone.node.inflight == alone.node.parts.requests.bytes == 0
    counters = alone.node.parts.turn.counters
    assert counters["update_rounds"] == 2, "the third is a write"
    assert not counters["updates_lost_race"] + counters["updates_gone"]


def test_nothing_is_told_before_this_nodes_own_votes_are_durable() -> None:
    alone = stage()
    alone.syncs = False
    asker = update(alone)
    promise(alone, 1, OLD)
    assert alone.take(1, AcceptRows) == []
    alone.sync()
    accept(alone, 1)
    assert alone.take(1, Mutate) == []
    alone.sync()
    ack(alone, 1)
    assert not asker.results
    alone.sync()
    assert values(asker) == (b"41", b"42")


def test_an_edit_that_leaves_the_key_alone_is_a_read_of_one_round() -> None:
    alone = stage()
    asker = update(alone, leave)
    promise(alone, 1, OLD)
    assert done(asker).before == OLD
    assert done(asker).after is None
    assert alone.take(1, AcceptRows) == []


def test_an_edit_that_refuses_is_the_answer_and_applied_nothing() -> None:
    alone = stage()

    def refuse(found: Record | None) -> None:
        del found
        raise PreconditionFailed("it is another version by now")

    asker = update(alone, refuse)
    promise(alone, 1, OLD)
    error_of(asker, PreconditionFailed, Outcome.NOT_APPLIED)
    assert alone.take(1, AcceptRows) == []


def test_a_value_that_is_too_large_is_not_written() -> None:
    alone = stage(value_bytes_max=100)
    asker = update(alone, lambda _: Edited(bytes(101)))
    promise(alone, 1, OLD)
    error = error_of(asker, ValueTooLarge, Outcome.NOT_APPLIED)
    assert error.facts == {"bytes": 101, "bytes_max": 100}
    assert alone.take(1, AcceptRows) == []


def test_what_has_expired_and_what_was_deleted_is_nothing_to_an_edit() -> None:
    for value, expires_ms in ((b"41", 1), (None, 0)):
        held = Record(OLD.version, value, expires_ms)
        alone = stage(held)
        asker = update(alone)
        promise(alone, 1, held)
        ((_, base, _, record),) = accept(alone, 1)
        ack(alone, 1)
        assert values(asker) == (None, b"1")
        assert (base, chain_of(record.version)) == (held.version, held.version)


def test_what_is_absent_everywhere_has_the_beginning_of_the_lock_as_its_base() -> None:
    alone = stage(None)
    asker = update(alone)
    phantom = bytes(14)
    (asked,) = promise(alone, 1, base=phantom)
    assert asked[3] == ABSENT
    ((_, base, _, record),) = accept(alone, 1)
    assert base == phantom == chain_of(record.version)
    assert record.prior == ABSENT
    ack(alone, 1)
    assert values(asker) == (None, b"1")


def test_a_tombstone_that_an_edit_makes_has_its_own_time_as_its_expiry() -> None:
    """It lies at its base's stamp, and would else be garbage below a lock at once."""
    alone = stage()
    asker = update(alone, lambda _: Edited(None))
    promise(alone, 1, OLD)
    ((_, _, _, record),) = accept(alone, 1)
    ack(alone, 1)
    assert record.value is None
    assert record.expires_ms == alone.now.wall_ms
    assert values(asker) == (b"41", None)


def test_the_time_of_a_tombstone_is_by_the_clock_that_locks_are_set_by() -> None:
    """That follows the clock of whoever is ahead."""
    alone = stage()
    ahead_ms = alone.now.wall_ms + 400
    alone.hear(1, clock=stamp_at(ahead_ms))
    update(alone, lambda _: Edited(None))
    promise(alone, 1, OLD)
    ((_, _, _, record),) = accept(alone, 1)
    assert record.expires_ms == ahead_ms


def test_a_node_that_holds_no_copy_is_sent_what_it_lacks() -> None:
    alone, holders = outsider()
    asker = update(alone, key=KEY_OF_OTHERS)
    for index in holders[:2]:
        (asked,) = promise(alone, index, OLD)
        assert asked[3] == ABSENT
    for index in holders[:2]:
        accept(alone, index)
    for index in holders[:2]:
        ack(alone, index)
    assert values(asker) == (b"41", b"42")


# --- what is put meanwhile ---------------------------------------------------------------------


def test_a_put_that_comes_during_the_first_round_does_not_hide_what_the_others_hold() -> None:
    """They leave the record out, as this node had it when it asked."""
    alone = stage()
    asker = update(alone)
    alone.put(KEY, b"put")
    promise(alone, 1, OLD)
    ((_, base, _, record),) = accept(alone, 1)
    assert (base, record.value) == (OLD.version, b"42")
    ack(alone, 1)
    assert values(asker) == (b"41", b"42")


def test_a_put_that_comes_in_between_is_ordered_after_the_update() -> None:
    alone = stage()
    asker = update(alone)
    promise(alone, 1, OLD)
    alone.put(KEY, b"put")
    accept(alone, 1)
    ack(alone, 1, higher=record_at(200).version)
    assert values(asker) == (b"41", b"42")
    held = alone.disk.get(ROW)
    assert held is not None
    assert held.value == b"put"


# --- slow and lost replicas --------------------------------------------------------------------


def test_replicas_that_are_only_slow_are_waited_for() -> None:
    """Each round takes longer than ROUND_MS; were it asked again, none would come to an end."""
    alone = stage()
    asker = update(alone)
    alone.step(after_ms=3 * ROUND_MS)
    (asked,) = promise(alone, 1, OLD)
    alone.step(after_ms=3 * ROUND_MS)
    ((_, _, ballot, _),) = accept(alone, 1)
    assert ballot == asked[2]
    ack(alone, 1)
    assert values(asker) == (b"41", b"42")
    assert alone.take(2, PrepareRows)[1:] == []


def test_a_replica_that_comes_back_while_another_is_silent_is_asked() -> None:
    alone = stage()
    alone.unlink(1)
    asker = update(alone)
    alone.take(2, PrepareRows)
    alone.link(1)
    assert alone.take(1, PrepareRows) == []
    pass_ms(alone, 2 * ROUND_MS)
    promise(alone, 1, OLD)
    accept(alone, 1)
    ack(alone, 1)
    assert values(asker) == (b"41", b"42")


def test_too_few_replicas_are_waited_for_and_then_surely_nothing_was_applied() -> None:
    alone = stage()
    alone.unlink(1, 2)
    asker = update(alone)
    assert not asker.results
    pass_ms(alone, 3_000)
    error_of(asker, QuorumUnreachable, Outcome.NOT_APPLIED)


def test_an_update_that_was_parked_begins_once_there_are_enough() -> None:
    alone = stage()
    alone.unlink(1, 2)
    asker = update(alone)
    pass_ms(alone, 1_000)
    alone.link(2)
    promise(alone, 2, OLD)
    accept(alone, 2)
    ack(alone, 2)
    assert values(asker) == (b"41", b"42")


@pytest.mark.parametrize("setting", ["r", "w"])
def test_where_a_quorum_is_less_than_a_majority_updates_are_refused(setting: str) -> None:
    settings: dict[str, Any] = {setting: 1}
    alone = stage(**settings)
    error = error_of(update(alone), InvalidRequest, Outcome.NOT_APPLIED)
    assert f"-{setting}" in str(error).lower()
    assert error.facts == {"given": 1, "needed": 2}


@pytest.mark.parametrize("is_full", [True, False])
def test_a_node_whose_own_disk_is_full_or_unreadable_does_without_it(*, is_full: bool) -> None:
    alone = stage()
    if is_full:
        alone.step(StorageState("disk_full", "no space"))
    else:
        alone.node.parts.replica._engine = Unreadable()
    asker = update(alone)
    for index in (1, 2):
        promise(alone, index, OLD)
    for index in (1, 2):
        accept(alone, index)
    for index in (1, 2):
        assert not asker.results
        ack(alone, index)
    assert values(asker) == (b"41", b"42")
    assert done(asker).acks == 2
    assert alone.disk.get(ROW) == OLD


# --- the deadline at each stage ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "outcome"),
    [
        ("asked", Outcome.NOT_APPLIED),
        ("sent", Outcome.UNKNOWN),
        ("decided", Outcome.UNKNOWN),
    ],
)
def test_at_the_deadline_it_is_unknown_once_anybody_was_asked_to_accept(
    phase: str, outcome: Outcome
) -> None:
    alone = stage(timeout_ms=5_000)
    asker = update(alone, timeout_ms=500)
    if phase != "asked":
        promise(alone, 1, OLD)
    if phase == "decided":
        accept(alone, 1)
    alone.step(after_ms=500)
    error_of(asker, DeadlineExceeded, outcome)
    assert alone.node.inflight == 0


def test_one_that_waits_behind_another_is_not_applied_at_its_deadline() -> None:
    alone = stage()
    first = update(alone)
    promise(alone, 1, OLD)
    second = update(alone, timeout_ms=100)
    alone.step(after_ms=100)
    error_of(second, DeadlineExceeded, Outcome.NOT_APPLIED)
    accept(alone, 1)
    ack(alone, 1)
    assert values(first) == (b"41", b"42")
    assert alone.take(1, PrepareRows) == [], "nobody waits"


def test_those_behind_one_that_nobody_waits_for_any_more_go_on_without_it() -> None:
    """Its record cannot be written: this node's disk confirms nothing, and one replica is away."""
    alone = stage(timeout_ms=5_000)
    first = update(alone, timeout_ms=1_000)
    promise(alone, 1, OLD)
    accept(alone, 1)
    alone.syncs = False
    for index in (1, 2):
        ack(alone, index, busy=True)
    pass_ms(alone, 1_100)
    error_of(first, DeadlineExceeded, Outcome.UNKNOWN)
    second = update(alone)
    assert len(promise(alone, 1, OLD)) == 1
    del second


# --- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["decided", "refused", "outbid", "late"])
def test_what_is_over_is_freed_without_the_collector(how: str) -> None:
    """Each holds a value, or several."""

    def refuse(_: Record | None) -> Edited:
        raise PreconditionFailed("another version is there")

    alone = stage()
    with uncollected(Attempt, BegunUpdate, Round, Spread, Succession, QuorateError) as left:
        asker = update(alone, refuse if how == "refused" else add, timeout_ms=1_000)
        assert left() > 0
        promise(alone, 1, OLD)
        if how == "outbid":
            accept(alone, 1, said=Said.OUTBID)
            accept(alone, 2, said=Said.OUTBID)
        elif how == "decided":
            accept(alone, 1)
            ack(alone, 1)
        pass_ms(alone, 10_000)
        assert len(asker.results) == 1
        del asker
        assert left() == 0


def test_who_is_answered_and_stands_behind_one_that_waits_keeps_no_values() -> None:
    """What it is counted with is what it brought, and not what was there before and after."""
    alone = stage()
    waiting = update(alone, key=b"another")
    alone.take(1, PrepareRows)
    alone.take(2, PrepareRows)
    held: Record | None = OLD
    for edit in (add, leave):
        asker = update(alone, edit)
        promise(alone, 1, held)
        accept(alone, 1)
        ack(alone, 1)
        held = done(asker).after
    assert not waiting.results
    begun = [each for each in gc.get_objects() if isinstance(each, BegunUpdate)]
    assert len(begun) >= 3
    assert [each.result for each in begun if each.waiter is None and each.result is not None] == []
