# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients: each follows its script, one visit after another, and notes what it asked and saw.

A client asks the node that its script names, or the next one that runs. For a derived write that
is two requests, as the Redis door makes them: a read, and a write of what it found. It waits for
the answers of a visit before it goes on, but not for ever: a dead coordinator never answers. What
is answered after the client's patience is over is noted all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from quorate.core.values.events import Get, GetResult, Put, PutResult, Result, Waiter
from quorate.core.values.slots import row_of
from quorate.errors import QuorateError
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from quorate.sim.history import DERIVED, ClientOperation, History, Kind, value_of
from quorate.sim.machine import Machine, newest_garbage
from quorate.sim.plan import Request, Visit

RETRY_MS: Final = 20.0
"""After which a client that found no running node tries again."""


class Clients:
    """All clients of a world, and what they saw."""

    def __init__(self, cluster: SimCluster, *, patience_ms: float) -> None:
        self.history = History()
        self._asked: list[_Answered] = []
        """What was asked."""
        self.busy = 0
        """Clients that have not come to the end of their scripts."""
        self.world = cluster.world
        self.patience_ms = patience_ms
        """After which a client goes on without an answer."""
        self._cluster = cluster

    def start(self, scripts: tuple[tuple[Visit, ...], ...]) -> None:
        """Have every client begin its script."""
        for number, script in enumerate(scripts):
            if script:
                self.busy += 1
                _Client(self, number, script).go_on()

    def running(self, index: int) -> int | None:
        """The first machine at or after `index` on which a node runs."""
        machines = self._cluster.machines
        count = len(machines)
        for step in range(count):
            if machines[(index + step) % count].is_running:
                return (index + step) % count
        return None

    def ask(
        self, client: int, node: int, request: Request, then: Callable[[], None] | None = None
    ) -> ClientOperation:
        """Give a node a request; `then` is called once all of it is answered."""
        is_derived = request.kind in DERIVED
        operation = ClientOperation(
            request.serial,
            client,
            node,
            Kind.GET if is_derived else request.kind,
            request.key,
            asked_ms=self._cluster.world.now,
            value=value_of(client, request.serial, request.key, size=request.value_bytes)
            if request.kind is Kind.PUT
            else None,
            expires_ms=0 if is_derived else self._expires_ms(request),
            r=request.r,
            w=request.w,
            timeout_ms=request.timeout_ms or self._cluster.machines[node].settings.timeout_ms,
        )
        if is_derived:
            return self._submit(operation, lambda: self._carry_on(operation, request, then))
        return self._submit(operation, then)

    def _submit(
        self, operation: ClientOperation, then: Callable[[], None] | None
    ) -> ClientOperation:
        machine = self._cluster.machines[operation.node]
        self.history.operations.append(operation)
        asked = _Answered(operation, machine, then, self._cluster.machines)
        self._asked.append(asked)
        machine.receive(_event(asked, operation))
        return operation

    def _carry_on(
        self, read: ClientOperation, request: Request, then: Callable[[], None] | None
    ) -> None:
        """Write what follows from a read. Nothing does if there is no live record, or if an expiry
        is to be taken away that the record does not have."""
        found = read.result.record if isinstance(read.result, GetResult) else None
        is_delete = request.kind is Kind.GETDEL
        if (
            found is None
            or read.served is None
            or not (is_delete or request.ttl_ms or found.expires_ms)
        ):
            if then is not None:
                then()
            return
        write = replace(
            read,
            kind=request.kind,
            value=None if is_delete else found.value,
            expires_ms=0 if is_delete else self._expires_ms(request),
            derived_from=found.version,
            done_ms=None,
            wall_ms=0,
            result=None,
        )
        self._submit(write, then)

    def _expires_ms(self, request: Request) -> int:
        return EPOCH_MS + int(self._cluster.world.now) + request.ttl_ms if request.ttl_ms else 0

    def are_done(self) -> bool:
        """Whether all came to the end of their scripts, or a node broke."""
        return not self.busy or bool(self._cluster.broken)

    def forgotten(self) -> list[ClientOperation]:
        """What coordinators that live have not answered."""
        missing = [each.missing() for each in self._asked]
        return [each for each in missing if each is not None]

    def close(self) -> None:
        """Wait for nothing any more. A node holds requests where the garbage collector cannot see
        them (`gc=False`), and by way of who waits for them its whole world, for ever."""
        for each in self._asked:
            each.let_go()
        self._asked.clear()


class _Answered:
    """Notes what a node answers to an operation (`events.Waiter`)."""

    def __init__(
        self,
        operation: ClientOperation,
        machine: Machine,
        then: Callable[[], None] | None,
        machines: Sequence[Machine],
    ) -> None:
        self._operation: ClientOperation | None = operation
        self._machines = machines
        self._machine: Machine | None = machine
        self._then = then
        self._life = machine.life

    def done(self, result: Result) -> None:
        operation, machine = self._operation, self._machine
        assert operation is not None, "the world is over"
        assert machine is not None
        before = operation.result
        assert before is None, f"answered twice: {before}, then {result}"
        assert isinstance(result, GetResult | PutResult | QuorateError)
        if isinstance(result, GetResult) and result.record is None:
            # Nothing is as good as the garbage that was dropped.
            record = newest_garbage(self._machines, row_of(operation.key))
            result = GetResult(record, result.answers, result.repaired)
        operation.result = result
        operation.done_ms = machine.world.now
        operation.wall_ms = machine.now().wall_ms
        if self._then is not None:
            self._then()

    def missing(self) -> ClientOperation | None:
        """The operation, if its coordinator lives and has not answered it."""
        operation, machine = self._operation, self._machine
        is_missing = operation is not None and operation.result is None
        return operation if is_missing and machine and machine.life == self._life else None

    def let_go(self) -> None:
        """Refer to nothing any more."""
        self._operation = self._machine = self._then = None
        self._machines = ()


def _event(waiter: Waiter, op: ClientOperation) -> Get | Put:
    """What a node is given."""
    if op.kind is Kind.GET:
        return Get(waiter, op.key, op.r, op.timeout_ms)
    return Put(waiter, op.key, op.value, op.expires_ms, op.w, op.timeout_ms, op.derived_from)


class _Client:
    """One of them."""

    def __init__(self, clients: Clients, number: int, script: tuple[Visit, ...]) -> None:
        self._clients = clients
        self._number = number
        self._script = script
        self._place = 0
        """The number of the next visit."""
        self._missing = 0
        """Answers that this visit still waits for."""

    def go_on(self) -> None:
        """Begin the next visit after its pause, or be done."""
        place = self._place
        # Past the last too: an answer to it that comes still is waited for no more.
        self._place += 1
        if place == len(self._script):
            self._clients.busy -= 1
            return
        visit = self._script[place]
        self._clients.world.after(visit.pause_ms, lambda: self._visit(visit))

    def _visit(self, visit: Visit) -> None:
        node = self._clients.running(visit.node)
        if node is None:
            self._clients.world.after(RETRY_MS, lambda: self._visit(visit))
            return
        if not visit.requests:
            self.go_on()
            return
        place = self._place
        self._missing = len(visit.requests)
        for request in visit.requests:
            self._clients.ask(self._number, node, request, lambda: self._answered(place))
        self._clients.world.after(self._clients.patience_ms, lambda: self._give_up(place))

    def _answered(self, place: int) -> None:
        # After the last visit too an answer may come that was given up.
        if place == self._place and self._missing:
            self._missing -= 1
            if not self._missing:
                self.go_on()

    def _give_up(self, place: int) -> None:
        if place == self._place and self._missing:
            self._missing = 0
            self.go_on()
