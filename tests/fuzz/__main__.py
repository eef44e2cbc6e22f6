# SPDX-License-Identifier: GPL-3.0-or-later
"""Any bytes to whatever takes bytes of strangers, for as long as it is let: ./scripts/fuzz

Rounds of ROUND inputs for each target are printed as they end, with what was tried so far. The
first input of which a claim does not hold, or which takes longer than SLOW_S, ends the run: it is
printed, and the exit code is 1. A seed and a round give the same inputs each time.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
import traceback
from typing import Final

from tests.fuzz.mutants import Mutants
from tests.fuzz.targets import TARGETS, Target

ROUND: Final = 100_000
SLOW_S: Final = 0.5
"""Of the processor, for an input of a few kilobytes."""


def main(words: list[str]) -> int:
    """Run until it is stopped, or so many inputs were tried."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *TARGETS], metavar="target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100_000_000, help="inputs in all")
    given = parser.parse_args(words)
    chosen = {name: TARGETS[name] for name in given.names or TARGETS}
    tried = 0
    for number in itertools.count():
        for name, target in chosen.items():
            fault = first_fault(target, seed=f"{given.seed} {number} {name}", count=ROUND)
            if fault is not None:
                print(f"{name}: {fault!r}")
                return 1
            tried += ROUND
        print(f"round {number}: {tried:,} inputs", flush=True)
        if tried >= given.count:
            return 0
    raise AssertionError("rounds have no end")


def first_fault(target: Target, *, seed: str, count: int) -> bytes | None:
    """The first of so many inputs of which a claim does not hold, which is told why."""
    mutants = Mutants(target.seeds, random.Random(seed))
    for _ in range(count):
        data = mutants.make()
        began = time.thread_time()
        try:
            if target.run(data):
                mutants.keep(data)
        except Exception:
            traceback.print_exc()
            return data
        if time.thread_time() - began > SLOW_S:
            print(f"it took more than {SLOW_S} s", file=sys.stderr)
            return data
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
