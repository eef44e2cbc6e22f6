# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/benchmarks.md from what was measured. Pure: same results, same text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from bench.growth import Grown
from bench.loads import CONNECTIONS, VALUE_BYTES, Measured
from bench.rounds import Bound, Compared, Pace, Side, cost, throughput
from bench.singles import Told

_HEAD: Final = """# Benchmarks

`./scripts/benchmarks` wrote this page; run it to check. Only ratios from one run on one machine
mean anything: do not compare these figures with those of another machine or another day.

Both sides of a row run at once and are loaded in turn, {rounds} rounds of {seconds:g} s each; the
ratio is the median of the rounds' ratios. {connections} connections and {value_bytes}-byte values,
not pipelined unless a row says so. Keys are few enough (100,000; 10,000 for etcd) to stay in every
store's memory. The store, three processes of it unless a row says so, and the load generator share
the machine. Load goes evenly to all nodes of Quorate, and to the primary or leader of the others,
where they are fastest. Each row says what an answer promises: rows that promise different things do
not compare.

*By CPU* is a second ratio, in which the generator has no part: the processor time that all
processes of the other store used for an operation, over Quorate's. Where the processors are what
both sides lack, a generator that shares them draws the first ratio towards 1, and this one is what
a machine with room for the generator would come near to. Of a store that waits for disks it says
little.
"""

_QUICK: Final = """**This was a quick run, with little of everything: its figures mean nothing.**
"""

_GROWTH: Final = """Each line is a cluster of three nodes of its own, unless it says so, with all
keys written, and one measurement of reads and one of writes: W=2, R=2, `os`. *CPU* is what all
nodes together used for an operation.
"""

_HOW: Final = """The generator is `quorate bench`, for Quorate and Redis alike; for etcd a loop of
the same making that speaks gRPC from templates; for PostgreSQL pgbench with prepared statements,
whose latencies are from a sample.

*gen* is how many cores the generator used. Where it is **bold** its processes were near their own
limit, or it had most of a machine that was fully used, and what it measured could be faster than it
shows; a goal that only seems met because the other side was held up like this counts as not shown,
and so does one with errors on either side. *CPU* is the processor time, in microseconds, that all
processes of the store used for an operation; it does not depend on the generator. *errors* has
reads of keys that were not there and requests that were due and not sent, too.
"""


class Findings(NamedTuple):
    """All that a document is made of."""

    compared: Sequence[Compared]
    told: Sequence[Told]
    grown: Sequence[Grown]
    failed: Mapping[str, str]
    """Rows that could not be measured, and why."""
    micro: Mapping[str, float]
    """Microseconds by name."""
    facts: Mapping[str, str]
    pace: Pace


