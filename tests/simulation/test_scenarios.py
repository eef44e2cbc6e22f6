# SPDX-License-Identifier: GPL-3.0-or-later
"""The great scenarios: what a user is promised in each, and its transcript as a readable file.

A scenario drives a cluster by hand and asserts what was promised. All that happened meanwhile is
compared, line by line, with `scenarios/NAME.txt`: a change of behaviour that breaks no promise
shows there too, to be read and, if it was meant, written anew:

    python -m tests.simulation.test_scenarios --write
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from quorate.core.topology.membership import LAYOUT_META
from quorate.core.values.events import Batch, GetResult, PutResult
from quorate.core.values.slots import PARTITION_COUNT, row_of
from quorate.errors import ClockUntrusted, Outcome, QuorateError
from quorate.sim.cluster import SimCluster
from tests.simulation import asking, scenarios_of_collection
from tests.simulation.stage import Stage

DIRECTORY: Final = Path(__file__).with_name("scenarios")
WRITE_COMMAND: Final = "python -m tests.simulation.test_scenarios --write"
LINES_MAX: Final = 100
"""Of a transcript that somebody will read."""
_PROGRAM: Final = """
from tests.simulation.test_scenarios import SCENARIOS, transcript
from tests.simulation import asking
for name in SCENARIOS:
    print(*transcript(name), sep="\\n")
