# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes with a secret: their links are mutual TLS, and nobody else is a peer."""

from __future__ import annotations

import signal
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from quorate.core.topology.greeting import hashed
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Greeting
from quorate.security.certificates import PEER_NAME
from quorate.security.contexts import holder_context
from quorate.security.secret import new_secret, show_secret, write_secret
from quorate.wire.frames import encode_greeting
from tests.cluster.inside import half_handshake, lines, metric, said, secure_socket
from tests.cluster.load import Load, missing
from tests.cluster.processes import Cluster, NodeProcess, fetch, wait_until

GREETING = encode_greeting(
    Greeting(
        PROTOCOL_MIN,
        PROTOCOL_MAX,
        hashed("quorate"),
        "http://localhost:1",
        7,
        0,
        b"",
        "0.2",
        process=7,
    )
)

AUDITED = {"audit": True, "from": "127.0.0.1", "what": "link", "outcome": "refused"}
"""What the log says of each peer that was refused here."""


@pytest.fixture
def secret() -> bytes:
    return new_secret()


@pytest.fixture
def secret_file(tmp_path: Path, secret: bytes) -> Path:
    path = tmp_path / "secret"
    write_secret(path, secret)
    return path


@pytest.fixture
def sealed(tmp_path: Path, secret_file: Path) -> Iterator[Cluster]:
    """Three nodes with one secret."""
    with Cluster(tmp_path, f"-secret-file={secret_file}", "-heartbeat=300ms") as cluster:
        yield cluster


def refusals(node: NodeProcess) -> list[str]:
    return [str(each["reason"]) for each in lines(node, "link_refused")]


def test_nodes_of_one_secret_serve_and_a_plain_greeting_is_told_nothing(sealed: Cluster) -> None:
    first, second, third = sealed.nodes
    assert fetch(f"{first.url}/kv?key=a", method="PUT", body=b"1")[0] == 200
    assert fetch(f"{third.url}/kv?key=a") == (200, b"1")
    assert said(second, GREETING) == b""
    wait_until(lambda: bool(refusals(second)), within_s=10, what="the refusal is logged")
    (refused,) = lines(second, "link_refused")
    assert "secret" in str(refused["reason"])
    assert AUDITED.items() <= refused.items()
    assert (refused["address"], refused["who"]) == ("127.0.0.1", "unknown")
    for node in sealed.nodes:
        (began,) = lines(node, "listening")
        assert (began["links"], began["tls"]) == ("tls", "off")
        assert [lines(node, "internal_fault"), lines(node, "library")] == [[], []]


@pytest.mark.parametrize("theirs", ["another", "none", "of another name"])
def test_a_node_of_another_secret_is_refused_and_both_say_so_once(
    theirs: str, sealed: Cluster, secret: bytes
) -> None:
    one = sealed.nodes[0]
    one.stop()
    others = sealed.nodes[1:]
    file = one.data.parent / "theirs"
    write_secret(file, secret if theirs == "of another name" else new_secret())
    one.flags = [each for each in one.flags if not each.startswith("-secret-file")]
    one.flags += {
        "another": [f"-secret-file={file}"],
        "none": [],
        "of another name": [f"-secret-file={file}", "-cluster=green"],
    }[theirs]
    one.start()
    wait_until(lambda: bool(lines(one, "listening")), within_s=20, what="it listens")
    for node in others:
        wait_until(
            lambda node=node: bool(node.member(one.url)["refusal"]),  # type: ignore[misc]
            within_s=20,
            what="the refusal is shown",
        )
        assert "secret" in str(node.member(one.url)["refusal"])
        wait_until(
            lambda node=node: any("audit" in each for each in lines(node, "link_refused")),  # type: ignore[misc]
            within_s=20,
            what="who dialled is an audit event",
        )
        audited = [each for each in lines(node, "link_refused") if "audit" in each]
        assert all(AUDITED.items() <= each.items() for each in audited)
        assert all(each["reason"] and each["who"] for each in audited)
    wait_until(lambda: len(refusals(one)) >= 2, within_s=20, what="it says so too")
    assert all("secret" in each for each in refusals(one))
    assert "secret" in str(one.member(others[0].url)["refusal"])
    # Many tries later, each still has said each of these things once.
    before = [len(refusals(node)) for node in sealed.nodes]
    tries = [metric(node, "handshakes_refused_total") for node in others]
    wait_until(
        lambda: all(
            metric(node, "handshakes_refused_total") > count + 10
            for node, count in zip(others, tries, strict=True)
        ),
        within_s=30,
        what="ten tries more",
    )
    assert [len(refusals(node)) for node in sealed.nodes] == before
    assert len(set(refusals(one))) <= 3
    assert fetch(f"{others[0].url}/kv?key=a", method="PUT", body=b"1")[0] == 200


