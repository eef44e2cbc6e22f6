# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks on real nodes, which are killed and paused, and with them processes that hold a lock, at
the worst moment: no two hold it at one time or with one token, and tokens rise (I20).

`scripts/exact ROUNDS` does it whole; here are some rounds of it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from tests.cluster.lock_holder import Step
from tests.cluster.processes import Cluster, wait_until
from tests.cluster.threads import Threads

ROUNDS = int(os.environ.get("QUORATE_EXACT_ROUNDS", "2"))
HOLDERS = 4
FLAGS = ("-heartbeat=200ms", "-timeout=2s", "-write-wait=500ms")
WITHIN_S = 60.0


@dataclass
class Taking:
    """A holder had the lock."""

    holder: int
    token: str
    held_s: float
    """It held it at that time or later: when it last looked, or first asked for it."""
    taken_s: float
    """It held it by then."""


def faults(takings: Sequence[Taking]) -> list[str]:
    """What is wrong with these: two have one token, or one held the lock when another already had a
    higher token."""
    found = []
    ordered = sorted(takings, key=lambda each: each.token)
    longest = ordered[0]
    """Of those with lower tokens, who had it last."""
    for earlier, later in pairwise(ordered):
        if earlier.token == later.token:
            found.append(f"one token: {earlier}, {later}")
        longest = max(longest, earlier, key=lambda each: each.held_s)
        if longest.held_s > later.taken_s:
            found.append(f"held by two: {longest}, {later}")
    return found


class Fence:
    """What the lock guards: it takes no token lower than the highest that it saw."""

    def __init__(self) -> None:
        self.highest = ""
        self.writers: dict[str, set[int]] = {}
        """Of each token, whose writes were taken."""
        self.refused: Counter[int] = Counter()
        """Writes that were not taken, by holder."""

    def write(self, holder: int, token: str) -> None:
        """Take a write, or refuse it."""
        if token < self.highest:
            self.refused[holder] += 1
            return
        self.highest = token
        self.writers.setdefault(token, set()).add(holder)


class Holders(Threads):
    """Processes that hold one lock in turn, and what they told. Nothing of them stays."""

    def __init__(self, urls: Sequence[str], count: int) -> None:
        self.fence = Fence()
        self.takings: list[Taking] = []
        self.seen: Counter[str] = Counter()
        """How many steps of each kind there were."""
        self.stopped: dict[int, str] = {}
        """By holder: the token that it had when it stopped last."""
        self.processes = [_holder(number, urls) for number in range(count)]
        super().__init__(partial(self._listen, number) for number in range(count))

    def __exit__(self, *raised: object) -> None:
        for process in self.processes:
            process.kill()
        super().__exit__(None, None, None)
        for process in self.processes:
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def signal(self, number: int, sent: signal.Signals) -> None:
        """Send one a signal."""
        self.processes[number].send_signal(sent)

    def stop_holding(self, number: int) -> str:
        """Have one stop while it holds the lock: its token."""
        begun = len(self.processes)
        wait_until(lambda: self.seen["begins"] == begun, within_s=WITHIN_S, what="all begin")
        self.stopped.pop(number, None)
        self.signal(number, signal.SIGUSR1)
        pid = self.processes[number].pid
        what = f"holder {number} stops"
        wait_until(lambda: number in self.stopped, within_s=WITHIN_S, what=what)
        wait_until(partial(_is_stopped, pid), within_s=WITHIN_S, what=what)
        return self.stopped[number]

    def wait_for(self, token: str) -> None:
        """Return when somebody has written under a higher one."""
        wait_until(lambda: self.fence.highest > token, within_s=WITHIN_S, what="another one writes")

    def wait_for_failures(self) -> None:
        """Return when more were told that the lock cannot be taken."""
        count = self.seen["failed"] + 3
        wait_until(
            lambda: self.seen["failed"] >= count, within_s=WITHIN_S, what="nobody takes the lock"
        )

    def _listen(self, number: int) -> None:
        stream = self.processes[number].stdout
        assert stream is not None
        for line in stream:
            if line.endswith(b"\n"):
                with self.lock:
                    self._note(number, msgspec.json.decode(line, type=Step))

    def _note(self, number: int, step: Step) -> None:
        self.seen[step.what] += 1
        if step.what == "taken":
            self.takings.append(Taking(number, step.token, step.from_s, step.to_s))
        elif step.what == "stops":
            self.stopped[number] = step.token
        elif step.what == "looked":
            mine = next(each for each in reversed(self.takings) if each.holder == number)
            assert mine.token == step.token
            mine.held_s = step.from_s
        elif step.what == "write":
            self.fence.write(number, step.token)


