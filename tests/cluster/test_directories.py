# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a data directory is, on real nodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cluster.processes import Cluster, fetch, quorate, wait_until


def test_directories_that_were_mixed_up_are_members_that_moved(tmp_path: Path) -> None:
    """A replica is its disk, wherever that is: nothing is lost, nothing has to be moved back."""
    with Cluster(tmp_path, count=5) as cluster:
        for number in range(20):
            url = f"{cluster.nodes[0].url}/kv?key={number}"
            assert fetch(url, method="PUT", body=b"x")[0] == 200
        directories = [node.data for node in cluster.nodes]
        for node in cluster.nodes:
            assert node.stop() == 0
        for node, directory in zip(cluster.nodes, directories[1:] + directories[:1], strict=True):
            node.flags = [
                f"-data={directory}" if flag.startswith("-data=") else flag for flag in node.flags
            ]
        cluster.start()
        for node in cluster.nodes:
            for number in range(20):
                assert fetch(f"{node.url}/kv?key={number}")[:2] == (200, b"x")
        members = json.loads(fetch(f"{cluster.nodes[0].url}/nodes")[1])
        assert [member["owns"] for member in members] == [True] * 5


def test_lists_that_differ_are_named_as_the_cause_by_both_sides(tmp_path: Path) -> None:
    with Cluster(tmp_path, "-write-wait=100ms", count=2) as cluster:
        first, second = cluster.nodes
        assert second.stop() == 0
        shutil.rmtree(second.data)
        second.flags = [flag for flag in second.flags if not flag.startswith("-nodes=")]
        second.flags.append(f"-nodes={','.join([*cluster.urls, 'http://localhost:9'])}")
        second.start()
        for node, other, word in ((first, second, "with"), (second, first, "without")):
            wait_until(
                lambda node=node: b"-nodes" in fetch(f"{node.url}/readyz")[1],  # type: ignore[misc]
                within_s=15,
                what="the cause is named",
            )
            cause = f"{other.url} was started with another -nodes list or -replication than"
            opposite = f"{node.url} was started with another -nodes list or -replication than"
            status, body = fetch(f"{node.url}/readyz")
            detail = json.loads(body)["detail"]
            assert status == 503
            assert (
                f"{cause} {node.url}: {word} 'http://localhost:9'" in detail
                or f"{opposite} {other.url}: {'without' if word == 'with' else 'with'} " in detail
            )
            told = quorate("put", "k", "v", f"--target={node.url}")
            assert told.returncode == 3
            assert b"was started with another -nodes" in told.stderr
            assert '"serving"' not in node.log.read_text()


def test_a_mistyped_first_list_is_forgotten_where_the_nodes_never_met(tmp_path: Path) -> None:
    with Cluster(tmp_path, count=2) as cluster:
        first, second = cluster.nodes
        assert first.stop() == second.stop() == 0
        for node in cluster.nodes:
            shutil.rmtree(node.data)
        right = list(first.flags)
        first.flags = [flag for flag in first.flags if not flag.startswith("-nodes=")]
        first.flags.append(f"-nodes={first.url},http://localhost:9")
        first.log.write_text("")
        first.start()
        wait_until(lambda: '"listening"' in first.log.read_text(), within_s=20, what="it listens")
        first.lists(sorted([first.url, "http://localhost:9"]))
        assert b"2 of its 2 nodes have to meet" in fetch(f"{first.url}/readyz")[1]
        assert first.stop() == 0
        first.flags = right
        cluster.start()
        first.lists(sorted(cluster.urls))
        assert fetch(f"{first.url}/kv?key=k", method="PUT", body=b"x")[0] == 200
