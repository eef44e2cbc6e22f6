# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that writes numbered batches until it is killed, and says what it may count on.

    python -m tests.unit.storage.writer DIRECTORY DURABILITY FIRST COUNT NOTES

With durability `sync` it prints a number when the batch is synced, with `os` when `write` returned.
After COUNT batches it kills itself. With NOTES 1 it notes before how much is durable.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorate.storage.rocks import RocksEngine
from tests.unit.storage.samples import numbered_batch

ROWS = 3
SIZES = (10, 300, 5000, 70_000)
"""Values by turns: some batches fit a block of the log, some are cut into fragments."""


def size_of(number: int) -> int:
    return SIZES[number % len(SIZES)]


def write_until_killed(
    directory: Path, durability: str, first: int, count: int, *, is_noted: bool
) -> None:
    engine = RocksEngine.open(directory, durability=durability)
    for number in range(first, first + count):
        engine.write(numbered_batch(number, rows=ROWS, size=size_of(number)))
        if engine.needs_sync:
            engine.sync()
        os.write(1, b"%d\n" % number)
    if is_noted:
        engine.note_next()
        engine.sync()
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def writer(
    directory: Path, *, durability: str, first: int = 0, count: int, is_noted: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """The process, started; it is gone when this ends."""
    arguments = [str(directory), durability, str(first), str(count), str(int(is_noted))]
    with subprocess.Popen(
        [sys.executable, "-m", __name__, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        yield process
        process.kill()


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[3:]]
    write_until_killed(
        Path(sys.argv[1]), sys.argv[2], numbers[0], numbers[1], is_noted=bool(numbers[2])
    )
