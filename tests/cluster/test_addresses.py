# SPDX-License-Identifier: GPL-3.0-or-later
"""Where real nodes say that they are: told by a peer, told to clients, and after a move."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aioice import stun

from tests.cluster.processes import NodeProcess, fetch, quorate, wait_until
from tests.ports import free_ports


def lines(node: NodeProcess, event: str) -> list[dict[str, str]]:
    """What the node logged of this."""
    found = [json.loads(line) for line in node.log.read_text().splitlines() if line[:1] == "{"]
    return [each for each in found if each["event"] == event]


@pytest.fixture
def pair(tmp_path: Path) -> list[NodeProcess]:
    """Two nodes, of which the second is to find out where it is."""
    ports = free_ports(2)
    nodes = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    flags = [[], ["-advertise=auto", "-advertise-client=http://public.invalid:9000"]]
    return [
        NodeProcess(tmp_path, port, [f"-nodes={nodes}", "-log-format=json", *each])
        for port, each in zip(ports, flags, strict=True)
    ]


def test_a_node_is_where_a_peer_sees_it_and_clients_are_told_their_own_address(
    pair: list[NodeProcess],
) -> None:
    first, second = pair
    try:
        first.start()
        wait_until(
            lambda: first.log.exists() and bool(lines(first, "listening")),
            within_s=20,
            what="the first listens",
        )
        second.start()
        for node in pair:
            wait_until(node.is_ready, within_s=20, what=f"{node.url} ready")
        (told,) = lines(second, "listening")
        assert told["addresses"] == f"127.0.0.1:{second.port}"
        assert told["reason"] == "no node on another machine is named"
        (told,) = lines(second, "advertised")
        assert told["url"] == f"http://127.0.0.1:{second.port}"
        assert told["reason"] == f"http://127.0.0.1:{first.port} sees it there"
        assert told["client"] == "http://public.invalid:9000"
        assert lines(first, "link_refused") == []
        member = first.member(told["url"])
        assert member["client"] == "http://public.invalid:9000"
        before = member["id"]
        # It moves, and is who it was: the id on its disk.
        assert second.stop() == 0
        moved = f"http://localhost:{second.port}"
        second.flags[-2:] = [f"-advertise={moved}"]
        second.start()
        wait_until(second.is_ready, within_s=20, what="the second is ready at its new address")
        first.sees(moved, "up")
        assert (first.member(moved)["id"], first.member(moved)["client"]) == (before, "")
        for at in (first.url, moved):
            listed = json.loads(fetch(f"{at}/nodes")[1])
            urls = {each["url"] for each in listed}
            assert (len(listed), urls) == (2, {f"http://127.0.0.1:{first.port}", moved})
    finally:
        for node in pair:
            if node.is_running:
                node.kill()


@pytest.mark.parametrize("list_", ["", "-nodes=http://localhost:{}"], ids=["no list", "old list"])
def test_a_node_that_moved_is_alone_and_well_where_it_is_now(tmp_path: Path, list_: str) -> None:
    before, after = free_ports(2)
    flags = [list_.format(before)] if list_ else []
    first = NodeProcess(tmp_path, before, flags)
    second = NodeProcess(tmp_path, after, flags)
    second.flags = [*first.flags, f"-port={after}", f"-advertise=http://localhost:{after}"]
    second.flags.remove(f"-port={before}")
    try:
        first.start()
        wait_until(first.is_ready, within_s=20, what="it serves")
        who = first.member(first.url)["id"]
        first.stop()
        second.start()
        wait_until(second.is_ready, within_s=20, what="it serves at its new address")
        second.lists([second.url])
        assert second.member(second.url)["id"] == who
        told = quorate("doctor", second.url)
        assert (told.returncode, b"all is well" in told.stdout) == (0, True)
        assert str(before).encode() not in told.stdout
    finally:
        for node in (first, second):
            if node.is_running:
                node.kill()


@pytest.fixture
def stun_server() -> Iterator[str]:
    """Its host and port. It sees everybody at 127.0.0.9, and sends a lie ahead of each answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, asker = server.recvfrom(2_000)
                if not data:
                    return
                request = stun.parse_message(data)
                for transaction, host in (
                    (b"x" * 12, "127.0.0.8"),
                    (request.transaction_id, "127.0.0.9"),
                ):
                    seen = {"XOR-MAPPED-ADDRESS": (host, 9)}
                    answer = stun.Message(
                        stun.Method.BINDING, stun.Class.RESPONSE, transaction, seen
                    )
                    server.sendto(bytes(answer), asker)

        thread = threading.Thread(target=serve)
        thread.start()
        yield "{}:{}".format(*server.getsockname())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", server.getsockname())
        thread.join(10)


def test_a_node_is_where_a_stun_server_sees_it(tmp_path: Path, stun_server: str) -> None:
    (port,) = free_ports(1)
    flags = [f"-stun={stun_server}", f"-nodes=http://127.0.0.9:{port}", "-log-format=json"]
    node = NodeProcess(tmp_path, port, flags)
    node.url = f"http://127.0.0.9:{port}"
    try:
        node.start()
        wait_until(
            lambda: node.log.exists() and bool(lines(node, "listening")), within_s=20, what="begun"
        )
        (told,) = lines(node, "advertised")
        assert told["url"] == f"http://127.0.0.9:{port}"
        assert told["reason"] == f"the STUN server {stun_server} sees it there"
        wait_until(node.is_ready, within_s=20, what="it founds the cluster of its list")
    finally:
        node.kill()


def test_a_stun_server_that_is_not_there_keeps_no_node_from_starting(tmp_path: Path) -> None:
    port, nobody = free_ports(2)
    flags = [f"-stun=127.0.0.1:{nobody}", f"-nodes=http://127.0.0.9:{port}", "-log-format=json"]
    node = NodeProcess(tmp_path, port, flags)
    node.url = f"http://127.0.0.9:{port}"
    try:
        node.start()
        wait_until(
            lambda: node.log.exists() and bool(lines(node, "advertised")), within_s=30, what="told"
        )
        (told,) = lines(node, "advertised")
        assert told["url"] == f"http://127.0.0.9:{port}"
        assert f"-stun=127.0.0.1:{nobody} does not say it" in told["reason"]
        wait_until(node.is_ready, within_s=20, what="it serves")
    finally:
        node.kill()
