# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes that were told where to look, and not whom they find."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.security.secret import new_secret, write_secret
from tests.cluster.inside import lines, metric
from tests.cluster.processes import NodeProcess, fetch, quorate, wait_until
from tests.ports import free_ports


@pytest.fixture
def ports() -> list[int]:
    return free_ports(3)


@pytest.fixture
def first(tmp_path: Path, ports: list[int]) -> Iterator[NodeProcess]:
    """A cluster of one, which others can find."""
    node = NodeProcess(tmp_path, ports[0], [f"-nodes=http://localhost:{ports[0]}"])
    node.start()
    try:
        yield node
    finally:
        node.kill()


def seeker(tmp_path: Path, port: int, *flags: str) -> NodeProcess:
    return NodeProcess(tmp_path, port, [f"-listen=127.0.0.1:{port}", *flags])


def urls_at(node: NodeProcess) -> list[str]:
    try:
        return sorted(each["url"] for each in json.loads(fetch(f"{node.url}/nodes")[1]))
    except OSError:
        return []


@pytest.mark.parametrize("source", ["http://127.0.0.1:{}", "dns:127.0.0.1:{}", "dns:localhost:{}"])
def test_a_node_finds_a_cluster_under_whatever_name_it_is_found(
    tmp_path: Path, ports: list[int], first: NodeProcess, source: str
) -> None:
    node = seeker(tmp_path, ports[1], f"-discover={source.format(first.port)}")
    node.start()
    try:
        wait_until(node.is_ready, within_s=30, what="it serves")
        assert urls_at(node) == sorted([first.url, f"http://127.0.0.1:{node.port}"])
        assert "link_refused" not in node.log.read_text() + first.log.read_text()
    finally:
        node.kill()


def test_a_cluster_of_another_name_is_found_and_never_joined(
    tmp_path: Path, ports: list[int], first: NodeProcess
) -> None:
    flags = [f"-discover={first.url}", "-cluster=other"]
    node = seeker(tmp_path, ports[1], *flags)
    node.start()
    try:
        wait_until(
            lambda: "the cluster name differs" in node.log.read_text(),
            within_s=30,
            what="it is refused",
        )
        assert urls_at(first) == [first.url]
        status, body = fetch(f"{node.url}/readyz")
        assert status == 503
        assert first.url.encode() not in body
    finally:
        node.kill()


def test_a_cluster_that_finds_another_of_its_name_lists_nobody_of_it_and_is_well(
    tmp_path: Path, ports: list[int]
) -> None:
    """Each found itself by its list, so the two refuse each other."""
    urls = [f"http://localhost:{port}" for port in ports]
    nodes = [
        NodeProcess(tmp_path, port, [f"-nodes={url}", f"-discover={urls[0]}"])
        for port, url in zip(ports, urls, strict=True)
    ][:2]
    for node in nodes:
        node.start()
    try:
        for node in nodes:
            wait_until(node.is_ready, within_s=30, what=f"{node.url} serves")
        wait_until(
            lambda: "was started with another" in nodes[1].candidates().get(urls[0], ""),
            within_s=30,
            what="it is refused",
        )
        assert [urls_at(node) for node in nodes] == [[node.url] for node in nodes]
        told = quorate("doctor", urls[1], "--json")
        shown = json.loads(told.stdout)
        assert (told.returncode, shown["advice"]) == (0, [])
        (note,) = shown["notes"]
        assert note.startswith(f"no node of this cluster was found at {urls[0]}: ")
        assert "was started with another -nodes" in note
        assert quorate("status", f"--target={urls[1]}").returncode == 0
    finally:
        for node in nodes:
            node.kill()


def test_nodes_that_were_told_nothing_but_how_many_find_each_other_and_found_a_cluster(
    tmp_path: Path, ports: list[int]
) -> None:
    """By mDNS; one of another name, which they find too, stays alone."""
    flags = ["-discover=mdns", f"-cluster=c{ports[0]}", "-expect=2"]
    nodes = [seeker(tmp_path, port, *flags) for port in ports[:2]]
    other = seeker(tmp_path, ports[2], "-discover=mdns", f"-cluster=d{ports[0]}", "-expect=2")
    for node in (*nodes, other):
        node.start()
    try:
        for node in nodes:
            wait_until(node.is_ready, within_s=30, what=f"{node.url} serves")
        wait_until(lambda: bool(urls_at(other)), within_s=30, what=f"{other.url} answers")
        urls = sorted(f"http://127.0.0.1:{node.port}" for node in nodes)
        assert urls_at(nodes[0]) == urls_at(nodes[1]) == urls
        assert urls_at(other) == [f"http://127.0.0.1:{other.port}"]
        assert b"2 nodes that expect as many" in fetch(f"{other.url}/readyz")[1]
        wait_until(lambda: bool(lines(other, "discovery_waits")), within_s=30, what="it says so")
        told = lines(other, "discovery_waits")[0]
        assert [told[name] for name in ("discover", "found", "expected")] == ["mdns", 1, 2]
        assert "2 nodes that expect as many" in str(told["reason"])
        nodes[0].kill()
        nodes[0].start()
        wait_until(nodes[0].is_ready, within_s=30, what="it serves again")
    finally:
        for node in (*nodes, other):
            if node.is_running:
                node.kill()


def test_nodes_that_find_each_other_and_have_two_secrets_found_nothing_and_tell_nothing(
    tmp_path: Path, ports: list[int]
) -> None:
    flags = ["-discover=mdns", f"-cluster=s{ports[0]}", "-expect=2", "-log-format=json"]
    nodes = []
    for port in ports[:2]:
        file = tmp_path / f"{port}.secret"
        write_secret(file, new_secret())
        nodes.append(seeker(tmp_path, port, f"-secret-file={file}", *flags))
    for node in nodes:
        node.start()
    try:
        for node in nodes:
            wait_until(
                lambda node=node: bool(lines(node, "link_refused")),  # type: ignore[misc]
                within_s=30,
                what=f"{node.url} says that it is refused",
            )
            wait_until(
                lambda node=node: metric(node, "handshakes_refused_total") > 5,  # type: ignore[misc]
                within_s=30,
                what=f"{node.url} goes on trying",
            )
        for node, other in (nodes, nodes[::-1]):
            reasons = [str(each["reason"]) for each in lines(node, "link_refused")]
            assert all("secret" in each for each in reasons), reasons
            assert lines(node, "founded") == []
            assert fetch(f"{node.url}/readyz")[0] == 503
            # The URL is what mDNS says to everybody; all else a peer would have told.
            assert urls_at(node) == [f"http://127.0.0.1:{node.port}"]
            refusals = node.candidates()
            assert list(refusals) == [f"http://127.0.0.1:{other.port}"]
            assert all("secret" in each for each in refusals.values())
    finally:
        for node in nodes:
            node.kill()
