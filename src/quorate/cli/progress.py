# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long command is, on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_SECONDS: Final = 10.0


class ProgressMeter:
    """A context manager: `advance` moves it on, `tell` prints a line beside it."""

    def __init__(self, what: str, *, total: int | None) -> None:
        """`total` None: nobody knows it."""
        self._what = what
        self._done = 0
        self._total = total
        self._next_line = time.monotonic() + _LINE_SECONDS
        self._bar = _bar_on_terminal() if sys.stderr.isatty() and total != 1 else None
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=total, note="")
            self._bar.start()

    def __enter__(self) -> ProgressMeter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, note: str = "", *, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(self._task, advance=count, note=note)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            rest = f", {note}" if note else ""
            total = "" if self._total is None else f" of {self._total:,}"
            text = f"quorate: {self._done:,}{total} {self._what}{rest}"
            print(text, file=sys.stderr, flush=True)

    def tell(self, text: str) -> None:
        """Print to standard output, above the bar if there is one on the same terminal."""
        if self._bar is not None and sys.stdout.isatty():
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)


def _bar_on_terminal() -> Progress:
    from rich.console import Console  # Late: a pipe needs none of it.
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,
    )
