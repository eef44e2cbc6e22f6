# SPDX-License-Identifier: GPL-3.0-or-later
"""One change put to the tests, in a copy of the tree: cheapest first, to the first that fails.

A hang counts as noticed. So does whatever a test does by chance: what is reported as surviving did,
what is reported as noticed may have been luck, which is rare.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.mutation.changes import Change, changed
from tests.mutation.reach import Reach

ROOT: Final = Path(__file__).parents[2]
PYTEST: Final = (
    *(sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "--no-header"),
    *("-p", "tests.mutation.plugin", "-p", "no:cacheprovider", "-p", "no:benchmark"),
    *("-p", "no:xdist", "--hypothesis-seed=0"),
)
SIM: Final = (sys.executable, "-m", "quorate", "sim", "--jobs=1")
_COPIED: Final = ("src", "tests", "bench", "docs", "scripts")
TESTS_S: Final = 240.0
WORLDS_S: Final = 240.0
"""Six times what they take where nothing else runs: a slow test must not pass for a hang."""


class Trial(msgspec.Struct, frozen=True):
    """What became of a change."""

    change: str
    noticed: bool
    by: str
    """A test, `worlds` (the simulator), or nothing."""
    seconds: float


class Copy:
    """A copy of the tree that changes are made in, one at a time."""

    def __init__(self, directory: Path, reach: Reach, *, worlds: int) -> None:
        """`worlds`: how many of the simulator's a change of what it runs is put to."""
        self.directory = directory
        self._reach = reach
        self._worlds = worlds
        # Newer with every change: Python takes a file of the same second and size for the same.
        self._changed_s = int(time.time())
        make_copy(directory)

    def try_change(self, change: Change) -> Trial:
        """Make the change, see who notices it, and take it back."""
        path = self.directory / "src" / "quorate" / change.path
        sound = path.read_bytes()
        begun = time.monotonic()
        self._put(path, changed(sound, change))
        try:
            by = next(self._noticed_by(change), "")
        finally:
            self._put(path, sound)
        return Trial(change.name, bool(by), by, round(time.monotonic() - begun, 1))

    def _put(self, path: Path, source: bytes) -> None:
        self._changed_s += 2
        path.write_bytes(source)
        os.utime(path, (self._changed_s, self._changed_s))

    def _noticed_by(self, change: Change) -> Iterator[str]:
        names = self._reach.tests_of(change)
        if names:
            yield from self._tests(sorted({name.partition("::")[0] for name in names}), names)
        if self._worlds and self._reach.is_simulated(change):
            code, _ = self._run([*SIM, f"--seeds={self._worlds}"], {}, within_s=WORLDS_S)
            if code:
                yield "worlds"
        beside = self._reach.beside(change)
        if beside:
            yield from self._tests(beside, [])

    def _tests(self, paths: list[str], names: list[str]) -> Iterator[str]:
        environment = {}
        if names:
            chosen = self.directory / "chosen.txt"
            chosen.write_text("\n".join(names), encoding="utf-8")
            environment["MUTATION_CHOSEN"] = str(chosen)
        code, said = self._run([*PYTEST, *paths], environment, within_s=TESTS_S)
        if code not in (0, 5):  # 5: there were none.
            failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
            yield failed[0].split(" ")[1] if failed else said[-200:] or "time"

    def _run(
        self, command: list[str], environment: dict[str, str], *, within_s: float
    ) -> tuple[int, str]:
        """Exit code and output; 1 if it was ended, with all that it began, for it took too long."""
        own = {"PYTHONPATH": str(self.directory / "src")}
        process = subprocess.Popen(
            command,
            cwd=self.directory,
            env=os.environ | own | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            return 1, "time"
        finally:
            _end_group(process)
        return process.returncode, said


def make_copy(directory: Path) -> None:
    """Copy what tests need."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis", ".benchmarks")
    for name in _COPIED:
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, directory / path.name)


def _end_group(process: subprocess.Popen[str]) -> None:
    """What it began may outlive it: nodes, and workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