def _holder(number: int, urls: Sequence[str]) -> subprocess.Popen[bytes]:
    first = number % len(urls)
    words = ["-m", "tests.cluster.lock_holder", str(number), *urls[first:], *urls[:first]]
    return subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )


def _is_stopped(pid: int) -> bool:
    return os.waitpid(pid, os.WUNTRACED | os.WNOHANG)[0] == pid


def test_a_lock_is_held_by_one_whoever_is_paused_or_killed(tmp_path: Path) -> None:
    """Each time a holder stops after it looked, and goes on when another one has written; so does
    one that waits, or holds, at any moment. Meanwhile a node is dead, or paused, or two are."""
    drawn = random.Random(17)
    with Cluster(tmp_path, *FLAGS) as cluster, Holders(cluster.urls, HOLDERS) as holders:
        for number in range(ROUNDS):
            late, other = drawn.sample(range(HOLDERS), 2)
            refused = holders.fence.refused[late]
            token = holders.stop_holding(late)
            holders.signal(other, signal.SIGSTOP)
            DISTURBANCES[number % len(DISTURBANCES)](cluster, holders, token, drawn)
            for each in (late, other):
                holders.signal(each, signal.SIGCONT)
            wait_until(
                lambda: holders.fence.refused[late] > refused,  # noqa: B023
                within_s=WITHIN_S,
                what="the late write is refused",
            )
    assert faults(holders.takings) == []
    shared = {token: each for token, each in holders.fence.writers.items() if len(each) > 1}
    assert shared == {}
    # Nobody but who was stopped wrote under a token that was not the highest.
    print(f"{len(holders.takings)} times held, {holders.fence.refused.total()} writes refused")


def _one_is_dead(cluster: Cluster, holders: Holders, token: str, drawn: random.Random) -> None:
    drawn.choice(cluster.nodes).kill()
    holders.wait_for(token)
    cluster.start()


def _one_is_paused(cluster: Cluster, holders: Holders, token: str, drawn: random.Random) -> None:
    node = drawn.choice(cluster.nodes)
    node.signal(signal.SIGSTOP)
    holders.wait_for(token)
    node.signal(signal.SIGCONT)
    cluster.wait_ready()


def _two_are_paused(cluster: Cluster, holders: Holders, token: str, drawn: random.Random) -> None:
    """Nobody takes the lock, though its time is over."""
    nodes = drawn.sample(cluster.nodes, 2)
    for node in nodes:
        node.signal(signal.SIGSTOP)
    holders.wait_for_failures()
    for node in nodes:
        node.signal(signal.SIGCONT)
    cluster.wait_ready()
    holders.wait_for(token)


DISTURBANCES: Final = (_one_is_dead, _one_is_paused, _two_are_paused)


def test_who_holds_a_lock_beside_another_is_noticed() -> None:
    """The judge itself."""
    first, second = Taking(0, "a", 5.0, 1.0), Taking(1, "b", 9.0, 6.0)
    assert faults([second, first]) == []
    assert faults([first, replace(second, taken_s=4.0)])
    assert faults([replace(first, token="c"), second])
    assert faults([replace(first, token="b"), second])
