# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver stands between: an engine, a node, links and a client, all doing as they are told
and noting what happened in one `story`."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence

from quorate.core.values.events import Batch, Effects, Event, Instant, Result
from quorate.core.values.messages import Frame
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.storage.memory import MemoryEngine

_DEADLINE_S = 10.0


async def until(condition: Callable[[], object], what: str = "condition") -> None:
    """Return as soon as `condition()` is true."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"still waiting for {what}"
        await asyncio.sleep(0.001)


async def turns() -> None:
    """Return when what is due now has been done, and what that made due."""
    for _ in range(5):
        await asyncio.sleep(0)


def batch(number: int, *, size: int = 1) -> Batch:
    """A batch of one record that tells its number."""
    record = Record(pack_version(number, 1), b"x" * size)
    return Batch([(b"row-%d" % number, record)], [], [])


class FakeEngine(MemoryEngine):
    """Refuses writes with `refusal` while that is set; a sync takes until the gate is open."""

    def __init__(self, story: list[str] | None = None, *, needs_sync: bool = True) -> None:
        super().__init__()
        self.needs_sync = needs_sync
        self.story = [] if story is None else story
        self.refusal: Exception | None = None
        self.rows: list[bytes] = []
        """Of the records written, in order."""
        self.writes = 0
        self.syncs = 0
        self.gate = threading.Event()
        self.gate.set()
        self.sync_error: Exception | None = None

    def write(self, batch: Batch) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.writes += 1
        self.rows += [row for row, _ in batch.records]
        self.story.append("write")
        super().write(batch)

    def sync(self) -> None:
        self.syncs += 1
        assert self.gate.wait(_DEADLINE_S)
        if self.sync_error is not None:
            raise self.sync_error


class ScriptedNode:
    """Answers each step with the next of its effects; `steps` has the events of each."""

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.script: deque[Effects | Exception] = deque()
        self.steps: list[list[Event]] = []
        self.inflight = 0

    def step(self, events: Sequence[Event], now: Instant) -> Effects:
        del now
        self.steps.append(list(events))
        self.story.append("step")
        effects = self.script.popleft() if self.script else Effects()
        if isinstance(effects, Exception):
            raise effects
        return effects

    @property
    def events(self) -> list[Event]:
        """Of all steps."""
        return [event for step in self.steps for event in step]

    def frame_header(self) -> tuple[int, int]:
        return 3, 7


class FakeLinks:
    """Keeps what it is given."""

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.sent: list[tuple[str, Frame]] = []
        self.peers: list[str] = []

    def send(self, url: str, frame: Frame) -> None:
        self.story.append(f"send {url}")
        self.sent.append((url, frame))

    def set_peers(self, urls: list[str]) -> None:
        self.peers = urls


class FakeClient:
    """A waiter and a sink in one; raises from either if told to."""

    def __init__(self, story: list[str], name: str = "client") -> None:
        self.story = story
        self.name = name
        self.answers: list[Result] = []
        self.is_broken_in: str = ""
        self.is_aborted = False

    def done(self, result: Result) -> None:
        self.story.append(f"done {self.name}")
        self._break("done")
        self.answers.append(result)

    def flush(self) -> None:
        self.story.append(f"flush {self.name}")
        self._break("flush")

    def abort(self) -> None:
        self.is_aborted = True

    def _break(self, where: str) -> None:
        if self.is_broken_in == where:
            raise RuntimeError(f"broken in {where}")
