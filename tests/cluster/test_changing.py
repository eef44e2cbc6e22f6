# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes that join, leave and lose their disk, while the keys stay: docs/operations.md,
"Growing and shrinking" and "A lost disk"."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
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
POLL_S = 0.25
"""Between looks at a change: who is asked how far it is plans all of it anew."""


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that notice soon who is gone, and let who joins own at once; with KEYS."""
    with Cluster(tmp_path, "-heartbeat=300ms", "-grow-after=1s") as cluster:
        put(cluster, "first")
        yield cluster


def put(cluster: Cluster, value: str) -> None:
    """Write all keys, through any node that runs."""
    with Client([node.url for node in cluster.nodes if node.is_running]) as client:
        client.batch([BatchPut(key, f"{value} {key}") for key in KEYS])


def assert_all_are_read(node: NodeProcess, value: str, *, rs: Sequence[int] = (2, 3)) -> None:
    """Each key by a quorum, and by all of its replicas: by as many answers as `rs` says."""
    with Client(node.url) as client:
        for r in rs:
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


def apply_plan(node: NodeProcess, name: str) -> dict[str, Any]:
    """Do what the node showed under that name."""
    status, told = ask(node, f"/plan/{name}/apply")
    assert status == 200, told
    return told


def rests(cluster: Cluster) -> int:
    """Wait until nothing moves: how many copies stay where they are, though they belong
    elsewhere."""

    def shown() -> set[tuple[int, str, int]]:
        each = [topology(node) for node in cluster.nodes if node.is_running]
        return {(one["epoch"], one["phase"], one["to_move"]) for one in each}

    wait_until(
        lambda: {phase for _, phase, _ in shown()} == {"stable"} and len(shown()) == 1,
        within_s=STUCK_S,
        what="all nodes have one layout, and nothing moves",
    )
    ((_, _, left),) = shown()
    return left


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
        time.sleep(POLL_S)


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


def zones_of_keys(node: NodeProcess, zones: dict[str, str]) -> list[str]:
    """Of each key the zones of its replicas, as letters."""
    placed = places(node)
    return ["".join(zones[url] for url, there in placed.items() if key in there) for key in KEYS]


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


def test_a_node_takes_the_place_of_a_live_member_and_another_that_of_a_dead_one(
    three: Cluster, tmp_path: Path
) -> None:
    first, dying, replaced = three.nodes
    others = {id_of(first), id_of(dying)}
    spare, last = one_more(three, tmp_path), one_more(three, tmp_path)
    told = quorate("replace", replaced.url, spare.url, f"--target={first.url}")
    assert (told.returncode, told.stderr) == (0, b"")
    settles(three, {*others, id_of(spare)})
    assert_keys_are_where_they_belong(three)
    assert holds(replaced) == set()
    assert holds(spare) == set(KEYS)
    assert replaced.stop() == 0
    put(three, "second")
    lost = id_of(dying)
    dying.kill()
    first.sees(dying.url, "down")
    told = quorate("replace", dying.url, last.url, f"--target={spare.url}")
    assert (told.returncode, told.stderr) == (0, b"")
    settles(three, {*others - {lost}, id_of(spare), id_of(last)})
    assert_keys_are_where_they_belong(three)
    assert holds(last) == set(KEYS)
    assert_all_are_read(last, "second")
    assert_founders_are_forgotten(three, dying, replaced)


def is_well(node: NodeProcess) -> bool:
    return quorate("status", f"--target={node.url}").returncode == 0


def assert_founders_are_forgotten(cluster: Cluster, *gone: NodeProcess) -> None:
    """By all that are left, though each keeps the founders' list, and is started again with it."""
    left = [node for node in cluster.nodes if node.is_running]
    # While another that is gone is listed it is asked too, and does not answer.
    for founder, exit_code in zip(gone, (3, 0), strict=True):
        told = quorate("forget", founder.url, f"--target={left[0].url}")
        assert (told.returncode, told.stderr) == (exit_code, b""), told.stdout
    urls = sorted(node.url for node in left)
    for node in left:
        assert [each["url"] for each in members(node)] == urls
    for node in left:
        assert node.stop() == 0
        node.start()
        wait_until(node.is_ready, within_s=20, what="ready")
    for node in left:
        wait_until(partial(is_well, node), within_s=20, what="nothing wrong")
        assert [each["url"] for each in members(node)] == urls


