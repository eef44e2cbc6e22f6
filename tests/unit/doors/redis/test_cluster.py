# SPDX-License-Identifier: GPL-3.0-or-later
"""CLUSTER: the layout as Redis Cluster's clients read it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quorate.config import Config
from quorate.core.topology.topology import Topology
from quorate.core.values.slots import SLOT_COUNT, slot_of
from quorate.core.values.status import MemberView, Status
from quorate.doors.redis.cluster import node_id
from tests.fake_store import NODES
from tests.unit.doors.redis.turns import Client, TurnStore


class OneDown(TurnStore):
    down = ""
    state = "down"

    def status(self) -> Status:
        status = super().status()
        members = [self._seen(member) for member in status.members]
        return msgspec.structs.replace(status, members=members)

    def _seen(self, member: MemberView) -> MemberView:
        state = self.state if member.url == self.down else member.state
        return msgspec.structs.replace(member, state=state)


class BehindNat(TurnStore):
    """A store whose second node has another URL for clients."""

    client = "http://public.example:9000"

    def status(self) -> Status:
        status = super().status()
        members = [
            msgspec.structs.replace(each, client=self.client) if each.url == NODES[1] else each
            for each in status.members
        ]
        return msgspec.structs.replace(status, members=members)


def test_clients_are_told_the_address_that_is_for_them_everywhere() -> None:
    store = BehindNat()
    client = Client(store)
    mine = node_id(NODES[1])
    slots = {
        (n[0].decode(), n[1]) for nodes in owners(client) for n in nodes if n[2] == mine.encode()
    }
    assert slots == {("public.example", 9000)}
    assert f"{mine} public.example:9000@9000" in client.ask("CLUSTER", "NODES").decode()
    assert b"public.example" in repr(client.ask("CLUSTER", "SHARDS")).encode()
    store.client = "http://other.example:9000"
    assert "other.example:9000" in client.ask("CLUSTER", "NODES").decode(), "not kept for long"


def owners(client: Client) -> list[list[Any]]:
    """For each slot the nodes that CLUSTER SLOTS names, first to ask first."""
    found: list[list[Any]] = [[] for _ in range(SLOT_COUNT)]
    for start, end, *nodes in client.ask("CLUSTER", "SLOTS"):
        for slot in range(start, end + 1):
            assert not found[slot]
            found[slot] = nodes
    return found


def test_slots_names_the_replicas_of_every_slot_in_the_layouts_order(client: Client) -> None:
    topology = client.store.topology()
    assert topology is not None
    for slot, nodes in enumerate(owners(client)):
        urls = [f"http://{host.decode()}:{port}" for host, port, *_ in nodes]
        assert urls == list(topology.partitions[slot // 16].urls)
        assert [id_.decode() for _, _, id_, _ in nodes] == [node_id(url) for url in urls]


@pytest.mark.parametrize("state", ["down", "connecting"])
def test_who_is_not_reached_is_left_out_of_slots_as_soon_as_that_is_known(state: str) -> None:
    store = OneDown()
    client = Client(store)
    assert {nodes[0][1] for nodes in owners(client)} == {8000, 8001, 8002}
    store.down, store.state = NODES[1], state
    found = owners(client)
    assert {nodes[0][1] for nodes in found} == {8000, 8002}
    assert {port for nodes in found for _, port, *_ in nodes} == {8000, 8002}
    shards = client.ask("CLUSTER", "SHARDS")
    health = {node[3]: node[-1] for shard in shards for node in shard[3]}
    assert health == {8000: b"online", 8001: b"fail", 8002: b"online"}
    assert {shard[3][0][3] for shard in shards} == {8000, 8002}
    store.down = ""
    assert {len(nodes) for nodes in owners(client)} == {3}


def test_slots_of_which_no_replica_is_reached_are_named_all_the_same() -> None:
    store = OneDown(Config(nodes=NODES, advertise=NODES[0], replication=1))
    store.down = NODES[1]
    assert {len(nodes) for nodes in owners(Client(store))} == {1}


def test_shards_cover_every_slot_once(client: Client) -> None:
    client.ask("HELLO", 3)
    covered: list[int] = []
    for shard in client.ask("CLUSTER", "SHARDS"):
        edges = shard[b"slots"]
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            covered += range(start, end + 1)
        assert [node[b"role"] for node in shard[b"nodes"]] == [b"master", b"replica", b"replica"]
        assert {node[b"health"] for node in shard[b"nodes"]} == {b"online"}
    assert sorted(covered) == list(range(SLOT_COUNT))


@pytest.mark.parametrize(("state", "flag"), [("down", "fail"), ("connecting", "fail?")])
def test_nodes_lists_every_node_once_and_every_slot_once(state: str, flag: str) -> None:
    store = OneDown()
    store.down, store.state = NODES[2], state
    client = Client(store)
    slots: list[int] = []
    lines = client.ask("CLUSTER", "NODES").decode().splitlines()
    flags = {}
    for line in lines:
        id_, address, words, master, _, _, epoch, link, *spans = line.split(" ")
        flags[address] = (words, link)
        assert (len(id_), master, epoch) == (40, "-", "1")
        for span in spans:
            start, end = span.split("-")
            slots += range(int(start), int(end) + 1)
    assert flags == {
        "127.0.0.1:8000@8000": ("myself,master", "connected"),
        "127.0.0.1:8001@8001": ("master", "connected"),
        "127.0.0.1:8002@8002": (f"master,{flag}", "disconnected"),
    }
    assert sorted(slots) == list(range(SLOT_COUNT))
    assert client.ask("CLUSTER", "MYID").decode() == lines[0].split(" ")[0]


def test_info_says_whether_the_node_is_ready(client: Client) -> None:
    assert b"cluster_state:ok\r\ncluster_slots_assigned:16384\r\n" in client.ask("CLUSTER", "INFO")
    client.store.is_ready = False
    client.store.now_ms += 1000
    assert b"cluster_state:fail\r\n" in client.ask("CLUSTER", "INFO")


@pytest.mark.parametrize("name", ["SLOTS", "SHARDS", "NODES", "INFO"])
def test_without_a_layout_the_cluster_is_down(name: str) -> None:
    client = Client()
    client.store.has_layout = False
    assert client.ask("CLUSTER", name) == "CLUSTERDOWN the cluster's layout is not known yet"


def test_large_replies_are_made_once_a_second_at_most(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    original = client.store.topology

    def topology() -> Topology | None:
        asked.append(1)
        return original()

    monkeypatch.setattr(client.store, "topology", topology)
    first = client.ask("CLUSTER", "SLOTS")
    assert [client.ask("CLUSTER", "SLOTS") for _ in range(5)] == [first] * 5
    assert len(asked) == 1


def test_keyslot_uses_the_hash_tag(client: Client) -> None:
    assert client.ask("CLUSTER", "KEYSLOT", "foo") == 12182
    assert client.ask("CLUSTER", "KEYSLOT", "{foo}bar") == 12182


def test_keys_of_a_slot_are_counted_and_listed(client: Client) -> None:
    slot = slot_of(b"{tag}")
    neighbour = next(b"%d" % i for i in range(10**6) if slot_of(b"%d" % i) == slot ^ 1)
    keys = sorted(b"{tag}%d" % i for i in range(2500))
    for key in [*keys, neighbour, b"elsewhere"]:
        client.store.fill(key, b"v")
    assert client.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 2500
    assert client.ask("CLUSTER", "COUNTKEYSINSLOT", slot ^ 1) == 1
    assert client.ask("CLUSTER", "GETKEYSINSLOT", slot, 10) == keys[:10]
    assert client.ask("CLUSTER", "GETKEYSINSLOT", slot, 10**9) == keys
    assert client.ask("CLUSTER", "GETKEYSINSLOT", slot ^ 1, 10) == [neighbour]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("COUNTKEYSINSLOT", "16384"), "ERR Invalid slot"),
        (("COUNTKEYSINSLOT", "-1"), "ERR Invalid slot"),
        (("COUNTKEYSINSLOT", "x"), "ERR value is not an integer or out of range"),
        (("GETKEYSINSLOT", "1", "-1"), "ERR Invalid number of keys"),
        (("MEET", "a", "1"), "ERR unknown subcommand 'MEET'. Try CLUSTER HELP."),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    client: Client, arguments: tuple[str, ...], text: str
) -> None:
    assert client.ask("CLUSTER", *arguments) == text
