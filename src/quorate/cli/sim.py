# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate sim: run seeds, say what failed and how to see it again, add the rest up.

Exit codes: 0 no violation; 1 violations; 2 wrong usage; 3 a worker was killed; 130 interrupted
before any violation, 143 told to end (SIGTERM). What is known by then is printed in every case.
"""

from __future__ import annotations

import shlex
import time
import traceback
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path

from quorate.cli.arguments import Given
from quorate.cli.output import complain, print_facts, print_json
from quorate.cli.processes import stoppable
from quorate.cli.progress import ProgressMeter
from quorate.cli.sim_asked import asked_of
from quorate.cli.sim_shown import brief, failure_json, failure_text, print_summary
from quorate.cli.workers import WorkerDied, spread
from quorate.sim.checkers import Violation
from quorate.sim.draw import Options, draw
from quorate.sim.plan import Plan
from quorate.sim.planfile import encode
from quorate.sim.report import SwarmSummary
from quorate.sim.run import RunResult, run
from quorate.sim.shrink import TRIES_MAX, shrink
from quorate.sim.trace import Trace


def run_sim(given: Given) -> int:
    """Run what is asked for; 1 if a promise was broken."""
    with stoppable("SIGTERM", interrupt=Ended):
        return _SimRun(given).run()


class Ended(KeyboardInterrupt):
    """Told to end by someone who is not at the keyboard."""


class _SimRun:
    """One command line, and what came of it so far."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._asked = asked_of(given)
        self._is_json = "json" in given
        self._summary = SwarmSummary()
        self._failed: dict[int, RunResult] = {}
        self._lines: list[str] = []
        """The transcript."""
        self._digest = ""
        """Of the last world: all that its nodes did."""
        self._stopped: KeyboardInterrupt | WorkerDied | None = None
        """Why not everything was run."""

    def run(self) -> int:
        """Play, tell, shrink if that is asked for; the exit code."""
        began = time.monotonic()
        self._play()
        seconds = time.monotonic() - began
        if not self._is_json:
            self._print(seconds)
        is_wanted = "shrink" in self._given and self._stopped is None
        shrunk = self._shrink() if is_wanted and self._failed else None
        if self._is_json:
            self._print_json(seconds, shrunk)
        elif shrunk is not None:
            print(f"\nshrunk seed {shrunk['seed']} to {shrunk['plan']}: {shrunk['file']}")
            print(f"  again: {shrunk['replay']}")
        elif is_wanted:
            print("\nnothing to shrink: no promise was broken")
        return self._exit_code()

    def _exit_code(self) -> int:
        if isinstance(self._stopped, WorkerDied):
            return complain(str(self._stopped), code="sim", is_json=False, exit_code=3)
        if self._failed:
            return 1
        if self._stopped is None:
            return 0
        return 143 if isinstance(self._stopped, Ended) else 130

    # --- playing ---------------------------------------------------------------------------

    def _play(self) -> None:
        """Run everything that is asked for, or as much as there is time for."""
        try:
            with (
                ProgressMeter("seeds", total=len(self._asked.seeds)) as progress,
                closing(self._outcomes()) as outcomes,
            ):
                for outcome in outcomes:
                    self._take(outcome, progress)
        except (KeyboardInterrupt, WorkerDied) as stopped:
            self._stopped = stopped

    def _outcomes(self) -> Generator[RunResult]:
        asked = self._asked
        if asked.plan is None:
            work = partial(_play_seed, asked.options)
            yield from spread(work, asked.seeds, jobs=asked.jobs)
            return
        trace = Trace(self._lines.append if self._is_json else print)
        yield _play(asked.plan, trace=trace if "trace" in self._given else None)

    def _take(self, outcome: RunResult, progress: ProgressMeter) -> None:
        self._summary.add(outcome)
        self._digest = outcome.digest
        if outcome.violations:
            self._failed[outcome.seed] = outcome
            if not self._is_json:
                progress.tell(failure_text(outcome, replay=self._asked.replay(outcome.seed)))
        progress.advance(f"{len(self._failed):,} failed")

    # --- shrinking -------------------------------------------------------------------------

    def _shrink(self) -> dict[str, str]:
        """Write the smallest plan found of the lowest seed that failed; what to say of it."""
        seed = min(self._failed)
        smallest = self._asked.plan or draw(seed, self._asked.options)
        broken = {violation.invariant for violation in self._failed[seed].violations}
        path = Path(self._given.get("out", f"seed{seed}.json"))

        def fails(plan: Plan) -> bool:
            progress.advance(brief(smallest))
            return any(each.invariant in broken for each in _play(plan).violations)

        def keep(plan: Plan) -> None:
            # At once: whatever ends this process, the file has the smallest plan so far.
            nonlocal smallest
            smallest = plan
            path.write_bytes(encode(plan))

        keep(smallest)
        with ProgressMeter(f"tries to shrink seed {seed}", total=TRIES_MAX) as progress:
            try:
                shrink(smallest, fails, tell=keep)
            except KeyboardInterrupt as stopped:
                self._stopped = stopped
        replay = shlex.join(["quorate", "sim", f"--plan={path}"])
        return {"seed": str(seed), "plan": brief(smallest), "file": str(path), "replay": replay}

    # --- telling ---------------------------------------------------------------------------

    def _print(self, seconds: float) -> None:
        if self._asked.plan is not None:
            print_facts(self._world(self._asked.plan))
        print_summary(self._summary, seconds=self._told(seconds))

    def _told(self, seconds: float) -> float | None:
        """How long it took; None for a world alone: what is printed of one is the same again."""
        return seconds if self._asked.plan is None else None

    def _world(self, plan: Plan) -> dict[str, str]:
        """What there is to say of one world alone."""
        return {"seed": str(plan.seed), "plan": brief(plan), "digest": self._digest}

    def _print_json(self, seconds: float, shrunk: dict[str, str] | None) -> None:
        failures = [
            failure_json(self._failed[seed], replay=self._asked.replay(seed))
            for seed in sorted(self._failed)
        ]
        told = self._told(seconds)
        result = {
            **self._summary.as_json(),
            "seconds": told and round(told, 3),
            "seeds_per_second": told and round(self._summary.seeds / told, 3),
            "is_complete": self._stopped is None,
            "failures": failures,
        }
        if self._asked.plan is not None:
            result["world"] = self._world(self._asked.plan)
        if "trace" in self._given:
            result["trace"] = self._lines
        if "shrink" in self._given:
            result["shrunk"] = shrunk
        print_json(result)


def _play_seed(options: Options, seed: int) -> RunResult:
    return _play(draw(seed, options))


def _play(plan: Plan, *, trace: Trace | None = None) -> RunResult:
    """Run a plan. An exception out of a node is a violation like any other, and ends no search."""
    try:
        return run(plan, trace=trace)
    except Exception as fault:
        frame = traceback.extract_tb(fault.__traceback__)[-1]
        told = f"{type(fault).__name__}: {fault} ({Path(frame.filename).name}:{frame.lineno})"
        return RunResult(plan.seed, violations=[Violation("crash", b"", told)])
