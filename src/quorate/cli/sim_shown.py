# SPDX-License-Identifier: GPL-3.0-or-later
"""What `quorate sim` found, for eyes and for `cut`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from quorate.cli.output import print_facts, print_table
from quorate.client.calls import packed
from quorate.notation import show_bytes, show_count, show_duration
from quorate.sim.plan import Plan
from quorate.sim.report import SwarmSummary, Times, availability, by_age
from quorate.sim.run import RunResult
from quorate.sim.sometimes import BRANCHES

_BAR_WIDTH: Final = 30
_FAILED_MAX: Final = 20
_TELLING_SEEDS: Final = 100
"""Fewer seeds than this always miss some rare branches, so what they miss is not told."""


def failure_text(outcome: RunResult, *, replay: str) -> str:
    """A failed world in words, the first violation of each kind, and how to see it again."""
    lines = [f"seed {outcome.seed}: {show_count(len(outcome.violations), 'violation')}"]
    counts = Counter(violation.invariant for violation in outcome.violations)
    for invariant, count in counts.items():
        first = next(each for each in outcome.violations if each.invariant == invariant)
        where = f" {show_bytes(first.key)}" if first.key else ""
        more = f" (and {count - 1:,} more of {invariant})" if count > 1 else ""
        lines.append(f"  {invariant}{where}: {first.told}{more}")
    return "\n".join([*lines, f"  again: {replay}"])


def failure_json(outcome: RunResult, *, replay: str) -> dict[str, object]:
    """A failed world as JSON has it."""
    violations = [
        {"invariant": each.invariant, "key": packed(each.key), "told": each.told}
        for each in outcome.violations
    ]
    return {
        "seed": outcome.seed,
        "digest": outcome.digest,
        "violations": violations,
        "replay": replay,
    }


def brief(plan: Plan) -> str:
    """The size of a plan."""
    visits = [visit for script in plan.scripts for visit in script]
    operations = sum(len(visit.requests) for visit in visits)
    faults = show_count(len(plan.faults), "fault")
    return f"{show_count(operations, 'operation')}, {faults}, {show_count(plan.nodes, 'node')}"


def print_summary(summary: SwarmSummary, *, seconds: float | None) -> None:
    """Print the sums over all worlds of a run."""
    print_facts(_facts(summary, seconds))
    if summary.violations:
        _print_counts("violation", summary.violations)
    _print_counts("outcome", dict(summary.results.most_common()))
    _print_counts("fault", dict(summary.faults.most_common()))
    rows = [
        (span, asked, f"{answered / asked:.2%}", "#" * round(_BAR_WIDTH * answered / asked))
        for span, answered, asked in availability(summary)
    ]
    _print_section(["second", "asked", "answered", ""], rows)
    if summary.stale_ages:
        _print_counts("stale read's age", by_age(summary.stale_ages))
    found = summary.reached
    _print_counts("rare branch", {name: found[name] for name in BRANCHES if found[name]})
    never = summary.never_reached()
    if never and summary.seeds >= _TELLING_SEEDS:
        print(f"\nnever reached: {', '.join(never)}")


def _facts(summary: SwarmSummary, seconds: float | None) -> dict[str, str]:
    rate = f" in {seconds:.1f} s ({summary.seeds / seconds:.1f} a second)" if seconds else ""
    hours = summary.virtual_ms / 3.6e6
    in_budget = show_count(summary.in_budget, "world")
    out_of_budget = summary.seeds - summary.in_budget
    return {
        "seeds": f"{summary.seeds:,}{rate}",
        "failed": _listed(sorted(summary.failed)) or "none",
        "operations": f"{summary.operations:,}",
        "virtual time": f"{hours:.2f} h, {summary.node_steps:,} steps of nodes",
        "fault budget": f"{in_budget} within, {out_of_budget:,} beyond (these are"
        " judged for lies, not for loss)",
        "convergence": _spread(summary.converged) + _unsettled(summary),
        "strict": f"{summary.strict:,} reads saw a write twice",
        "stale reads": f"{summary.stale_ages.total():,} of {summary.weak_reads:,} at R + W <= N",
    }


def _unsettled(summary: SwarmSummary) -> str:
    """How many worlds never converged, and how many of them could not: their copies were lost."""
    count, beyond = summary.unsettled, summary.unsettled_beyond
    if not count:
        return ""
    who = "they" if beyond == count else f"{beyond:,} of them"
    why = f" ({who} lost copies beyond the fault budget)" if beyond else ""
    return f"; {show_count(count, 'world')} never{why}"


def _spread(times: Times) -> str:
    if not times:
        return "none"
    named = zip(("median", "p99", "max"), (0.5, 0.99, 1.0), strict=True)
    return ", ".join(f"{name} {show_duration(times.at(share))}" for name, share in named)


def _listed(seeds: list[int]) -> str:
    shown = ", ".join(map(str, seeds[:_FAILED_MAX]))
    more = len(seeds) - _FAILED_MAX
    return f"{shown} and {more:,} more" if more > 0 else shown


def _print_counts(name: str, counts: Mapping[str, int]) -> None:
    _print_section([name, "count"], [(each, count) for each, count in counts.items()])


def _print_section(columns: list[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        print()
        print_table(columns, rows)
