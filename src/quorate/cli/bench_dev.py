# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster for one bench on this machine, and what is done to its nodes meanwhile.

Faults are spread evenly over the run: each has a slot of the same length, begins after a quarter of
it, and is over after three quarters. They take the nodes in turn, the last one first.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from quorate.bench.result import NodeFault
from quorate.cli.dev import node_command
from quorate.cli.processes import READY_SECONDS, Child, Children, NodeFailed, free_ports

_BEGIN: Final = 0.25
_END: Final = 0.75


@contextmanager
def dev_cluster(count: int, serve: Sequence[str]) -> Iterator[list[Child]]:
    """Nodes on free ports, ready, with their data in a temporary directory; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="quorate-bench-", ignore_cleanup_errors=True) as name:
        directory, ports = Path(name), free_ports(count)

        def command(port: int) -> list[str]:
            return [*node_command(port, ports, directory), *serve]

        with Children(directory, command, is_temporary=True) as nodes:
            nodes.start(ports)
            yield nodes.all


class Churn:
    """Faults of one run. A context manager: leaving it waits until every node is well again."""

    def __init__(self, nodes: Sequence[Child], kinds: Sequence[str], *, seconds: float) -> None:
        self.faults: list[NodeFault] = []
        self._nodes = nodes
        self._kinds = kinds
        self._seconds = seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failed: NodeFailed | None = None

    def __enter__(self) -> Churn:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._failed is not None:
            raise self._failed

    def begin(self) -> None:
        """The run begins now."""
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        slot = self._seconds / max(len(self._kinds), 1)
        for place, kind in enumerate(self._kinds):
            if self._is_over.wait(began + (place + _BEGIN) * slot - time.monotonic()):
                return
            node = self._nodes[-1 - place % len(self._nodes)]
            begun = time.monotonic()
            try:
                self._do(kind, node, until=began + (place + _END) * slot)
                node.wait_ready(until=time.monotonic() + READY_SECONDS)
            except NodeFailed as fault:
                self._failed = fault
                return
            ended = time.monotonic() - began
            self.faults.append(NodeFault(kind, node.url, round(begun - began, 3), round(ended, 3)))

    def _do(self, kind: str, node: Child, *, until: float) -> None:
        if kind == "pause":
            node.pause()
            self._wait(until)
            node.resume()
            return
        if kind == "kill":
            node.kill()
            self._wait(until)
        else:
            node.terminate()
            node.finish(until=time.monotonic() + READY_SECONDS)
        node.start_again()

    def _wait(self, until: float) -> None:
        self._is_over.wait(until - time.monotonic())
