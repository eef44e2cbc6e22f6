# SPDX-License-Identifier: GPL-3.0-or-later
"""The node id is drawn once for a directory and durable before it is used (RELIABILITY 73)."""

from __future__ import annotations

import pytest

from quorate.errors import StorageError
from quorate.runtime.identity import NODE_ID_META, node_id_of
from tests.unit.runtime.fakes import FakeEngine


def test_an_id_is_drawn_once_and_synced_before_anyone_sees_it() -> None:
    engine = FakeEngine()
    drawn = node_id_of(engine)
    assert 0 <= drawn < 1 << 48
    assert (engine.writes, engine.syncs) == (1, 1)
    assert node_id_of(engine) == drawn
    assert (engine.writes, engine.syncs) == (1, 1)


def test_two_directories_do_not_share_an_id() -> None:
    assert len({node_id_of(FakeEngine()) for _ in range(100)}) == 100


def test_an_id_that_is_not_durable_is_not_used() -> None:
    engine = FakeEngine()
    engine.sync_error = StorageError("Input/output error")
    with pytest.raises(StorageError):
        node_id_of(engine)


def test_an_id_keeps_its_leading_zeros() -> None:
    engine = FakeEngine()
    drawn = node_id_of(engine)
    stored = engine.get_meta(NODE_ID_META)
    assert stored is not None
    assert len(stored) == 6
    assert int.from_bytes(stored, "big") == drawn
