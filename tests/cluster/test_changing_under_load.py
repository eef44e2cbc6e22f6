# SPDX-License-Identifier: GPL-3.0-or-later
"""Three nodes grow to five and shrink to three while clients write, any of them is killed at any
moment, and one disk is lost: no acknowledged write is missing."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import pytest

import quorate.core.node
from tests.cluster.load import Load, missing
from tests.cluster.processes import Cluster, NodeProcess
from tests.cluster.test_changing import ask, id_of, one_more, settles, topology

ROUNDS = int(os.environ.get("QUORATE_GROWTH_ROUNDS", "0"))
"""Of all this, with two nodes more and three kills at a time (`scripts/growth`); 0: one of each,
and no lost disk (`test_changing` has one)."""
JOINING, KILLS = (2, 3) if ROUNDS else (1, 1)


def _killed_meanwhile(cluster: Cluster, chosen: random.Random, ids: set[str]) -> None:
    """Kill one node after another, each at some moment, until all is where it belongs."""
    pause = threading.Event()
    for _ in range(KILLS):
        node = chosen.choice(cluster.nodes)
        pause.wait(chosen.random() * 0.8)
        node.kill()
        pause.wait(chosen.random() * 0.5)
        node.start()
        cluster.wait_ready()
    settles(cluster, ids)


@pytest.mark.skipif(
    quorate.core.node.__file__.endswith(".py") and not ROUNDS,
    reason="takes long, and runs on the compiled modules; `scripts/growth` runs it on these",
)
def test_no_acknowledged_write_is_missing_however_the_cluster_changes(tmp_path: Path) -> None:
    chosen = random.Random(7)
    flags = ("-heartbeat=300ms", "-grow-after=200ms", "-write-wait=5s")
    with Cluster(tmp_path, *flags) as cluster:
        founders = list(cluster.nodes)
        with Load([node.url for node in founders], writers=4) as load:
            load.wait_for(500)
            for _ in range(max(ROUNDS, 1)):
                _grow_and_shrink(cluster, founders, chosen, tmp_path)
        assert load.count > 1_000
        for node in founders[:2]:
            assert missing(node.url, load.acknowledged) == []


def _grow_and_shrink(
    cluster: Cluster, founders: list[NodeProcess], chosen: random.Random, directory: Path
) -> None:
    ids = {id_of(node) for node in founders}
    joined = [one_more(cluster, directory) for _ in range(JOINING)]
    for node in joined:
        assert ask(founders[0], "/join", {"url": node.url})[0] == 200
        ids.add(id_of(node))
    _killed_meanwhile(cluster, chosen, ids)
    if ROUNDS:
        _lose_a_disk(cluster, founders[2], chosen, ids)
    for node in joined:
        ids.remove(id_of(node))
        _leave(founders[1], id_of(node))
        _killed_meanwhile(cluster, chosen, ids)
    assert {each["id"] for each in topology(founders[0])["members"]} == ids
    for node in joined:
        node.stop()
        cluster.nodes.remove(node)


def _lose_a_disk(cluster: Cluster, lost: NodeProcess, chosen: random.Random, ids: set[str]) -> None:
    ids.remove(id_of(lost))
    lost.kill()
    shutil.rmtree(lost.data)
    lost.start()
    cluster.wait_ready()
    ids.add(id_of(lost))
    _killed_meanwhile(cluster, chosen, ids)


def _leave(at: NodeProcess, node_id: str) -> None:
    """Ask until a majority of the voters was there to decide it."""
    answers = [ask(at, "/leave", {"node": node_id})[0]]
    while answers[-1] != 200 and len(answers) < 5:
        answers.append(ask(at, "/leave", {"node": node_id})[0])
    assert answers[-1] == 200, answers
