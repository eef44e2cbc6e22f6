# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a key that was deleted, once replicas may have dropped its tombstone."""

from __future__ import annotations

import time

from quorate.core.values.events import PutResult
from quorate.core.values.record import Record
from quorate.core.values.settings import SLICE_MS
from quorate.core.values.versions import pack_version, stamp_at
from quorate.errors import Outcome, QuorumUnreachable
from quorate.sim.history import ClientOperation, Kind
from tests.cluster.recorder import N, can_nobody_tell, held_or_dropped

NOTHING = dict.fromkeys(range(N))


def test_a_tombstone_that_some_have_dropped_is_left_with_all_once_it_is_old() -> None:
    old, young = (_deleted(age_ms) for age_ms in (SLICE_MS + 1, SLICE_MS // 2))
    assert held_or_dropped(NOTHING, [old]) == dict.fromkeys(range(N), old.wrote)
    assert held_or_dropped({**NOTHING, 1: old.wrote}, []) == dict.fromkeys(range(N), old.wrote)
    assert held_or_dropped(NOTHING, [young]) == NOTHING, "lost"
    value = Record(pack_version(1, 1), b"value")
    assert held_or_dropped({**NOTHING, 1: value}, [old]) == {**NOTHING, 1: value}, "resurrected"


def test_of_a_delete_whose_stamp_nobody_was_told_nothing_can_be_missed_once_it_is_old() -> None:
    for outcome, age_ms, expected in (
        (Outcome.UNKNOWN, SLICE_MS + 1, True),
        (Outcome.UNKNOWN, 0, False),
        (Outcome.NOT_APPLIED, SLICE_MS + 1, False),
    ):
        failed = _deleted(age_ms)
        failed.result = QuorumUnreachable("gone", outcome=outcome)
        assert can_nobody_tell(NOTHING, [failed]) is expected
        assert held_or_dropped(NOTHING, [failed]) == NOTHING


def _deleted(age_ms: int) -> ClientOperation:
    ms = round(time.time() * 1000) - age_ms
    operation = ClientOperation(1, 0, 0, Kind.DELETE, b"key", asked_ms=0.0, wall_ms=ms)
    operation.result = PutResult(pack_version(stamp_at(ms), 1), 2, N)
    return operation
