# SPDX-License-Identifier: GPL-3.0-or-later
"""The node id is drawn once for a directory and durable before it is used."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.values.events import Batch
from quorate.errors import StorageError
from quorate.host.identity import NODE_ID_META, node_id_of
from tests.unit.host.fakes import FakeEngine


def test_an_id_is_drawn_once_and_synced_before_anyone_sees_it() -> None:
    engine, random = FakeEngine(), Random(1)
    drawn = node_id_of(engine, random)
    assert 0 <= drawn < 1 << 48
    assert (engine.writes, engine.syncs) == (1, 1)
    assert node_id_of(engine, random) == drawn
    assert (engine.writes, engine.syncs) == (1, 1)


def test_two_directories_do_not_share_an_id() -> None:
    random = Random(1)
    assert len({node_id_of(FakeEngine(), random) for _ in range(100)}) == 100


def test_an_id_that_is_not_durable_is_not_used() -> None:
    engine = FakeEngine()
    engine.sync_error = StorageError("Input/output error")
    with pytest.raises(StorageError):
        node_id_of(engine, Random(1))


def test_an_id_keeps_its_leading_zeros() -> None:
    engine, random = FakeEngine(), Random(1)
    drawn = node_id_of(engine, random)
    stored = engine.get_meta(NODE_ID_META)
    assert stored is not None
    assert len(stored) == 6
    assert int.from_bytes(stored, "big") == drawn
    engine.write(Batch([], [], [(NODE_ID_META, b"\0\0\0\0\1\2")]))
    assert node_id_of(engine, random) == 0x0102
