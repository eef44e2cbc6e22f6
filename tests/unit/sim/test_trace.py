# SPDX-License-Identifier: GPL-3.0-or-later
"""The transcript can be read, and its hash covers what nodes did (I29)."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from quorate.core.values.events import Effects, Note, PutResult
from quorate.errors import QuorumUnreachable
from quorate.sim.cluster import SimCluster
from quorate.sim.history import Kind
from quorate.sim.noise import Noise
from quorate.sim.plan import Request
from quorate.sim.trace import Recorder, Trace
from quorate.sim.workload import Clients
from quorate.sim.world import World
from tests.simulation import asking
from tests.simulation.asking import Handle

_PROGRAM = "from tests.unit.sim.test_trace import eventful; print(eventful(7).recorder.digest())"


def eventful(seed: int, trace: Trace | None = None) -> SimCluster:
    """A cluster that went through a few things."""
    cluster = SimCluster(seed, 4, trace=trace, is_tolerant=True)
    for wire in cluster.wires.values():
        wire.noise = Noise(loss=0.05, duplicate=0.05, reorder=0.1, late=0.05, damage=0.02)
    for number in range(40):
        asking.put(cluster, number % 4, b"key%d" % (number % 7), b"value %d" % number)
        asking.get(cluster, number % 3, b"key%d" % (number % 7))
        cluster.run(5)
        if number == 10:
            asking.split(cluster, [0, 1], [2, 3])
        if number == 20:
            asking.heal(cluster)
            cluster.kill(2)
        if number == 30:
            cluster.restart(2)
    cluster.run(10_000)
    return cluster


def _lines(seed: int = 1) -> list[str]:
    lines: list[str] = []
    eventful(seed, Trace(lines.append))
    return lines


def test_a_line_says_when_who_what_and_why_in_the_order_of_time() -> None:
    lines = _lines()
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times)
    assert all(re.match(r" *\d+\.\d{3}  n[0-3]   [a-z]+ ", line) for line in lines)
    assert not any("\n" in line for line in lines)


def test_a_request_can_be_followed_from_the_ask_to_the_answer() -> None:
    lines: list[str] = []
    cluster = SimCluster(1, 3, trace=Trace(lines.append))
    asking.must_put(cluster, 0, b"k", b"some value", w=3)
    told = "\n".join(lines)
    for needed in (
        r"n0 +ask +#1 put k = some value, w=3",
        r"n0 +store +mark \d+: k @\d+\.\d+/\w{4}",
        r"n0 +send +to n2: 1 Mutate",
        r"n2 +hear +n0: 1 Mutate",
        r"n2 +durable +up to mark \d",
        r"n2 +send +to n0: 1 Mutated",
        r"n0 +answer +#1 is done @\d+\.\d+/\w{4}, 3 of 3 acks, after \d\.\d ms",
    ):
        assert re.search(needed, told), f"{needed} is missing:\n{told}"


def test_faults_and_links_and_notes_have_their_lines() -> None:
    told = "\n".join(_lines())
    for needed in (
        "fault    power cut",
        "fault    restart",
        "fault    cut to n2",
        "fault    frame lost",
        "link     to n2 is down",
        "link     to n2 is up",
    ):
        assert needed in told, needed


def test_an_update_says_what_it_is_and_what_it_made_of_what() -> None:
    lines: list[str] = []
    cluster = SimCluster(1, 3, trace=Trace(lines.append))
    clients = Clients(cluster, patience_ms=600)
    for request in (
        Request(1, Kind.APPEND, b"k"),
        Request(2, Kind.LOCK, b"k"),
        Request(3, Kind.GETDEL, b"k", tries=2),
    ):
        cluster.run_until(clients.ask(4, 0, request).is_answered)
    told = "\n".join(lines)
    for needed in (
        r"ask +#1 append k$",
        r"send +to n1: 1 PrepareRows",
        r"hear +n[12]: 1 promised",
        r"send +to n1: 1 AcceptRows",
        r"hear +n[12]: 1 accepted",
        r"store +mark \d+: votes on 1 rows",
        r"answer +#1 makes 4\|1\S+ @\S+\+\d+ of nothing, [23] of 3 acks",
        r"answer +#2 leaves 4\|1\S+ @",
        r"ask +#3 getdel k, as request 400000003$",
        r"answer +#3 makes a tombstone @\S+ of 4\|1",
    ):
        assert re.search(needed, told, re.MULTILINE), f"{needed} is missing:\n{told}"


def test_heartbeats_have_no_lines() -> None:
    lines: list[str] = []
    cluster = SimCluster(1, 3, trace=Trace(lines.append))
    cluster.run(100)
    count = len(lines)
    cluster.run(60_000)
    assert len(lines) == count


def test_a_failure_is_told_with_what_became_of_the_write() -> None:
    lines: list[str] = []
    cluster = SimCluster(1, 3, trace=Trace(lines.append), write_wait_ms=100)
    cluster.kill(1)
    cluster.kill(2)
    cluster.run(20)
    asking.finish(cluster, asking.put(cluster, 0, b"k", None))
    assert "#1 delete k" in "".join(lines)
    assert re.search(r"answer +#1 fails: .*, not_applied, after", lines[-1])


# --- the hash ----------------------------------------------------------------------------------


def test_a_transcript_changes_nothing() -> None:
    lines: list[str] = []
    assert eventful(3, Trace(lines.append)).recorder.digest() == eventful(3).recorder.digest()


def test_the_hash_is_the_same_in_every_process_and_another_for_another_seed() -> None:
    here = eventful(7).recorder.digest()
    assert here != eventful(8).recorder.digest()
    path = os.pathsep.join(entry for entry in sys.path if entry)
    for salt in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == here


def test_the_hash_covers_time_node_sends_answers_and_notes() -> None:
    def digest(who: str, effects: Effects, now: float = 1.0) -> str:
        world = World(1)
        world.now = now
        journal = Recorder(world, None)
        journal.step(who, [], effects)
        return journal.digest()

    plain, said, noted, answered, failed = (Effects() for _ in range(5))
    said.sends = {1: []}
    noted.notes = [Note("info", "peer_up", {})]
    waiter = Handle(World(1))
    answered.answers = [(waiter, PutResult(b"v", 2, 3))]
    failed.answers = [(waiter, QuorumUnreachable("too few", needed=2))]
    digests = {digest("n0", each) for each in (plain, said, noted, answered, failed)}
    digests |= {digest("n1", plain), digest("n0", plain, now=2.0)}
    assert len(digests) == 7
    assert digest("n0", plain) in digests
