# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.models.read_modify_write FIRST LAST` runs the seeds FIRST up to LAST."""

from __future__ import annotations

import argparse
from collections import Counter

from tests.models.read_modify_write.checker import violation
from tests.models.read_modify_write.clients import History, run
from tests.models.read_modify_write.operations import WRITES
from tests.models.read_modify_write.switches import Broken


def main() -> int:
    """0 if no history is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.models.read_modify_write")
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--broken", default="", metavar="NAME", help="or NAME+NAME: leave it out")
    parser.add_argument("--show", action="store_true", help="the first history that is wrong")
    parser.add_argument("--until", type=int, default=0, help="end after so many wrong ones")
    parser.add_argument("--fixed", action="store_true", help="no copies move")
    arguments = parser.parse_args()
    broken = Broken(arguments.broken)
    total: Counter[str] = Counter()
    wrong: list[int] = []
    count = 0
    for seed in range(arguments.first, arguments.last):
        history = run(seed, broken, moves=False if arguments.fixed else None)
        count += 1
        _count(total, history)
        what = violation(history)
        if what:
            wrong.append(seed)
            if arguments.show and len(wrong) == 1:
                _show(seed, what, history)
            if len(wrong) == arguments.until:
                break
    name = arguments.broken or "as designed"
    print(f"{name}: {count} histories, {len(wrong)} violations {wrong[:5]}")
    print("  " + ", ".join(f"{key} {total[key]}" for key in sorted(total)), flush=True)
    return int(bool(wrong))


def _count(total: Counter[str], history: History) -> None:
    total.update(history.stats)
    for operation in history.operations:
        total["operations"] += 1
        total["answered"] += operation.end is not None
        if operation.end is None and operation.why:
            kind = "put" if operation.kind in WRITES else "update"
            kind = "get" if operation.kind == "get" else kind
            total[f"unknown: {kind} {operation.why}"] += 1


def _show(seed: int, what: str, history: History) -> None:
    print(f"seed {seed}: {what}")
    for operation in sorted(history.operations, key=lambda each: each.start):
        print(f"  {operation}")
    print("  left", history.locks, *history.left, sep="\n    ")


if __name__ == "__main__":
    raise SystemExit(main())
