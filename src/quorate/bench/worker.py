# SPDX-License-Identifier: GPL-3.0-or-later
"""One process of the generator: `python -m quorate.bench.worker`, told what to do by `measure`.

It reads its task as a line of JSON, writes its share of the keys, says that it is ready, waits for
a line that says go, and speaks in lines of JSON until it is finished. SIGTERM ends it early, with
what there is.
"""

from __future__ import annotations

import gc
import random
import signal
import sys
import time
from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from quorate.bench.distributions import KeyDraws, keys_of
from quorate.bench.latency import counted
from quorate.bench.load import Load, Pace, RequestBatch, Source, TargetConnection
from quorate.bench.plan import LoadPlan
from quorate.bench.protocols import Codec, HttpCodec, ProtocolFault, RespCodec
from quorate.bench.result import Slice, WorkerResult
from quorate.bench.routing import held_only, held_slots
from quorate.client.access import context_of

PRELOAD_SECONDS: Final = 120.0
"""What writing the keys may take, and a millisecond more for each."""
_PRELOAD_BATCH: Final = 32
_PRELOAD_BYTES: Final = 256 << 10
"""Bytes of values in a batch of keys written first, so that large ones go one by one."""
_OTHER_FILES: Final = 64
_SLICE_MS: Final = 100
"""How often progress is told, where the plan asks for no timeline."""


class Task(msgspec.Struct, frozen=True):
    """What a worker reads."""

    plan: LoadPlan
    worker: int
    """Its number, from 0."""


