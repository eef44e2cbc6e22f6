# SPDX-License-Identifier: GPL-3.0-or-later
"""The small program that Quorate succeeds: its literal command lines, on real processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quorate.cli.processes import busy_ports
from tests.cluster.processes import Cluster, NodeProcess, fetch, quorate, wait_until
from tests.ports import free_port, free_ports

NODES = "http://localhost:8000,http://localhost:8001"


@contextmanager
def literal_nodes(directory: Path, *command: str) -> Iterator[None]:
    """Two nodes that list each other, on the ports that these command lines name."""
    if busy_ports([8000, 8001]):
        pytest.skip("ports 8000 and 8001, which this test is about, are in use")
    flags = (f"-nodes={NODES}", "-replication=2", "-W=2", "-R=1")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "quorate", *command, f"-port={port}", *flags],
            cwd=directory,
            stderr=subprocess.DEVNULL,
        )
        for port in (8000, 8001)
    ]
    try:
        wait_until(lambda: serves(8000) and serves(8001), within_s=20, what="both ready")
        yield
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(timeout=30) for process in processes]
    assert codes == [0, 0]


def serves(port: int) -> bool:
    try:
        return fetch(f"http://localhost:{port}/readyz")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("command", [[], ["serve"]], ids=["bare flags", "serve"])
def test_the_seeds_two_nodes_share_a_key(command: list[str], tmp_path: Path) -> None:
    """Its flags, with and without the command; data in ./quorate-data/<port>"""
    with literal_nodes(tmp_path, *command):
        put = quorate("put", "--key=foo", "--value=bar")
        assert (put.returncode, put.stderr) == (0, b"")
        for port in (8000, 8001):
            got = quorate("get", "--key=foo", f"--target=http://localhost:{port}")
            assert (got.returncode, got.stdout) == (0, b"bar")
        gone = quorate("get", "--key=missing")
        assert (gone.returncode, gone.stdout) == (1, b"")
        assert gone.stderr
    assert (tmp_path / "quorate-data" / "8000").is_dir()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose tests leave its nodes as they are."""
    with Cluster(tmp_path_factory.mktemp("shared")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def headless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose first node is dead."""
    with Cluster(tmp_path_factory.mktemp("headless")) as cluster:
        cluster.nodes[0].kill()
        yield cluster


def test_curls_default_label_does_not_change_a_body(shared: Cluster) -> None:
    """`curl -d` says application/x-www-form-urlencoded, and its body is stored as it is."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    first, second, _ = shared.urls
    sent = subprocess.run(
        [curl, "-sS", "-X", "PUT", "-d", "a=b&c=%20+d", f"{first}/kv?key=form"],
        capture_output=True,
        check=True,
    )
    assert sent.stdout == b"ok"
    assert fetch(f"{second}/kv?key=form") == (200, b"a=b&c=%20+d")


def test_the_client_passes_over_a_dead_first_node(headless: Cluster) -> None:
    nodes = f"--nodes={','.join(headless.urls)}"
    began_s = time.monotonic()
    assert quorate("put", nodes, "foo", "bar").returncode == 0
    assert quorate("get", nodes, "foo").stdout == b"bar"
    assert time.monotonic() - began_s < 4


def test_a_target_is_the_only_node_that_is_tried(headless: Cluster) -> None:
    dead = headless.nodes[0]
    got = quorate("get", f"--target={dead.url}", f"--nodes={','.join(headless.urls)}", "foo")
    assert (got.returncode, got.stdout) == (2, b"")
    assert dead.url.encode() in got.stderr
    assert got.stderr.count(b"\n") == 1


def test_a_busy_port_is_named_in_one_line(shared: Cluster, tmp_path: Path) -> None:
    port = shared.nodes[0].port
    second = quorate("serve", f"-port={port}", f"-data={tmp_path / 'other'}")
    assert second.returncode == 2
    assert second.stderr.count(b"\n") == 1
    assert str(port).encode() in second.stderr
    assert not (tmp_path / "other").exists()


def test_a_data_directory_has_one_process(shared: Cluster) -> None:
    port = free_port()
    second = quorate("serve", f"-port={port}", f"-data={shared.nodes[0].data}")
    assert second.returncode == 2
    assert second.stderr.count(b"\n") == 1
    assert str(shared.nodes[0].data).encode() in second.stderr


def test_a_lone_default_node_accepts_writes_and_restarts_with_them(tmp_path: Path) -> None:
    port = free_port()
    node = NodeProcess(tmp_path, port, [])
    node.start()
    wait_until(node.is_ready, within_s=20, what="ready")
    assert fetch(f"{node.url}/kv?key=k", method="PUT", body=b"v") == (200, b"ok")
    assert node.stop() == 0
    node.start()
    wait_until(node.is_ready, within_s=20, what="ready again")
    assert fetch(f"{node.url}/kv?key=k") == (200, b"v")
    assert node.stop() == 0


def test_a_given_w_is_never_lowered(tmp_path: Path) -> None:
    """One node, W = 2: refused, however long it waits."""
    port = free_port()
    node = NodeProcess(tmp_path, port, ["-W=2", "-write-wait=200ms"])
    node.start()
    try:
        wait_until(lambda: answers(node), within_s=20, what="answers")
        status, body = fetch(f"{node.url}/kv?key=k", method="PUT", body=b"v")
        assert status == 503
        assert json.loads(body)["outcome"] == "not_applied"
    finally:
        node.kill()


def answers(node: NodeProcess) -> bool:
    try:
        return fetch(f"{node.url}/healthz")[0] == 200
    except OSError:
        return False


def test_joined_nodes_are_listed_everywhere_and_own_nothing(tmp_path: Path) -> None:
    """Two join at once, through lists whose first node is down."""
    with Cluster(tmp_path, "-heartbeat=300ms") as cluster:
        dead, *live = cluster.nodes
        dead.kill()
        for port, node in zip(free_ports(2), live, strict=True):
            flags = [f"-nodes={dead.url},{node.url}", "-heartbeat=300ms"]
            cluster.nodes.append(NodeProcess(tmp_path, port, flags))
            cluster.nodes[-1].start()
        cluster.wait_ready()
        everyone = sorted(cluster.urls)
        first, second = cluster.nodes[3:]
        for node in (*live, first, second):
            node.lists(everyone)
        for node in (*live, second):
            assert node.member(first.url)["owns"] is False
        assert fetch(f"{first.url}/kv?key=k", method="PUT", body=b"v") == (200, b"ok")
        assert fetch(f"{second.url}/kv?key=k") == (200, b"v")


def test_dev_shows_a_put_and_a_get_and_leaves_nothing() -> None:
    ports = free_ports(3)
    shown = quorate("dev", "--once", f"--base-port={ports[0]}")
    assert shown.returncode == 0, shown.stderr
    assert b"put" in shown.stdout
    assert b"get" in shown.stdout
    assert busy_ports(ports) == []
