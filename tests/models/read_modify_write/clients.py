# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that all want the same few keys, and one whole run."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import NamedTuple

from tests.models.read_modify_write.changing import ChangingWorld
from tests.models.read_modify_write.collecting import Collecting
from tests.models.read_modify_write.operations import WRITES, Operation
from tests.models.read_modify_write.rounds import Request
from tests.models.read_modify_write.switches import Broken
from tests.models.read_modify_write.updating import update
from tests.models.read_modify_write.values import Record, Value
from tests.models.read_modify_write.world import END, KEYS, Task, World
from tests.models.read_modify_write.writing import get, put

KINDS = ("put", "delete", "get", "append", "cas", "nx", "getset", "xx", "getdel")
WEIGHTS = ((24, 10, 16, 20, 8, 12, 3, 2, 5), (6, 14, 12, 15, 5, 24, 2, 2, 20))
"""Of each kind: on keys that are there most of the time, and on leases."""
PACES: tuple[tuple[float, tuple[float, ...]], ...] = (
    (5, (0.1, 3, 20)),
    (60, (0.1, 3, 40)),
    (150, (0.1, 3, 20, 80)),
)
"""Until when clients begin, and how long they rest."""
COMBINED = ("append", "append", "nx", "getdel", "cas")
LAST = ("get", "get", "append", "append", "getdel", "getdel", "get")
"""Asked of each key when all is well."""
PATIENCE = 300
"""After which a client takes an outcome for unknown."""


class History(NamedTuple):
    """What a run was."""

    operations: list[Operation]
    last: list[Operation]
    """Those of them that were asked for when all was well."""
    left: list[list[Record]]
    """What the replicas have at the end, where copies do not move then."""
    locks: list[int]
    has_twins: bool
    """Whether one version was seen with two contents."""
    stats: Counter[str]


class Clients:
    """Some who ask one thing after another."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.history: list[Operation] = []
        self.last: list[Operation] = []
        self._last_pause = world.random.choice((1, 15))
        self._known: list[Value] = [None]
        self._number = 0
        self._weights = world.random.choice(WEIGHTS)
        self._begin, self._pauses = world.random.choice(PACES)
        for _ in range(3):
            count = world.random.choice((3, 4, 4))
            world.at(world.random.random() * self._begin, partial(self._next, count))
        self._active = 3
        world.at(END, self._calm_down)

    def _calm_down(self) -> None:
        """Nothing bad happens from now on; and when all is well, each key is asked for."""
        world = self._world
        if self._active >= 0:
            self._active = -1
            world.end = world.now
            for key in range(KEYS):
                world.at(80, partial(self._end, key, 0))

    def _next(self, left: int) -> None:
        if not left or self._world.is_over:
            self._active -= 1
            if not self._active:
                self._world.at(self._world.random.random() * 60, self._calm_down)
            return
        world, random = self._world, self._world.random
        key = 0 if random.random() < 0.75 else random.randrange(KEYS)
        kind = random.choices(KINDS, self._weights)[0]
        coordinator = random.choice(world.alive())
        dies_at = random.choice((0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3))
        operations = [self._operation(kind, key)]
        if kind in COMBINED and random.random() < 0.2:
            others = random.choices(COMBINED, k=random.choice((1, 2)))
            operations += [self._operation(each, key) for each in others]
        request = Request(coordinator, dies_at)

        def then() -> None:
            if all([operation.is_over for operation in operations]):
                for operation in operations:
                    self._note(operation)
                pause = random.random() * random.choice(self._pauses)
                world.at(pause, lambda: self._next(left - 1))

        for operation in operations:
            operation.then = then
        self._start(request, operations)

    def _operation(self, kind: str, key: int) -> Operation:
        operation = Operation(kind, key, self._world.now)
        self._number += 1
        if kind not in ("delete", "get", "getdel"):
            operation.given = (self._number,)
        if kind == "cas":
            operation.expected = self._world.random.choice(self._known[-3:])
        self.history.append(operation)
        return operation

    def _note(self, operation: Operation) -> None:
        if operation.end is not None:
            is_update = operation.kind not in WRITES and operation.has_written
            value = operation.made if is_update else operation.seen
            self._known.append(operation.given if operation.kind in WRITES else value)

    def _start(self, request: Request, operations: list[Operation]) -> None:
        world = self._world

        def give_up() -> None:
            request.is_over = True
            for operation in operations:
                operation.finish(world.now, is_ok=False)

        world.at(220 if request.dies_at else PATIENCE, give_up)
        kind = operations[0].kind
        task: Task[None]
        if kind in WRITES:
            task = put(world, request, operations[0])
        elif kind == "get":
            task = get(world, request, operations[0])
        else:
            task = update(world, request, self._number, operations)
        world.start(task)

    def _end(self, key: int, done: int) -> None:
        """When all is well: what is there is read, and nothing that was left stops an update."""
        if done < len(LAST):
            operation = self._operation(LAST[done], key)
            pause = self._world.random.random() * self._last_pause
            operation.then = lambda: self._world.at(pause, partial(self._end, key, done + 1))
            self.last.append(operation)
            self._start(Request(self._world.random.choice(self._world.alive())), [operation])


def run(seed: int, broken: Broken, *, moves: bool | None = None) -> History:
    """One world; a third have a row that stays, where that is not said."""
    does_move = seed % 3 > 0 if moves is None else moves
    world = ChangingWorld(seed, broken, moves=does_move)
    collecting = Collecting(world)
    world.on_new = collecting.join
    clients = Clients(world)
    world.run()
    layout = world.log[-1]
    nodes = [world.nodes[name] for name in layout.old]
    is_settled = layout.new is None and all(
        [node.epoch == len(world.log) - 1 and not node.is_lost for node in nodes]
    )
    world.stats["settled"] = int(is_settled)
    world.stats["locks left"] = int(any([node.lock > node.horizon for node in nodes]))
    return History(
        clients.history,
        clients.last,
        [node.records for node in nodes] if is_settled else [],
        [node.lock for node in nodes],
        any([version[1] == (0, 0, 0) for version in world.contents]),
        world.stats,
    )
