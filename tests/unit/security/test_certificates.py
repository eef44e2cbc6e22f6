# SPDX-License-Identifier: GPL-3.0-or-later
"""What is derived from a secret: the same authority everywhere, and who a certificate names."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.values.settings import NODE_ID_MAX
from quorate.security.certificates import (
    CLIENT_NAME,
    PEER_NAME,
    Authority,
    Minted,
    authority_of,
    dns_names,
    node_id_in,
)

FIXED = bytes(range(32))


@pytest.fixture
def authority() -> Authority:
    return authority_of(FIXED, cluster="quorate")


def read(minted: Minted) -> x509.Certificate:
    return x509.load_pem_x509_certificate(minted.certificate)


def test_an_authority_is_the_same_bytes_on_every_node_and_in_every_release(
    authority: Authority,
) -> None:
    authority_of.cache_clear()
    again = authority_of(FIXED, cluster="quorate")
    der = again.certificate.public_bytes(Encoding.DER)
    assert der == authority.certificate.public_bytes(Encoding.DER)
    assert hashlib.sha256(der).hexdigest() == (
        "1285aec1f3a07f981f105ab8d4a93d8a06eaa9959c17f92719e5f9af151c6c63"
    )


def test_another_secret_or_name_is_another_authority_of_another_name() -> None:
    made = [
        authority_of(secret, cluster=cluster).certificate
        for secret in (FIXED, bytes(32))
        for cluster in ("quorate", "green")
    ]
    assert len({each.subject for each in made}) == 4
    assert len({each.public_bytes(Encoding.DER) for each in made}) == 4


@given(st.integers(1, NODE_ID_MAX))
@settings(max_examples=25)
def test_a_nodes_certificate_names_its_id(node_id: int) -> None:
    assert node_id_in(read(authority_of(FIXED, cluster="quorate").mint_node(node_id))) == node_id


def test_each_certificate_has_a_key_of_its_own_and_never_ends(authority: Authority) -> None:
    one, two = authority.mint_node(1), authority.mint_node(1)
    assert one.key != two.key
    assert read(one).serial_number != read(two).serial_number
    assert read(one).not_valid_after_utc.year == 9999


def test_a_clients_certificate_is_no_nodes_and_for_clients_alone(authority: Authority) -> None:
    certificate = read(authority.mint_client())
    assert node_id_in(certificate) == 0
    assert dns_names(certificate) == (CLIENT_NAME,)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_nodes_certificate_says_nothing_of_the_cluster(authority: Authority) -> None:
    certificate = read(authority.mint_node(7))
    assert dns_names(certificate) == (PEER_NAME,)
    assert certificate.subject.rfc4514_string() == "CN=node-000000000007"
    assert b"green" not in read(authority_of(FIXED, cluster="green").mint_node(7)).public_bytes(
        Encoding.DER
    )


def test_who_issued_is_told_by_the_signature_and_not_by_the_name(authority: Authority) -> None:
    other = authority_of(bytes(32), cluster="quorate")
    assert authority.has_issued(read(authority.mint_node(7)))
    assert not authority.has_issued(read(other.mint_node(7)))
    # One that says the name of ours, and signs with a key of its own.
    forger = Authority(other.key, authority.certificate)
    assert not authority.has_issued(read(forger.mint_node(7)))


def test_certificates_have_what_newer_versions_of_python_ask_for(authority: Authority) -> None:
    for certificate in (authority.certificate, read(authority.mint_node(7))):
        found = {type(each.value) for each in certificate.extensions}
        assert x509.AuthorityKeyIdentifier in found
        assert x509.KeyUsage in found
        assert x509.SubjectKeyIdentifier in found
