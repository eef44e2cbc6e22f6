# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that write down what they asked and saw, for the simulator's own checkers.

Each client is a thread and talks to one node, so that a call is one operation: with nowhere else to
go, `Client` sends a write once, and a read again only to the same node. All run in one process, and
times are its monotonic clock: asked before the first byte leaves, done after the last arrived.

Keys come from three pools: a few that everyone fights about, new ones twice a second, so that no
key's history grows too long to be checked; any of those before, so that old writes are read across
faults; and keys that are written once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from random import Random
from typing import Final

import msgspec

from quorate.client import Call, Client
from quorate.client.calls import kv_call, read_get, read_written
from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import Record
from quorate.core.values.settings import SLICE_MS
from quorate.core.values.versions import ms_of, stamp_of
from quorate.doors.http.internal import decode_record
from quorate.errors import QuorateError
from quorate.sim.history import ClientOperation, Evidence, History, Kind
from quorate.sim.tokens import token_of
from quorate.wire.http import Response, quote
from tests.cluster.load import Failure
from tests.cluster.processes import wait_until
from tests.cluster.threads import Threads

N: Final = 3
QUORUM: Final = 2
CLIENTS: Final = 6
HOT_KEYS: Final = 5
ROUND_S: Final = 0.5
ONCE: Final = 0.15
OLD: Final = 0.8
"""Of the draws below the first, keys written once; above the second, keys of any round so far."""
THINK_S: Final = 0.008
"""Between operations: the nodes share two cores with the clients."""
REFUSED_S: Final = 0.05
"""After a failure: a node that is not there refuses thousands of times a second."""
PATIENCE_S: Final = 2.5
"""A node gives a request up before its client does, so a client mostly hears what became of it."""


