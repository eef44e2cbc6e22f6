# SPDX-License-Identifier: GPL-3.0-or-later
"""The one scenario: random reads and writes over a fixed number of keys."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from quorate.bench.load import Batch, Connection, Load
from quorate.bench.protocols import Codec, HttpCodec, ProtocolFault, RespCodec

PRELOAD_SECONDS: Final = 120.0
_PRELOAD_BATCH: Final = 32


class Plan(NamedTuple):
    """What to do to whom."""

    targets: list[tuple[str, int]]
    protocol: str
    """`resp` or `http`."""
    connections: int
    """Altogether, spread evenly over the targets."""
    pipeline: int
    """Requests that a connection has under way."""
    keys: int
    value_bytes: int
    reads: float
    """Share of reads, 0 to 1."""
    wait: int
    """Replicas that a WAIT after each SET asks for; 0: no WAIT."""
    seconds: float


def measure(plan: Plan) -> Load:
    """The finished load. If anything is to be read, all keys are written first, uncounted.

    Raises OSError if a target cannot be connected to, ProtocolFault if the keys cannot be written.
    """
    if plan.reads > 0:
        _preload(plan)
    generator = random.Random(1)  # The same keys in every run, so that runs can be compared.
    draw, keys, size = generator.random, plan.keys, plan.pipeline

    def source(connection: Connection) -> Batch:
        codec = connection.codec
        if draw() < plan.reads:
            payload = b"".join([codec.read(int(draw() * keys)) for _ in range(size)])
            return Batch(payload, size, size, is_read=True)
        payload = b"".join([codec.write(int(draw() * keys)) for _ in range(size)])
        return Batch(payload, size, size * codec.replies_per_write, is_read=False)

    load = Load(list(_connections(plan)), source)
    try:
        load.run(seconds=plan.seconds)
    finally:
        load.close()
    return load


def _preload(plan: Plan) -> None:
    numbers = iter(range(plan.keys))

    def source(connection: Connection) -> Batch | None:
        some = list(islice(numbers, _PRELOAD_BATCH))
        if not some:
            return None
        payload = b"".join([connection.codec.write(number) for number in some])
        return Batch(payload, len(some), len(some), is_read=False)

    load = Load(list(_connections(plan._replace(wait=0))), source)
    try:
        load.run(seconds=PRELOAD_SECONDS)
    finally:
        load.close()
    if load.tally.errors:
        raise ProtocolFault(f"writing the keys failed: {dict(load.tally.errors)}")
    if next(numbers, None) is not None:
        raise ProtocolFault(f"writing {plan.keys} keys took over {PRELOAD_SECONDS:.0f}s")


def _connections(plan: Plan) -> Iterator[Connection]:
    value = bytes(random.Random(2).choices(range(97, 123), k=plan.value_bytes))
    for number in range(plan.connections):
        target = plan.targets[number % len(plan.targets)]
        yield Connection(target, _codec(plan, target, value))


def _codec(plan: Plan, target: tuple[str, int], value: bytes) -> Codec:
    if plan.protocol == "resp":
        return RespCodec(value=value, wait=plan.wait)
    host, port = target
    return HttpCodec(value=value, authority=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
