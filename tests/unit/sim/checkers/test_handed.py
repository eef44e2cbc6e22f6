# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to a replica is seen."""

from __future__ import annotations

from msgspec.structs import replace

from quorate.sim.checkers.handed import Handed
from tests.unit.sim.checkers.steps import Stage, given, record


def test_what_is_stored_sent_or_hinted_was_given_to_a_replica(stage: Stage) -> None:
    handed = Handed()
    handed.look(stage.step(0, stored=[record(1, b"a")], sent=[given(1, record(2, b"b"))]))
    handed.look(stage.step(0, hinted=[(b"name", given(2, record(3, b"c")))]))
    handed.look(stage.step(0, stored=[record(4, None)]))
    handed.look(stage.step(0, stored=[replace(record(5, b"a"), expires_ms=7)]))
    assert handed.contents() == {(b"a", 0), (b"b", 0), (b"c", 0), (b"a", 7)}
    assert handed.found == []
