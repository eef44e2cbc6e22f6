# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients: each follows its script, one visit after another, and notes what it asked and saw.

A client asks the node that its script names, or the next one that runs. Some read-modify-writes are
asked again, at the next node, where nobody knows what became of them. It waits for the answers of a
visit before it goes on, but not for ever: a dead coordinator never answers. What is answered after
the client's patience is over is noted all the same. It remembers what it saw of each key last, and
compares with that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from quorate.core.values.events import (
    Get,
    GetResult,
    Put,
    PutResult,
    Result,
    Update,
    UpdateResult,
    Waiter,
)
from quorate.core.values.record import Record, is_live
from quorate.core.values.slots import row_of
from quorate.errors import Outcome, QuorateError
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from quorate.sim.edits import OperationEdit
from quorate.sim.history import ClientOperation, History, Kind, Page
from quorate.sim.machine import Machine, newest_garbage
from quorate.sim.plan import PageWalk, Request, Visit
from quorate.sim.tokens import token_of
from quorate.sim.walks import Walker

RETRY_MS: Final = 20.0
"""After which a client that found no running node tries again."""
LIST_PAGES_MAX: Final = 100
LIST_PAGE_KEYS: Final = 10
"""Of the pages in which all keys are listed once faults are over."""
_SERIAL_BITS: Final = 32
"""Of the number of a request that may be asked again; the others are its client's."""


class Clients:
    """All clients of a world, and what they saw."""

    def __init__(self, cluster: SimCluster, *, patience_ms: float) -> None:
        self.history = History()
        self._asked: list[_Answered] = []
        """What was asked."""
        self._walkers: list[Walker] = []
        self.busy = 0
        """Clients that have not come to the end of their scripts."""
        self.world = cluster.world
        self.patience_ms = patience_ms
        """After which a client goes on without an answer."""
        self.cluster = cluster
        """The one that they ask."""
        self._seen: dict[tuple[int, bytes], Record | None] = {}
        """By client and key: what it saw last, if that was live."""

    @property
    def machines(self) -> Sequence[Machine]:
        """Of the world."""
        return self.cluster.machines

    def start(
        self, scripts: tuple[tuple[Visit, ...], ...], walks: tuple[PageWalk, ...] = ()
    ) -> None:
        """Have every client begin its script, and its walk."""
        for number, script in enumerate(scripts):
            if script:
                self.busy += 1
                _Client(self, number, script).go_on()
        self._walkers = [Walker(self.cluster, self.history, walk) for walk in walks]

    def list_all(self, node: int, *, timeout_ms: int) -> None:
        """List every key through a node, page after page, and wait for the last."""
        walk = PageWalk(0.0, node, LIST_PAGES_MAX, LIST_PAGE_KEYS)
        walker = Walker(self.cluster, self.history, walk, timeout_ms=timeout_ms)
        self._walkers.append(walker)
        self.world.run_until(lambda: walker.is_over, self.world.now + LIST_PAGES_MAX * timeout_ms)

    def ask(
        self,
        client: int,
        node: int,
        request: Request,
        then: Callable[[], None] | None = None,
        *,
        before: ClientOperation | None = None,
    ) -> ClientOperation:
        """Give a node a request; `then` is called once it is answered, or will not be. `before`:
        the attempt before this one."""
        attempt = 0 if before is None else before.attempt + 1
        operation = ClientOperation(
            request.serial,
            client,
            node,
            request.kind,
            request.key,
            asked_ms=self.cluster.world.now,
            expires_ms=self._expires_ms(request),
            r=request.r,
            w=request.w,
            timeout_ms=request.timeout_ms or self.cluster.machines[node].settings.timeout_ms,
            attempt=attempt,
            since_ms=0.0 if before is None else before.since_ms or before.asked_ms,
            request=(client << _SERIAL_BITS) + request.serial if request.tries > 1 else 0,
        )
        if request.kind is Kind.PUT:
            operation.value = token_of(operation.name, request.key, size=request.value_bytes)
        if operation.is_update:
            operation.seen = self._seen.get((client, request.key))
        machine = self.cluster.machines[node]
        self.history.operations.append(operation)
        more = None
        if attempt + 1 < request.tries:
            more = _OnceMore(self, client, request, then)
            self.world.after(self.patience_ms / 2, partial(more.look, operation))
        answered = then if more is None else partial(more.answered, operation)
        asked = _Answered(operation, machine, answered, self)
        self._asked.append(asked)
        machine.receive(_event(asked, operation))
        return operation

    def note(self, operation: ClientOperation) -> None:
        """Remember what a client saw of a key last."""
        result, place = operation.result, (operation.client, operation.key)
        if not isinstance(result, QuorateError):
            wall_ms = operation.wall_ms
            seen = operation.wrote or getattr(result, "record", None)
            if isinstance(result, UpdateResult):
                seen = result.after or result.before
            self._seen[place] = seen if is_live(seen, wall_ms=wall_ms) else None

    def _expires_ms(self, request: Request) -> int:
        return EPOCH_MS + int(self.cluster.world.now) + request.ttl_ms if request.ttl_ms else 0

    def are_done(self) -> bool:
        """Whether all came to the end of their scripts, or a node broke."""
        return not self.busy or bool(self.cluster.broken)

    def forgotten(self) -> list[ClientOperation | Page]:
        """What coordinators that live have not answered."""
        missing = [each.missing() for each in self._waiting()]
        return [each for each in missing if each is not None]

    def _waiting(self) -> list[_Answered | Walker]:
        return [*self._asked, *self._walkers]

    def close(self) -> None:
        """Wait for nothing any more. A node holds requests where the garbage collector cannot see
        them (`gc=False`), and by way of who waits for them its whole world, for ever."""
        for each in self._waiting():
            each.let_go()
        self._asked.clear()
        self._walkers.clear()


