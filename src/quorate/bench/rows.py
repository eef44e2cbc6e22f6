# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as rows of a table, for CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from quorate.bench.result import FIGURES, KINDS, BenchResult

COLUMNS: Final = ("connections", "rate", "round", "kind", "at_s", *FIGURES, "errors")


def write_csv(path: Path, results: Sequence[BenchResult]) -> None:
    """A row for each kind of requests in each round, and for each slice of time (kind `slice`: the
    requests are those that succeeded)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for result in results:
            for number, one in enumerate(result.rounds or [result], 1):
                writer.writerows(_rows(one, number))


def _rows(one: BenchResult, number: int) -> Iterator[list[object]]:
    head = [one.plan.connections, one.plan.rate or "", number]
    for kind in KINDS:
        figures = [round(getattr(one.of(kind), figure), 3) for figure in FIGURES]
        yield [*head, kind, "", *figures, sum(one.errors.values()) if kind == "all" else ""]
    seconds = one.plan.timeline_ms / 1000
    for place, each in enumerate(one.timeline):
        at = round(place * seconds, 3)
        per_second = round(each.succeeded / seconds, 3)
        figures = [each.succeeded, per_second, "", "", "", "", each.worst_ms]
        yield [*head, "slice", at, *figures, each.errors]