def document(findings: Findings) -> str:
    """The page, as Markdown."""
    pace = findings.pace
    head = _HEAD.format(
        rounds=pace.rounds, seconds=pace.seconds, connections=CONNECTIONS, value_bytes=VALUE_BYTES
    )
    goals = [each for each in findings.compared if each.row.bound != Bound()]
    others = [each for each in findings.compared if each.row.bound == Bound()]
    parts = [
        head,
        _QUICK if pace.is_quick else "",
        _section("Goals", [*_goals(goals, findings.told)]),
        _section("Beside", [*_besides(others)]),
        _section("Without a goal", [*_figures(findings.told)]),
        _section("How it grows", [_GROWTH, *_growths(findings.grown)] if findings.grown else []),
        _section("Limits of this machine", [*_limits(findings.told)]),
        _section("Parts on their own", [*_micro(findings.micro)]),
        _section("Not measured", [f"- {name}: {why}" for name, why in findings.failed.items()]),
        _section("This run", [*_table(("", ""), findings.facts.items())]),
        _section("All measured values", [_HOW, *_values(findings)]),
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


def _goals(compared: Sequence[Compared], told: Sequence[Told]) -> Iterable[str]:
    rows = [
        (
            *(f"{row.what}: {row.quorate.guarantee}", f"{row.against}: {row.other.guarantee}"),
            *(_bound(row.bound), f"**{_figure(each.ratio)}**", _rounds(each.ratios)),
            *(_by_cpu(each), verdict(each)),
        )
        for each in compared
        for row in (each.row,)
    ]
    rows += [
        (
            *(row.what, row.how, f"{_bound(row.bound)} {row.unit}", f"**{_figure(value)}**"),
            *(_rounds([each.value for each in one.values]), "", _met(row.bound, value)),
        )
        for one in told
        if one.row.bound != Bound()
        for row, value in ((one.row, _median(one)),)
    ]
    columns = ("Quorate, 3 nodes, RF 3", "against", "goal", "is", "rounds", "by CPU", "met")
    return _table(columns, rows)


def _figures(told: Sequence[Told]) -> Iterable[str]:
    rows = [
        (one.row.what, one.row.how, f"{_figure(_median(one))} {one.row.unit}")
        for one in told
        if one.row.bound == Bound() and one.row.unit != "/s"
    ]
    return _table(("", "", "median"), rows)


def _besides(compared: Sequence[Compared]) -> Iterable[str]:
    rows = [
        (
            *(f"{row.what}: {row.quorate.guarantee}", f"{row.against}: {row.other.guarantee}"),
            *(f"**{_figure(each.ratio)}**", _rounds(each.ratios), _by_cpu(each)),
        )
        for each in compared
        for row in (each.row,)
    ]
    return _table(("Quorate, 3 nodes, RF 3", "against", "ratio", "rounds", "by CPU"), rows)


def _by_cpu(compared: Compared) -> str:
    return "" if compared.row.ratio is cost else _figure(compared.ratio_by_cpu)


def _growths(grown: Sequence[Grown]) -> Iterable[str]:
    for each in grown:
        rows = [
            (point.label, *_grown(write), *_grown(read))
            for point, write, read in zip(each.row.points, each.writes, each.reads, strict=True)
        ]
        figures = ("/s", "CPU us", "p50 ms", "p99 ms")
        columns = [f"{kind} {figure}" for kind in ("SET", "GET") for figure in figures]
        yield from _table((each.row.what, *columns), rows)
        yield ""


def _grown(found: Measured) -> tuple[str, ...]:
    per_second = f"{found.per_second:,.0f}{f' ({found.errors} errors)' if found.errors else ''}"
    return (per_second, *map(_figure, (found.store_us, found.p50_ms, found.p99_ms)))


def _limits(told: Sequence[Told]) -> Iterable[str]:
    rows = [
        (one.row.what, one.row.how, f"{_median(one):,.0f}", _latency(one))
        for one in told
        if one.row.bound == Bound() and one.row.unit == "/s"
    ]
    return _table(("the least that can be done", "", "per second", "p50 ms"), rows)


def _micro(micro: Mapping[str, float]) -> Iterable[str]:
    rows = [(name, _figure(microseconds)) for name, microseconds in micro.items()]
    return _table(("in one process, no input or output", "median, microseconds"), rows)


def _values(findings: Findings) -> Iterable[str]:
    rows = [
        (each.row.name, *cells)
        for each in findings.compared
        for side, results in ((each.row.quorate, each.ours), (each.row.other, each.theirs))
        for number, result in enumerate(results, 1)
        for cells in (_value(_side(side), number, result),)
    ]
    rows += [
        (one.row.name, *_value("", number, value.measured))
        for one in findings.told
        for number, value in enumerate(one.values, 1)
        if value.measured is not None
    ]
    columns = ("row", "store, generator", "round", "per second", "p50 ms", "p99 ms", "p99.9 ms")
    return _table((*columns, "gen", "CPU us", "errors"), rows)


def _side(side: Side) -> str:
    return f"{side.system.name}, {side.load.name}"


def _value(who: str, number: int, found: Measured) -> tuple[str, ...]:
    cores = f"{found.generator_cores:.2f}"
    return (
        *(who, str(number), f"{found.per_second:,.0f}"),
        *(_figure(found.p50_ms), _figure(found.p99_ms), _figure(found.p999_ms)),
        f"**{cores}**" if found.is_generator_bound else cores,
        *(_figure(found.store_us), str(found.errors)),
    )


def _bound(bound: Bound) -> str:
    if bound.at_least is not None:
        return f"at least {bound.at_least:g}"
    return f"at most {bound.at_most:g}"


def verdict(compared: Compared) -> str:
    """Whether the bound is met. Nothing is shown by errors, which may be quicker than answers, nor
    by a throughput that the generator held down."""
    row, ratio = compared.row, compared.ratio
    if any(each.errors for each in (*compared.ours, *compared.theirs)):
        return "not shown"
    if row.ratio is throughput:
        is_theirs_low = any(each.is_generator_bound for each in compared.theirs)
        is_ours_low = any(each.is_generator_bound for each in compared.ours)
        if is_theirs_low if row.bound.is_met(ratio) else is_ours_low:
            return "not shown"
    return _met(row.bound, ratio)


def _met(bound: Bound, value: float) -> str:
    return "yes" if bound.is_met(value) else "no"


def _median(told: Told) -> float:
    return median(each.value for each in told.values)


def _latency(told: Told) -> str:
    found = [each.measured.p50_ms for each in told.values if each.measured is not None]
    return _figure(median(found)) if found else ""


def _rounds(values: Sequence[float]) -> str:
    return ", ".join(map(_figure, values))


def _figure(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