def test_who_has_the_secret_is_a_client_inside_tls_and_no_peer(
    sealed: Cluster, secret: bytes
) -> None:
    node = sealed.nodes[0]
    context = holder_context(secret, cluster="quorate")
    with secure_socket(node, context) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"
    answer = b""
    with suppress(ssl.SSLError), secure_socket(node, context) as connection:
        connection.sendall(GREETING)
        answer = connection.recv(100)  # Python before 3.11.4 says of a cut that it is one.
    assert answer == b""
    wait_until(
        lambda: any("no node's" in each for each in refusals(node)),
        within_s=10,
        what="the refusal is logged",
    )
    (refused,) = lines(node, "link_refused")
    assert AUDITED.items() <= refused.items()


def test_a_client_without_a_certificate_is_not_let_in_where_tls_is_for_nodes(
    sealed: Cluster,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name in (PEER_NAME, "localhost"):
        answer = b""
        with suppress(OSError), secure_socket(sealed.nodes[0], context, name) as connection:
            connection.sendall(b"PING\r\n")
            answer = connection.recv(100)
        assert answer == b""


def test_the_secret_is_changed_under_load_without_one_failed_request(
    sealed: Cluster, secret: bytes, secret_file: Path
) -> None:
    fresh = new_secret()
    files = []
    for node in sealed.nodes:
        file = node.data.parent / f"{node.port}.secret"
        write_secret(file, secret)
        files.append(file)
        node.stop()
        node.flags = [each for each in node.flags if each != f"-secret-file={secret_file}"]
        node.flags.append(f"-secret-file={file}")
    sealed.start()
    steps = [(secret, fresh), (fresh, secret), (fresh,)]
    with Load(sealed.urls) as load:
        for step, held in enumerate(steps):
            for node, file in zip(sealed.nodes, files, strict=True):
                load.wait_for(load.count + 20)
                new = file.with_suffix(".new")
                new.touch(0o600)
                new.write_text("".join(f"{show_secret(each)}\n" for each in held))
                new.replace(file)
                node.signal(signal.SIGHUP)
                wait_until(
                    lambda node=node, step=step: len(lines(node, "trust_renewed")) > step,  # type: ignore[misc]
                    within_s=20,
                    what="it is read",
                )
        load.wait_for(load.count + 50)
    assert [str(each.error) for each in load.failures] == []
    assert missing(sealed.urls[0], load.acknowledged) == []
    # Links made from now on are of the new secret, and the old one opens nothing.
    sealed.nodes[2].kill()
    sealed.start()
    with secure_socket(sealed.nodes[2], holder_context(fresh, cluster="quorate")) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"
    with pytest.raises(OSError):
        secure_socket(sealed.nodes[0], holder_context(secret, cluster="quorate"))


def test_a_secret_that_cannot_be_read_again_leaves_the_old_one_in_force_and_is_told_once(
    sealed: Cluster, secret: bytes, secret_file: Path
) -> None:
    node = sealed.nodes[0]
    secret_file.write_text("qs1.nonsense\n")
    wait_until(lambda: bool(lines(node, "trust_not_renewed")), within_s=20, what="it is told")
    node.kill()  # Of another node's link: the two that run have the old secret.
    for other in sealed.nodes[1:]:
        other.sees(node.url, "down")
    assert fetch(f"{sealed.nodes[1].url}/kv?key=a", method="PUT", body=b"1")[0] == 200
    secret_file.write_text(show_secret(secret) + "\n")
    node.start()
    sealed.wait_ready()
    for other in sealed.nodes[1:]:
        wait_until(lambda n=other: bool(lines(n, "trust_renewed")), within_s=20, what="renewed")  # type: ignore[misc]
        assert len(lines(other, "trust_not_renewed")) == 1


def test_half_handshakes_end_and_keep_nobody_out(sealed: Cluster, secret: bytes) -> None:
    node = sealed.nodes[0]
    context = holder_context(secret, cluster="quorate")
    with ExitStack() as opened:
        for _ in range(400):
            # A record of a ClientHello that never becomes whole.
            opened.enter_context(half_handshake(node))
        for _ in range(5):
            assert fetch(f"{node.url}/healthz")[0] == 200
            with secure_socket(node, context) as connection:
                connection.sendall(b"PING\r\n")
                assert connection.recv(100) == b"+PONG\r\n"
    assert fetch(f"{node.url}/kv?key=a", method="PUT", body=b"1")[0] == 200
    wait_until(lambda: metric(node, "connections") < 20, within_s=20, what="they have ended")
