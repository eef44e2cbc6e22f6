# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes, asked who reaches whom."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from quorate.security.secret import new_secret, write_secret
from tests.cluster.inside import lines
from tests.cluster.processes import Cluster, NodeProcess, fetch, quorate, wait_until
from tests.pki import Files, Pki
from tests.ports import free_ports


def doctor(target: str, *flags: str) -> tuple[int, dict[str, Any]]:
    done = quorate("doctor", target, "--json", *flags)
    return done.returncode, json.loads(done.stdout)


def test_doctor_says_that_all_is_well_and_then_what_is_not(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        first, second, third = cluster.nodes
        for node, other in permutations(cluster.nodes, 2):
            node.sees(other.url, "up")
        code, told = doctor(first.url)
        assert (code, told["advice"]) == (0, [])
        assert len(told["ways"]) == 3 + 6
        assert all(way["stage"] == "" for way in told["ways"])
        shown = quorate("doctor", first.url)
        assert b"all is well" in shown.stdout
        third.kill()
        first.sees(third.url, "down")
        code, told = doctor(first.url)
        failed = {(way["source"], way["stage"]) for way in told["ways"] if way["stage"]}
        assert code == 3
        assert failed == {
            ("this command", "connect"),
            (first.url, "connect"),
            (second.url, "connect"),
            (third.url, "ask"),
        }
        assert any(
            line.startswith(f"{first.url} -> {third.url}: ") and "start the node" in line
            for line in told["advice"]
        )


def test_doctor_reaches_nodes_inside_tls_by_their_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write_secret(secret, new_secret())
    with Cluster(tmp_path, f"-secret-file={secret}", count=2) as cluster:
        first, second = cluster.nodes
        first.sees(second.url, "up")
        second.sees(first.url, "up")
        code, told = doctor(first.url.replace("http:", "https:"), f"--secret-file={secret}")
        assert (code, [way["stage"] for way in told["ways"]]) == (0, [""] * 4), told


def restarted(node: NodeProcess, *flags: str) -> None:
    """With these flags in place of its secret. It listens then, and may never be ready."""
    node.stop()
    node.flags = [each for each in node.flags if not each.startswith("-secret-file")]
    node.flags += flags
    before = len(lines(node, "listening"))
    node.start()
    wait_until(lambda: len(lines(node, "listening")) > before, within_s=20, what="it listens")


class Odd(NamedTuple):
    """How the third node of a cluster is unlike the others, and what doctor says."""

    has_secret: bool
    """The others."""
    flags: list[str]
    step: str
    at_others: str
    at_it: str


ANOTHER = "its secret (-secret-file) or its -cluster name is another"
ODD = {
    "another secret": Odd(True, ["-secret-file={other}"], "tls", ANOTHER, ANOTHER),
    "no secret": Odd(
        True,
        [],
        "tls",
        "give it this cluster's secret (-secret-file), if it has none",
        "give this node the cluster's secret (-secret-file)",
    ),
    "another cluster": Odd(
        False, ["-cluster=green"], "cluster", "look at -cluster", "look at -cluster"
    ),
    "another cluster inside TLS": Odd(
        True, ["-secret-file={same}", "-cluster=green"], "tls", ANOTHER, ANOTHER
    ),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_doctor_says_which_two_are_no_one_cluster_and_why(tmp_path: Path, odd: Odd) -> None:
    files = {"same": tmp_path / "same", "other": tmp_path / "other"}
    for file in files.values():
        write_secret(file, new_secret())
    flags = [f"-secret-file={files['same']}"] if odd.has_secret else []
    with Cluster(tmp_path, *flags) as cluster:
        first, second, third = cluster.nodes
        restarted(third, *[each.format(**files) for each in odd.flags])
        code, told = doctor(first.url)
    assert code == 3
    failed = {(way["source"], way["target"]): way["stage"] for way in told["ways"] if way["stage"]}
    pairs = [*permutations((first.url, third.url)), *permutations((second.url, third.url))]
    assert failed == dict.fromkeys(pairs, odd.step)
    assert len(told["advice"]) == len(pairs)
    for line in told["advice"]:
        assert (odd.at_it if line.startswith(third.url) else odd.at_others) in line


def shake_and_listen(listener: socket.socket, context: ssl.SSLContext) -> None:
    """One connection after the other, until the listener ends."""
    with suppress(OSError):
        while True:
            connection = listener.accept()[0]
            connection.settimeout(5)
            with connection, suppress(OSError), context.wrap_socket(connection, True) as channel:
                channel.recv(100)


@contextmanager
def shown(certificate: Files, port: int) -> Iterator[None]:
    """A port that shows this certificate, and says nothing."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=shake_and_listen, args=(listener, context), daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize(
    ("name", "age_days", "said"),
    [
        ("x.nodes.test", 9, "has expired: put a new one there"),
        ("x.nodes.test", -9, "is not valid yet: look at the clocks"),
        ("client.test", 0, "its certificate is client.test's, which is no node's by -peer-names"),
    ],
)
def test_doctor_says_what_is_wrong_with_a_certificate(
    tmp_path: Path, name: str, age_days: int, said: str
) -> None:
    pki = Pki(tmp_path)
    own, other = free_ports(2)
    theirs = pki.issue("x", name, begins=datetime.now(UTC) - timedelta(days=age_days), days=2)
    flags = [*pki.issue("node", "a.nodes.test", "localhost").flags, f"-tls-ca={pki.path}"]
    flags += ["-peer-names=*.nodes.test", "-tls=optional"]
    node = NodeProcess(
        tmp_path, own, [*flags, f"-nodes=http://localhost:{own},http://localhost:{other}"]
    )
    node.start()
    try:
        wait_until(lambda: bool(lines(node, "listening")), within_s=20, what="it listens")
        with shown(theirs, other):
            code, told = doctor(node.url)
    finally:
        node.kill()
    target = f"http://localhost:{other}"
    assert code == 3
    (way,) = [way for way in told["ways"] if (way["source"], way["target"]) == (node.url, target)]
    assert way["stage"] == "tls"
    (line,) = [line for line in told["advice"] if line.startswith(f"{node.url} -> {target}: ")]
    assert said in line


def test_a_node_tries_members_and_nobody_else(tmp_path: Path) -> None:
    with Cluster(tmp_path, count=2) as cluster:
        first, second = cluster.nodes
        status, body = fetch(f"{first.url}/probe?url={second.url}")
        probe = json.loads(body)
        assert (status, probe["stage"], probe["fault"]) == (200, "", "")
        assert probe["addresses"]
        assert probe["seen"] in ("127.0.0.1", "::1")
        for url in ("http://127.0.0.1:1", "http://169.254.169.254:80", "x", ""):
            assert fetch(f"{first.url}/probe?url={url}")[0] == 400
        assert fetch(f"{first.url}/probe")[0] == 400
        wait_until(lambda: "link_refused" not in second.log.read_text(), within_s=1, what="quiet")
