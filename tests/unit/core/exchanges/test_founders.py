# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node does that promised to found a cluster, when it is started or told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from quorate.core.exchanges.founders import FOUNDING_META
from quorate.core.node import Node
from quorate.core.values.events import Batch, Discovered, Instant
from quorate.errors import Conflict
from quorate.sim.cluster import SimCluster, id_of, settings_of, url_of
from quorate.sim.disk import Disk
from quorate.sim.trace import Trace


def promised(*nodes: int) -> bytes:
    return msgspec.msgpack.encode([(id_of(node), url_of(node)) for node in nodes])


def restarted(cluster: SimCluster, index: int, meta: bytes, **settings: Any) -> None:
    """With this promise on its disk, and these settings."""
    cluster.kill(index)
    machine = cluster.machines[index]
    machine.disk.format(Batch([], [], [(FOUNDING_META, meta)]))
    machine.settings = msgspec.structs.replace(machine.settings, **settings)
    cluster.restart(index)


def expecting(count: int, **settings: Any) -> SimCluster:
    nodes: dict[int, Sequence[int]] = {index: [] for index in range(count)}
    return SimCluster(1, count, nodes=nodes, discover=("mdns",), expect=3, **settings)


@pytest.mark.parametrize("nodes", [[], [0, 1], [0, 1, 3]])
def test_who_promised_founds_no_other_cluster_by_a_list_or_alone(nodes: list[int]) -> None:
    disk = Disk()
    disk.format(Batch([], [], [(FOUNDING_META, promised(0, 1, 2))]))
    with pytest.raises(Conflict, match="promised to found a cluster with http://n0:8000, "):
        Node(settings_of(0, nodes), disk, Random(1), Instant(0, 0))


def test_who_promised_may_be_given_the_very_list() -> None:
    cluster = expecting(1)
    nodes = tuple(map(url_of, range(3)))
    restarted(cluster, 0, promised(0, 1, 2), nodes=nodes, discover=(), expect=0)
    layout = cluster.machines[0].node.membership.layout
    assert layout is not None
    assert tuple(layout.urls()) == nodes


@pytest.mark.parametrize("expect", [1, 2, 4])
def test_who_promised_does_not_start_with_another_number(expect: int) -> None:
    """It would wait for ever for promises to a list that nobody else takes for one."""
    disk = Disk()
    disk.format(Batch([], [], [(FOUNDING_META, promised(0, 1, 2))]))
    settings = msgspec.structs.replace(settings_of(0, []), discover=("mdns",), expect=expect)
    with pytest.raises(Conflict, match=r"a cluster of 3, .*: go on with -expect=3, or begin"):
        Node(settings, disk, Random(1), Instant(0, 0))


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"expect": 2}, "-expect="),
        ({"replication": 1}, "-replication="),
    ],
)
def test_who_founds_nothing_together_as_they_were_told_otherwise_say_so(
    setting: dict[str, Any], reason: str
) -> None:
    lines: list[str] = []
    cluster = expecting(3, trace=Trace(lines.append))
    cluster.kill(2)
    machine = cluster.machines[2]
    machine.settings = msgspec.structs.replace(machine.settings, **setting)
    cluster.restart(2)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        cluster.machines[one].receive(Discovered([url_of(other)]))
    cluster.run(20_000)
    assert cluster.machines[0].node.membership.layout is None
    told = [each for each in lines if "founders_differ" in each]
    assert told
    assert all(reason in each for each in told)


def test_who_looks_for_founders_says_how_many_it_found_and_how_many_it_expects() -> None:
    lines: list[str] = []
    cluster = expecting(2, trace=Trace(lines.append))
    cluster.machines[0].receive(Discovered([url_of(1)]))

    def told() -> list[str]:
        return [each for each in lines if "discovery_waits" in each]

    cluster.run(9_000)
    assert told() == []
    cluster.run(3_000)
    assert len(told()) == 2
    for fact in ("3 nodes that expect as many", "discover=mdns", "found=2", "expected=3"):
        assert all(fact in each for each in told()), told()
    cluster.run(50_000)
    assert len(told()) == 2
    cluster.run(10_000)
    assert len(told()) == 4
    cluster.kill(1)
    cluster.run(60_000)
    assert "found=1" in told()[-1]


def test_who_looks_for_a_cluster_says_so_until_it_has_found_one() -> None:
    lines: list[str] = []
    cluster = SimCluster(
        1, 2, nodes={0: [0], 1: []}, discover=("dns:kv",), trace=Trace(lines.append)
    )
    cluster.run(12_000)
    (line,) = [each for each in lines if "discovery_waits" in each]
    for fact in ("no cluster was found yet", "discover=dns:kv", "found=0"):
        assert fact in line
    assert "expected" not in line
    cluster.machines[1].receive(Discovered([url_of(0)]))
    cluster.run(120_000)
    assert len([each for each in lines if "discovery_waits" in each]) == 1


def test_who_promised_says_for_whom_it_waits() -> None:
    lines: list[str] = []
    cluster = expecting(1, trace=Trace(lines.append))
    restarted(cluster, 0, promised(0, 1, 2))
    cluster.run(9_000)
    assert not any("founding_waits" in line for line in lines)
    cluster.run(3_000)
    (line,) = [each for each in lines if "founding_waits" in each]
    assert f"{url_of(1)}, {url_of(2)}" in line


def test_who_promised_takes_no_other_cluster_but_from_a_node_of_its_list() -> None:
    cluster = expecting(5)
    restarted(cluster, 4, promised(0, 1, 4))
    for one, other in ((1, 2), (2, 3), (3, 1)):
        cluster.machines[one].receive(Discovered([url_of(other)]))
    founder = cluster.machines[2].node.membership
    cluster.run_until(lambda: founder.topology is not None, 30_000)
    waiting = cluster.machines[4].node.membership
    cluster.cut(4, 1)
    cluster.cut(1, 4)
    cluster.machines[4].receive(Discovered([url_of(2)]))
    cluster.run(10_000)
    peer = waiting.roster.at(url_of(2))
    assert peer is not None
    assert peer.is_there
    assert waiting.epoch == 0
    cluster.mend(4, 1)
    cluster.mend(1, 4)
    cluster.run_until(lambda: waiting.topology is not None, 60_000)
    assert waiting.layout is not None
    assert waiting.layout.urls() == [url_of(index) for index in (1, 2, 3)]
