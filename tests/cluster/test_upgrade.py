# SPDX-License-Identifier: GPL-3.0-or-later
"""Two releases side by side, as two wheels: node by node, under load, back and forth, and finished.

The next release is made up (`releases`), and adds fields to messages and to the layout.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quorate.core.values.messages import FEATURE_LEVEL, PROTOCOL_MAX
from tests.cluster.load import Load, missing
from tests.cluster.processes import Cluster, NodeProcess, fetch, quorate, wait_until
from tests.cluster.releases import NEXT_VERSION, install

NEXT = FEATURE_LEVEL + 1


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Path, Path]:
    """Where this release and the next are installed."""
    return (
        install(tmp_path / "this", is_next=False),
        install(tmp_path / "next", is_next=True),
    )


def _upgrade(node: NodeProcess) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(fetch(f"{node.url}/upgrade")[1])
    return shown


def _restart(cluster: Cluster, index: int, site: Path) -> None:
    """Stop a node, start it in this release, and go on when nobody waits for it any more."""
    node = cluster.nodes[index]
    assert node.stop() == 0
    node.environment["PYTHONPATH"] = str(site)
    node.start()
    cluster.wait_ready()
    for other in cluster.nodes:
        if other is not node:
            other.sees(node.url, "up")
            node.sees(other.url, "up")
            wait_until(
                lambda at=other: at.hints_for(node.url) == 0,  # type: ignore[misc]
                within_s=20,
                what="no hints",
            )


def _refused(node: NodeProcess, *behind: NodeProcess) -> None:
    """To finish the upgrade is refused, and who holds it up is named."""
    ran = quorate("upgrade", "finish", f"--target={node.url}")
    assert (ran.returncode, ran.stdout) == (3, b"")
    told = f"feature level {NEXT} is not known everywhere yet"
    assert told in ran.stderr.decode()
    assert [each.url for each in behind] == [text.split()[0] for text in _upgrade(node)["waits"]]


def test_a_cluster_goes_node_by_node_to_the_next_release_and_back_until_it_is_finished(
    tmp_path: Path, sites: tuple[Path, Path]
) -> None:
    this, later = sites
    cluster = Cluster(tmp_path, "-heartbeat=300ms")
    for each in cluster.nodes:
        each.environment["PYTHONPATH"] = str(this)
    one, two, three = cluster.nodes
    with cluster, Load([",".join(cluster.urls)], writers=3) as load:
        load.wait_for(20)
        _restart(cluster, 0, later)
        _refused(one, two, three)
        _refused(three, two, three)
        _restart(cluster, 1, later)
        shown = {each["url"]: each for each in _upgrade(one)["nodes"]}
        told = [(shown[each.url]["level"], shown[each.url]["protocol"]) for each in cluster.nodes]
        assert told == [(NEXT, PROTOCOL_MAX + 1)] * 2 + [(FEATURE_LEVEL, PROTOCOL_MAX)]
        assert shown[two.url]["version"] == NEXT_VERSION
        _restart(cluster, 1, this)
        _restart(cluster, 1, later)
        _refused(two, three)
        _restart(cluster, 2, later)
        assert _upgrade(one)["level"] == FEATURE_LEVEL, "it does not rise by itself"
        ran = quorate("upgrade", "finish", f"--target={two.url}")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.endswith(f"feature level {NEXT} is in force\n".encode())
        for each in cluster.nodes:
            wait_until(
                lambda at=each: _upgrade(at)["level"] == NEXT,  # type: ignore[misc]
                within_s=10,
                what=f"level {NEXT} at {each.url}",
            )
        load.wait_for(load.count + 20)
        load.stop.set()
        assert [str(each.error) for each in load.failures] == []
        two.stop()
        two.environment["PYTHONPATH"] = str(this)
        two.start()
        assert two.wait() == 2
        assert "start a newer one" in two.log.read_text().splitlines()[-1]
        assert missing(one.url, load.acknowledged) == []
