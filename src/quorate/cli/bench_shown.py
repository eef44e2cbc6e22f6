# SPDX-License-Identifier: GPL-3.0-or-later
"""What `quorate bench` measured, for eyes and for `cut`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quorate.bench.compare import METHOD, Compared
from quorate.bench.result import FIGURES, KINDS, BenchResult
from quorate.bench.sweep import Sweep
from quorate.cli.output import print_table

_BUSY_MOST: Final = 0.9


def show_result(result: BenchResult, *, is_kept: bool) -> None:
    """One plan, measured once or several times. `is_kept`: whether the store is there after it."""
    kinds = [kind for kind in KINDS if result.of(kind).requests]
    print_table(["kind", *FIGURES], [[kind, *_figures(result, kind)] for kind in kinds])
    if result.rounds:
        rows = [[number, *_figures(one, "all")] for number, one in enumerate(result.rounds, 1)]
        print_table(["round", *FIGURES], rows)
    plan = result.plan
    if plan.rate:
        print(f"asked for\t{plan.rate:.0f} per second\tbacklog at the end\t{result.backlog}")
    if result.misses:
        print(f"reads of keys that are not there\t{result.misses}")
    for kind, count in result.errors.items():
        print(f"error\t{kind}\t{count}")
    if result.availability is not None:
        seen = result.availability
        print(f"longest time without a success\t{seen.longest_gap_ms} ms")
        print(f"failed\t{seen.failed_share:.3%}")
    for one in result.rounds or [result]:
        for fault in one.faults:
            span = f"{fault.begun_s:.2f} s to {fault.ended_s:.2f} s"
            print(f"fault\t{fault.kind}\t{fault.node}\t{span}")
    _show_end([result], is_kept=is_kept)


def show_sweep(sweep: Sweep, *, is_kept: bool) -> None:
    """A row for each point. `is_kept`: whether the store is there after it."""
    rows = [
        [
            point.plan.connections if sweep.of == "connections" else f"{point.plan.rate:.0f}",
            *_figures(point, "all"),
            sum(point.errors.values()),
            point.backlog,
            f"{point.generator_busy:.2f}",
        ]
        for point in sweep.points
    ]
    print_table([sweep.of, *FIGURES, "errors", "backlog", "generator_busy"], rows)
    knee = "not reached" if sweep.knee is None else f"{sweep.knee:.0f}"
    print(f"knee\t{knee}\t{sweep.knee_means}")
    _show_end(sweep.points, is_kept=is_kept)


def show_compared(compared: Sequence[Compared], names: Sequence[str]) -> None:
    """A row for each figure; `names` is what the plans differ in."""
    rows = [
        [
            each.kind,
            each.figure,
            _rounded(each.before),
            _rounded(each.after),
            f"{each.ratio:.3f}",
            None if each.low is None else f"{each.low:.3f}",
            None if each.high is None else f"{each.high:.3f}",
            _verdict(each),
        ]
        for each in compared
    ]
    print_table(["kind", "figure", "before", "after", "ratio", "from", "to", "says"], rows)
    print(METHOD)
    if names:
        print(f"The two were not measured alike: {', '.join(names)} differ.")


def _verdict(each: Compared) -> str:
    if each.low is None:
        return "one round only"
    return "different" if each.is_sure else "within the noise"


def _show_end(results: Sequence[BenchResult], *, is_kept: bool) -> None:
    print(f"interpreter\t{results[0].interpreter}")
    for worker, busy in enumerate(results[-1].workers_busy, 1):
        print(f"generator busy\tworker {worker}\t{busy:.0%}")
    if max(each.generator_busy for each in results) > _BUSY_MOST:
        print("The generator was the bottleneck: use more --workers, or more processors.")
    if not all(each.is_complete for each in results):
        print("Interrupted: these are the figures so far.")
    if is_kept:
        print(f"The keys, {results[0].key_prefix}..., stay in the store.")


def _figures(result: BenchResult, kind: str) -> list[str]:
    one = result.of(kind)
    return [_rounded(getattr(one, figure)) for figure in FIGURES]


def _rounded(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"
