# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to a plan: defaults, then the scenario, then what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.bench.plan import SCENARIOS, LoadPlan
from quorate.cli.arguments import UsageError
from quorate.cli.bench_asked import SweepAsked, asked_of, parse_rate
from quorate.cli.commands import BY_NAME
from tests.authority import Authority

TARGET = {"target": "localhost:1"}


def test_what_is_not_written_is_as_the_plan_has_it() -> None:
    asked = asked_of(dict(TARGET))
    assert asked.plan == LoadPlan(targets=(("localhost", 1),))
    assert (asked.rounds, asked.sweep, asked.dev, asked.churn) == (1, None, 0, ())


def test_a_flag_overrides_the_scenario() -> None:
    plan = asked_of({**TARGET, "scenario": "ycsb-d", "value-bytes": "1KiB", "reads": "0.9"}).plan
    assert (plan.scenario, plan.writes, plan.distribution) == ("ycsb-d", "insert", "latest")
    assert (plan.value_bytes, plan.reads) == (1024, 0.9)


def test_flags_are_taken_at_their_word() -> None:
    given = {
        "connections": "10",
        "workers": "2",
        "rate": "1.5k",
        "duration": "2s",
        "timeline": "50ms",
        "preload": "no",
        "route": "yes",
        "distribution": "once",
        "target": "localhost:1,localhost:2",
    }
    assert asked_of(given).plan == LoadPlan(
        targets=(("localhost", 1), ("localhost", 2)),
        connections=10,
        workers=2,
        rate=1500.0,
        seconds=2.0,
        timeline_ms=50,
        preload=False,
        route=True,
        distribution="once",
    )


def test_targets_are_reached_through_tls_all_or_none(tmp_path: Path) -> None:
    ca = Authority(tmp_path).ca
    for target in ("https://a:1,https://b:2", "a:1,b:2"):
        plan = asked_of({"target": target, "ca": ca}).plan
        assert (plan.tls, plan.ca, plan.targets) == (True, ca, (("a", 1), ("b", 2)))
    assert asked_of({"target": "https://a:1"}).plan.tls
    for given, why in (
        ({"target": "https://a:1,http://b:2"}, "http://b:2 is without TLS"),
        ({"target": "http://b:2", "ca": ca}, "http://b:2 is without TLS"),
        ({"dev": "3", "ca": ca}, "--dev is without TLS"),
        ({"target": "https://a:1", "ca": "absent"}, "--ca: absent: No such file"),
        ({"target": "https://a:1", "route": "yes"}, "--route: who holds which key"),
    ):
        with pytest.raises(UsageError, match=why):
            asked_of(given)


def test_nodes_that_are_started_get_the_quorums_and_the_durability() -> None:
    asked = asked_of({"dev": "3", "durability": "os", "W": "2", "R": "1", "churn": "kill, pause"})
    assert asked.serve == ["--durability=os", "--W=2", "--R=1"]
    assert (asked.dev, asked.churn, asked.plan.targets) == (3, ("kill", "pause"), ())


@pytest.mark.parametrize(
    ("text", "sweep"),
    [
        ("connections=1,4,16", SweepAsked("connections", [1, 4, 16])),
        ("rate=5k, 10k", SweepAsked("rate", [5000, 10_000])),
        ("rate=auto", SweepAsked("rate", [])),
    ],
)
def test_a_sweep_goes_through_what_it_is_told(text: str, sweep: SweepAsked) -> None:
    assert asked_of({**TARGET, "sweep": text}).sweep == sweep


@pytest.mark.parametrize(
    ("text", "rate"), [("2500", 2500), ("20k", 20_000), ("1.5M", 1_500_000), ("0.5", 0.5)]
)
def test_rates_may_be_short(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


def test_the_help_names_every_scenario() -> None:
    help_text = next(flag.help for flag in BY_NAME["bench"].flags if flag.name == "scenario")
    assert all(name in help_text for name in SCENARIOS)