class Recorder(Threads):
    """Clients at work until the block ends, and their one history."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        name: str,
        clients: int = CLIENTS,
        once_w: int = QUORUM,
        hot_keys: int = HOT_KEYS,
        think_s: float = THINK_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.history = History()
        self._hot_keys = hot_keys
        self._think_s = think_s
        self._patience_s = patience_s
        self._once_w = once_w
        """The acks that a write of a key that is written once needs."""
        self._name = name.encode()
        """Before every key: the keys held nothing when the history began."""
        self._urls = urls
        self._began_s = time.monotonic()
        self._epoch_ms = round(time.time() * 1000)
        self._answers = 0
        super().__init__(
            partial(self._work, client, Random(f"{name} client {client}"))
            for client in range(clients)
        )

    # --- time ------------------------------------------------------------------------------

    def now_ms(self) -> float:
        """Since the recording began."""
        return (time.monotonic() - self._began_s) * 1000

    def wait_for(self, count: int) -> None:
        """Return when so many more operations were answered as they should."""
        wanted = self._answers + count
        wait_until(lambda: self._answers >= wanted, within_s=20, what=f"{count} more answers")

    def wait_over(self, *, without: Sequence[int]) -> None:
        """Return when all that was asked so far of the nodes but `without` is over."""
        with self.lock:
            asked = [op for op in self.history.operations if op.node not in without]
        wait_until(
            lambda: all(op.done_ms is not None for op in asked), within_s=20, what="all is over"
        )

    # --- one client ------------------------------------------------------------------------

    def _work(self, number: int, rng: Random) -> None:
        node = number % len(self._urls)
        with Client(self._urls[node], timeout=self._patience_s) as client:
            while not self.stop.is_set():
                operation = self._draw(number, node, rng)
                self._run(client, operation)
                self.stop.wait(self._think_s if is_answered(operation) else REFUSED_S)

    def _draw(self, client: int, node: int, rng: Random) -> ClientOperation:
        chance = rng.random()
        if chance < ONCE:
            return self._asked(client, node, Kind.PUT, None)
        now = int(self.now_ms() / 1000 / ROUND_S)
        this_round = now if chance < OLD else rng.randint(0, now)
        key = b"%s-%d-%d" % (self._name, this_round, rng.randrange(self._hot_keys))
        kind = rng.choices((Kind.GET, Kind.PUT, Kind.DELETE), (50, 42, 8))[0]
        return self._asked(client, node, kind, key)

    def _asked(
        self, client: int, node: int, kind: Kind, key: bytes | None, *, r: int = 0
    ) -> ClientOperation:
        """Note a new operation; without a key, one of its own."""
        with self.lock:
            serial = len(self.history.operations)
            is_once = key is None
            key = b"%s-once-%d" % (self._name, serial) if key is None else key
            value = token_of((client, serial, 0), key) if kind is Kind.PUT else None
            asked_ms = self.now_ms()
            operation = ClientOperation(
                serial, client, node, kind, key, asked_ms=asked_ms, value=value
            )
            operation.r = r
            operation.w = self._once_w if is_once else 0
            self.history.operations.append(operation)
        return operation

    def _run(self, client: Client, operation: ClientOperation) -> None:
        result: GetResult | PutResult | QuorateError
        try:
            result = _result(client.request(_call(operation)), operation)
        except QuorateError as error:
            result = error
        operation.wall_ms = round(time.time() * 1000)
        operation.done_ms = self.now_ms()
        operation.result = result
        if is_answered(operation):
            with self.lock:
                self._answers += 1

    # --- afterwards ------------------------------------------------------------------------

    def failures(self) -> list[Failure]:
        """What was not answered as it should, in no order."""
        return [
            Failure(self._urls[op.node], self._at_s(op.asked_ms), self._at_s(op.over_ms), op.result)
            for op in self.history.operations
            if isinstance(op.result, QuorateError)
        ]

    def _at_s(self, ms: float) -> float:
        return self._began_s + ms / 1000

    @property
    def evidence(self) -> Evidence:
        """What is known besides the history, if nobody looks at replicas. One machine, so one
        clock."""
        return Evidence(n=N, r=QUORUM, w=QUORUM, epoch_ms=self._epoch_ms)

    def settle(self) -> Evidence:
        """Read every key until its replicas are equal, and tell what they hold.

        The reads ask all replicas, so they repair what no hint was kept for. They are operations
        like any other, in the history, by a client of their own.
        """
        from_ms = self.now_ms()
        asked = self.history.by_key()
        clients = [Client(url, timeout=self._patience_s) for url in self._urls]
        settled: dict[bytes, dict[int, Record | None]] = {}

        def differing() -> list[bytes]:
            return [key for key in asked if not _is_equal(settled.get(key))]

        def look() -> None:
            for key in differing():
                node = len(settled) % len(clients)
                self._run(clients[node], self._asked(-1, node, Kind.GET, key, r=N))
                found = {i: held(client, key) for i, client in enumerate(clients)}
                settled[key] = held_or_dropped(found, asked[key])

        def are_equal() -> bool:
            look()
            return not differing()

        try:
            # The first look takes as long as there are keys.
            look()
            wait_until(are_equal, within_s=20, what=f"equal replicas of {differing()[:5]}")
        finally:
            for client in clients:
                client.close()
        for key in [key for key in settled if can_nobody_tell(settled[key], asked[key])]:
            del settled[key]
        return msgspec.structs.replace(
            self.evidence,
            replicas={key: list(range(N)) for key in settled},
            settled=settled,
            healthy_from_ms=from_ms,
            answer_within_ms=self._patience_s * 1000,
        )


def is_answered(operation: ClientOperation) -> bool:
    """Whether the client got what it asked for."""
    return isinstance(operation.result, GetResult | PutResult)


def held(client: Client, key: bytes) -> Record | None:
    """The record that the one node of a client holds, tombstones included."""
    response = client.request(Call("GET", f"/internal/get?key={quote(key)}"))
    if response.status == 404:
        return None
    assert response.status == 200, response.body
    return decode_record(response.body, value_bytes_max=1 << 20)[1]


def held_or_dropped(
    found: dict[int, Record | None], operations: Sequence[ClientOperation]
) -> dict[int, Record | None]:
    """What replicas hold; or the tombstone that they dropped, if nobody holds anything else and it
    is so old that it may be dropped: of what is deleted nothing is left in the end."""
    if can_nobody_tell(found, operations):
        return found
    told = [op.wrote for op in operations if op.kind is Kind.DELETE]
    known = [each for each in [*found.values(), *told] if each is not None]
    newest = max(known, key=attrgetter("version"), default=None)
    if newest is None or any(each is not None and each.value is not None for each in known):
        return found
    if not _may_be_dropped(ms_of(stamp_of(newest.version))):
        return found
    return {index: newest if each is None else each for index, each in found.items()}


def can_nobody_tell(found: dict[int, Record | None], operations: Sequence[ClientOperation]) -> bool:
    """Whether nothing is held, and may have been dropped of a delete whose stamp nobody knows: its
    client was not told what became of it."""
    return not any(found.values()) and any(
        isinstance(op.result, QuorateError) and not op.is_refused and _may_be_dropped(op.wall_ms)
        for op in operations
        if op.kind is Kind.DELETE
    )


def _may_be_dropped(ms: int) -> bool:
    """Whether a tombstone of that time is below a boundary."""
    return ms + SLICE_MS <= time.time() * 1000


def _is_equal(held_by: dict[int, Record | None] | None) -> bool:
    return held_by is not None and all(each == held_by[0] for each in held_by.values())


def _call(operation: ClientOperation) -> Call:
    if operation.kind is Kind.GET:
        return kv_call("GET", operation.key, r=operation.r or None)
    if operation.value is None:
        return kv_call("DELETE", operation.key)
    return kv_call("PUT", operation.key, operation.value, w=operation.w or None)


def _result(response: Response, operation: ClientOperation) -> GetResult | PutResult:
    if operation.kind is Kind.GET:
        found = read_get(response)
        # How many replicas answered is not told of a value: as many as were asked for, at least.
        answers = operation.r or QUORUM
        record = None if found is None else Record(bytes.fromhex(found.version), found.value)
        return GetResult(record, answers)
    written = read_written(response)
    how = response.headers.get("quorate-restamped")
    replicas = int(response.headers["quorate-acks"].partition("/")[2])
    version, acks = bytes.fromhex(written.version), written.acks
    return PutResult(version, acks, replicas, restamped=bool(how), moved=how == "moved")
