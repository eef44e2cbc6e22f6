# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running store is asked for, by bench/generator.c, and what that found.

The generator shares the machine with what it measures. So its processor time is measured beside the
store's: where it is a large share, what was found says something of the generator too.
"""

from __future__ import annotations

import os
import re
import resource
import time
from base64 import b64encode
from binascii import crc_hqx
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench.processes import Process, ProcessFailed, cpu_seconds, program
from bench.systems import Running, Workbench
from quorate.bench.latency import LatencySummary, counted, summary
from quorate.bench.protocols import Codec, HttpCodec, RespCodec
from quorate.bench.routing import held_slots
from quorate.wire.resp import array, bulk

CONNECTIONS: Final = 64
VALUE_BYTES: Final = 64
DEAR_SHARE: Final = 0.1
"""Of the store's processor time: a generator that takes more is marked."""
USER: Final = "bench"
PASSWORD: Final = "bench-password"
"""Of a store that has users."""
_SOURCE: Final = Path(__file__).with_suffix(".c")
_BUSY: Final = 0.9
_PATIENCE_SECONDS: Final = 180.0
"""For what a generator does besides its seconds of measuring, writing keys above all..."""
_PATIENCE_PER_KEY: Final = 2e-4
"""...and for each of them."""
_FILL_BATCH: Final = 32
_FILL_BYTES: Final = 256 << 10
"""In a batch, so that large values go one by one."""
_REQUESTS_LEAST: Final = 4
"""At a low rate it is measured until there are so many."""


def compile_generator(directory: Path) -> str:
    """The path of the program; ProcessFailed where there is no C compiler, or it fails."""
    path = directory / "generator"
    command = [program("cc"), "-O2", "-o", str(path), str(_SOURCE), "-lssl", "-lcrypto"]
    Process(command, log=directory / "cc.log").wait(60)
    return str(path)


# --- what is said --------------------------------------------------------------------------------


class Dialect(NamedTuple):
    """How the requests to a port look: an example of each, with key 0 and a value of `v`."""

    framing: str
    """Of the replies: `resp`, `http` or `http2`."""
    read: bytes
    write: bytes
    replies_per_write: int = 1
    replies_per_read: int = 1
    hello: bytes = b""
    """What a connection begins with."""
    replies_per_hello: int = 0
    """Lines that are waited for before anything is asked."""
    mark: bytes = b""
    """What the reply to a read has in it if it found the key; empty: its form tells."""


DialectOf = Callable[[int, bytes, int], Dialect]
"""Port, value, and how many replicas a WAIT after each write asks for."""


def resp(port: int, value: bytes, wait: int) -> Dialect:
    del port
    return _speech("resp", RespCodec(value=value, wait=wait))


def resp_incr(port: int, value: bytes, wait: int) -> Dialect:
    """Counters, under keys of their own."""
    plain, alone = resp(port, value, wait), resp(port, value, 0)
    count = b"*2\r\n$4\r\nINCR\r\n$29\r\nquorate-count:%b\r\n" % (b"0" * 15)
    return plain._replace(write=count + plain.write[len(alone.write) :])


_LOGIN: Final = array([bulk(each.encode()) for each in ("AUTH", USER, PASSWORD)])


def resp_logged_in(port: int, value: bytes, wait: int) -> Dialect:
    """Each connection logs in once, at its beginning."""
    return resp(port, value, wait)._replace(hello=_LOGIN, replies_per_hello=1)


def resp_logging_in(port: int, value: bytes, wait: int) -> Dialect:
    """A login goes before each request, as on a connection of its own."""
    plain = resp(port, value, wait)
    return plain._replace(
        read=_LOGIN + plain.read,
        write=_LOGIN + plain.write,
        replies_per_read=plain.replies_per_read + 1,
        replies_per_write=plain.replies_per_write + 1,
    )


def http(port: int, value: bytes, wait: int) -> Dialect:
    del wait
    return _speech("http", HttpCodec(value=value, authority=f"127.0.0.1:{port}"))


_CLIENT_HEADERS: Final = (
    b"Connection: keep-alive",
    b"Authorization: Bearer " + b"x" * 36,
    b"Accept: */*",
    b"Accept-Language: *",
    b"Sec-Fetch-Mode: cors",
    b"User-Agent: node",
    b"Accept-Encoding: gzip, deflate",
)
"""What Node's fetch sends of its own, the most of all usual clients, and an Authorization."""


BASIC: Final = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def http_with_headers(port: int, value: bytes, wait: int) -> Dialect:
    """With what a usual client sends, besides the Host header that there must be."""
    return _with_headers(http(port, value, wait), port, _CLIENT_HEADERS)


