# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes that join, leave and lose their disk, while the keys stay: docs/operations.md,
"Growing and shrinking" and "A lost disk"."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate.cli.processes import busy_ports
from quorate.client import Client
from quorate.client.calls import BatchGet, BatchPut, Value
from tests.cluster.processes import Cluster, NodeProcess, fetch, quorate, wait_until
from tests.ports import free_port, free_ports

KEYS = [f"key-{n}" for n in range(300)]
STUCK_S = 60
"""Without as many copies to move, or left to get, as there never were while it was waited."""


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that notice soon who is gone, and let who joins own at once; with KEYS."""
    with Cluster(tmp_path, "-heartbeat=300ms", "-grow-after=1s") as cluster:
        put(cluster, "first")
        yield cluster


def put(cluster: Cluster, value: str) -> None:
    with Client(cluster.urls) as client:
        client.batch([BatchPut(key, f"{value} {key}") for key in KEYS])


def assert_all_are_read(node: NodeProcess, value: str) -> None:
    """Each key by a quorum, and by all of its replicas."""
    with Client(node.url) as client:
        for r in (2, 3):
            found = client.batch([BatchGet(key) for key in KEYS], r=r)
            values = [each.value if isinstance(each, Value) else each for each in found]
            assert values == [f"{value} {key}".encode() for key in KEYS]


def one_more(cluster: Cluster, directory: Path) -> NodeProcess:
    """A fourth node, which runs and is no member."""
    node = NodeProcess(directory, free_port(), cluster.nodes[0].flags[2:])
    cluster.nodes.append(node)
    cluster.start()
    return node


def ask(node: NodeProcess, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    data = b"" if body is None else json.dumps(body).encode()
    status, answer = fetch(f"{node.url}{path}", method="POST", body=data)[:2]
    return status, json.loads(answer)


def topology(node: NodeProcess) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(fetch(f"{node.url}/topology")[1])
    return shown


def copies(node: NodeProcess) -> dict[str, int]:
    """Copies of partitions that each member has, by its id."""
    return {each["id"]: each["copies"] for each in topology(node)["members"]}


def settles(cluster: Cluster, ids: set[str]) -> None:
    """Wait until these are the members, each has its share, and nothing moves. AssertionError if
    meanwhile it comes no nearer: how fast it goes on a busy machine is not claimed."""
    seen: set[tuple[str, int, int]] = set()
    deadline = 0.0
    while True:
        shown = [topology(node) for node in cluster.nodes if node.is_running]
        if all(
            (each["phase"], each["to_move"]) == ("stable", 0)
            and {member["id"] for member in each["members"]} == ids
            for each in shown
        ):
            return
        mine = [one for each in shown for one in each["members"] if one["state"] == "self"]
        latest = max(shown, key=lambda each: int(each["epoch"]))
        course = latest["phase"], latest["to_move"], sum(one["left"] for one in mine)
        if course not in seen:
            seen.add(course)
            deadline = time.monotonic() + STUCK_S
        assert time.monotonic() < deadline, f"{ids} do not come to hold all: {shown[0]}"
        time.sleep(0.02)


def id_of(node: NodeProcess) -> str:
    """What a node calls itself."""
    return str(next(each["id"] for each in members(node) if each["state"] == "self"))


def members(node: NodeProcess) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(fetch(f"{node.url}/nodes")[1])
    return listed


def places(node: NodeProcess) -> dict[str, set[str]]:
    """The keys that each node has by the layout, by its URL."""
    found: dict[str, set[str]] = {}
    for key in KEYS:
        place = json.loads(fetch(f"{node.url}/explain?key={key}")[1])
        for replica in place["replicas"]:
            found.setdefault(replica["url"], set()).add(key)
    return found


def holds(node: NodeProcess) -> set[str]:
    """The keys that a node has on its disk."""
    return set(fetch(f"{node.url}/local/keys")[1].decode().splitlines())


def assert_keys_are_where_they_belong(cluster: Cluster) -> None:
    """Each on its replicas, and on no other node's disk; what went is dropped soon."""
    wanted = places(cluster.nodes[0])
    for node in cluster.nodes:
        if node.is_running:
            there = wanted.get(node.url, set())
            wait_until(
                lambda node=node, there=there: holds(node) == there,  # type: ignore[misc]
                within_s=30,
                what=f"{node.url} holds its {len(there)} keys, not {len(holds(node))}",
            )


def test_a_node_that_joins_becomes_an_owner_and_one_that_leaves_holds_nothing(
    three: Cluster, tmp_path: Path
) -> None:
    founders = [id_of(node) for node in three.nodes]
    first, leaver = three.nodes[0], three.nodes[1]
    joined = one_more(three, tmp_path)
    status, told = ask(first, "/join", {"url": joined.url})
    assert (status, told["member"], told["owns"]) == (200, False, False)
    settles(three, {*founders, id_of(joined)})
    told = ask(first, "/join", {"url": joined.url})[1]
    assert (told["known"], told["member"], told["owns"]) == (True, True, True)
    assert set(copies(first).values()) == {768}
    assert_keys_are_where_they_belong(three)
    assert_all_are_read(joined, "first")
    put(three, "second")
    left = quorate("leave", leaver.url, f"--target={joined.url}")
    assert (left.returncode, left.stderr) == (0, b"")
    settles(three, {founders[0], founders[2], id_of(joined)})
    assert set(copies(joined).values()) == {1024}
    assert_keys_are_where_they_belong(three)
    assert holds(leaver) == set()
    assert leaver.stop() == 0
    assert_all_are_read(first, "second")


