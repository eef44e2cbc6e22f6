# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/benchmarks.md from what was measured. Pure: same results, same text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from bench.generator import CONNECTIONS, DEAR_SHARE, VALUE_BYTES, Measured
from bench.rounds import NO_BOUND, BenchRow, Pacing, RowFound, Side

_HEAD: Final = """# Benchmarks

`./scripts/benchmarks` wrote this page; run it to check. [How to read it](bench.md#comparisons).
Only ratios from one run on one machine mean anything: do not compare these figures with those of
another machine or another day.

Both sides of a row run at once and are loaded in turn, {rounds} rounds of {seconds:g} s each; the
ratio is the median of the rounds' ratios. {connections} connections and {value_bytes}-byte values,
not pipelined unless a row says so. Keys are few enough (100,000; 10,000 for etcd) to stay in every
store's memory. The store, three processes of it unless a row says so, and the load generator share
the machine. Load goes evenly to all nodes of Quorate, and to the primary or leader of the others,
where they are fastest. Each row says what an answer promises: rows that promise different things do
not compare.

*By CPU* is the ratio of operations for a second of the processor time of all processes of a store:
the generator has no part in it. *CPU* is that time for one operation, in microseconds, Quorate's /
the other's. *generator* is its own beside each, **bold** where it is above a tenth of the store's.
"""
_QUICK: Final = """**This was a quick run, with little of everything: its figures mean nothing.**
"""
_SLOW_BUILD: Final = """**The interpreter was built without optimisation
(`./configure --enable-optimizations`): Quorate is about 10 % slower on it than on one that was.**
"""
_GROWTH: Final = """Each line is a cluster of its own, with all keys written: W=2, R=2, `os`.
"""
_HOW: Final = """The generator is `bench/generator.c`: one thread that sends requests made from
templates, reads every reply to its end and judges it. For PostgreSQL it is pgbench with prepared
statements, whose latencies are from a sample. *errors* has reads of keys that were not there and
requests that were due and not sent, too.
"""


class Findings(NamedTuple):
    """All that a document is made of."""

    rows: Sequence[tuple[BenchRow, RowFound]]
    failed: Mapping[str, str]
    """Rows that could not be measured, and why."""
    micro: Mapping[str, float]
    """Microseconds by name."""
    facts: Mapping[str, str]
    pace: Pacing


def document(findings: Findings) -> str:
    """The page, as Markdown."""
    pace = findings.pace
    head = _HEAD.format(
        rounds=pace.rounds, seconds=pace.seconds, connections=CONNECTIONS, value_bytes=VALUE_BYTES
    )
    valued = [(row, found) for row, found in findings.rows if found.values]
    goals = [each for each in valued if each[0].bound != NO_BOUND]
    others = [each for each in valued if each[0].bound == NO_BOUND]
    grown = [each for each in findings.rows if not each[1].values]
    parts = [
        head,
        _QUICK if pace.is_quick else "",
        _SLOW_BUILD if "without" in findings.facts.get("Python", "") else "",
        _section("Goals", [*_rows(goals)]),
        _section("Without a goal", [*_rows(others)]),
        _section("How it grows", [_GROWTH, *_measurements(grown)] if grown else []),
        _section("Parts on their own", [*_micro(findings.micro)]),
        _section("Not measured", [f"- {name}: {why}" for name, why in findings.failed.items()]),
        _section("This run", [*_table(("", ""), findings.facts.items())]),
        _section("All measured values", [_HOW, *_measurements(valued)] if valued else []),
    ]
    return "\n".join(part for part in parts if part)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines, ""]) if lines else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Nothing at all if there are no rows."""
    for number, row in enumerate(rows):
        if number == 0:
            yield f"| {' | '.join(columns)} |"
            yield "|---" * len(columns) + "|"
        yield f"| {' | '.join(row)} |"


def _rows(rows: Sequence[tuple[BenchRow, RowFound]]) -> Iterable[str]:
    """A line for each; what is hoped for has a column only where anything is."""
    has_goals = any(row.bound != NO_BOUND for row, _ in rows)
    cells = [
        (
            *(row.what, row.against),
            *([_bound(row)] if has_goals else []),
            f"**{_figure(median(found.values))}**{row.unit and f' {row.unit}'}",
            ", ".join(map(_figure, found.values)),
            _by_cpu(found),
            " / ".join(_figure(side.store_us) for side in found.sides if side.store_us),
            " / ".join(_share(side) for side in found.sides if side.generator_us),
            *([verdict(row, found)] if has_goals else []),
        )
        for row, found in rows
    ]
    goal, met = (("goal",), ("met",)) if has_goals else ((), ())
    shown = ("is", "rounds", "by CPU", "CPU", "generator")
    return _table(("Quorate, 3 nodes, RF 3", "against", *goal, *shown, *met), cells)


def _by_cpu(found: RowFound) -> str:
    """Where throughputs are compared."""
    if not found.is_by_rate:
        return ""
    ours, theirs = found.sides
    return _figure(theirs.store_us / ours.store_us) if ours.store_us else ""


def _share(side: Side) -> str:
    said = f"{_figure(side.generator_us)} ({side.generator_us / (side.store_us or 1):.0%})"
    return f"**{said}**" if side.generator_us > DEAR_SHARE * side.store_us else said


def _measurements(rows: Sequence[tuple[BenchRow, RowFound]]) -> Iterable[str]:
    cells = [
        (row.name, side.name, str(number), *_measured(each))
        for row, found in rows
        for side in found.sides
        for number, each in enumerate(side.measured, 1)
    ]
    columns = ("row", "what", "round", "per second", "p50 ms", "p99 ms", "p99.9 ms")
    return _table((*columns, "CPU us", "generator us", "errors"), cells)


def _measured(found: Measured) -> tuple[str, ...]:
    seen, generator = found.seen, _figure(found.generator_us)
    return (
        _figure(seen.per_second),
        *map(_figure, (seen.p50_ms, seen.p99_ms, seen.p999_ms, found.store_us)),
        f"**{generator}**" if found.is_generator_dear else generator,
        str(found.errors),
    )


def _micro(micro: Mapping[str, float]) -> Iterable[str]:
    rows = [(name, _figure(microseconds)) for name, microseconds in micro.items()]
    return _table(("in one process, no input or output", "median, microseconds"), rows)


def _bound(row: BenchRow) -> str:
    low, high = row.bound
    said = f"at least {low:g}" if low is not None else f"at most {high:g}"
    return f"{said} {row.unit}".strip()


def verdict(row: BenchRow, found: RowFound) -> str:
    """Whether the bound is met. Nothing is shown by errors, which may be quicker than answers, nor
    by a throughput that the generator held down."""
    is_met = row.bound.is_met(median(found.values))
    if any(each.errors for side in found.sides for each in side.measured):
        return "not shown"
    if found.is_by_rate:
        ours, theirs = found.sides
        held_down = theirs if is_met else ours
        if any(each.is_generator_bound for each in held_down.measured):
            return "not shown"
    return "yes" if is_met else "no"


def _figure(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