class Filled(msgspec.Struct, frozen=True, tag=True):
    """So many keys more are written."""

    keys: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Connected, and waiting for the word."""


class Passed(msgspec.Struct, frozen=True, tag=True):
    """A slice of time is over."""

    slice: Slice


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The last word."""

    outcome: WorkerResult


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The last word of a worker that could not do its work."""

    text: str


WorkerMessage = Filled | Ready | Passed | Finished | Failed
Speak = Callable[[WorkerMessage], None]


class Worker:
    """A worker's life, without the process around it."""

    def __init__(self, task: Task, speak: Speak) -> None:
        self._plan = task.plan
        self._number = task.worker
        self._speak = speak
        self._load: Load | None = None
        self.places = range(self._number, self._plan.connections, self._plan.workers)
        """Which of all connections are its own."""

    def prepare(self) -> None:
        """Write the keys and connect. OSError if a target cannot be connected to, ProtocolFault if
        the keys cannot be written."""
        plan = self._plan
        if plan.preload and (plan.reads > 0 or plan.writes == "modify"):
            self._preload()
        pace = None
        if plan.rate:
            # Workers take turns.
            interval = plan.pipeline * plan.workers / plan.rate
            pace = Pace(interval, self._number * interval / plan.workers)
        self._load = Load(
            self._connections(plan.wait),
            source_of(plan, worker=self._number),
            pace=pace,
            slice_seconds=(plan.timeline_ms or _SLICE_MS) / 1000,
            tell=lambda slice_: self._speak(Passed(slice_)),
        )
        self._load.open()

    def run(self) -> WorkerResult:
        """Measure."""
        load = self._load
        assert load is not None, "prepare comes first"
        clock, processor = time.perf_counter(), time.process_time()
        load.run(seconds=self._plan.seconds)
        busy = (time.process_time() - processor) / (time.perf_counter() - clock)
        load.close()
        return WorkerResult(
            seconds=load.seconds,
            reads=counted(load.read_counts, in_time=load.reads_in_time),
            writes=counted(load.write_counts, in_time=load.writes_in_time),
            misses=load.tally.misses,
            errors=dict(load.tally.errors),
            backlog=load.overdue * self._plan.pipeline,
            busy=round(busy, 3),
        )

    def stop(self) -> None:
        """Let `run` end now."""
        if self._load is not None:
            self._load.stop()

    def _preload(self) -> None:
        plan = self._plan
        numbers = iter(range(self._number, plan.keys, plan.workers))
        size = max(1, min(_PRELOAD_BATCH, _PRELOAD_BYTES // max(plan.value_bytes, 1)))

        def source(connection: TargetConnection) -> RequestBatch | None:
            some = list(islice(numbers, size))
            if not some:
                return None
            payload = b"".join([connection.codec.write(number) for number in some])
            return RequestBatch(payload, len(some), len(some), is_read=False)

        load = Load(
            self._connections(wait=0),
            source,
            tell=lambda slice_: self._speak(Filled(slice_.succeeded)),
        )
        seconds = PRELOAD_SECONDS + plan.keys / 1000
        try:
            load.open()
            load.run(seconds=seconds)
        finally:
            load.close()
        if load.tally.errors:
            told = ", ".join(f"{count:,} x {error}" for error, count in load.tally.errors.items())
            raise ProtocolFault(f"writing the keys failed: {told}")
        if next(numbers, None) is not None:
            raise ProtocolFault(f"writing {plan.keys} keys took over {seconds:.0f}s")

    def _connections(self, wait: int) -> list[TargetConnection]:
        plan = self._plan
        value = bytes(random.Random(2).choices(range(97, 123), k=plan.value_bytes))
        codecs = {target: _codec(plan, target, value, wait) for target in set(plan.targets)}
        targets = [plan.targets[place % len(plan.targets)] for place in self.places]
        context = context_of(ca=plan.ca or None) if plan.tls else None
        return [TargetConnection(target, codecs[target], context) for target in targets]


def source_of(plan: LoadPlan, *, worker: int) -> Source:
    """The endless batches of a worker. OSError or ProtocolFault if it cannot be asked what the
    targets hold."""
    chance = random.Random(1_000_003 * (worker + 1)).random
    keys_at = _keys_at(plan, worker)
    reads, size, is_modify = plan.reads, plan.pipeline, plan.writes == "modify"

    def source(connection: TargetConnection) -> RequestBatch:
        codec = connection.codec
        read_key, write_key = keys_at[connection.target]
        if chance() < reads:
            if size == 1:
                # The usual case, without the list and its join.
                return RequestBatch(codec.read(read_key()), 1, 1, True)
            payload = b"".join([codec.read(read_key()) for _ in range(size)])
            return RequestBatch(payload, size, size, True)
        numbers = [write_key() for _ in range(size)]
        payload = b"".join([codec.write(number) for number in numbers])
        write = RequestBatch(payload, size, size * codec.replies_per_write, False)
        if not is_modify:
            return write
        payload = b"".join([codec.read(number) for number in numbers])
        return RequestBatch(payload, size, size, True, write)

    return source


def _keys_at(plan: LoadPlan, worker: int) -> dict[tuple[str, int], KeyDraws]:
    """What is asked of each target. OSError or ProtocolFault if nobody says who holds what."""
    keys = keys_of(plan, worker=worker)
    if not plan.route:
        return dict.fromkeys(plan.targets, keys)
    held = held_slots(plan.targets)
    return {
        target: KeyDraws(held_only(keys.read, held[target]), held_only(keys.write, held[target]))
        for target in plan.targets
    }


def _codec(plan: LoadPlan, target: tuple[str, int], value: bytes, wait: int) -> Codec:
    if plan.protocol == "resp":
        return RespCodec(value=value, wait=wait)
    host, port = target
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return HttpCodec(value=value, authority=authority, w=plan.w, r=plan.r)


# --- the process -------------------------------------------------------------------------------


def main() -> None:
    """Do what is told on standard input."""
    lines = iter(sys.stdin.buffer.readline, b"")
    worker = Worker(msgspec.json.decode(next(lines), type=Task), _say)
    signal.signal(signal.SIGTERM, lambda _signum, _frame: worker.stop())
    _allow_files(len(worker.places) + _OTHER_FILES)
    # Nothing here makes cycles, and a collection is a pause that the store would be blamed for.
    gc.disable()
    try:
        worker.prepare()
        _say(Ready())
        if next(lines, None) is not None:
            _say(Finished(worker.run()))
    except (OSError, ProtocolFault) as fault:
        _say(Failed(getattr(fault, "strerror", None) or str(fault)))


def _say(message: WorkerMessage) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _allow_files(count: int) -> None:
    """Each connection is one, and the usual limit is 1,024."""
    if sys.platform != "win32":
        import resource

        soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < count and (count <= most or most == resource.RLIM_INFINITY):
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, most))


if __name__ == "__main__":
    main()
