# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of read-modify-write, in the model: nothing goes wrong in some hundred worlds, and each
rule, left out, is noticed."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.models.read_modify_write.checker import violation
from tests.models.read_modify_write.clients import run
from tests.models.read_modify_write.switches import SWITCHES, Broken

SEEDS = range(200)
SEEDS_PER_TEST = 50

NOTICED = {
    "no_adopt": 1,
    "no_promise": 42,
    "leak": 33,
    "restart_after_accept": 13,
    "no_ids": 27,
    "fresh_stamp": 21,
    "wrong_link": 6,
    "no_writeback": 478,
    "no_commit": 5,
    "no_lock": 5,
    "no_horizon": 87,
    "by_age": 5,
    "phantom_at_zero": 0,
    "tombstone_of_base": 6,
    "no_proof": 133,
    "collect_while_joint": 157,
    "at_once": 421,
    "stuck_again": 306,
    "low": 75,
    "switch_early": 143,
    "no_verify": 478,
    "accepts_refused": 1255,
    "lock_with_open_votes": 3861,
    "votes_not_pulled": 1682,
    "pull_from_one": 2350,
    "no_fence": 1531,
    "empty_disk_counts": 1109,
    "pull_forgets_horizon": 359,
    "any_proof": 1011,
    "old_only": 607,
    "keeps_undecidable": 6092,
}
"""A seed for each rule: with the rule nothing is wrong there, and without it something is."""
STEP_BY_STEP = {
    "accept_without_lock",
    "ahead_is_denial",
    "ahead_of_phantom",
    "collect_with_open_votes",
    "forgets",
    "lone_lock",
    "refuses_own",
    "unlock_with_open_votes",
    "votes_after_collection",
    "votes_below_accepted",
}
"""Too rare for random worlds: `test_rules_of_locks`."""
UNNOTICED = {
    "agrees_with_open_votes",
    "dead_base_votes",
    "denied_before",
    "denied_in_one_row",
    "forgets_asked",
    "gone_is_a_promise",
    "keeps_answers",
    "keeps_votes_of_collected",
    "live_below_ignored",
    "mixed_phantoms",
    "no_reread",
    "phantom_preferred",
    "promise_without_lock",
    "promises_of_before",
    "refuse",
    "refused_is_ack",
    "tombstone_of_wall",
}
"""Left out alone these break nothing, or too rarely to be seen (docs/simulation.md)."""


@pytest.mark.parametrize("first", SEEDS[::SEEDS_PER_TEST])
def test_each_operation_takes_effect_once(first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(first, first + SEEDS_PER_TEST):
        history = run(seed, Broken())
        assert not violation(history), f"seed {seed}"
        seen.update(history.stats)
    for what in ("locks", "unlocks", "rows collected", "moves", "cancels", "disks lost"):
        assert seen[what], f"no {what}: the worlds do not do what they are for"
    assert seen["updates of nothing"] > SEEDS_PER_TEST


@pytest.mark.parametrize("name", NOTICED)
def test_a_rule_that_is_left_out_is_noticed(name: str) -> None:
    assert violation(run(NOTICED[name], Broken(name)))


@pytest.mark.parametrize("seed", sorted(set(NOTICED.values())))
def test_nothing_is_wrong_where_no_rule_is_left_out(seed: int) -> None:
    assert not violation(run(seed, Broken()))


def test_of_each_rule_it_is_known_whether_it_is_noticed() -> None:
    assert NOTICED.keys() | STEP_BY_STEP | UNNOTICED == SWITCHES.keys()
    assert len(NOTICED) + len(STEP_BY_STEP) + len(UNNOTICED) == len(SWITCHES)
