# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/mutation`: draw changes, put each to the tests, and tell which survive.

The same seed draws the same changes of the same tree. A run that was ended goes on where it was:
what the results have is not tried again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from math import sqrt
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Final

import msgspec

from tests.mutation.changes import Change, changes_of
from tests.mutation.reach import Reach, Test, load
from tests.mutation.trial import ROOT, Copy, Trial, make_copy

PACKAGE: Final = ROOT / "src" / "quorate"
WHERE: Final = ROOT / "build" / "mutation"
EXCLUDED: Final = (
    "bench/",
    "cli/bench",
    "cli/help.py",
    "client/blocking.py",
    "client/leases.py",
    "__main__.py",
)
"""The load generator, texts, and what is made from another file."""


def all_changes(only: list[str]) -> list[Change]:
    """Every change that can be made below one of the paths; of all that is judged, if none."""
    found: list[Change] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if not name.startswith(EXCLUDED) and (not only or name.startswith(tuple(only))):
            found += changes_of(name, path.read_bytes())
    return found


def drawn(changes: list[Change], *, count: int, seed: int) -> list[Change]:
    """So many of them. A kind that there is much of is drawn more often, but not as much more:
    else two thirds were conditions and numbers."""
    random = Random(seed)
    kinds: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        kinds[change.kind].append(change)
    weights = {kind: sqrt(len(found)) for kind, found in kinds.items()}
    for found in kinds.values():
        random.shuffle(found)
    chosen: list[Change] = []
    while kinds and len(chosen) < count:
        (kind,) = random.choices(list(kinds), [weights[each] for each in kinds])
        chosen.append(kinds[kind].pop())
        if not kinds[kind]:
            del kinds[kind]
    return chosen


def _reach(renew: list[str] | None) -> Reach:
    """Which tests call what; found by running them all once, and some files or directories anew."""
    path = WHERE / "reach.json"
    if renew is not None or not path.exists():
        print("Running tests once, to see what each calls ...", flush=True)
        WHERE.mkdir(parents=True, exist_ok=True)
        known = path.read_bytes() if renew and path.exists() else b"[]"
        with tempfile.TemporaryDirectory(prefix="quorate-reach-") as directory:
            copy = Path(directory) / "tree"
            make_copy(copy)
            plugins = ("-p", "tests.mutation.plugin", "-p", "no:benchmark", "-p", "no:xdist")
            paths = renew or ("tests/unit", "tests/conformance", "tests/simulation")
            seen = Path(directory) / "seen.json"
            subprocess.run(
                [sys.executable, "-m", "pytest", "-q", *plugins, *paths],
                cwd=copy,
                env=os.environ | {"MUTATION_REACH": str(seen), "PYTHONPATH": str(copy / "src")},
                check=False,
            )
            tests = msgspec.json.decode(seen.read_bytes(), type=list[Test])
        kept = msgspec.json.decode(known, type=list[Test])
        tests += [each for each in kept if not each.name.startswith(tuple(paths))]
        path.write_bytes(msgspec.json.encode(tests))
    return load(path, PACKAGE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutation", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many changes to draw")
    parser.add_argument("--seed", type=int, default=1, help="which")
    parser.add_argument("--jobs", type=int, default=1, help="how many to try at once")
    parser.add_argument("--worlds", type=int, default=80, help="of the simulator for each")
    parser.add_argument("--only", nargs="*", default=[], help="paths below src/quorate")
    parser.add_argument("--results", type=Path, help="a file of JSON lines, which is gone on with")
    parser.add_argument(
        "--reach", nargs="*", help="see anew which test calls what: all, or those below paths"
    )
    return parser.parse_args()


def main() -> int:
    """Exit code 0 if no change survived."""
    options = _options()
    results: Path = options.results or WHERE / f"seed{options.seed}.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    reach = _reach(options.reach)
    lines = results.read_bytes().splitlines() if results.exists() else []
    trials = {trial.change: trial for trial in map(_decode, lines)}
    chosen = drawn(all_changes(options.only), count=options.count, seed=options.seed)
    waiting = [change for change in chosen if change.name not in trials]
    with results.open("ab", buffering=0) as file:
        for trial in _try_all(waiting, reach, options):
            file.write(msgspec.json.encode(trial) + b"\n")
            trials[trial.change] = trial
            print(f"{'    ' if trial.noticed else 'LEFT'} {trial.change}", flush=True)
    survivors = [each for each in chosen if not trials[each.name].noticed]
    print(f"\n{len(survivors)} of {len(chosen)} survive")
    for change in survivors:
        print(f"  {change.name}")
    return 1 if survivors else 0


def _decode(line: bytes) -> Trial:
    return msgspec.json.decode(line, type=Trial)


def _try_all(changes: list[Change], reach: Reach, options: argparse.Namespace) -> Iterator[Trial]:
    """What becomes of each. Whoever takes no more ends it when those under way are over."""
    with (
        tempfile.TemporaryDirectory(prefix="quorate-mutation-") as directory,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(options.jobs):
            copies.put(Copy(Path(directory) / str(number), reach, worlds=options.worlds))
        try:
            yield from pool.map(_try, changes, repeat(copies))
        finally:
            pool.shutdown(cancel_futures=True)


def _try(change: Change, copies: SimpleQueue[Copy]) -> Trial:
    copy = copies.get()
    try:
        return copy.try_change(change)
    finally:
        copies.put(copy)


if __name__ == "__main__":
    sys.exit(main())
