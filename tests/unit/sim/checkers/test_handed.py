# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to a replica is seen."""

from __future__ import annotations

from quorate.sim.checkers.handed import Handed
from tests.unit.sim.checkers.steps import Stage, given, record


def test_what_is_stored_sent_or_hinted_was_given_to_a_replica(stage: Stage) -> None:
    handed = Handed()
    handed.look(stage.step(0, stored=[record(1, b"a")], sent=[given(1, record(2, b"b"))]))
    handed.look(stage.step(0, hinted=[(b"name", given(2, record(3, b"c")))]))
    handed.look(stage.step(0, stored=[record(4, None)]))
    assert handed.values() == {b"a", b"b", b"c"}
    assert handed.found == []
