# SPDX-License-Identifier: GPL-3.0-or-later
"""What many outcomes add up to: figures for a person, and the same as JSON.

Times are kept as counts of whole milliseconds, so that a million seeds need no more memory than a
thousand. Counts, not adjectives: what was never reached or never injected is said too.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, zip_longest
from typing import Final

from quorate.sim.faults import FAULTS
from quorate.sim.run import RunResult
from quorate.sim.sometimes import BRANCHES

AGE_LIMITS_MS: Final = (1, 5, 10, 50, 100, 1_000)
"""The bounds of the classes into which stale reads fall by age; the last class has all that are
older."""


class Times(Counter[int]):
    """Durations as counts of whole milliseconds."""

    def at(self, share: float) -> int:
        """The least duration that is not below `share` of all; 0 if there are none."""
        rank = share * self.total()
        for duration_ms in sorted(self):
            rank -= self[duration_ms]
            if rank <= 0:
                return duration_ms
        return 0

    def as_json(self) -> dict[str, int]:
        """The usual percentiles."""
        p50, p99, largest = (self.at(share) for share in (0.5, 0.99, 1.0))
        return {"count": self.total(), "p50_ms": p50, "p99_ms": p99, "max_ms": largest}


class SwarmSummary:
    """Outcomes, added up."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failed: list[int] = []
        """Seeds with a violation."""
        self.violations: Counter[str] = Counter()
        """By invariant."""
        self.operations = 0
        self.results: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.in_budget = 0
        self.unsettled = 0
        """Worlds that did not converge."""
        self.unsettled_beyond = 0
        """Those of them that lost more copies than can be repaired."""
        self.converged = Times()
        self.stale_ages = Times()
        self.weak_reads = 0
        self.strict = 0
        """Reads that only the exception of P2 explains."""
        self.virtual_ms = 0.0
        self.node_steps = 0
        self.seconds: list[tuple[int, int]] = []
        """Operations answered and asked, by second of their worlds."""

    def add(self, outcome: RunResult) -> None:
        """Count one world in."""
        self.seeds += 1
        if outcome.violations:
            self.failed.append(outcome.seed)
        self.violations.update(violation.invariant for violation in outcome.violations)
        self.operations += outcome.operations
        self.results.update(outcome.results)
        self.faults.update(outcome.faults)
        self.reached.update(outcome.reached)
        self.in_budget += outcome.in_budget
        if outcome.convergence_ms is None:
            self.unsettled += 1
            self.unsettled_beyond += not outcome.in_budget
        else:
            self.converged[round(outcome.convergence_ms)] += 1
        self.stale_ages.update(map(int, outcome.stale_ages_ms))
        self.weak_reads += outcome.weak_reads
        self.strict += outcome.strict
        self.virtual_ms += outcome.virtual_ms
        self.node_steps += outcome.node_steps
        both = zip_longest(self.seconds, outcome.availability, fillvalue=(0, 0))
        self.seconds = [(one[0] + other[0], one[1] + other[1]) for one, other in both]

    def never_reached(self) -> list[str]:
        """The rare branches (I30) that no world came to."""
        return [name for name in BRANCHES if not self.reached[name]]

    def as_json(self) -> dict[str, object]:
        """Everything, as JSON has it."""
        return {
            "seeds": self.seeds,
            "failed": sorted(self.failed),
            "violations": dict(sorted(self.violations.items())),
            "operations": self.operations,
            "results": dict(self.results.most_common()),
            "faults": {**dict.fromkeys(FAULTS, 0), **self.faults},
            "worlds": {"in_budget": self.in_budget, "out_of_budget": self.seeds - self.in_budget},
            "availability": [list(second) for second in self.seconds],
            "stale_reads": {
                "weak_reads": self.weak_reads,
                **self.stale_ages.as_json(),
                "by_age": by_age(self.stale_ages),
            },
            "strict": self.strict,
            "convergence": {
                "unsettled": self.unsettled,
                "unsettled_out_of_budget": self.unsettled_beyond,
                **self.converged.as_json(),
            },
            "reached": {**dict.fromkeys(BRANCHES, 0), **self.reached},
            "never_reached": self.never_reached(),
            "virtual_hours": round(self.virtual_ms / 3.6e6, 3),
            "node_steps": self.node_steps,
        }


def by_age(ages: Times) -> dict[str, int]:
    """Stale reads by how long before them the write that they missed was acknowledged."""
    limits = (0, *AGE_LIMITS_MS)
    found = {
        f"{low}-{high} ms": sum(count for age, count in ages.items() if low <= age < high)
        for low, high in pairwise(limits)
    }
    oldest = limits[-1]
    found[f"{oldest} ms and more"] = sum(count for age, count in ages.items() if age >= oldest)
    return found


def availability(summary: SwarmSummary, *, rows_max: int = 12) -> list[tuple[str, int, int]]:
    """A row for each span of seconds: the span, operations answered, operations asked. There are at
    most `rows_max`; spans in which nothing was asked are left out."""
    seconds = summary.seconds
    step = max(1, -(-len(seconds) // rows_max))
    rows = []
    for start in range(0, len(seconds), step):
        span = seconds[start : start + step]
        answered, asked = (sum(column) for column in zip(*span, strict=True))
        if asked:
            rows.append((f"{start}-{start + len(span)} s", answered, asked))
    return rows
