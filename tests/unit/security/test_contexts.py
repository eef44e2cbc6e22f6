# SPDX-License-Identifier: GPL-3.0-or-later
"""Who shakes hands with whom, and who they prove to be: two ends in memory, without a socket."""

from __future__ import annotations

import os
import re
import resource
import signal
import ssl
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.security import contexts
from quorate.security.certificates import JOIN_NAME, PEER_NAME, authority_of
from quorate.security.contexts import (
    CertificateError,
    CertificateFiles,
    Identity,
    Standing,
    Trust,
    holder_context,
    make_trust,
    read_accepted,
    read_shown,
)
from tests.pki import Files, Pki

NOW = datetime.now(UTC)
ONE, TWO = bytes(32), bytes(range(32))


def trust_of(
    *secrets: bytes,
    files: CertificateFiles | None = None,
    node_id: int = 7,
    peer_names: tuple[str, ...] = (),
    is_for_clients: bool = False,
    cluster: str = "quorate",
) -> Trust:
    given = files or CertificateFiles()
    return make_trust(
        secrets,
        shown=read_shown(given, now=NOW),
        others=read_accepted(given, now=NOW),
        cluster=cluster,
        node_id=node_id,
        peer_names=peer_names,
        is_for_clients=is_for_clients,
    )


def shake(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str = PEER_NAME
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after the handshake. ssl.SSLError of whichever refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialler = client.wrap_bio(to_client, to_server, server_hostname=name)
    acceptor = server.wrap_bio(to_server, to_client, server_side=True)
    done = {dialler: False, acceptor: False}
    for _ in range(10):
        for end in done:
            try:
                end.do_handshake()
                done[end] = True
            except ssl.SSLWantReadError:
                pass
        if all(done.values()):
            return dialler, acceptor
    raise AssertionError("no end of it")


def files_of(issued: Files, pki: Pki | None = None) -> CertificateFiles:
    return CertificateFiles(
        str(issued.certificate), str(issued.key), "" if pki is None else str(pki.path)
    )


def test_two_nodes_of_one_secret_prove_their_ids_to_each_other() -> None:
    seven, nine = trust_of(ONE, node_id=7), trust_of(ONE, node_id=9)
    assert seven.dialling is not None
    dialler, acceptor = shake(seven.dialling, nine.server)
    assert nine.identify(acceptor) == Identity(Standing.NODE, "000000000007", 7)
    assert seven.identify(dialler) == Identity(Standing.NODE, "000000000009", 9)
    assert dialler.version() == "TLSv1.3"


@pytest.mark.parametrize("other", [{"cluster": "green"}, {}])
def test_another_secret_or_another_name_fails_in_the_handshake(other: dict[str, str]) -> None:
    mine = trust_of(ONE)
    theirs = trust_of(ONE if other else TWO, **other)  # type: ignore[arg-type]
    assert mine.dialling is not None
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(mine.dialling, theirs.server)


def test_while_the_secret_is_changed_every_step_trusts_the_one_before_and_after() -> None:
    steps = [(ONE,), (ONE, TWO), (TWO, ONE), (TWO,)]
    for before, after in pairwise(steps):
        for one, other in ((before, after), (after, before)):
            mine, theirs = trust_of(*one), trust_of(*other)
            assert mine.dialling is not None
            _, acceptor = shake(mine.dialling, theirs.server)
            found = theirs.identify(acceptor)
            assert found is not None
            assert found.standing is Standing.NODE
    first, last = trust_of(*steps[0]), trust_of(*steps[-1])
    assert first.dialling is not None
    with pytest.raises(ssl.SSLError):
        shake(first.dialling, last.server)


def test_who_has_the_secret_is_a_holder_and_no_node() -> None:
    node = trust_of(ONE)
    _, acceptor = shake(holder_context(ONE, cluster="quorate"), node.server)
    found = node.identify(acceptor)
    assert found is not None
    assert (found.standing, found.node_id) == (Standing.HOLDER, 0)
    with pytest.raises(ssl.SSLError):
        shake(holder_context(TWO, cluster="quorate"), node.server)


@pytest.mark.parametrize("held", [(ONE, TWO), (TWO, ONE)])
@pytest.mark.parametrize("of_node", [(ONE, TWO), (TWO, ONE)])
def test_while_the_secret_is_changed_a_holder_of_both_and_a_node_trust_each_other(
    held: tuple[bytes, ...], of_node: tuple[bytes, ...]
) -> None:
    node = trust_of(*of_node)
    _, acceptor = shake(holder_context(*held, cluster="quorate"), node.server)
    found = node.identify(acceptor)
    assert found is not None
    assert found.standing is Standing.HOLDER


def test_a_client_sees_the_certificate_for_clients_and_a_peer_the_nodes_own(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    files = files_of(pki.issue("node", "localhost"))
    node = trust_of(ONE, files=files, is_for_clients=True)
    context = ssl.create_default_context(cafile=str(pki.path))
    client, acceptor = shake(context, node.server, "localhost")
    assert node.identify(acceptor) is None
    shown = client.getpeercert()
    assert shown is not None
    assert ("DNS", "localhost") in shown["subjectAltName"]
    assert node.dialling is not None
    dialler, _ = shake(node.dialling, node.server)
    assert node.identify(dialler) == Identity(Standing.NODE, "000000000007", 7)


@pytest.mark.parametrize("name", ["localhost", PEER_NAME, JOIN_NAME])
@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA"])
def test_no_name_is_served_with_a_cipher_that_does_not_authenticate(
    tmp_path: Path, name: str, cipher: str
) -> None:
    files = files_of(Pki(tmp_path).issue("node", "localhost"))
    node = trust_of(ONE, files=files, is_for_clients=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shake(context, node.context_for(name.encode()), name)


@pytest.mark.parametrize("is_for_clients", [False, True])
def test_every_context_that_a_name_leads_to_has_the_same_ciphers(
    tmp_path: Path, is_for_clients: bool
) -> None:
    pki = Pki(tmp_path)
    files = files_of(pki.issue("node", "localhost"), pki)
    node = trust_of(ONE, files=files, is_for_clients=is_for_clients)
    client = holder_context(ONE, cluster="quorate")
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    for name in ("localhost", PEER_NAME, JOIN_NAME):
        _, acceptor = shake(client, node.context_for(name.encode()), name)
        ciphers = {each["name"] for each in acceptor.context.get_ciphers()}
        assert len(ciphers) >= 6, name
        for cipher in ciphers:
            assert re.fullmatch("(TLS_|ECDHE-).*(GCM|CHACHA20).*", cipher), (name, cipher)


def test_without_tls_for_clients_nobody_comes_in_without_a_certificate(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    node = trust_of(ONE, files=files_of(pki.issue("node", "localhost")))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        shake(context, node.server, "localhost")


def test_nodes_of_a_pki_are_known_by_their_names_and_others_are_clients(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    node = trust_of(
        files=files_of(pki.issue("node", "10.0.0.7", "node.test", "a.nodes.test"), pki),
        peer_names=("*.nodes.test",),
    )
    assert node.dialling is not None
    _, acceptor = shake(node.dialling, node.server)
    hosts = ("node.test", "a.nodes.test", "10.0.0.7")
    assert node.identify(acceptor) == Identity(Standing.NODE, "a.nodes.test", hosts=hosts)
    client = ssl.create_default_context(cafile=str(pki.path))
    issued = pki.issue("client", "app.test", common_name="billing")
    client.load_cert_chain(issued.certificate, issued.key)
    client.check_hostname = False
    _, acceptor = shake(client, node.server)
    assert node.identify(acceptor) == Identity(Standing.NAMED, "billing")


def test_an_authority_of_the_pki_that_says_the_name_of_ours_makes_no_nodes(tmp_path: Path) -> None:
    """A certificate that names a node's id counts only if the secret's authority signed it."""
    pki = Pki(tmp_path)
    issued = pki.issue("forged", PEER_NAME, common_name="node-000000000009")
    node = trust_of(ONE, files=CertificateFiles(authorities=str(pki.path)), is_for_clients=True)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.load_cert_chain(issued.certificate, issued.key)
    _, acceptor = shake(client, node.server)
    found = node.identify(acceptor)
    assert found == Identity(Standing.NAMED, "node-000000000009")
    # Nor is it shown to us as one: links trust the authority of the secret alone.
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued.certificate, issued.key)
    assert node.dialling is not None
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(node.dialling, server)


# --- files --------------------------------------------------------------------------------------


def test_the_first_end_of_all_certificates_is_told(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    issued = pki.issue("node", "a.test", days=9)
    found = trust_of(files=files_of(issued), is_for_clients=True).expires
    assert found is not None
    assert timedelta(days=8) < found - NOW < timedelta(days=9)
    assert trust_of(ONE).expires is None
    files = files_of(issued, pki)
    shown, others = read_shown(files, now=NOW), read_accepted(files, now=NOW)
    assert others is not None
    soonest = NOW + timedelta(days=3)
    trust = make_trust(
        (),
        shown=shown,
        others=others._replace(expires=soonest),
        cluster="quorate",
        node_id=7,
        is_for_clients=True,
    )
    assert trust.expires == soonest, "an authority ends as well"


def test_a_bundle_may_hold_an_authority_that_has_expired_beside_one_that_is_good(
    tmp_path: Path,
) -> None:
    pki = Pki(tmp_path)
    old = pki.issue("old", "a.test", begins=NOW - timedelta(days=9), days=1)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.certificate.read_bytes() + pki.path.read_bytes())
    trust_of(ONE, files=CertificateFiles(authorities=str(bundle)), is_for_clients=True)
    bundle.write_bytes(old.certificate.read_bytes())
    with pytest.raises(CertificateError, match="it expired at"):
        trust_of(ONE, files=CertificateFiles(authorities=str(bundle)), is_for_clients=True)


def test_a_bundle_may_hold_text_in_any_language(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes("# Autorité\n".encode() + pki.path.read_bytes())
    trust_of(ONE, files=CertificateFiles(authorities=str(bundle)), is_for_clients=True)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    issued = Pki(tmp_path).issue("node", "a.test")
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    issued.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(CertificateError, match="-tls-key"):
        trust_of(files=files_of(issued), is_for_clients=True)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_whatever_a_file_holds_is_a_certificate_or_one_line(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"-----BEGIN CERTIFICATE-----\n" + data + b"\n-----END CERTIFICATE-----\n")
        file.flush()
        with pytest.raises(CertificateError) as caught:
            trust_of(files=CertificateFiles(file.name, file.name), is_for_clients=True)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="files of memory are Linux'")
def test_where_no_file_can_be_written_certificates_are_shown_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with a read-only file system."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    issued = Pki(tmp_path).issue("node", "a.test")
    trust = trust_of(ONE, files=files_of(issued), is_for_clients=True)
    shake(holder_context(ONE, cluster="quorate"), trust.server)
    links = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
    assert not [each for each in links if "memfd:quorate" in _target_of(each)]


def _target_of(link: str) -> str:
    """What a descriptor is of; that of the listing itself is gone by now."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


def test_where_memory_holds_no_file_one_on_disk_is_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "_DESCRIPTORS", tmp_path / "none")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    shake(holder_context(ONE, cluster="quorate"), trust_of(ONE).server)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_of_what_a_disk_has_no_room_for_no_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "_DESCRIPTORS", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="too large"), contexts._file_of(bytes(100)):
            raise AssertionError("it was written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


# --- what strangers send ------------------------------------------------------------------------


def hello_of(context: ssl.SSLContext) -> bytes:
    sent = ssl.MemoryBIO()
    end = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=PEER_NAME)
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    return sent.read()


HELLO = hello_of(holder_context(ONE, cluster="quorate"))
NODE = trust_of(ONE)


@given(st.lists(st.tuples(st.integers(0, len(HELLO) - 1), st.integers(0, 255)), max_size=8))
@settings(max_examples=300)
def test_a_hello_with_any_bytes_changed_is_taken_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(HELLO)
    for place, byte in changes:
        data[place] = byte
    came = ssl.MemoryBIO()
    end = NODE.server.wrap_bio(came, ssl.MemoryBIO(), server_side=True)
    came.write(bytes(data))
    with pytest.raises(ssl.SSLError):  # One of which is that it wants more.
        end.do_handshake()


def test_authorities_are_made_once_for_a_secret() -> None:
    assert authority_of(ONE, cluster="quorate") is authority_of(ONE, cluster="quorate")
