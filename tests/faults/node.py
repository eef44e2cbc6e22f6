# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose system calls are disturbed, and what it owes whoever reads its log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.processes import NodeProcess, fetch, wait_until
from tests.faults.calls import Action, Calls, Kind

EXIT_FAILED: Final = 1
EXIT_UNUSABLE: Final = 2
"""Told to use a data directory that it cannot use."""
CALM_S: Final = 20.0
"""A node that met a fault serves again, or has ended, within this."""
REASONS: Final = ('"event": "stopped"', "quorate: ")
"""One of these is in the line that says why a node ended: while it served, or before."""


@dataclass
class Fault:
    """Which calls meet what."""

    kind: Kind
    first: int
    action: Action
    value: int = 0
    times: int = 1
    at_start: bool = False
    """Whether it is met while the node starts, on a directory that has something in it."""

    def __str__(self) -> str:
        where = "start" if self.at_start else "load"
        times = "" if self.times == 1 else f" and on, {self.times} of them"
        return f"{where}: {self.action.name} {self.value} at {self.kind.name} {self.first}{times}"


@dataclass
class Found:
    """What came of a fault."""

    wrong: list[str]
    """What was not as it must be."""
    counts: dict[Kind, int]
    """Calls of each kind that were made while they were counted."""

    def has_met(self, fault: Fault) -> bool:
        """Whether there was such a call at all."""
        return self.counts[fault.kind] >= fault.first


class FaultyNode:
    """A node under the preloaded library, which does nothing before `meet`."""

    def __init__(self, node: NodeProcess, library: Path) -> None:
        self.node = node
        self.calls = Calls(library, node.log.with_suffix(".plan"), node.data)
        node.environment = self.calls.environment
        self.wrong: list[str] = []
        self._met: Fault | None = None
        self._log_bytes = 0
        """Of what it logged before the fault."""

    def meet(self, fault: Fault | None) -> None:
        """Count from now on, and have the calls of the fault meet it."""
        self._met = fault
        self._log_bytes = self.node.log.stat().st_size if self.node.log.exists() else 0
        self.calls.clear()
        if fault is not None:
            self.calls.disturb(
                fault.kind, fault.first, fault.action, fault.value, times=fault.times
            )
        self.calls.count(is_on=True)

    def start(self) -> None:
        """Start it under the fault; return when it listens, or has ended. Its log tells: the way to
        its clients may be what is disturbed."""
        self.node.start()
        wait_until(self._is_listening, within_s=CALM_S, what="it listens, or has ended")

    def recover(self) -> None:
        """End the fault; return when the node serves or has ended, and said why in one line."""
        self.calls.count(is_on=False)
        wait_until(self._is_settled, within_s=CALM_S, what="it serves again, or has ended")
        log = self._logged()
        if "Traceback" in log:
            self.wrong.append(f"there is a traceback in its log: {log[-2000:]}")
        if not self.node.is_running:
            self._judge_end(log.splitlines())

    def found(self) -> Found:
        """What came of the fault; what is found from now on is of the next."""
        self.calls.count(is_on=False)
        wrong, self.wrong = self.wrong, []
        return Found(wrong, {kind: self.calls.counted(kind) for kind in Kind})

    def _logged(self) -> str:
        return self.node.log.read_bytes()[self._log_bytes :].decode()

    def _is_listening(self) -> bool:
        if self._met is not None and self._met.kind is Kind.LOG:
            return self._is_settled()
        return '"event": "listening"' in self._logged() or not self.node.is_running

    def _is_settled(self) -> bool:
        if not self.node.is_running:
            return True
        try:
            return fetch(f"{self.node.url}/readyz")[0] == 200
        except OSError:
            return False

    def _judge_end(self, lines: list[str]) -> None:
        code = self.node.wait()
        if code not in (EXIT_FAILED, EXIT_UNUSABLE):
            self.wrong.append(f"it ended with exit code {code}")
        reasons = [line for line in lines if any(each in line for each in REASONS)]
        can_log = self._met is None or self._met.kind is not Kind.LOG
        if can_log and len(reasons) != 1:
            self.wrong.append(f"why it ended is not in one line: {lines[-5:]}")