def test_a_node_with_an_emptied_disk_is_filled_again(three: Cluster) -> None:
    first, second, emptied = three.nodes
    lost = id_of(emptied)
    emptied.kill()
    shutil.rmtree(emptied.data)
    put(three, "second")
    three.start()
    settles(three, {id_of(node) for node in three.nodes})
    assert lost not in copies(first)
    assert holds(emptied) == set(KEYS)
    second.kill()
    with Client(emptied.url) as client:
        found = client.batch([BatchGet(key) for key in KEYS])
    assert all(isinstance(each, Value) and each.value.startswith(b"second") for each in found)


def test_of_two_operators_at_two_nodes_one_is_told_that_the_cluster_changed(
    three: Cluster,
) -> None:
    first, second, third = three.nodes
    plans = [
        (node, ask(node, "/plan", {"weight": {third.url: weight}})[1])
        for node, weight in ((first, 2), (second, 3))
    ]
    assert [plan["node"] for _, plan in plans] == [first.url, second.url]
    assert ask(first, f"/plan/{plans[0][1]['hash']}/apply")[0] == 200
    status, told = ask(second, f"/plan/{plans[1][1]['hash']}/apply")
    assert (status, told["code"], told["outcome"]) == (409, "conflict", "not_applied")
    assert told["epoch"] > plans[1][1]["plan"]["epoch"]
    assert ask(first, f"/plan/{plans[1][1]['hash']}/apply")[0] == 404
    weights = {each["url"]: each["weight"] for each in topology(first)["members"]}
    assert weights[third.url] == 2


def test_what_cannot_be_is_refused_and_what_waits_says_for_whom(three: Cluster) -> None:
    first, second, third = three.nodes
    for path, body in (
        ("/leave", {"node": second.url}),
        ("/leave", {"node": "http://localhost:1"}),
        ("/replace", {"old": second.url, "new": third.url}),
        ("/plan", {"leave": [second.url, third.url]}),
        ("/plan", {"zone": {second.url: "a\tb"}}),
    ):
        status, told = ask(first, path, body)
        assert (status, told["code"]) == (400, "invalid_request"), told
    assert topology(first)["waits"] == []
    absent = f"http://localhost:{free_port()}"
    assert ask(first, "/join", {"url": absent})[0] == 200
    (line,) = topology(first)["waits"]
    assert line.startswith(f"{absent} is to become a member and is not there: ")
    assert line.endswith(f"quorate forget {absent}")
    for node in (second, third):
        node.kill()
        first.sees(node.url, "down")
    status, told = ask(first, "/leave?timeout=1s", {"node": third.url, "force": True})
    assert (status, told["code"], told["outcome"]) == (503, "quorum_unreachable", "not_applied")
    (line, _) = topology(first)["waits"]
    assert line.startswith("no change can be decided: 1 of 3 voters can be reached from here")
    assert second.url in line
    assert third.url in line


def test_a_cluster_that_lost_most_of_its_disks_goes_on_by_command(three: Cluster) -> None:
    first, *others = three.nodes
    for node in others:
        node.kill()
        shutil.rmtree(node.data)
    for node in others:
        first.sees(node.url, "down")
    lost = ",".join(node.url for node in others)
    (line,) = [text for text in topology(first)["waits"] if "no change can be decided" in text]
    assert line.endswith(f"quorate recover {lost}")
    told = quorate("recover", lost, f"--target={first.url}", stdin=b"recover\n")
    assert (told.returncode, told.stderr) == (0, b"")
    for node in others:
        # One after the other: two of them alone would be a majority of the list, and found anew.
        node.start()
        three.wait_ready()
        assert ask(first, "/join", {"url": node.url})[0] == 200
    settles(three, {id_of(node) for node in three.nodes})
    assert_all_are_read(others[0], "first")


def test_a_cluster_on_one_machine_shows_how_it_grows_and_shrinks(tmp_path: Path) -> None:
    ports = free_ports(4)
    flags = [f"--base-port={ports[0]}", f"--dir={tmp_path}"]
    ran = quorate("dev", "--grow", "--once", "--json", *flags)
    assert (ran.returncode, ran.stderr) == (0, b"")
    growth = json.loads(ran.stdout)["growth"]
    assert growth["joined"] == f"http://localhost:{ports[3]}"
    assert growth["left"] == f"http://localhost:{ports[2]}"
    assert (growth["moved"], growth["keys"]) == ([768, 768], [300, 300])
    assert busy_ports(ports) == []
