# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs a loop runs on both, and fails if the loop saw an unhandled error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator

import pytest
import uvloop

from tests.ports import free_port

Run = Callable[[Coroutine[object, object, None]], None]

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_TEST_S = 30.0


@pytest.fixture(params=_LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine to its end on a new loop."""

    def run_on_new_loop(main: Coroutine[object, object, None]) -> None:
        faults: list[dict[str, object]] = []
        with asyncio.Runner(loop_factory=_LOOPS[request.param]) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: faults.append(context))
            runner.run(asyncio.wait_for(main, _TEST_S))
        assert faults == []

    return run_on_new_loop


@pytest.fixture
def ports() -> Iterator[int]:
    """Free ports: each stays ours while nobody listens on it."""
    return iter(free_port, None)