"""


# --- the scenarios -----------------------------------------------------------------------------


def one_node_down() -> Stage:
    """One of three nodes is down while others write.

    Writes go on, for two of three replicas are enough. The coordinator keeps a hint for the third,
    durably, and hands it over when that node returns: nobody has to do anything.
    """
    stage = Stage()
    cluster = stage.cluster
    cluster.kill(2)
    cluster.run(20)
    stage.tell("Two of three are enough; what n2 misses is kept for it.")
    stage.put(0, b"a", b"1")
    stage.put(1, b"b", b"2")
    assert [cluster.machines[index].node.hints.total for index in (0, 1)] == [1, 1]
    stage.tell("It returns and is given what it missed.")
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    stage.until_hints_are_gone()
    stage.assert_converged(a=b"1", b=b"2")
    stage.tell("It answers as the others do.")
    stage.assert_read(2, b"a", b"1")
    return stage


def split_in_two() -> Stage:
    """Five nodes are split into three and two; k has two of its replicas among the three.

    The three go on. The two refuse, and are honest: a write that they took before they knew of the
    split may survive (unknown), a later one was never sent to anybody (not applied), and a read
    fails rather than find nothing. After the heal all replicas have what the three agreed on.

    Left out are the twelve links between the sides: how each is cut, goes down and comes up again.
    """
    stage = Stage(5, hidden=("cut to", "link     to"))
    cluster = stage.cluster
    assert sorted(cluster.replicas(b"k")) == [1, 2, 3]
    stage.tell("The split. n3 does not know of it yet when it is asked to write.")
    asking.split(cluster, [0, 1, 2], [3, 4])
    early = asking.put(cluster, 3, b"k", b"minority")
    cluster.run(20)
    assert early.result is None
    stage.tell("The links break: now everyone knows.")
    for wire in cluster.wires.values():
        if wire.is_cut:
            wire.reset()
    stage.assert_failed(early, Outcome.UNKNOWN)
    stage.tell("The three go on.")
    stage.put(1, b"k", b"majority")
    stage.assert_read(0, b"k", b"majority")
    stage.tell("The two refuse.")
    read = asking.get(cluster, 4, b"k")
    late = asking.put(cluster, 3, b"k", b"refused")
    stage.assert_failed(read, None)
    stage.assert_failed(late, Outcome.NOT_APPLIED)
    stage.tell("The heal. Hints go both ways; the newer write wins everywhere.")
    asking.heal(cluster)
    cluster.run_until(cluster.is_connected)
    stage.until_hints_are_gone()
    stage.assert_converged(k=b"majority")
    stage.assert_read(4, b"k", b"majority")
    return stage


def flapping_link() -> Stage:
    """The link between two of three nodes comes and goes, and goes again while hints cross it.

    Each time it goes, it takes a write to the third replica with it. Requests do not notice, for
    another replica is enough; what was lost is kept as a hint and arrives when the link holds.
    """
    stage = Stage()
    cluster = stage.cluster
    for number, told in enumerate(("The link goes.", "It was back for a moment.")):
        stage.tell(told)
        asking.split(cluster, [0], [1])
        write = asking.put(cluster, 0, b"k", b"%d" % number)
        asking.finish(cluster, write)
        assert write.of(PutResult).acks == 2
        for wire in cluster.wires.values():
            if wire.is_cut:
                wire.reset()
        cluster.run(5)
        asking.heal(cluster)
        cluster.run_until(cluster.is_connected)
    stage.tell("The link holds. A reader at n1 gets what n1 missed.")
    stage.assert_read(1, b"k", b"1")
    stage.tell("The hints arrive.")
    stage.until_hints_are_gone()
    stage.assert_converged(k=b"1")
    return stage


def slow_replica() -> Stage:
    """One of three replicas takes 200 ms for everything.

    A write is done with the other two. A read that was asked of the slow one is asked of another
    too once it is later than that one nearly always is (hedged), and later reads avoid it.
    """
    stage = Stage()
    cluster = stage.cluster
    stage.given(b"k", b"old")
    cluster.machines[2].turn_ms = (200.0, 200.0)
    stage.tell("n2 is slow from now on. A read that asks it does not wait for it.")
    hedged = asking.get(cluster, 0, b"k")
    asking.finish(cluster, hedged)
    assert hedged.of(GetResult).answers == 2
    assert 20 <= hedged.took_ms < 30
    assert asking.counter(cluster, "reads_hedged") == 1
    stage.tell("Nor does a write.")
    write = asking.put(cluster, 0, b"k", b"new")
    asking.finish(cluster, write)
    assert write.took_ms < 20
    cluster.run(500)
    stage.tell("The next read asks the quicker one first.")
    avoiding = asking.get(cluster, 0, b"k")
    asking.finish(cluster, avoiding)
    assert avoiding.took_ms < 10
    assert asking.counter(cluster, "reads_hedged") == 1
    stage.assert_converged(k=b"new")
    return stage


def clock_ahead() -> Stage:
    """The clock of one of three nodes is one minute ahead; one second is allowed.

    The others refuse its stamps, and say so in their logs, lest its writes win over everyone's for
    a minute. They go on with each other, and readers pass over what it holds. Its write ends as
    unknown, for it took that itself; unknown it stays until the minute is over: then it is a write
    like others, and the newest. Once its clock is right it writes nothing, and says that nothing
    was written, until the time has come that it has seen already.
    """
    stage = Stage()
    cluster = stage.cluster
    stage.given(b"k", b"before")
    stage.tell("n2 is a minute ahead. Nobody takes what it writes.")
    cluster.step_clock(2, 60_000)
    future = asking.put(cluster, 2, b"k", b"from the future")
    asking.finish(cluster, future)
    assert future.of(QuorateError).outcome is Outcome.UNKNOWN
    notes = [note.event for machine in cluster.machines[:2] for note in machine.notes]
    assert notes.count("peer_clock_too_far_ahead") == 2
    stage.tell("The others go on.")
    stage.put(0, b"k", b"now")
    stage.assert_read(1, b"k", b"now")
    stage.tell("Its clock is put right: now it is behind what it has seen itself.")
    cluster.step_clock(2, -60_000)
    refused = asking.put(cluster, 2, b"k", b"refused")
    asking.finish(cluster, refused)
    assert refused.of(ClockUntrusted).outcome is Outcome.NOT_APPLIED
    stage.tell("A minute later the unknown write shows, to all alike.")
    cluster.run(61_000)
    assert asking.must_get(cluster, 0, b"k", r=3).repaired == 2
    cluster.run(20)
    stage.assert_converged(k=b"from the future")
    return stage


def crash_before_ack() -> Stage:
    """A coordinator dies after it sent a write and before it answered.

    Its client hears nothing: the write may have happened or not. One replica has it; the disk of
    the dead node was too slow to keep it. The first reader that finds it writes it back to a
    majority, and only then answers, so nobody reads the old value after it. The dead node, back,
    is told the same.
    """
    stage = Stage(seed=2)
    cluster = stage.cluster
    stage.given(b"k", b"old")
    stage.tell("n0 writes; only n1 gets it before n0 dies.")
    cluster.cut(0, 2)
    cluster.machines[0].stall(20)
    unanswered = asking.put(cluster, 0, b"k", b"new")

    def has_arrived() -> bool:
        record = cluster.machines[1].disk.durable(row_of(b"k"))
        return record is not None and record.value == b"new"

    cluster.run_until(has_arrived)
    cluster.kill(0)
    assert cluster.recorder.faults["batches lost"] == 1
    cluster.run(20)
    cluster.mend(0, 2)
    stage.tell("The replica that lacks it is asked: it finds the other's, and takes it first.")
    stage.assert_read(2, b"k", b"new")
    stage.assert_read(1, b"k", b"new")
    stage.tell("n0 returns, and is brought up to date by the first read.")
    cluster.restart(0)
    cluster.run_until(cluster.is_connected)
    assert asking.must_get(cluster, 0, b"k").repaired == 1
    cluster.run(20)
    assert unanswered.result is None
    stage.assert_converged(k=b"new")
    return stage


def death_of_the_hint_holder() -> Stage:
    """A node keeps hints for another, and dies too, before that one is back.

    No write is lost, for two replicas had each. The node that missed them finds a key by reading
    it; the rest waits until the holder returns, whose hints survived on its disk.
    """
    stage = Stage()
    cluster = stage.cluster
    stage.tell("n2 is down; n0 keeps hints for it.")
    cluster.kill(2)
    cluster.run(20)
    stage.put(0, b"a", b"1")
    stage.put(0, b"b", b"2")
    stage.tell("n0 dies, n2 returns: nobody has hints for it, but reads find all there is.")
    cluster.kill(0)
    cluster.run(20)
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    stage.assert_read(2, b"a", b"1")
    cluster.run(20)
    assert asking.held(cluster, 2, b"b") is None
    stage.tell("n0 returns, with its hints.")
    cluster.restart(0)
    cluster.run_until(cluster.is_connected)
    stage.until_hints_are_gone()
    stage.assert_converged(a=b"1", b=b"2")
    return stage


def loss_of_a_disk() -> Stage:
    """A node loses its disk and comes back with an empty one.

    That is another node: it is in no layout, holds nothing, and is asked for nothing, so it cannot
    say that there is nothing. It asks the two others, and so does everybody. What is written
    meanwhile waits for the lost disk as hints, and is there when that turns up again.
    """
    stage = Stage()
    cluster = stage.cluster
    stage.given(b"a", b"1")
    stage.given(b"b", b"2")
    stage.tell("The disk of n1 is replaced.")
    cluster.kill(1)
    cluster.run(20)
    lost = cluster.machines[1].image()
    cluster.restart(1, is_empty=True)
    cluster.run_until(lambda: cluster.machines[1].node.membership.topology)
    cluster.run(20)
    stage.tell("Whoever asks it is told what the others have.")
    stage.assert_read(1, b"a", b"1")
    stage.put(0, b"b", b"3")
    assert [asking.held(cluster, 1, key) for key in (b"a", b"b")] == [None, None]
    stage.tell("The lost disk turns up: it is the member that it was.")
    cluster.kill(1)
    cluster.run(20)
    cluster.restart(1, image=lost)
    cluster.run_until(cluster.is_connected)
    stage.until_hints_are_gone()
    stage.assert_converged(a=b"1", b=b"3")
    return stage


def an_old_disk() -> Stage:
    """A node's disk is put back as it was before.

    It has the id that it had, and lacks what was acknowledged since. Peers have heard how far it
    was, and say so in their answers to its greetings: the node ends before it answers anything. Its
    operator gives the old copies up; the empty disk takes their place, and is given all keys.

    Of the refill only what nodes note is shown: it goes on for hundreds of lines.
    """
    stage = Stage(hidden=(" link ",))
    cluster = stage.cluster
    stage.given(b"a", b"1")
    old = cluster.machines[1].image()
    cluster.run(1_000)
    stage.put(0, b"a", b"2")
    cluster.run(2_000)
    stage.lines.clear()
    stage.tell("The disk of n1 is put back: it is found out.")
    cluster.kill(1)
    cluster.run(20)
    cluster.restart(1, image=old)
    held = asking.held(cluster, 1, b"a")
    assert held is not None
    assert held.value == b"1"
    cluster.run_until(lambda: not cluster.machines[1].is_running, 1_000)
    stage.assert_read(0, b"a", b"2")
    stage.tell("It is given up, and the empty disk is refilled.")
    cluster.restart(1, is_empty=True)
    own_id = cluster.machines[1].settings.node_id
    told = len(stage.lines)
    cluster.run_until(lambda: _holds_all(cluster, own_id))
    cluster.run(20)
    stage.lines[told:] = [line for line in stage.lines[told:] if "  note  " in line]
    record = asking.held(cluster, 1, b"a")
    assert record is not None
    assert record.value == b"2"
    return stage


def a_newer_layout() -> Stage:
    """A node comes back with a layout of a higher epoch than the others have.

    Who links with it learns it from its greeting. Who cannot, here n1, is refused by one that has.
    The layout comes with the refusal, n1 adopts it, and begins anew what was refused, with the same
    stamp: its client sees nothing of it.
    """
    stage = Stage(hidden=(" Ping", " Pong"))
    cluster = stage.cluster
    layout = cluster.machines[2].node.membership.current().layout
    newer = asking.newer(layout).encode()
    stage.tell("n2 returns with epoch 3; nothing goes between n1 and n2.")
    cluster.kill(2)
    cluster.run(20)
    cluster.cut(1, 2)
    cluster.cut(2, 1)
    cluster.machines[2].disk.format(Batch([], [], [(LAYOUT_META, newer)]))
    cluster.restart(2)
    cluster.run_until(lambda: cluster.machines[0].node.membership.epoch == 3)
    stage.tell("n1 has epoch 2 still, and writes.")
    assert cluster.machines[1].node.membership.epoch == 2
    stage.put(1, b"k", b"2")
    assert cluster.machines[1].node.membership.epoch == 3
    stage.tell("All can talk to all.")
    asking.heal(cluster)
    cluster.run_until(cluster.is_connected)
    stage.until_hints_are_gone()
    stage.assert_converged(k=b"2")
    return stage


def _holds_all(cluster: SimCluster, node_id: int) -> bool:
    """Whether a disk has copies of everything, and none move any more."""
    layout = cluster.machines[1].node.membership.layout
    assert layout is not None
    return layout.copies().get(node_id) == PARTITION_COUNT and not layout.moves


SCENARIOS: Final[dict[str, Callable[[], Stage]]] = {
    play.__name__: play
    for play in (
        one_node_down,
        split_in_two,
        flapping_link,
        slow_replica,
        clock_ahead,
        crash_before_ack,
        death_of_the_hint_holder,
        loss_of_a_disk,
        an_old_disk,
        a_newer_layout,
        *scenarios_of_collection.ALL,
    )
}


# --- transcripts -------------------------------------------------------------------------------


def transcript(name: str) -> list[str]:
    """What happens in a scenario, below its story. AssertionError if a promise is broken."""
    play = SCENARIOS[name]
    story = inspect.getdoc(play)
    assert story is not None, f"{name} tells no story"
    told = [f"# {line}".rstrip() for line in story.splitlines()]
    return told + play().lines


def difference(name: str, stored: list[str], seen: list[str]) -> str:
    """Where a transcript is not as it is stored, for people; empty if it is."""
    found = "\n".join(difflib.unified_diff(stored, seen, "stored", "seen", lineterm="", n=2))
    if not found:
        return ""
    return f"{name} went otherwise than its file tells:\n{found}\nIf it should: {WRITE_COMMAND}"


def _stored(name: str) -> list[str]:
    path = DIRECTORY / f"{name}.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _write_all() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for name in SCENARIOS:
        lines = transcript(name)
        (DIRECTORY / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{len(lines):4} lines  {name}")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_keeps_its_promises_and_goes_as_its_file_tells(name: str) -> None:
    found = difference(name, _stored(name), transcript(name))
    if found:
        pytest.fail(found, pytrace=False)


def test_a_changed_transcript_is_told_as_a_difference_and_how_to_accept_it() -> None:
    stored = ["# A story.", "n0 ask", "n0 answer"]
    found = difference("a_story", stored, ["# A story.", "n0 ask", "n1 answer"])
    assert "\n-n0 answer\n+n1 answer\n" in found
    assert found.endswith(WRITE_COMMAND)
    assert difference("a_story", stored, stored) == ""
    assert "+# A story." in difference("without_a_file", [], stored)


def test_each_file_is_a_scenario_that_a_person_can_read() -> None:
    """Short, and without any path of the machine that wrote it."""
    paths = sorted(DIRECTORY.iterdir())
    assert [path.name for path in paths] == sorted(f"{name}.txt" for name in SCENARIOS)
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# ")
        assert len(lines) <= LINES_MAX, path.name
        assert not [line for line in lines if re.search(r"(^|[\s=('\"])[/\\]", line)], path.name


def test_a_scenario_goes_the_same_way_in_every_process() -> None:
    """I29: nothing depends on how a process happens to hash. This one does it at random, and so did
    that which wrote the files."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here = [line for name in SCENARIOS for line in transcript(name)]
    assert done.stdout.splitlines() == here, "another run under PYTHONHASHSEED=0"


if __name__ == "__main__":
    assert sys.argv[1:] == ["--write"], WRITE_COMMAND
    _write_all()
