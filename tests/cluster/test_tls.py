# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes with certificates of a PKI: for clients, and for each other."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quorate.core.topology.greeting import hashed
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Greeting
from quorate.security.certificates import JOIN_NAME, PEER_NAME
from quorate.security.secret import new_secret, write_secret
from quorate.wire.frames import MAGIC, encode_greeting
from tests.cluster.inside import lines, metric, said, secure_socket
from tests.cluster.processes import Cluster, NodeProcess, quorate, wait_until
from tests.pki import Files, Pki
from tests.ports import free_port, free_ports

GREETING = encode_greeting(
    Greeting(PROTOCOL_MIN, PROTOCOL_MAX, hashed("quorate"), "http://localhost:1", 7, 0, b"", "0.2")
)
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


class InsideNode(NodeProcess):
    """A node whose clients are inside TLS."""

    context: ssl.SSLContext

    def is_ready(self) -> bool:
        """Whether it answers that it is."""
        assert self.is_running, self.log.read_text()[-2000:]
        try:
            return b" 200 " in self.ask(
                b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
        except OSError:
            return False

    def ask(self, request: bytes, context: ssl.SSLContext | None = None) -> bytes:
        """All that it answers to one request."""
        with secure_socket(self, context or self.context, "localhost") as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            return answer


def trusting(pki: Pki, shown: Files | None = None) -> ssl.SSLContext:
    """For clients who know the authority, and may show a certificate."""
    context = ssl.create_default_context(cafile=str(pki.path))
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


@contextmanager
def running(directory: Path, pki: Pki, *flags: str) -> Iterator[InsideNode]:
    """One node that clients reach inside TLS alone, once it is ready."""
    issued = pki.issue("node", "localhost").flags
    node = InsideNode(directory, free_port(), [*issued, *flags])
    node.context = trusting(pki)
    node.start()
    try:
        wait_until(node.is_ready, within_s=20, what="it is ready")
        yield node
    finally:
        if node.is_running:
            node.kill()


@pytest.fixture
def served(tmp_path: Path, pki: Pki) -> Iterator[InsideNode]:
    """One whose peers the authority knows, too."""
    with running(tmp_path, pki, f"-tls-ca={pki.path}", "-peer-names=*.nodes.test") as node:
        yield node


@pytest.fixture
def with_secret(tmp_path: Path, pki: Pki) -> Iterator[InsideNode]:
    """One that is asked by three names, and shows peers and new nodes another certificate."""
    write_secret(tmp_path / "secret", new_secret())
    with running(tmp_path, pki, f"-secret-file={tmp_path / 'secret'}") as node:
        yield node


def test_one_port_serves_http_and_redis_inside_tls(served: InsideNode) -> None:
    assert served.ask(REQUEST).startswith(b"HTTP/1.1 200 ")
    assert served.ask(b"SET a 1\r\nGET a\r\nQUIT\r\n") == b"+OK\r\n$1\r\n1\r\n+OK\r\n"
    put = b"PUT /kv?key=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n"
    assert b" 200 " in served.ask(put + b"Connection: close\r\n\r\n" + b"x" * 300_000)
    got = served.ask(b"GET /kv?key=b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert got.endswith(b"\r\n\r\n" + b"x" * 300_000)
    # What the full service answers, which takes the connection over from the fast lane.
    assert b"quorate_certificate_expires_seconds 3.1" in served.ask(
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )


def test_plain_bytes_are_told_in_their_own_words_to_come_inside(served: InsideNode) -> None:
    refused = metric_inside(served, "connections_refused_plain_total")
    answer = said(served, REQUEST)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "tls_required"
    assert said(served, b"PING\r\n").startswith(b"-ERR this port takes TLS alone")
    wait_until(
        lambda: metric_inside(served, "connections_refused_plain_total") == refused + 2,
        within_s=10,
        what="both counted",
    )
    assert said(served, GREETING) == b""
    assert said(served, MAGIC) == b""


def test_the_images_health_check_finds_a_node_well_inside_tls_and_without(
    served: InsideNode, tmp_path: Path
) -> None:
    """The command of deploy/Dockerfile, at another port; a node that has ended is not well."""
    text = (Path(__file__).parents[2] / "deploy" / "Dockerfile").read_text()
    (found,) = re.findall(r'^ +CMD \["python", "-c", "(.*)"\]$', text, re.MULTILINE)

    def is_well(node: NodeProcess) -> bool:
        code = found.replace("8000", str(node.port))
        assert code != found
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
        return done.returncode == 0

    with Cluster(tmp_path, count=1) as plain:
        assert is_well(plain.nodes[0])
    assert not is_well(plain.nodes[0])
    assert is_well(served)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_versions_of_tls_that_are_broken_are_not_spoken(
    version: ssl.TLSVersion, served: InsideNode
) -> None:
    context = trusting_anybody()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with suppress(OSError), secure_socket(served, context, "localhost") as connection:
        raise AssertionError(connection.version())
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with secure_socket(served, context, "localhost") as connection:
        assert connection.version() == "TLSv1.2"


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_sslscan_finds_nothing_that_is_weak_by_any_name(with_secret: InsideNode) -> None:
    scanner = shutil.which("sslscan")
    if scanner is None:
        pytest.skip("sslscan is not installed (Debian: sslscan)")
    for name, ciphers in (("localhost", 6), (PEER_NAME, 6), (JOIN_NAME, 3)):
        line = [scanner, "--no-colour", f"--sni-name={name}", f"localhost:{with_secret.port}"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
        assert f"SNI name {name}\n" in done.stdout
        assert_nothing_is_weak(done.stdout, ciphers_min=ciphers)


def assert_nothing_is_weak(found: str, *, ciphers_min: int) -> None:
    for version in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
        assert re.search(rf"^{re.escape(version)} +disabled$", found, re.MULTILINE), found
    assert "Session renegotiation not supported" in found
    ciphers = re.findall(r"^(?:Preferred|Accepted) +\S+ +(\d+) bits +(\S+)", found, re.MULTILINE)
    assert len(ciphers) >= ciphers_min, found
    for bits, name in ciphers:
        assert int(bits) >= 128
        assert re.fullmatch("(TLS_|ECDHE-ECDSA-).*(GCM|CHACHA20).*", name), found
    assert " vulnerable" not in found.replace("not vulnerable", "")


def test_a_page_that_was_not_loaded_through_tls_is_of_another_site(served: InsideNode) -> None:
    """Whoever is on the way can make such a page, of whatever host and port."""
    host = f"localhost:{served.port}"
    head = f"POST /incr?key=k HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    for scheme, status in (("http", 403), ("HTTP", 403), ("https", 200)):
        answer = served.ask(f"{head}Origin: {scheme}://{host}\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer


def test_a_clients_certificate_is_no_peers(served: InsideNode, pki: Pki) -> None:
    """Of the same authority; the name is not one that nodes have."""
    for number, name in enumerate(("client.test", "nodes.test", "a.b.nodes.test")):
        shown = pki.issue("client", name)
        with secure_socket(served, trusting(pki, shown), "localhost") as connection:
            connection.sendall(GREETING)
            assert connection.recv(100) == b""
        wait_until(
            lambda count=number + 1: len(lines(served, "link_refused")) == count,  # type: ignore[misc]
            within_s=10,
            what="the refusal is logged",
        )
    assert served.ask(REQUEST, trusting(pki, pki.issue("client", "client.test")))


def test_a_nodes_certificate_over_an_older_version_is_no_peers(
    served: InsideNode, pki: Pki
) -> None:
    context = trusting(pki, pki.issue("other", "x.nodes.test"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with secure_socket(served, context, "localhost") as connection:
        connection.sendall(GREETING)
        assert connection.recv(100) == b""
    wait_until(lambda: bool(lines(served, "link_refused")), within_s=10, what="it is logged")
    (refused,) = lines(served, "link_refused")
    assert "TLS 1.3" in str(refused["reason"])
    told = [refused[name] for name in ("audit", "who", "from", "what", "outcome")]
    assert told == [True, "unknown", "127.0.0.1", "link", "refused"]


def test_a_certificate_of_another_authority_is_refused(
    served: InsideNode, pki: Pki, tmp_path: Path
) -> None:
    shown = Pki(tmp_path, "other").issue("stranger", "x.nodes.test")
    answer = b""
    with suppress(OSError), secure_socket(served, trusting(pki, shown), "localhost") as connection:
        connection.sendall(b"PING\r\n")
        answer = connection.recv(100)
    assert answer == b""


@pytest.mark.parametrize("name", ["client.test", "x.nodes.test"])
def test_who_shows_an_expired_certificate_is_answered_nothing(
    name: str, served: InsideNode, pki: Pki
) -> None:
    """A client's and a peer's, which say what each would."""
    shown = pki.issue("late", name, begins=datetime.now(UTC) - timedelta(days=9), days=2)
    for said_first in (b"PING\r\n", REQUEST, GREETING):
        answer = b""
        with (
            suppress(OSError),
            secure_socket(served, trusting(pki, shown), "localhost") as connection,
        ):
            connection.sendall(said_first)
            answer = connection.recv(100)
        assert answer == b""
    wait_until(lambda: bool(lines(served, "tls_refused")), within_s=10, what="it is told")
    told = lines(served, "tls_refused")[0]
    assert "expired" in str(told["reason"])
    assert (told["from"], told["audit"]) == ("127.0.0.1", True)
    assert served.ask(b"PING\r\nQUIT\r\n").startswith(b"+PONG")


def test_a_peer_that_shows_an_expired_certificate_where_it_is_dialled_is_told_nothing(
    tmp_path: Path, pki: Pki
) -> None:
    own, other = free_ports(2)
    good = pki.issue("node", "a.nodes.test", "localhost")
    late = pki.issue("late", "x.nodes.test", begins=datetime.now(UTC) - timedelta(days=9), days=2)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(late.certificate, late.key)
    nodes = f"-nodes=http://localhost:{own},http://localhost:{other}"
    flags = [*good.flags, f"-tls-ca={pki.path}", "-peer-names=*.nodes.test", "-tls=optional"]
    node = NodeProcess(tmp_path, own, [*flags, nodes])
    with socket.create_server(("127.0.0.1", other)) as listener:
        listener.settimeout(20)
        node.start()
        try:
            heard = b""
            with (
                suppress(ssl.SSLError),
                context.wrap_socket(listener.accept()[0], server_side=True) as channel,
            ):
                heard = channel.recv(100)
            assert heard == b""
            wait_until(lambda: bool(lines(node, "link_refused")), within_s=20, what="it is told")
            assert "expired" in str(lines(node, "link_refused")[0]["reason"])
        finally:
            node.kill()


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_is_not(
    served: InsideNode, pki: Pki
) -> None:
    before = metric_inside(served, "certificate_expires_seconds")
    pki.issue("node", "localhost", days=10)
    wait_until(lambda: bool(lines(served, "trust_renewed")), within_s=20, what="it is read")
    assert metric_inside(served, "certificate_expires_seconds") < 11 * 86_400 < before
    wait_until(lambda: bool(lines(served, "certificate_expires")), within_s=20, what="a warning")
    told = served.ask(b"GET /topology HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    warning = rb'"certificate_waits":"a certificate that \S+ was given expires in 9 days: '
    assert re.search(warning, told)
    pki.issue("node", "localhost", begins=datetime.now(UTC) - timedelta(days=9), days=2)
    wait_until(lambda: bool(lines(served, "trust_not_renewed")), within_s=20, what="it is told")
    assert served.ask(REQUEST).startswith(b"HTTP/1.1 200 ")
    assert metric_inside(served, "certificate_expires_seconds") > 0


def metric_inside(node: InsideNode, name: str) -> float:
    text = node.ask(
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ).decode()
    (line,) = [each for each in text.splitlines() if each.startswith(f"quorate_{name} ")]
    return float(line.split()[1])


def test_nodes_of_a_pki_know_each_other_by_authority_and_name(tmp_path: Path, pki: Pki) -> None:
    flags = [*pki.issue("node", "a.nodes.test", "localhost").flags, f"-tls-ca={pki.path}"]
    with Cluster(tmp_path, *flags, "-peer-names=*.nodes.test", "-tls=optional") as cluster:
        first, _, third = cluster.nodes
        assert said(first, b"SET a 1\r\nQUIT\r\n") == b"+OK\r\n+OK\r\n"
        assert said(third, b"GET a\r\nQUIT\r\n") == b"$1\r\n1\r\n+OK\r\n"
        assert said(first, GREETING) == b""
        (began,) = lines(first, "listening")
        assert (began["links"], began["tls"]) == ("tls", "optional")


def test_tls_bytes_to_a_port_without_it_are_closed_told_and_counted(
    tmp_path: Path, pki: Pki
) -> None:
    with Cluster(tmp_path, count=1) as cluster:
        (node,) = cluster.nodes
        with suppress(OSError), secure_socket(node, trusting(pki), "localhost"):
            raise AssertionError("shook hands")
        assert said(node, b"\x16\x03\x01") == b""
        assert metric(node, "connections_refused_total") == 0, "there was room"
        assert metric(node, "connections_refused_tls_total") == 2
        line = lines(node, "tls_refused")[0]
    assert (line["audit"], line["outcome"], line["from"]) == (True, "refused", "127.0.0.1")
    assert "-tls-cert" in str(line["reason"])


# --- starts that cannot be ------------------------------------------------------------------------


def refused(tmp_path: Path, *flags: str) -> str:
    """The one line of a node that does not start."""
    done = quorate("serve", f"-port={free_port()}", f"-data={tmp_path / 'data'}", *flags)
    assert done.returncode == 2, done
    (line,) = done.stderr.decode().splitlines()
    return line


def test_a_certificate_that_is_not_good_now_keeps_a_node_from_starting(
    tmp_path: Path, pki: Pki
) -> None:
    now = datetime.now(UTC)
    old = pki.issue("old", "a.test", begins=now - timedelta(days=9), days=2)
    assert "old.pem: it expired at" in refused(tmp_path, *old.flags)
    early = pki.issue("early", "a.test", begins=now + timedelta(days=9), days=2)
    assert "early.pem: it is not valid before" in refused(tmp_path, *early.flags)


def test_a_certificate_that_other_nodes_refuse_keeps_a_node_from_starting(
    tmp_path: Path, pki: Pki
) -> None:
    flags = [*pki.issue("node", "a.nodes.test").flags, f"-tls-ca={pki.path}"]
    said_at_start = refused(tmp_path, *flags, "-peer-names=*.nodes.test")
    assert "node.pem is for a.nodes.test, and other nodes find this one at http://" in said_at_start


def test_files_that_do_not_fit_keep_a_node_from_starting(tmp_path: Path, pki: Pki) -> None:
    one, other = pki.issue("one", "a.test"), pki.issue("other", "a.test")
    assert "is not the key of" in refused(
        tmp_path, f"-tls-cert={one.certificate}", f"-tls-key={other.key}"
    )
    assert "there is no certificate" in refused(
        tmp_path, f"-tls-cert={one.key}", f"-tls-key={one.key}"
    )
    assert "No such file" in refused(tmp_path, f"-tls-cert={one.certificate}", "-tls-key=/no/key")
    assert "No such file" in refused(tmp_path, "-secret-file=/no/secret")
    readable = tmp_path / "readable"
    readable.write_text("x")
    readable.chmod(0o644)
    assert "chmod 600" in refused(tmp_path, f"-secret-file={readable}")
    readable.chmod(0o600)
    assert "begins with qs1." in refused(tmp_path, f"-secret-file={readable}")
    assert not (tmp_path / "data").exists()


def test_who_says_goodbye_is_nothing_to_tell(served: InsideNode) -> None:
    """In the middle of a request too, and each of them could be told otherwise."""
    for said_before in (
        b"GET /kv?key=a HTTP/1.1\r\n",
        b"PING\r\n*1\r\n",
        b"GET /nodes HTTP/1.1\r\n",
    ):
        with secure_socket(served, served.context, "localhost") as connection:
            connection.sendall(said_before)
            if said_before.startswith(b"PING"):
                assert connection.recv(100) == b"+PONG\r\n"
            with suppress(OSError):
                connection.unwrap()
    assert served.ask(REQUEST).startswith(b"HTTP/1.1 200 ")
    assert lines(served, "library") == []


def test_names_that_are_no_text_are_told_once_and_not_as_tracebacks(
    with_secret: InsideNode,
) -> None:
    """Python reads each name that comes, where there is one to choose by."""
    node = with_secret
    sent = ssl.MemoryBIO()
    end = node.context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        end.do_handshake()
    hello = sent.read().replace(b"localhost", b"localh\xffst")
    for _ in range(20):
        assert said(node, hello)[:1] in (b"", b"\x15")
    wait_until(lambda: bool(lines(node, "library")), within_s=10, what="it is told")
    assert node.ask(REQUEST).startswith(b"HTTP/1.1 200 ")
    (told,) = lines(node, "library")
    assert "UnicodeDecodeError" in str(told["message"])
    assert "Traceback" not in node.log.read_text()


def test_a_connection_that_ends_in_its_handshake_leaves_nothing(served: InsideNode) -> None:
    for _ in range(50):
        with socket.create_connection(("localhost", served.port), timeout=15) as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    wait_until(
        lambda: metric_inside(served, "tls_handshakes_failed_total") >= 50,
        within_s=20,
        what="all have ended",
    )
    assert metric_inside(served, "connections") <= 2
