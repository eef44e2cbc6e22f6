# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures: starts the workers, lets them go at once, and adds up what they say.

A worker is a process of its own even if there is only one: drawing a progress bar must not delay a
request, and a caller needs no `if __name__ == "__main__"`. Ctrl-C lets them finish at once, a
second one ends them.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Final, NamedTuple

import msgspec

from quorate.bench.plan import LoadPlan
from quorate.bench.result import BenchResult, Slice, WorkerResult, result_of
from quorate.bench.worker import Failed, Filled, Finished, Passed, Ready, Task, WorkerMessage

STOP_SECONDS: Final = 5.0


class MeasureFailed(Exception):
    """A target cannot be reached, the keys cannot be written, or a worker died."""


class Progress(NamedTuple):
    """How far a run is."""

    is_measuring: bool
    """False while the keys are written."""
    done: float
    """0 to 1. The 0 of measuring comes just before the workers are let go."""
    per_second: float


Tell = Callable[[Progress], None]


def measure(plan: LoadPlan, tell: Tell = lambda _: None) -> BenchResult:
    """Write the keys if any are to be read, run the plan, add up. MeasureFailed if it cannot be
    done; KeyboardInterrupt only if nothing is measured yet."""
    with _started(plan) as crew:
        crew.wait_ready(tell)
        return crew.run(tell)


class _Crew:
    """All workers of a run."""

    def __init__(self, plan: LoadPlan, workers: list[subprocess.Popen[bytes]]) -> None:
        self._plan = plan
        self._workers = workers
        self._said: queue.SimpleQueue[tuple[int, WorkerMessage | None]] = queue.SimpleQueue()
        self._outcomes: list[WorkerResult] = []
        self._timelines: list[list[Slice]] = [[] for _ in workers]
        self._is_complete = True

    def listen(self, number: int, output: IO[bytes]) -> None:
        """Take in what a worker says, in a thread, up to its last word; None if it has none."""
        decoder = msgspec.json.Decoder[WorkerMessage](WorkerMessage)
        for line in output:
            message = decoder.decode(line)
            self._said.put((number, message))
            if isinstance(message, Finished | Failed):
                return
        self._said.put((number, None))

    def tell_all(self, line: Callable[[int], bytes]) -> None:
        """Write a line to each worker."""
        for number, worker in enumerate(self._workers):
            assert worker.stdin is not None
            # Of one that died we hear soon. Past the buffer, which could not even be closed then.
            with suppress(BrokenPipeError):
                os.write(worker.stdin.fileno(), line(number) + b"\n")

    def wait_ready(self, tell: Tell) -> None:
        """Until all keys are written and all workers are connected."""
        missing, written = len(self._workers), 0
        while missing:
            _, message = self._heard()
            if isinstance(message, Filled):
                written += message.keys
                per_second = 10.0 * message.keys * len(self._workers)
                tell(Progress(False, written / self._plan.keys, per_second))
            elif isinstance(message, Ready):
                missing -= 1

    def run(self, tell: Tell) -> BenchResult:
        """Let them go, and wait for the last."""
        tell(Progress(True, 0.0, 0.0))
        self.tell_all(lambda _: b"go")
        while len(self._outcomes) < len(self._workers):
            try:
                self._follow(tell)
            except KeyboardInterrupt:
                if not self._is_complete:
                    raise
                self._is_complete = False
                for worker in self._workers:
                    worker.terminate()
        return result_of(
            self._plan, self._outcomes, timelines=self._timelines, is_complete=self._is_complete
        )

    def _follow(self, tell: Tell) -> None:
        number, message = self._heard()
        if isinstance(message, Finished):
            self._outcomes.append(message.outcome)
        elif isinstance(message, Passed):
            timeline = self._timelines[number]
            timeline.append(message.slice)
            if number == 0:
                self._tell_progress(tell)

    def _tell_progress(self, tell: Tell) -> None:
        """The first worker stands for all."""
        slice_seconds = (self._plan.timeline_ms or 100) / 1000
        timeline = self._timelines[0]
        recent = timeline[-max(1, round(1 / slice_seconds)) :]
        answered = sum(each.succeeded for each in recent) * len(self._workers)
        passed = len(timeline) * slice_seconds
        per_second = answered / (len(recent) * slice_seconds)
        tell(Progress(True, min(1.0, passed / self._plan.seconds), per_second))

    def _heard(self) -> tuple[int, WorkerMessage]:
        """The next thing that is said. MeasureFailed if a worker could not go on."""
        number, message = self._said.get()
        if isinstance(message, Failed):
            raise MeasureFailed(message.text)
        if message is None:
            worker = self._workers[number]
            raise MeasureFailed(f"a worker ended with code {worker.wait(STOP_SECONDS)}")
        return number, message


@contextmanager
def _started(plan: LoadPlan) -> Iterator[_Crew]:
    """Workers with their task. None of them is left in the end."""
    with ExitStack() as stack:
        workers = [stack.enter_context(_spawned()) for _ in range(plan.workers)]
        crew = _Crew(plan, workers)
        for number, worker in enumerate(workers):
            assert worker.stdout is not None
            listener = threading.Thread(target=crew.listen, args=(number, worker.stdout))
            listener.start()
            stack.callback(listener.join)
            stack.callback(worker.kill)
        crew.tell_all(lambda number: msgspec.json.encode(Task(plan, number)))
        yield crew


def _spawned() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "quorate.bench.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A session of its own: Ctrl-C reaches this process alone.
        start_new_session=True,
    )