def http_logging_in(port: int, value: bytes, wait: int) -> Dialect:
    """Each request shows user and password."""
    return _with_headers(http(port, value, wait), port, (f"Authorization: {BASIC}".encode(),))


def _with_headers(plain: Dialect, port: int, lines: Sequence[bytes]) -> Dialect:
    host = b"Host: 127.0.0.1:%d\r\n" % port
    full = host + b"".join(b"%b\r\n" % line for line in lines)
    return plain._replace(
        read=plain.read.replace(host, full), write=plain.write.replace(host, full)
    )


def _speech(framing: str, codec: Codec) -> Dialect:
    return Dialect(framing, codec.read(0), codec.write(0), codec.replies_per_write)


STREAM: Final = b"\xff\xff\xff\xff"
"""Stands for the number of an HTTP/2 stream in an example."""
_HOLES: Final = {b"0" * 15: "K", b"MDAw" * 5: "B", STREAM: "S"}
_HOLE: Final = re.compile(b"(%b)" % b"|".join(_HOLES))


def template(example: bytes, value: bytes) -> str:
    """The example as the parts that generator.c reads."""
    around = (_HOLE.split(each) for each in example.split(value))
    return f" V{len(value)} ".join(
        " ".join(_HOLES.get(part) or part.hex() for part in parts if part) for parts in around
    )


_FILLED_BY: Final[Mapping[DialectOf, DialectOf]] = {
    http: resp,
    http_with_headers: resp,
    http_logging_in: resp_logged_in,
    resp_logging_in: resp_logged_in,
}
"""How keys are written: Quorate takes RESP on the port of HTTP, and pipelined."""


