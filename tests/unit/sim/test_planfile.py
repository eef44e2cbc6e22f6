# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as files: what is written is what is read, and nonsense is refused in words."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from quorate.sim.draw import Options, draw
from quorate.sim.plan import Fault, Plan
from quorate.sim.planfile import decode, encode

PLAN = replace(
    draw(42, Options(5, 3, 0, 0, operations=20)),
    faults=(Fault("kill", begin_ms=1, end_ms=2, nodes=(0,)),),
)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_comes_back_as_it_was(seed: int) -> None:
    plan = draw(seed, Options())
    assert decode(encode(plan)) == plan


def test_a_file_has_a_line_for_each_visit_of_one_request() -> None:
    lines = encode(PLAN).decode().splitlines()
    visits = [visit for script in PLAN.scripts for visit in script if len(visit.requests) == 1]
    assert len([line for line in lines if '"pause_ms"' in line and '"serial"' in line]) == len(
        visits
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"seed": 42', '"seed": "x"', "Expected `int`"),
        ('"nodes": 5,', '"nodes": 4,', "there is no node 4: they count from 0 to 3"),
        ('"stays_dead": ', '"stays_dead": 9, "was": ', "there is no node 9"),
        ('"walks": []', '"walks": [{"at_ms": 1, "node": 5, "pages": 1, "limit": 1}]', "no node 5"),
        ('"late": []', '"late": [5]', "there is no node 5"),
        ('"offsets_ms": [', '"offsets_ms": [0, ', "not those of 5 nodes"),
        ('"latencies_ms": [', '"latencies_ms": [[1], ', "not those of 5 nodes"),
        ('"name": "kill"', '"name": "kil"', "no such fault: kil; did you mean kill\\?"),
        ('"name": "kill"', '"name": "x"', "no such fault: x; there are: apply, .*, zone$"),
        ('"timeout_ms"', '"timeuot_ms"', "no such setting: timeuot_ms; did you mean timeout_ms"),
        ('"timeout_ms"', '"node_id"', "no such setting: node_id; there are: down_after, "),
        ('"timeout_ms"', '"url"', "no such setting: url"),
        ('"timeout_ms"', '"key_bytes_max"', "timeout_ms is to be a number from 1 up"),
        ('"heartbeat_ms": ', '"heartbeat_ms": -', "heartbeat_ms is to be a number from 1 up"),
        ('"replication": 3', '"replication": 6', "at most replication, and that is at most [45]"),
        ('"w": 0', '"w": 4', "w and r are at most replication"),
        ('"r": 0', '"r": 4', "w and r are at most replication"),
        ("{", "[", "Expected `object`"),
    ],
)
def test_what_is_no_plan_is_refused_with_the_reason(old: str, new: str, said: str) -> None:
    text = encode(PLAN).decode()
    assert old in text
    with pytest.raises(ValueError, match=said):
        decode(text.replace(old, new, 1).encode())


def test_a_plan_without_faults_and_clients_is_a_plan() -> None:
    plan: Plan = draw(1, Options(operations=1, faults=frozenset()))
    assert plan.faults == ()
    assert decode(encode(plan)) == plan
