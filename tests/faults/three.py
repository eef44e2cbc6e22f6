# SPDX-License-Identifier: GPL-3.0-or-later
"""Three durable nodes, of which the first meets one fault after another while clients of all work.

Judged by the simulator's checkers (`tests.cluster.chaos`), once all three were killed and started
again without faults: no acknowledged write is lost, and what was read is linearizable. Beside that

- requests to the other two succeed throughout;
- the first serves again, or has ended and said why;
- each node that acknowledged has what it acknowledged. The other two hide it if the first has not:
  so some writes ask for all three, and before anything is read, which would repair it, every node
  is asked for its own copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from quorate.client import Client
from quorate.core.values.events import PutResult
from quorate.errors import QuorateError
from quorate.sim.history import ClientOperation
from tests.cluster.chaos import FLAGS, Chaos, chaos_on
from tests.cluster.processes import Cluster
from tests.cluster.recorder import N, held
from tests.faults.node import Fault, FaultyNode, Found

FAULTY: Final = 0
ANSWERS: Final = 30
"""So many operations succeed before a fault, during it, and after all were started again."""


class Three:
    """The nodes, for many faults. Use as a context manager: nothing of it stays."""

    def __init__(self, directory: Path, library: Path) -> None:
        self.cluster = Cluster(directory, *FLAGS)
        self.faulty = FaultyNode(self.cluster.nodes[FAULTY], library)
        self._faults = 0

    def __enter__(self) -> Three:
        self.cluster.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.end()
        self.faulty.calls.close()

    def meet(self, fault: Fault) -> Found:
        """Work under the fault, and judge what is there after it."""
        try:
            self._work(fault)
        except (AssertionError, QuorateError) as error:
            self.faulty.wrong.append(str(error))
        return self.faulty.found()

    def _work(self, fault: Fault) -> None:
        self._faults += 1
        name = f"fault{self._faults}"
        with chaos_on(self.cluster, name, answers=ANSWERS, once_w=N) as chaos:
            if fault.at_start:
                self.faulty.node.kill()
            self.faulty.meet(fault)
            if fault.at_start:
                self.faulty.start()
            chaos.goes_on(without=[FAULTY])
            self.faulty.recover()
            self.cluster.kill()
            self.cluster.start()
            self.faulty.wrong += self._not_kept(chaos)
            chaos.work()

    def _not_kept(self, chaos: Chaos) -> list[str]:
        """Copies that are missing at a node that acknowledged them."""
        with chaos.recorder.lock:
            operations = list(chaos.recorder.history.operations)
        kept = [op for op in operations if op.w == N and isinstance(op.result, PutResult)]
        return [told for url in self.cluster.urls for told in _missing(url, kept)]


def _missing(url: str, kept: list[ClientOperation]) -> Iterator[str]:
    """What a node that acknowledged these writes does not have."""
    with Client(url) as client:
        for op in kept:
            record = held(client, op.key)
            if record is None or record.version < op.version:
                yield f"{url} acknowledged {op}, and has {record}"
