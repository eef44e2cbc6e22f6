# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from bench.document import Findings, document, verdict
from bench.growth import Grown, Growth, Point
from bench.loads import QuorateBench
from bench.rounds import Bound, Compared, Side
from bench.singles import Single, Told, Value
from tests.bench.fakes import PACE, FakeLoad, FakeSystem, measured, row


def compared(*, bound: Bound, ratio: float, ours: float = 0.1, theirs: float = 0.1) -> Compared:
    """By how many cores each side's generator used."""
    we, they = (
        Side(FakeSystem(name, []), FakeLoad("load", [], []), f"what {name} promise")
        for name in ("we", "they")
    )
    return Compared(
        row(we, they, bound),
        [measured(1000 * ratio, generator_cores=ours)],
        [measured(1000, generator_cores=theirs)],
    )


@pytest.mark.parametrize(
    ("ratio", "ours", "theirs", "said"),
    [
        (1.2, 0.1, 0.1, "yes"),
        (0.8, 0.1, 0.1, "no"),
        (1.2, 0.1, 0.99, "not shown"),
        (0.8, 0.1, 0.99, "no"),
        (0.8, 0.99, 0.1, "not shown"),
        (1.2, 0.99, 0.1, "yes"),
    ],
)
def test_what_a_busy_generator_may_have_caused_is_not_shown(
    ratio: float, ours: float, theirs: float, said: str
) -> None:
    assert verdict(compared(bound=Bound(at_least=1), ratio=ratio, ours=ours, theirs=theirs)) == said


@pytest.mark.parametrize(("ours", "theirs"), [(1, 0), (0, 1)])
def test_what_errors_may_have_caused_is_not_shown(ours: int, theirs: int) -> None:
    plain = compared(bound=Bound(at_least=1), ratio=1.2)
    found = plain._replace(
        ours=[measured(1200, errors=ours)], theirs=[measured(1000, errors=theirs)]
    )
    assert verdict(plain) == "yes"
    assert verdict(found) == "not shown"


def test_the_page_tells_everything_that_was_found_and_what_was_not() -> None:
    single = Single("tail", "the tail", "how", "times", lambda *_: [], Bound(at_most=20))
    limit = Single("limit", "a limit", "alone", "/s", lambda *_: [])
    start = Single("start", "a start", "cold", "s", lambda *_: [])
    page = document(
        Findings(
            compared=[
                compared(bound=Bound(at_least=2), ratio=2.5),
                compared(bound=Bound(), ratio=3.5),
            ],
            told=[
                Told(single, [Value(30.0, measured(77))]),
                Told(limit, [Value(4000.0, measured(4000))]),
                Told(start, [Value(0.5), Value(0.7), Value(0.6)]),
            ],
            grown=[
                Grown(
                    Growth("keys", "keys", [Point("9", FakeSystem("we", []), QuorateBench())]),
                    writes=[measured(500)],
                    reads=[measured(1500, errors=2)],
                )
            ],
            failed={"missing": "etcd is not installed"},
            micro={"core put": 14.0},
            facts={"kernel": "Linux 6"},
            pace=PACE,
        )
    )
    lines = page.splitlines()
    assert (
        "| a thing: what we promise | another: what they promise | at least 2 | **2.50** | 2.50"
        " | 1.00 | yes |" in lines
    )
    assert "| the tail | how | at most 20 times | **30.0** | 30.0 |  | no |" in lines
    assert (
        "| a thing: what we promise | another: what they promise | **3.50** | 3.50 | 1.00 |"
        in lines
    )
    assert "| a limit | alone | 4,000 | 1.00 |" in lines
    assert "| a start | cold | 0.60 s |" in lines
    assert "| 9 | 500 | 10.0 | 1.00 | 2.00 | 1,500 (2 errors) | 10.0 | 1.00 | 2.00 |" in lines
    assert "- missing: etcd is not installed" in lines
    assert "| core put | 14.0 |" in lines
    assert "| kernel | Linux 6 |" in lines
    assert "| row | we, load | 1 | 2,500 | 1.00 | 2.00 | 3.00 | 0.10 | 10.0 | 0 |" in lines


def test_a_page_has_no_heading_without_anything_below_it() -> None:
    page = document(Findings([], [], [], {}, {}, {}, PACE))
    assert [line for line in page.splitlines() if line.startswith("##")] == [
        "## All measured values"
    ]
