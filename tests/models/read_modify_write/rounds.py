# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the replicas of a layout at once.

A round belongs to the layout under which it was sent. Where a replica has a later one, what was
heard until then counts no more, and whoever asked begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from tests.models.read_modify_write.replica import Replica
from tests.models.read_modify_write.world import World

T = TypeVar("T")


class Request:
    """What a coordinator does for its clients, and when it dies of it."""

    __slots__ = ("coordinator", "dies_at", "is_over", "rounds", "tries")

    def __init__(self, coordinator: int, dies_at: int = 0) -> None:
        self.coordinator = coordinator
        self.dies_at = dies_at
        """In which round it dies: it reaches some and hears nobody. 0: it does not."""
        self.rounds = 0
        self.tries = 0
        self.is_over = False


class Rest:
    """A while in which nothing happens."""

    def __init__(self, world: World, delay: float) -> None:
        self._world = world
        self._delay = delay

    def begin(self, then: Callable[[], None]) -> None:
        """Call `then` after it."""
        self._world.at(self._delay, then)


class Round(Generic[T]):
    """One question to all replicas of a layout, or to some of them."""

    def __init__(
        self,
        world: World,
        request: Request,
        step: Callable[[Replica], T],
        is_enough: Callable[[Round[T]], bool],
        *,
        patience: float = 130,
        to: Collection[int] | None = None,
    ) -> None:
        self._world = world
        self._request = request
        self._step = step
        self._is_enough = is_enough
        self._patience = patience
        self.epoch = world.nodes[request.coordinator].epoch
        members = world.log[self.epoch].members
        self.to = members if to is None else [name for name in members if name in to]
        self.told: dict[int, T] = {}
        self.is_stale = False
        self._is_closed = False
        self.hear: Callable[[int, T | None], None] | None = None
        """Told of each answer, late ones too; None is a refusal under a later layout."""

    def begin(self, then: Callable[[], None]) -> None:
        """Send it; call `then` when enough, or all, have answered, or none may wait for."""
        world, request = self._world, self._request
        if request.is_over or world.nodes[request.coordinator].is_lost:
            return
        request.rounds += 1
        if request.dies_at and request.rounds > request.dies_at:
            return
        is_dying = request.rounds == request.dies_at

        def close() -> None:
            if not self._is_closed:
                self._is_closed = True
                then()

        def go() -> None:
            for name in self.to:
                if is_dying and world.random.random() < 0.5:
                    continue
                back = None if is_dying else self._listen(name, close)
                world.send(request.coordinator, name, self.epoch, self._step, back)
            if not is_dying:
                world.at(self._patience, close)
                if not self.to:
                    close()

        if not world.is_over and world.random.random() < world.stalls:
            world.at(world.random.random() * 100, go)
        else:
            go()

    def _listen(self, name: int, close: Callable[[], None]) -> Callable[[T | None], None]:
        def back(answer: T | None) -> None:
            if self.hear is not None:
                self.hear(name, answer)
            if self._is_closed:
                return
            if answer is None:
                self.is_stale = True
                close()
                return
            self.told[name] = answer
            if self._is_enough(self) or self.has_all:
                close()

        return back

    @property
    def has_all(self) -> bool:
        """Whether all that were asked have answered."""
        return len(self.told) == len(self.to)

    def is_quorum(self, is_counted: Callable[[T], bool] = lambda _: True) -> bool:
        """Whether the answers that count are majorities of all rows."""
        counted = [name for name, answer in self.told.items() if is_counted(answer)]
        return self._world.is_quorum(self.epoch, counted)

    def is_hopeless(self, is_lost: Callable[[T], bool]) -> bool:
        """Whether, without those whose answers are lost, no majorities are left."""
        lost = {name for name, answer in self.told.items() if is_lost(answer)}
        members = self._world.log[self.epoch].members
        return not self._world.is_quorum(self.epoch, [n for n in members if n not in lost])