# --- what is asked -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StoreLoad:
    """As much as 64 connections get, unless it says so. A value: no state."""

    speak: DialectOf = resp
    reads: float = 0.0
    pipeline: int = 1
    wait: int = 0
    keys: int = 100_000
    rate: float = 0.0
    """Requests per second, whatever becomes of them; 0: as many as are answered."""
    value_bytes: int = VALUE_BYTES
    connections: int = CONNECTIONS
    route: bool = False
    """Whether each key is asked at a node that holds it."""
    tls: bool = False
    churn: bool = False
    """Whether each request has a connection of its own."""
    fills: bool = True
    """Whether all keys are written before any is read."""

    @property
    def name(self) -> str:
        """For the table of all values."""
        parts = [self.speak.__name__.replace("_", " ")]
        parts += [f"pipeline {self.pipeline}"] if self.pipeline > 1 else []
        parts += [f"WAIT {self.wait}"] if self.wait else []
        parts += [f"{self.rate:g} per second"] if self.rate else []
        parts += [f"connections {self.connections}"] if self.connections != CONNECTIONS else []
        parts += ["routed"] if self.route else []
        parts += ["TLS"] if self.tls else []
        parts += ["a connection each"] if self.churn else []
        return ", ".join(parts)

    def measure(self, running: Running, place: Workbench, *, seconds: float) -> Measured:
        """Ask for so many seconds, after the keys were written if any is read. ProcessFailed."""
        if self.reads and self.fills:
            self.fill(running, place)
        if self.rate:
            seconds = max(seconds, (_REQUESTS_LEAST + 0.5) / self.rate)
        report, usage = self._run(running, place, {"seconds": seconds})
        return measured(report, usage)

    def fill(self, running: Running, place: Workbench) -> None:
        """Write every key once, if that was not done yet; raises ProcessFailed."""
        speak = _FILLED_BY.get(self.speak, self.speak)
        key = (speak, self.keys, self.value_bytes)
        if key in running.filled:
            return
        is_resp = speak in (resp, resp_logged_in)
        pipeline = max(1, min(_FILL_BATCH, _FILL_BYTES // self.value_bytes)) if is_resp else 1
        writes = StoreLoad(
            speak=speak,
            pipeline=pipeline,
            keys=self.keys,
            value_bytes=self.value_bytes,
            connections=self.connections,
        )
        report, _ = writes._run(running, place, {"in_order": self.keys})
        if report.errors or report.requests != self.keys:
            raise ProcessFailed(
                f"writing {self.keys} keys: {report.requests} written, {report.errors}"
            )
        running.filled.add(key)

    def _run(
        self, running: Running, place: Workbench, until: Mapping[str, float]
    ) -> tuple[Report, Usage]:
        plan = place.directory / f"plan-{time.monotonic_ns()}"
        plan.write_text("\n".join(self.plan(running.ports, until)) + "\n", encoding="ascii")
        patience = until.get("seconds", 0) + _PATIENCE_SECONDS + _PATIENCE_PER_KEY * self.keys
        output, usage = drive([place.generator, str(plan)], running, place, patience=patience)
        return msgspec.json.decode(output, type=Report), usage

    def plan(self, ports: Sequence[int], until: Mapping[str, float]) -> Iterator[str]:
        """The lines of a plan that asks until then: so many seconds, or each key once."""
        value = b"v" * self.value_bytes
        numbers = {"connections": self.connections, "pipeline": self.pipeline, "keys": self.keys}
        given = {**numbers, "reads": self.reads, "rate": self.rate, "wait": self.wait, **until}
        given |= {"tls": int(self.tls), "churn": int(self.churn)}
        yield from (f"{name} {number}" for name, number in given.items())
        held = _held_keys(ports, self.keys) if self.route else {}
        for port in ports:
            speech = self.speak(port, value, self.wait)
            yield f"framing {speech.framing}"
            yield f"target {port}"
            yield f"hello {speech.replies_per_hello} {template(speech.hello, value)}"
            yield f"read {speech.replies_per_read} {template(speech.read, value)}"
            yield f"write {speech.replies_per_write} {template(speech.write, value)}"
            if speech.mark:
                yield f"mark {speech.mark.hex()}"
            if port in held:
                yield f"held {' '.join(map(str, held[port]))}"


def _held_keys(ports: Sequence[int], keys: int) -> dict[int, list[int]]:
    """By port, the keys that the node there has a copy of."""
    held = held_slots([("127.0.0.1", port) for port in ports])
    slots = [crc_hqx(b"quorate-bench:%015d" % key, 0) % (1 << 14) for key in range(keys)]
    return {
        port: [key for key, slot in enumerate(slots) if has[slot]]
        for (_, port), has in held.items()
    }


# --- what was found ------------------------------------------------------------------------------


class Report(msgspec.Struct, frozen=True):
    """What generator.c prints."""

    seconds: float
    requests: int
    in_time: int
    """Those that were answered before the end."""
    misses: int
    backlog: int
    """Requests that were due before the end and not sent by then."""
    errors: dict[str, int]
    histogram: list[tuple[int, int]]
    """Latency in microseconds, and how many had it, to one part in 256."""


class Usage(NamedTuple):
    """Processor seconds."""

    generator: float
    store: float


class Measured(NamedTuple):
    """One measurement."""

    seen: LatencySummary
    errors: int
    """Misses too, and requests that were due and not sent: neither may happen here."""
    generator_us: float
    """Processor time, in microseconds, that the generator used for an operation."""
    store_us: float
    """The same of all processes of the store."""
    processors: int = os.cpu_count() or 1
    """What the generator and the store share."""

    @property
    def is_generator_dear(self) -> bool:
        """Whether it took more than a tenth of what the store did."""
        return self.generator_us > DEAR_SHARE * self.store_us

    @property
    def is_generator_bound(self) -> bool:
        """Whether a cheaper generator might have found more: its one thread was near its limit, or
        the machine was near its own and most of it went to the generator. The latter hides how fast
        a cheap store is, and so flatters what it is compared with."""
        own, store = (us * self.seen.per_second / 1e6 for us in (self.generator_us, self.store_us))
        return own > _BUSY or (own + store > _BUSY * self.processors and own > store)


def measured(report: Report, usage: Usage) -> Measured:
    """What a report and the processor time come to; ProcessFailed if nothing came in time."""
    counts = counted(dict(report.histogram), in_time=report.in_time)
    seen = summary([counts], seconds=report.seconds)
    errors = sum(report.errors.values()) + report.misses + report.backlog
    return measurement(seen, errors, usage, told=str(report.errors))


def measurement(seen: LatencySummary, errors: int, usage: Usage, *, told: str) -> Measured:
    """Processor time for each request; ProcessFailed, with what is told, if none was answered."""
    if not seen.per_second:
        raise ProcessFailed(f"nothing was answered: {told}")
    each = 1e6 / seen.requests
    return Measured(seen, errors, usage.generator * each, usage.store * each)


def drive(
    command: Sequence[str], running: Running, place: Workbench, *, patience: float
) -> tuple[str, Usage]:
    """Run a generator to its end: what it printed, and the processor time that it and the store
    used. Raises ProcessFailed, also if a process of the store ended: the rest are faster then."""
    log = place.directory / f"generator-{time.monotonic_ns()}.log"
    output = log.with_suffix(".out")
    before = Usage(_children_seconds(), cpu_seconds(running.pids))
    process = Process(command, log=log, output=output)
    try:
        process.wait(patience)
    finally:
        process.stop()
    after = Usage(_children_seconds(), cpu_seconds(running.pids))
    for each in running.processes:
        if each.exit_code is not None:
            raise ProcessFailed(each.obituary())
    used = Usage(after.generator - before.generator, after.store - before.store)
    return output.read_text(encoding="utf-8"), used


def _children_seconds() -> float:
    """Of children that ended: the generator is the only one that does while it is measured."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