def test_a_cluster_gets_zones_and_fewer_copies_and_a_cancelled_way_back_goes_on_later(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path, "-heartbeat=300ms", count=4) as cluster:
        put(cluster, "first")
        first, ids = cluster.nodes[0], {id_of(node) for node in cluster.nodes}
        zones = dict(zip(cluster.urls, "aabb", strict=True))
        planned = quorate(
            *("plan", "--replication=2", f"--target={first.url}", "--json"),
            "--zone=" + ",".join(f"{url}={zone}" for url, zone in zones.items()),
        )
        assert (planned.returncode, planned.stderr) == (0, b"")
        assert apply_plan(first, json.loads(planned.stdout)["hash"])["changed"] is True
        settles(cluster, ids)
        assert topology(first)["crowded"] == []
        assert all("".join(sorted(each)) == "ab" for each in zones_of_keys(first, zones))
        assert_keys_are_where_they_belong(cluster)
        assert_all_are_read(first, "first", rs=(1, 2))
        # The third copies come: half of them, and the others when that is asked for again.
        plan = ask(first, "/plan", {"replication": 3})[1]
        assert plan["plan"]["copies"] == 1024
        apply_plan(first, plan["hash"])
        wait_until(
            lambda: 0 < topology(first)["to_move"] < plan["plan"]["copies"],
            within_s=STUCK_S,
            what="some copies are moved, and some are not",
        )
        told = quorate("cancel", f"--target={first.url}")
        assert (told.returncode, told.stderr) == (0, b"")
        assert b"every copy stays where it is" in told.stdout
        put(cluster, "second")
        left = rests(cluster)
        assert 0 < left < plan["plan"]["copies"]
        assert {len(each) for each in zones_of_keys(first, zones)} == {2, 3}
        assert_keys_are_where_they_belong(cluster)
        assert_all_are_read(first, "second", rs=(1, 2))
        apply_plan(first, ask(first, "/plan", {})[1]["hash"])
        settles(cluster, ids)
        assert {"".join(sorted(each)) for each in zones_of_keys(first, zones)} == {"aab", "abb"}
        assert_keys_are_where_they_belong(cluster)
        assert_all_are_read(first, "second")


def test_one_node_grows_to_three_with_three_copies_and_shrinks_to_one(tmp_path: Path) -> None:
    flags = ("-replication=1", "-heartbeat=300ms", "-grow-after=1s")
    with Cluster(tmp_path, *flags, count=1) as cluster:
        put(cluster, "first")
        first = cluster.nodes[0]
        joined = [one_more(cluster, tmp_path) for _ in range(2)]
        ids = {id_of(node) for node in cluster.nodes}
        for node in joined:
            assert ask(first, "/join", {"url": node.url})[0] == 200
        settles(cluster, ids)
        assert sorted(copies(first).values()) == [341, 341, 342]
        assert_keys_are_where_they_belong(cluster)
        assert_all_are_read(joined[0], "first", rs=(1,))
        apply_plan(first, ask(first, "/plan", {"replication": 3})[1]["hash"])
        settles(cluster, ids)
        assert set(copies(first).values()) == {1024}
        assert_keys_are_where_they_belong(cluster)
        assert_all_are_read(joined[1], "first")
        put(cluster, "second")
        # The founder goes, too: what it was started with binds nobody.
        leaving = {"replication": 1, "leave": [first.url, joined[0].url]}
        apply_plan(joined[1], ask(joined[1], "/plan", leaving)[1]["hash"])
        settles(cluster, {id_of(joined[1])})
        assert_keys_are_where_they_belong(cluster)
        assert holds(joined[1]) == set(KEYS)
        for node in (first, joined[0]):
            assert node.stop() == 0
        assert_all_are_read(joined[1], "second", rs=(1,))


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
