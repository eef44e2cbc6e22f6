# SPDX-License-Identifier: GPL-3.0-or-later
"""A call back that raises ends the node, whoever asked for it; then it is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.errors import StorageError
from quorate.host.driver import Supervised
from tests.unit.host.fakes import VirtualSystem

FAULT = RuntimeError("invariant")


class Stage:
    """A supervised system, and why the node was ended."""

    def __init__(self) -> None:
        self.system = VirtualSystem()
        self.supervised = Supervised(self.system, self.system.end)

    def break_(self) -> None:
        raise FAULT

    def soon(self) -> None:
        self.supervised.soon(self.break_)
        self.system.turn()

    def timer(self) -> None:
        self.supervised.later(5, self.break_)
        self.system.run(5)

    def sync(self) -> None:
        self.supervised.sync(lambda _: self.break_())
        self.system.end_sync()

    def guarded(self) -> None:
        self.supervised.guarded(self.break_)()


@pytest.mark.parametrize("make", [Stage.soon, Stage.timer, Stage.sync, Stage.guarded])
def test_a_fault_in_any_call_back_ends_the_node_and_is_reported_after_that(
    make: Callable[[Stage], None],
) -> None:
    stage = Stage()
    make(stage)
    assert stage.system.ends == ["internal fault: RuntimeError('invariant')"]
    assert stage.system.faults == [("internal_fault", FAULT)]
    assert stage.system.story == ["end", "fault internal_fault"]


def test_what_does_not_raise_is_made_as_asked() -> None:
    stage = Stage()
    made: list[str] = []
    errors: list[BaseException | None] = []
    stage.supervised.soon(lambda: made.append("soon"))
    stage.supervised.later(5, lambda: made.append("later"))
    cancelled = stage.supervised.later(5, lambda: made.append("cancelled"))
    cancelled.cancel()
    assert made == []
    stage.system.run(4)
    assert made == ["soon"]
    stage.system.run(1)
    assert made == ["soon", "later"]
    error = StorageError("Input/output error")
    for told in (None, error):
        stage.supervised.sync(errors.append)
        stage.system.end_sync(told)
    assert errors == [None, error]
    assert (stage.system.ends, stage.system.faults) == ([], [])


def test_nothing_that_is_no_fault_of_a_program_is_caught() -> None:
    stage = Stage()

    def interrupt() -> None:
        raise KeyboardInterrupt

    stage.supervised.soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.system.turn()
    assert stage.system.ends == []
