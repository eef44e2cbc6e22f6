# SPDX-License-Identifier: GPL-3.0-or-later
"""One durable node under one fault: what it is asked, and what must be so after it.

The node is alone (W = R = N = 1, every write synced), so whatever it acknowledges is on this disk
or nowhere. It is asked for writes, deletes and reads of a few keys, and to count, one after
another; then it is killed and started again on the same directory without faults, and each key must
hold what the answers allow:

- the last write that was acknowledged or read, or one after it whose outcome is unknown;
- so never a write that was refused as not applied;
- of the counter no increment less than were acknowledged, and no more than were not refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from quorate.client import Client, Value
from quorate.errors import Outcome, QuorateError
from tests.cluster.processes import NodeProcess, wait_until
from tests.faults.node import CALM_S, Fault, FaultyNode, Found
from tests.ports import free_port

WRITES: Final = 30
KEYS: Final = 6
COUNTER: Final = "n"
FLAGS: Final = ["-W=1", "-R=1", "-replication=1", "-timeout=1s"]


@dataclass
class Told:
    """What clients were told of one key, in the order of their requests."""

    known: bytes | None = None
    """The last that was acknowledged or read."""
    maybe: list[bytes | None] = field(default_factory=list)
    """Values of writes since that ended unknown; None of a delete."""

    def read(self, found: bytes | None) -> bool:
        """Whether a read may give this. It may not go back behind it then."""
        if found != self.known and found in self.maybe:
            self.maybe = self.maybe[self.maybe.index(found) + 1 :]
            self.known = found
        return found == self.known


@dataclass
class Counted:
    """What clients were told of the counter."""

    least: int = 0
    """So many increments were acknowledged."""
    most: int = 0
    """And so many were not refused."""


class Alone:
    """The node, and all that its clients were told."""

    def __init__(self, directory: Path, library: Path, *, durability: str = "sync") -> None:
        flags = [*FLAGS, f"-durability={durability}"]
        self.faulty = FaultyNode(NodeProcess(directory, free_port(), flags), library)
        self.told: dict[bytes, Told] = {b"k%d" % n: Told() for n in range(KEYS)}
        self.counted = Counted()

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *_: object) -> None:
        if self.faulty.node.is_running:
            self.faulty.node.kill()
        self.faulty.calls.close()

    def meet(self, fault: Fault | None) -> Found:
        """Work under the fault, and judge what is there after it."""
        try:
            self._work(fault)
        except (AssertionError, QuorateError) as error:
            self.faulty.wrong.append(str(error))
        return self.faulty.found()

    def _work(self, fault: Fault | None) -> None:
        node = self.faulty.node
        self.start()
        if fault is not None and fault.at_start:
            self.load()
            node.kill()
            self.faulty.meet(fault)
            self.faulty.start()
        else:
            self.faulty.meet(fault)
        if node.is_running:
            self.load()
        self.faulty.recover()
        if node.is_running:
            node.kill()
        self.start()
        with Client(node.url) as client:
            for key in self.told:
                self._judge(key, client.get(key), "after a restart there is")
            found = client.get(COUNTER)
        value, counted = 0 if found is None else int(found.value), self.counted
        if not counted.least <= value <= counted.most:
            self.faulty.wrong.append(f"{value} were counted, and known was {counted}")

    def start(self) -> None:
        """Start it, and return when it is ready."""
        self.faulty.node.start()
        wait_until(self.faulty.node.is_ready, within_s=CALM_S, what="ready")

    def load(self) -> None:
        """Write and read, one request after another, and note what comes of it."""
        with Client(self.faulty.node.url, timeout=3.0) as client:
            for number in range(WRITES):
                key = b"k%d" % (number % KEYS)
                self._write(client, key, None if number % 5 == 4 else b"v%d" % number)
                self._read(client, key)
                if number % 3 == 0:
                    self._count(client)

    def _count(self, client: Client) -> None:
        counted = self.counted
        try:
            client.increment(COUNTER)
        except QuorateError as error:
            counted.most += error.outcome is not Outcome.NOT_APPLIED
            return
        counted.least += 1
        counted.most += 1

    def _write(self, client: Client, key: bytes, value: bytes | None) -> None:
        told = self.told[key]
        try:
            if value is None:
                client.delete(key)
            else:
                client.put(key, value)
        except QuorateError as error:
            if error.outcome is not Outcome.NOT_APPLIED:
                told.maybe.append(value)
            return
        told.known, told.maybe = value, []

    def _read(self, client: Client, key: bytes) -> None:
        try:
            found = client.get(key)
        except QuorateError:
            return
        self._judge(key, found, "a read gave")

    def _judge(self, key: bytes, found: Value | None, what: str) -> None:
        told, value = self.told[key], None if found is None else found.value
        if not told.read(value):
            self.faulty.wrong.append(f"{what} {value!r} for {key!r}, and known was {told}")