class _OnceMore:
    """A request that is asked again, once, where nobody knows what became of it."""

    def __init__(
        self,
        clients: Clients,
        client: int,
        request: Request,
        then: Callable[[], None] | None,
    ) -> None:
        self._clients = clients
        self._client = client
        self._request = request
        self._then = then
        self._is_over = False

    def answered(self, before: ClientOperation) -> None:
        """The attempt before is answered."""
        result = before.result
        if isinstance(result, QuorateError) and result.outcome is Outcome.UNKNOWN:
            self.look(before)
        elif not self._is_over:
            self._is_over = True
            if self._then is not None:
                self._then()

    def look(self, before: ClientOperation) -> None:
        """Ask again, unless it was asked or is known what became of it."""
        if self._is_over:
            return
        self._is_over = True
        node = self._clients.cluster.running((before.node + 1) % len(self._clients.machines))
        if node is not None:
            more = self._request, self._then
            self._clients.ask(self._client, node, *more, before=before)
        elif self._then is not None:
            self._then()


class _Answered:
    """Notes what a node answers to an operation (`events.Waiter`)."""

    def __init__(
        self,
        operation: ClientOperation,
        machine: Machine,
        then: Callable[[], None] | None,
        clients: Clients,
    ) -> None:
        self._operation: ClientOperation | None = operation
        self._clients: Clients | None = clients
        self._machine: Machine | None = machine
        self._then = then
        self._life = machine.life

    def done(self, result: Result) -> None:
        operation, machine, clients = self._operation, self._machine, self._clients
        assert operation is not None, "the world is over"
        assert machine is not None
        assert clients is not None
        before = operation.result
        assert before is None, f"answered twice: {before}, then {result}"
        assert isinstance(result, GetResult | PutResult | UpdateResult | QuorateError)
        if isinstance(result, GetResult) and result.record is None:
            # Nothing is as good as the garbage that was dropped.
            record = newest_garbage(clients.machines, row_of(operation.key))
            result = GetResult(record, result.answers, result.repaired)
        operation.result = result
        operation.done_ms = machine.world.now
        operation.wall_ms = machine.now().wall_ms
        clients.note(operation)
        if self._then is not None:
            self._then()

    def missing(self) -> ClientOperation | None:
        """The operation, if its coordinator lives and has not answered it."""
        operation, machine = self._operation, self._machine
        is_missing = operation is not None and operation.result is None
        return operation if is_missing and machine and machine.life == self._life else None

    def let_go(self) -> None:
        """Refer to nothing any more."""
        self._operation = self._machine = self._then = self._clients = None


def _event(waiter: Waiter, op: ClientOperation) -> Get | Put | Update:
    """What a node is given."""
    if op.kind is Kind.GET:
        return Get(waiter, op.key, op.r, op.timeout_ms)
    if op.is_update:
        since_ms = EPOCH_MS + int(op.since_ms) if op.attempt else 0
        return Update(waiter, op.key, OperationEdit(op), op.timeout_ms, op.request, since_ms)
    return Put(waiter, op.key, op.value, op.expires_ms, op.w, op.timeout_ms)


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
        node = self._clients.cluster.running(visit.node)
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
