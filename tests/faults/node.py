# SPDX-License-Identifier: GPL-3.0-or-later
"""One durable node under one fault: what it is asked, and what must be so after it.

The node is alone (W = R = N = 1, every write synced), so whatever it acknowledges is on this disk
or nowhere. A scenario asks it for writes and reads of a few keys, one after another; then it is
killed and started again on the same directory without faults, and each key must hold what the
answers allow:

- the last write that was acknowledged or read, or one after it whose outcome is unknown;
- so never a write that was refused as not applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from quorate.client import Client, Value
from quorate.errors import Outcome, QuorateError
from tests.cluster.processes import NodeProcess, fetch, wait_until
from tests.faults.calls import Action, Calls, Kind
from tests.ports import free_port

WRITES: Final = 30
KEYS: Final = 6
EXIT_FAILED: Final = 1
EXIT_UNUSABLE: Final = 2
"""Told to use a data directory that it cannot use."""
CALM_S: Final = 20.0
"""A node that met a fault serves again, or has ended, within this."""
FLAGS: Final = ["-W=1", "-R=1", "-replication=1", "-timeout=1s"]


@dataclass
class Fault:
    """Which calls of the scenario meet what."""

    kind: Kind
    first: int
    action: Action
    value: int = 0
    times: int = 1
    at_start: bool = False
    """Whether it is met while the node starts, on a directory that has something in it."""

    def __str__(self) -> str:
        where = "start" if self.at_start else "load"
        times = "" if self.times == 1 else f" and on, {self.times} of them"
        return f"{where}: {self.action.name} {self.value} at {self.kind.name} {self.first}{times}"


@dataclass
class Told:
    """What clients were told of one key, in the order of their requests."""

    known: bytes | None = None
    """The last that was acknowledged or read."""
    maybe: list[bytes] = field(default_factory=list)
    """Values of writes since that ended unknown."""

    def read(self, found: bytes | None) -> bool:
        """Whether a read may give this. It may not go back behind it then."""
        if found is not None and found in self.maybe:
            self.maybe = self.maybe[self.maybe.index(found) + 1 :]
            self.known = found
        return found == self.known


class FaultyNode:
    """The node, its directory, and all that its clients were told."""

    def __init__(self, directory: Path, library: Path, *, durability: str = "sync") -> None:
        self.node = NodeProcess(directory, free_port(), [*FLAGS, f"-durability={durability}"])
        self.calls = Calls(library, directory / "plan", self.node.data)
        self.told: dict[bytes, Told] = {b"k%d" % n: Told() for n in range(KEYS)}
        self.wrong: list[str] = []
        self.ended = False
        """Whether the fault ended the node."""
        self.counts: dict[Kind, int] = {}
        """Calls of each kind that were made while they were counted."""

    def start(self, *, is_faulty: bool) -> None:
        """Start the process; it may not be ready yet."""
        self.node.environment = self.calls.environment if is_faulty else {}
        self.node.start()

    def is_settled(self) -> bool:
        """Whether it serves, or has ended."""
        if not self.node.is_running:
            return True
        try:
            return fetch(f"{self.node.url}/readyz")[0] == 200
        except OSError:
            return False

    def wait_settled(self) -> None:
        """Return when it serves or has ended, which it says with a line and an exit code."""
        wait_until(self.is_settled, within_s=CALM_S, what="it serves again, or has ended")
        if not self.node.is_running:
            code = self.node.wait()
            self.ended = True
            if code not in (EXIT_FAILED, EXIT_UNUSABLE):
                self.wrong.append(f"it ended with exit code {code}")

    def load(self) -> None:
        """Write and read, one request after another, and note what comes of it."""
        with Client(self.node.url, timeout=3.0) as client:
            for number in range(WRITES):
                key, value = b"k%d" % (number % KEYS), b"v%d" % number
                self._write(client, key, value)
                self._read(client, key)

    def _write(self, client: Client, key: bytes, value: bytes) -> None:
        told = self.told[key]
        try:
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
            self.wrong.append(f"{what} {value!r} for {key!r}, and known was {told}")

    def check(self) -> None:
        """Kill it, start it again without faults, and read everything."""
        self.calls.count(is_on=False)
        self.counts = {kind: self.calls.counted(kind) for kind in Kind}
        if not self.ended:
            self.wait_settled()
        if self.node.is_running:
            self.node.kill()
        self.start(is_faulty=False)
        wait_until(self.node.is_ready, within_s=CALM_S, what="ready again")
        with Client(self.node.url) as client:
            for key in self.told:
                self._judge(key, client.get(key), "after a restart there is")
        self.node.kill()

    def end(self) -> None:
        """Leave nothing behind."""
        if self.node.is_running:
            self.node.kill()
        self.calls.close()


def run(directory: Path, library: Path, fault: Fault | None) -> FaultyNode:
    """One scenario, to its end; `wrong` of what is returned says what was not as it must be."""
    faulty = FaultyNode(directory, library)
    try:
        if fault is not None and fault.at_start:
            faulty.start(is_faulty=False)
            wait_until(faulty.node.is_ready, within_s=CALM_S, what="ready")
            faulty.load()
            faulty.node.kill()
            faulty.calls.count(is_on=True)
        if fault is not None:
            faulty.calls.disturb(
                fault.kind, fault.first, fault.action, fault.value, times=fault.times
            )
        faulty.start(is_faulty=True)
        faulty.wait_settled()
        faulty.calls.count(is_on=True)
        if not faulty.ended:
            faulty.load()
        faulty.check()
    finally:
        faulty.end()
    return faulty
