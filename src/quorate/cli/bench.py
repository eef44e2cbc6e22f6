# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate bench: run what is asked for, print what came out, write the files that are asked for.

Exit codes: 0 done; 2 wrong usage, or a target cannot be reached; 3 there were errors, except where
faults were asked for; 130 interrupted, with the figures so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from quorate.bench.compare import METHOD, compare, differing, rounds_of
from quorate.bench.measure import MeasureFailed, Progress, measure
from quorate.bench.plan import LoadPlan
from quorate.bench.plot import page
from quorate.bench.result import BenchResult, together
from quorate.bench.rows import write_csv
from quorate.bench.sweep import Sweep, find_rates, sweep_connections, sweep_rates
from quorate.cli.arguments import Given, UsageError
from quorate.cli.bench_asked import BenchAsked, asked_of
from quorate.cli.bench_dev import Churn, dev_cluster
from quorate.cli.bench_shown import show_compared, show_result, show_sweep
from quorate.cli.output import complain, print_json
from quorate.cli.processes import Child, NodeFailed, stoppable
from quorate.cli.progress import ProgressMeter
from quorate.notation import split_url

_COMPARE = "compare"


def run_bench(given: Given) -> int:
    """Measure, or compare what was measured; the exit code."""
    if given.get("target") == _COMPARE:
        return _compare(given)
    if "before" in given:
        raise UsageError(f"bench: one argument too many: {given['before']!r}")
    asked, is_json = asked_of(given), "json" in given
    try:
        with stoppable():
            found = _measure(asked)
    except MeasureFailed as fault:
        targets = ", ".join(f"{host}:{port}" for host, port in asked.plan.targets)
        return complain(f"bench of {targets}: {fault}", code="bench_failed", is_json=is_json)
    except NodeFailed as fault:
        return complain(str(fault), code="node_failed", is_json=is_json, exit_code=3)
    return _tell(asked, found, is_json=is_json)


def _measure(asked: BenchAsked) -> BenchResult | Sweep:
    with ExitStack() as stack:
        nodes: list[Child] = []
        if asked.dev:
            nodes = stack.enter_context(dev_cluster(asked.dev, asked.serve))
            targets = tuple(split_url(node.url) for node in nodes)
            asked = asked._replace(plan=msgspec.structs.replace(asked.plan, targets=targets))
        run = _BenchRun(asked, nodes)
        if asked.sweep is None:
            return run.measure(asked.plan)
        if asked.sweep.of == "connections":
            numbers = [int(number) for number in asked.sweep.values]
            return sweep_connections(asked.plan, numbers, run.measure)
        if asked.sweep.values:
            return sweep_rates(asked.plan, asked.sweep.values, run.measure)
        return find_rates(asked.plan, run.measure)


class _BenchRun:
    """The measurements of one command line. Only the first writes the keys."""

    def __init__(self, asked: BenchAsked, nodes: Sequence[Child]) -> None:
        self._asked = asked
        self._nodes = nodes
        self._are_keys_written = not asked.plan.preload

    def measure(self, plan: LoadPlan) -> BenchResult:
        """All rounds of one plan."""
        rounds: list[BenchResult] = []
        while len(rounds) < self._asked.rounds and all(each.is_complete for each in rounds):
            rounds.append(self._round(plan, len(rounds) + 1))
        return together(rounds)

    def _round(self, plan: LoadPlan, number: int) -> BenchResult:
        preload = not self._are_keys_written
        self._are_keys_written = True
        running = msgspec.structs.replace(plan, preload=preload)
        with (
            _Shown(self._label(plan, number), plan.seconds) as shown,
            Churn(self._nodes, self._asked.churn, seconds=plan.seconds) as churn,
        ):

            def tell(step: Progress) -> None:
                if step.is_measuring and not step.done and self._asked.churn:
                    churn.begin()
                shown.tell(step)

            result = measure(running, tell)
        return msgspec.structs.replace(result, plan=plan, faults=churn.faults)

    def _label(self, plan: LoadPlan, number: int) -> str:
        """What the bar says that it measures."""
        parts = ["seconds"]
        if self._asked.sweep is not None:
            rate = f"{plan.rate:,.0f} per second"
            is_rate = self._asked.sweep.of == "rate"
            parts.append(f"at {rate if is_rate else f'{plan.connections} connections'}")
        if self._asked.rounds > 1:
            parts.append(f"of round {number}")
        return " ".join(parts)


class _Shown:
    """The bars of one run: one for writing the keys, one for measuring."""

    def __init__(self, label: str, seconds: float) -> None:
        self._label = label
        self._seconds = seconds
        self._stack = ExitStack()
        self._bar: ProgressMeter | None = None
        self._is_measuring = False
        self._shown = 0

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tell(self, step: Progress) -> None:
        """Draw how far the run is."""
        total = math.ceil(self._seconds) if step.is_measuring else 100
        if self._bar is None or step.is_measuring != self._is_measuring:
            self._stack.close()
            what = self._label if step.is_measuring else "percent of the keys written"
            self._bar = self._stack.enter_context(ProgressMeter(what, total=total))
            self._is_measuring, self._shown = step.is_measuring, 0
        for _ in range(self._shown, int(step.done * total)):
            self._shown += 1
            self._bar.advance(f"{step.per_second:,.0f} per second")


# --- telling -----------------------------------------------------------------------------------


def _tell(asked: BenchAsked, found: BenchResult | Sweep, *, is_json: bool) -> int:
    results = found.points if isinstance(found, Sweep) else [found]
    if asked.csv is not None:
        write_csv(asked.csv, results)
    if asked.plot is not None:
        title = f"quorate bench {asked.plan.scenario}".strip()
        asked.plot.write_text(page(title, results), encoding="utf-8")
    if is_json:
        print_json(msgspec.to_builtins(found))
    elif isinstance(found, Sweep):
        show_sweep(found, is_kept=not asked.dev)
    else:
        show_result(found, is_kept=not asked.dev)
    if not all(each.is_complete for each in results):
        return 130
    return 3 if any(each.errors for each in results) and not asked.churn else 0


def _compare(given: Given) -> int:
    for name in ("before", "after"):
        if name not in given:
            raise UsageError(f"bench compare: no {name}: write quorate bench compare a.json b.json")
    before, after = _read(given, "before"), _read(given, "after")
    compared, names = compare(before, after), differing(before, after)
    if "json" in given:
        figures = [{**msgspec.to_builtins(each), "is_sure": each.is_sure} for each in compared]
        print_json({"method": METHOD, "plans_differ_in": names, "figures": figures})
    else:
        show_compared(compared, names)
    return 0


def _read(given: Given, name: str) -> list[BenchResult]:
    """What the files of one side hold."""
    decoder: Callable[[bytes], BenchResult] = msgspec.json.Decoder(BenchResult).decode
    results = []
    for part in given[name].split(","):
        try:
            results.append(decoder(Path(part).read_bytes()))
        except OSError as fault:
            raise UsageError(f"bench compare: {part}: {fault.strerror}") from None
        except msgspec.DecodeError as fault:
            text = f"bench compare: {part} is no result of bench --json: {fault}"
            raise UsageError(text) from None
    if not rounds_of(results):
        raise UsageError(f"bench compare: {given[name]}: every round was interrupted")
    return results
