# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of Quorate on their own, in one process: `pytest bench/micro`.

Each benchmark works on a batch, as a busy node does; `operations` in its extra info says how many
operations that is, and the figure for one is the batch's median divided by it.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.processes import Process

_SECONDS_MOST = 300


def run_micro(python: str, directory: Path, *, is_quick: bool) -> dict[str, float]:
    """Median microseconds of each part for one operation; raises ProcessFailed."""
    report = directory / "micro.json"
    command = [python, "-m", "pytest", str(Path(__file__).parent), "-q", "-p", "no:cacheprovider"]
    command += [f"--benchmark-json={report}", f"--benchmark-max-time={0.05 if is_quick else 1}"]
    root = Path(__file__).parents[2]
    process = Process(command, log=directory / "micro.log", environment={"PYTHONPATH": str(root)})
    try:
        process.wait(_SECONDS_MOST)
    finally:
        process.stop()
    found = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    return {
        each["name"].removeprefix("test_").replace("_", " "): each["stats"]["median"]
        * 1e6
        / each["extra_info"]["operations"]
        for each in found
    }
