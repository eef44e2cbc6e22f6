# SPDX-License-Identifier: GPL-3.0-or-later
"""Having a majority hold what was read or decided."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.spreads import Spread
from quorate.core.topology.topology import Verdict
from quorate.core.values.events import Batch, StorageState
from quorate.core.values.messages import Mutate, Mutated
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from tests.unit.core.alone import Alone, made_at, record_at
from tests.unit.core.write_stage import ack, alone_of

ROW = row_of(b"k")
RECORD = record_at(-5)


def _spread(
    alone: Alone, *, record: Record = RECORD, holders: int = 0, is_hinted: bool = True
) -> tuple[Spread, list[Verdict]]:
    """A record on its way, and what was told of it."""
    told: list[Verdict] = []
    replicas = alone.node.membership.current().partitions[partition_of(ROW)]
    spread = Spread(
        *(ROW, record, replicas),
        lambda each: told.append(each.verdict()),
        holders=holders,
        is_hinted=is_hinted,
    )
    alone.node.spreads.begin(spread)
    alone.step()
    return spread, told


def test_it_is_told_once_when_a_majority_has_it_this_node_included() -> None:
    alone = alone_of()
    _, told = _spread(alone)
    assert alone.disk.get(ROW) == RECORD
    assert told == []
    assert ack(alone, 1) == [RECORD]
    assert told == [Verdict.MET]
    ack(alone, 2)
    assert told == [Verdict.MET]


def test_its_own_copy_counts_when_it_is_durable() -> None:
    alone = alone_of()
    alone.syncs = False
    _, told = _spread(alone)
    ack(alone, 1)
    assert told == []
    alone.sync()
    assert told == [Verdict.MET]


def test_who_is_known_to_hold_it_is_not_sent_it() -> None:
    alone = alone_of()
    _, told = _spread(alone, holders=1 | alone.peer(2).bit)
    assert alone.take(2, Mutate) == []
    assert alone.disk.get(ROW) is None
    assert told == [Verdict.MET], "they are a majority"


AHEAD = pytest.mark.parametrize("ahead", [record_at(3_600_000), made_at(3_600_000)])


@AHEAD
def test_who_holds_something_newer_has_it_but_for_what_no_trusted_clock_gave_out(
    ahead: Record,
) -> None:
    alone = alone_of()
    spread, told = _spread(alone)
    ack(alone, 2, higher=ahead.version)
    assert told == []
    assert spread.failed == alone.peer(2).bit
    ack(alone, 1, higher=record_at(100).version)
    assert told == [Verdict.MET]


@AHEAD
def test_an_own_copy_that_no_trusted_clock_gave_out_is_no_ack(ahead: Record) -> None:
    alone = alone_of()
    alone.disk.format(Batch([(ROW, ahead)], [], []))
    spread, told = _spread(alone)
    ack(alone, 1)
    assert spread.failed == 1
    assert told == []
    ack(alone, 2)
    assert told == [Verdict.MET]


@pytest.mark.parametrize("how", ["lost", "busy", "refused", "fenced"])
def test_it_is_told_when_a_majority_cannot_have_it_any_more(how: str) -> None:
    alone = alone_of()
    _, told = _spread(alone)
    for index in (1, 2):
        assert told == []
        _fail(alone, index, how)
    assert told == [Verdict.LOST]


def _fail(alone: Alone, index: int, how: str) -> None:
    if how == "lost":
        alone.unlink(index)
    elif how == "fenced":
        for mutate in alone.take(index, Mutate):
            fenced = [(0, record_at(50).version)]
            alone.hear(index, Mutated(mutate.batch, [], [], fenced=fenced))
    else:
        ack(alone, index, refused=how == "refused", busy=how == "busy")


@pytest.mark.parametrize("is_hinted", [True, False])
def test_who_cannot_be_reached_gets_a_hint_of_what_was_decided(*, is_hinted: bool) -> None:
    alone = alone_of()
    alone.unlink(2)
    _spread(alone, is_hinted=is_hinted)
    alone.unlink(1)
    assert alone.node.hints.total == 2 * is_hinted


def test_a_full_disk_or_a_clock_too_far_behind_keeps_no_own_copy() -> None:
    for record in (RECORD, record_at(3_600_000), made_at(3_600_000)):
        alone = alone_of()
        if record is RECORD:
            alone.step(StorageState("disk_full", "no space"))
        _, told = _spread(alone, record=record)
        assert alone.disk.get(ROW) is None
        ack(alone, 1)
        assert told == []
        ack(alone, 2)
        assert told == [Verdict.MET]
