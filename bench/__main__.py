# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m bench: measure, and write docs/benchmarks.md. `scripts/benchmarks` prepares for it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from bench import machine
from bench.document import Findings, document
from bench.generator import compile_generator
from bench.micro import run_micro
from bench.processes import ProcessFailed, end_children
from bench.rounds import BenchRow, Pacing, RowFound
from bench.rows import ROWS
from bench.systems import Workbench

_OUTPUT: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"


class Run:
    """One run: rows in, findings out."""

    def __init__(self, place: Workbench, pace: Pacing) -> None:
        self._place = place
        self._pace = pace
        self._found: list[tuple[BenchRow, RowFound]] = []
        self._micro: dict[str, float] = {}
        self._failed: dict[str, str] = {}

    def measure(self, rows: Sequence[BenchRow]) -> None:
        """All rows, one after the other. None without a generator."""
        begun = time.monotonic()
        try:
            generator = compile_generator(self._place.directory)
        except ProcessFailed as fault:
            self._pace.tell(f"no row is measured: {fault}")
            self._failed |= {row.name: str(fault).splitlines()[-1] for row in rows}
            return
        self._place = self._place._replace(generator=generator)
        self._failed |= {row.name: "interrupted" for row in rows}
        for number, row in enumerate(rows, 1):
            minutes = (time.monotonic() - begun) / 60
            self._pace.tell(f"[{number}/{len(rows)}, {minutes:.0f} min] {row.name}: {row.what}")
            with self._faults_noted(row.name):
                self._measure(row)
                del self._failed[row.name]

    def measure_micro(self) -> None:
        """The parts on their own."""
        self._pace.tell("parts on their own")
        with self._faults_noted("micro"):
            self._micro = run_micro(
                self._place.python, self._place.directory, is_quick=self._pace.is_quick
            )

    def findings(self) -> Findings:
        """What there is."""
        facts = machine.facts(self._place.python, self._place.directory)
        return Findings(self._found, self._failed, self._micro, facts, self._pace)

    def _measure(self, row: BenchRow) -> None:
        place = self._place.below(row.name)
        place.directory.mkdir()
        found = row.measure(place, self._pace)
        self._found.append((row, found))
        if found.values:
            self._pace.tell(f"  {median(found.values):,.2f} {row.unit}")

    @contextmanager
    def _faults_noted(self, name: str) -> Iterator[None]:
        """What fails is told in the document, and the others go on."""
        try:
            yield
        except (ProcessFailed, OSError, ValueError) as fault:
            self._failed[name] = (str(fault) or repr(fault)).splitlines()[-1]
            self._pace.tell(f"  failed: {fault}")


class _Interrupted(BaseException):
    """A signal asks to end: what was measured until then is still told."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def main() -> int:
    """0 if everything was measured, 1 if not, 128 and the signal's number if interrupted."""
    asked = _parse()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    os.umask(0o022)  # The peers run as users of their own, and must get to their directories.
    with tempfile.TemporaryDirectory(prefix="quorate-benchmarks-", dir=asked.directory) as name:
        Path(name).chmod(0o755)
        run = Run(Workbench(Path(name).absolute(), os.path.abspath(asked.python)), _pace(asked))
        code = 0
        try:
            run.measure(_chosen(asked))
            if not asked.only:
                run.measure_micro()
        except _Interrupted as interrupted:
            code = 128 + interrupted.signal
        finally:
            end_children()  # Before their directory goes: they write into it.
        findings = run.findings()
    _write(document(findings), asked.output)
    return code or (1 if findings.failed else 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--only", action="append", choices=names, metavar="ROW", help="repeatable")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s: does it run?")
    parser.add_argument("--long", action="store_true", help="also the rows that take long")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one measurement")
    parser.add_argument("--python", default=sys.executable, help="path of one that has Quorate")
    parser.add_argument("--directory", default="/var/tmp", help="on the disk to be measured")
    parser.add_argument("--output", help="default: docs/benchmarks.md; with --quick or --only, -")
    asked = parser.parse_args()
    if asked.output is None:
        asked.output = "-" if asked.quick or asked.only else str(_OUTPUT)
    return asked


def _end(number: int, _: object) -> None:
    """Unwind, which ends all that was started, and let nothing interrupt that."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise _Interrupted(number)


def _pace(asked: argparse.Namespace) -> Pacing:
    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if asked.quick:
        return Pacing(tell, rounds=1, seconds=1, long_seconds=3, records=50_000, is_quick=True)
    return Pacing(tell, asked.rounds, asked.seconds)


def _chosen(asked: argparse.Namespace) -> list[BenchRow]:
    if asked.only:
        return [row for row in ROWS if row.name in asked.only]
    return [row for row in ROWS if asked.long or asked.quick or not row.is_long]


def _write(text: str, output: str) -> None:
    if output == "-":
        print(text)
    else:
        Path(output).write_text(text, encoding="utf-8")
        print(f"wrote {output}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
