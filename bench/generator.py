# SPDX-License-Identifier: GPL-3.0-or-later
"""A closed loop for what `quorate bench` does not speak: etcd, and the echo that is a limit.

As there, a connection sends its next request when it has the reply to the one before, and requests
come from templates. `python -m bench.generator --help` tells how to ask; it prints the part of
`quorate bench --json` that `loads.measured` reads.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from bench.peers.etcd_wire import GatewayCaller, GrpcCaller

_READ_BYTES: Final = 64 << 10
_WRITING_KEYS_SECONDS: Final = 120.0


class Caller(Protocol):
    """One connection's side of a protocol, one request at a time."""

    def request(self, key: int) -> bytes:
        """The next request."""

    def is_answered(self, data: bytes) -> bool:
        """Take what came; whether the reply is whole now."""


class EchoCaller:
    """Sends a value, and waits until as many bytes came back."""

    def __init__(self, *, value: bytes) -> None:
        self._value = value
        self._missing = 0

    def request(self, key: int) -> bytes:
        del key
        self._missing = len(self._value)
        return self._value

    def is_answered(self, data: bytes) -> bool:
        self._missing -= len(data)
        return self._missing == 0


class Line:
    """A connection, and when its request was sent."""

    def __init__(self, port: int, caller: Caller) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.caller = caller
        self.sent = 0.0


def run(
    lines: Sequence[Line], next_key: Callable[[], int | None], *, seconds: float
) -> list[float]:
    """Latencies, in seconds, of what was answered in time. Ends early when there is no next key.

    Raises ConnectionError when a connection is lost: what the others did alone means nothing.
    """
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line.socket, selectors.EVENT_READ, line)
        busy = sum(_send(line, next_key()) for line in lines)
        end = time.perf_counter() + seconds
        while busy and time.perf_counter() < end:
            for answered in [key.data for key, _ in selector.select(1.0) if _is_answered(key.data)]:
                latencies.append(time.perf_counter() - answered.sent)
                busy -= not _send(answered, next_key())
    return latencies


def _is_answered(line: Line) -> bool:
    data = line.socket.recv(_READ_BYTES)
    if not data:
        raise ConnectionResetError("the server closed a connection")
    return line.caller.is_answered(data)


def _send(line: Line, key: int | None) -> bool:
    """Whether there was something to send. A request is small: the socket takes all of it."""
    if key is None:
        return False
    line.sent = time.perf_counter()
    line.socket.sendall(line.caller.request(key))
    return True


def main() -> None:
    """Write the keys if they are to be read, measure, print."""
    # As in `quorate bench`: a collection is a pause that the store would be blamed for.
    gc.disable()
    asked = _parse()
    errors: Counter[str] = Counter()
    if asked.reads:
        numbers = iter(range(asked.keys))
        writers = _lines(asked, errors, is_read=False)
        run(writers, lambda: next(numbers, None), seconds=_WRITING_KEYS_SECONDS)
    lines = _lines(asked, errors, is_read=asked.reads)
    draw = random.Random(1).random
    begun = time.perf_counter()
    latencies = run(lines, lambda: int(draw() * asked.keys), seconds=asked.seconds)
    took = time.perf_counter() - begun
    print(json.dumps({"all": summary(latencies, seconds=took), "errors": errors}))


def summary(latencies: list[float], *, seconds: float) -> dict[str, float]:
    """Count, rate and percentiles; latencies in seconds."""
    latencies.sort()

    def percentile_ms(share: float) -> float:
        return latencies[min(int(share * len(latencies)), len(latencies) - 1)] * 1000

    return {
        "requests": len(latencies),
        "per_second": len(latencies) / seconds,
        **{
            name: percentile_ms(share) if latencies else 0.0
            for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999))
        },
    }


def _lines(asked: argparse.Namespace, errors: Counter[str], *, is_read: bool) -> list[Line]:
    value = bytes(random.Random(2).choices(range(97, 123), k=asked.value_bytes))

    def caller() -> Caller:
        if asked.protocol == "echo":
            return EchoCaller(value=value)
        kind = GrpcCaller if asked.protocol == "etcd-grpc" else GatewayCaller
        return kind(value=value, is_read=is_read, errors=errors)

    ports = asked.ports
    return [Line(ports[number % len(ports)], caller()) for number in range(asked.connections)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.generator")
    parser.add_argument("protocol", choices=("echo", "etcd-gateway", "etcd-grpc"))
    parser.add_argument("--ports", required=True, type=int, nargs="+")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--value-bytes", type=int, default=64, help="at most 127")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--reads", action="store_true", help="read keys; otherwise write them")
    parser.add_argument("--seconds", type=float, default=5.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
