# SPDX-License-Identifier: GPL-3.0-or-later
"""One piece of work after another, on all cores.

Each worker is a fresh interpreter (spawned, not forked: threads and open files stay behind) that is
handed the next item when it is done with one, so a slow item delays nobody else. A worker whose
parent is gone reads the end of its pipe and ends too.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Generic, TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")


class WorkerDied(Exception):
    """A worker ended without a result: it was killed, or `work` raised."""

    def __init__(self, item: object, exit_code: int | None) -> None:
        super().__init__(f"the process that worked on {item} ended with code {exit_code}")


def spread(
    work: Callable[[Item], Output], items: Iterable[Item], *, jobs: int
) -> Generator[Output]:
    """The result of each item, in the order in which they are ready. `work` must pickle, and so
    must items and results. WorkerDied if a worker does; closing the generator ends all."""
    if jobs == 1:
        yield from map(work, items)
        return
    with _started(work, jobs) as workers:
        yield from _fed(workers, iter(items))


def _fed(workers: list[_WorkerProcess[Item, Output]], rest: Iterator[Item]) -> Iterator[Output]:
    """Hand out `rest` until all of it has come back."""
    busy: dict[object, _WorkerProcess[Item, Output]] = {
        worker.pipe: worker for worker in workers if worker.begin(rest)
    }
    while busy:
        for worker in [busy[pipe] for pipe in wait([each.pipe for each in busy.values()])]:
            yield worker.finish()
            if not worker.begin(rest):
                del busy[worker.pipe]


class _WorkerProcess(Generic[Item, Output]):
    """A process, and the item that it is at."""

    def __init__(self, context: SpawnContext, work: Callable[[Item], Output]) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self._item: Item | None = None

    def begin(self, rest: Iterator[Item]) -> bool:
        """Hand it the next item; False if there is none."""
        for self._item in rest:
            self.pipe.send(self._item)
            return True
        return False

    def finish(self) -> Output:
        """Its result, which has come."""
        try:
            result: Output = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise WorkerDied(self._item, self.process.exitcode) from None
        return result


@contextmanager
def _started(
    work: Callable[[Item], Output], jobs: int
) -> Iterator[list[_WorkerProcess[Item, Output]]]:
    context = multiprocessing.get_context("spawn")
    # What is ignored here stays ignored in them, from their first instruction: Ctrl-C is for the
    # parent, which then ends them.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        workers = [_WorkerProcess(context, work) for _ in range(jobs)]
    finally:
        signal.signal(signal.SIGINT, previous)
    try:
        yield workers
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


def _serve(pipe: Connection, work: Callable[[Item], Output]) -> None:
    """A worker's life."""
    while True:
        try:
            item: Item = pipe.recv()
        except EOFError:
            return
        pipe.send(work(item))
