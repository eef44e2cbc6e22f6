# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that are derived from the cluster's secret, and who a certificate names.

The authority is the same on every node, byte for byte: its Ed25519 key comes from the secret, its
signature is a function of key and text (RFC 8032), and serial and validity are fixed. What it signs
is made at each start for a fresh key, so that there is nothing to distribute and nothing to renew.
Its certificates have no end (RFC 5280, 4.1.2.5) and begin long ago, so that a clock that is wrong
keeps nobody out.

Anybody may look at a node's certificate, so it names no cluster, host or release. A node's names
`peer.quorate.invalid` and, in the subject, the node's id; a client's names `client.quorate.invalid`
and is for clients alone, so that it is never taken for a node's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from quorate.security.secret import AUTHORITY, derive_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.x509 import Certificate, KeyUsage, Name, SubjectAlternativeName

PEER_NAME: Final = "peer.quorate.invalid"
"""The server name that nodes dial each other by; `.invalid` is nobody's (RFC 6761)."""
JOIN_NAME: Final = "join.quorate.invalid"
"""The one by which a new node dials that has the secret not yet."""
CLIENT_NAME: Final = "client.quorate.invalid"
_FROM: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FOR_EVER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_SERIAL: Final = 1
_NODE: Final = "node-"


class Minted(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


class Authority(NamedTuple):
    """The certificate authority of one secret and one cluster name."""

    key: Ed25519PrivateKey
    certificate: Certificate

    def pem(self) -> str:
        """Its certificate, for who is to trust it."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.certificate.public_bytes(Encoding.PEM).decode()

    def der(self) -> bytes:
        """The same, as OpenSSL takes it from memory."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.certificate.public_bytes(Encoding.DER)

    def has_issued(self, certificate: Certificate) -> bool:
        """Whether it signed the certificate, by its signature and not by the name that it says."""
        from cryptography.exceptions import InvalidSignature

        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    def mint_node(self, node_id: int) -> Minted:
        """A node's certificate, for a fresh key, good at both ends of a connection."""
        return self._mint(f"{_NODE}{node_id:012x}", PEER_NAME, is_node=True)

    def mint_client(self) -> Minted:
        """A certificate of whoever has the secret and is no node: the command line."""
        return self._mint("client", CLIENT_NAME, is_node=False)

    def _mint(self, subject: str, name: str, *, is_node: bool) -> Minted:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

        key = Ed25519PrivateKey.generate()
        usages = [Usage.CLIENT_AUTH, *([Usage.SERVER_AUTH] if is_node else [])]
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_named(subject))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FROM)
            .not_valid_after(_FOR_EVER)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            # Python 3.13 refuses certificates without it.
            .add_extension(authority_key, critical=False)
            .sign(self.key, None)
        )
        return Minted(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


@lru_cache(maxsize=8)
def authority_of(secret: bytes, *, cluster: str) -> Authority:
    """The authority that this secret makes for a cluster of this name."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = derive_key(secret, cluster=cluster, purpose=AUTHORITY)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # With the key's digest, so that the authorities of two secrets have two names: who verifies a
    # certificate looks its authority up by the name (RFC 5280, 6.1).
    name = _named(f"Quorate {identifier.digest.hex()}")
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(_SERIAL)
        .not_valid_before(_FROM)
        .not_valid_after(_FOR_EVER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(authority_key, critical=False)
        .sign(key, None)
    )
    return Authority(key, certificate)


def node_id_in(certificate: Certificate) -> int:
    """The node's id that the certificate of an `Authority` names; 0 if it is no node's."""
    from cryptography import x509

    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    text = str(names[0].value) if names else ""
    if PEER_NAME not in dns_names(certificate) or not text.startswith(_NODE):
        return 0
    return int(text.removeprefix(_NODE), 16)


def dns_names(certificate: Certificate) -> tuple[str, ...]:
    """The DNS names that a certificate is for."""
    from cryptography import x509

    names = _subjects(certificate)
    return () if names is None else tuple(names.get_values_for_type(x509.DNSName))


def hosts_of(certificate: Certificate) -> tuple[str, ...]:
    """The DNS names that a certificate is for, and the IP addresses, each in its shortest form."""
    from cryptography import x509

    names = _subjects(certificate)
    addresses = () if names is None else names.get_values_for_type(x509.IPAddress)
    return (*dns_names(certificate), *map(str, addresses))


def _subjects(certificate: Certificate) -> SubjectAlternativeName | None:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def common_name(certificate: Certificate) -> str:
    """The common name of the subject; empty if there is none."""
    from cryptography import x509

    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _named(text: str) -> Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _key_usage(*, is_authority: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
