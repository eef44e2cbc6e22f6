# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tests may notice a change: those that call the function it is in.

Found by running all tests once and writing down which functions each calls (`plugin`). Whole nodes,
which run in processes of their own, are not seen so; for the rooms that only they run, `_BESIDE`
names tests.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from tests.mutation.changes import Change, first_line

TESTS_MAX: Final = 400
SECONDS_MAX: Final = 40.0
"""Of a choice of tests, as long as they took when nothing was wrong."""
_BESIDE: Final = {
    "app.py": ["tests/cluster/test_process.py", "tests/cluster/test_durability.py"],
    "cli/": ["tests/unit/cli"],
    "cli/serve.py": ["tests/cluster/test_process.py"],
    "cli/dev.py": ["tests/cluster/test_process.py"],
    "runtime/": ["tests/cluster/test_process.py", "tests/cluster/test_limits.py"],
    "sim/": ["tests/simulation/test_planted_faults.py"],
    "storage/": ["tests/cluster/test_durability.py"],
    "doors/": ["tests/cluster/test_limits.py"],
}
_SIMULATED: Final = (
    "core/",
    "host/",
    "sim/",
    "wire/frames.py",
    "wire/frame_rules.py",
)


class Test(msgspec.Struct, frozen=True):
    """A test that passes, and the functions that it calls, each as `file:first line`."""

    __test__ = False
    name: str
    seconds: float
    functions: list[str]


class Reach:
    """What each test calls, asked the other way round."""

    def __init__(self, tests: list[Test], package: Path) -> None:
        self._package = package
        self._tests = tests
        self._firsts: dict[str, list[tuple[int, int, int]]] = {}
        """By file: first and last line of each function, and its number of lines."""
        self._by_function: dict[tuple[str, int], set[int]] = defaultdict(set)
        self._by_file: dict[str, set[int]] = defaultdict(set)
        for index, test in enumerate(tests):
            for each in test.functions:
                path, _, line = each.rpartition(":")
                self._by_function[path, self._function_at(path, int(line))].add(index)
                self._by_file[path].add(index)

    def _function_at(self, path: str, line: int) -> int:
        """The first line of the innermost named function around a line; 0 for none."""
        if path not in self._firsts:
            tree = ast.parse((self._package / path).read_bytes())
            self._firsts[path] = sorted(
                (first_line(node), node.end_lineno or 0, 0)
                for node in ast.walk(tree)
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            )
        spans = self._firsts[path]
        for first, last, _ in reversed(spans[: bisect_right(spans, (line, 1 << 30, 0))]):
            if line <= last:
                return first
        return 0

    def tests_of(self, change: Change) -> list[str]:
        """Tests that may notice it, cheapest first, and those named for its module before others.

        Those of its function; of all functions of the file if it is outside of any. Where there are
        too many, as of an `__init__`, half of the time is for those that call more of the file.
        """
        found = self._by_function[change.path, change.function]
        if not change.function or not found:
            found = self._by_file[change.path]
        stem = "/test_" + Path(change.path).stem
        tests = [self._tests[index] for index in found]
        tests.sort(key=lambda each: (stem not in each.name, each.seconds))
        chosen: set[str] = set()
        seconds = 0.0
        for some, until in ((_covering(tests, change.path), SECONDS_MAX / 2), (tests, SECONDS_MAX)):
            for test in some:
                has_room = seconds + test.seconds <= until and len(chosen) < TESTS_MAX
                if has_room and test.name not in chosen:
                    seconds += test.seconds
                    chosen.add(test.name)
        return [test.name for test in tests if test.name in chosen]

    def beside(self, change: Change) -> list[str]:
        """Paths of tests that run the function in processes of their own."""
        found = [paths for prefix, paths in _BESIDE.items() if change.path.startswith(prefix)]
        return list(dict.fromkeys(path for paths in found for path in paths))

    def is_simulated(self, change: Change) -> bool:
        """Whether a world of the simulator runs it."""
        return change.path.startswith(_SIMULATED)


def _covering(tests: list[Test], path: str) -> list[Test]:
    """Those that call a function of the file which none before them calls."""
    called: set[str] = set()
    chosen: list[Test] = []
    for test in tests:
        own = {each for each in test.functions if each.startswith(path + ":")}
        if not own <= called:
            called |= own
            chosen.append(test)
    return chosen


def load(path: Path, package: Path) -> Reach:
    """What `plugin` wrote."""
    return Reach(msgspec.json.decode(path.read_bytes(), type=list[Test]), package)
