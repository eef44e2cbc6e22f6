# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node shows inside TLS, whom it accepts, and who somebody proved to be.

A `Trust` is made whole from secrets and files, and never changed: when they change, another takes
its place, and connections that are there go on. Nodes speak TLS 1.3 with each other; clients may
use 1.2 with forward secrecy and authenticated ciphers.

Who dials by the name `peer.quorate.invalid` is shown the node's own certificate, whoever else the
one for clients. Any certificate that is shown to us is verified by OpenSSL against the authorities
that are accepted; what it is good for is judged here, after the handshake: a node's is signed by
an authority of the secret itself, or by one of `-tls-ca` and for a name that `-peer-names` has.
What a node then says of itself is held against it (`host.system.Proof`): its id against the first
kind, the host of its URL against the second.
"""

from __future__ import annotations

import enum
import os
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from quorate.files import read_file
from quorate.notation import is_one_of
from quorate.security.certificates import (
    CLIENT_NAME,
    JOIN_NAME,
    PEER_NAME,
    Authority,
    Minted,
    authority_of,
    common_name,
    dns_names,
    hosts_of,
    node_id_in,
)

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""
_CLIENTS_PROTOCOLS: Final = ["http/1.1"]
_FILE_BYTES_MAX: Final = 16 << 20
_DESCRIPTORS: Final = Path("/proc/self/fd")


class CertificateError(ValueError):
    """Certificate files cannot be used: one line that says which, what is and what to do."""


class Standing(enum.Enum):
    """What a certificate makes of whoever shows it."""

    NODE = enum.auto()
    """Another node of this cluster."""
    HOLDER = enum.auto()
    """Who has the cluster's secret, and is no node: the command line."""
    NAMED = enum.auto()
    """A client of `-tls-ca`."""


class Identity(NamedTuple):
    """Who the other end of a connection proved to be."""

    standing: Standing
    name: str
    node_id: int = 0
    """Of a node, where the certificate names one."""
    hosts: tuple[str, ...] = ()
    """Of a node else: what the certificate is for, names and addresses."""


class CertificateFiles(NamedTuple):
    """Paths as given; empty for what is not."""

    certificate: str = ""
    key: str = ""
    authorities: str = ""


class Shown(NamedTuple):
    """What is in the files of `-tls-cert` and `-tls-key`: good when it was read."""

    pair: Minted
    expires: datetime
    """The first of its certificates."""
    hosts: tuple[str, ...]
    """What it is for, names and addresses."""


class Accepted(NamedTuple):
    """What is in the file of `-tls-ca`: good when it was read."""

    der: bytes
    """Its certificates, one behind the other."""
    expires: datetime
    """The first of those that were good."""


class Trust(NamedTuple):
    """What a node shows and accepts, as of one reading of secrets and files."""

    server: ssl.SSLContext
    """For the port."""
    dialling: ssl.SSLContext | None
    """For links to peers; None: they are plain."""
    joining: ssl.SSLContext | None
    """For the port, where a new node dials by `JOIN_NAME`: it shows no certificate, and is shown
    the one of the secret. None without a secret."""
    secrets: tuple[bytes, ...]
    """The first signs."""
    authorities: tuple[Authority, ...]
    """Of the secrets."""
    peer_names: tuple[str, ...]
    expires: datetime | None
    """When the first certificate that was given does; None if none was."""

    def context_for(self, hello: bytes) -> ssl.SSLContext:
        """What a connection is taken with that begins like this. A server's name that comes in the
        handshake could choose the certificate, and not whether the client has to show one."""
        is_new = JOIN_NAME.encode() in hello
        return self.joining if is_new and self.joining is not None else self.server

    def identify(self, channel: ssl.SSLObject) -> Identity | None:
        """Who the other end is; None if it showed no certificate."""
        shown = channel.getpeercert(binary_form=True)
        if shown is None:
            return None
        from cryptography.x509 import load_der_x509_certificate

        certificate = load_der_x509_certificate(shown)
        if any(each.has_issued(certificate) for each in self.authorities):
            node_id = node_id_in(certificate)
            if node_id:
                return Identity(Standing.NODE, f"{node_id:012x}", node_id)
            return Identity(Standing.HOLDER, CLIENT_NAME)
        names = dns_names(certificate)
        for name in names:
            if is_one_of(name, self.peer_names):
                return Identity(Standing.NODE, name, hosts=hosts_of(certificate))
        return Identity(Standing.NAMED, common_name(certificate) or "".join(names[:1]))


def make_trust(
    secrets: tuple[bytes, ...],
    *,
    shown: Shown | None = None,
    others: Accepted | None = None,
    cluster: str,
    node_id: int,
    peer_names: tuple[str, ...] = (),
    is_for_clients: bool,
) -> Trust:
    """Of secrets (the first signs) and what files have (`read_shown`, `read_accepted`): a secret
    or a certificate at least. OSError if there is neither memory nor a disk for a file.
    `is_for_clients`: whether somebody without a certificate may come in."""
    authorities = tuple(authority_of(each, cluster=cluster) for each in secrets)
    own = authorities[0].mint_node(node_id) if authorities else None
    to_peers = own or (None if shown is None else shown.pair)
    assert to_peers is not None, "a secret or a certificate is needed"
    trusted = b"".join(each.der() for each in authorities)
    accepted = trusted + (b"" if others is None else others.der)
    server = _context(ssl.PROTOCOL_TLS_SERVER, accepted)
    server.set_alpn_protocols(_CLIENTS_PROTOCOLS)
    server.options |= ssl.OP_NO_RENEGOTIATION
    if is_for_clients:
        server.verify_mode = ssl.CERT_OPTIONAL if accepted else ssl.CERT_NONE
    _load(server, shown.pair if shown is not None and is_for_clients else to_peers)
    if own is not None and shown is not None and is_for_clients:
        # OpenSSL takes certificate and ciphers from it. The versions, and whether a client has to
        # show a certificate, stay those of `server`.
        peers = _context(ssl.PROTOCOL_TLS_SERVER, accepted)
        _load(peers, own)
        server.sni_callback = _chooser(peers)
    dialling = None
    if accepted and (own is not None or peer_names):
        dialling = _context(ssl.PROTOCOL_TLS_CLIENT, accepted if peer_names else trusted)
        dialling.minimum_version = ssl.TLSVersion.TLSv1_3
        _load(dialling, to_peers)
    joining = None
    if own is not None:
        joining = _context(ssl.PROTOCOL_TLS_SERVER, b"")
        joining.minimum_version = ssl.TLSVersion.TLSv1_3
        joining.verify_mode = ssl.CERT_NONE
        _load(joining, own)
    expires = min([each.expires for each in (shown, others) if each is not None], default=None)
    return Trust(server, dialling, joining, secrets, authorities, peer_names, expires)


def holder_context(*secrets: bytes, cluster: str) -> ssl.SSLContext:
    """For who has the secrets (the first signs) and dials a node as a client; the server's name is
    `PEER_NAME`."""
    authorities = [authority_of(each, cluster=cluster) for each in secrets]
    context = _context(ssl.PROTOCOL_TLS_CLIENT, b"".join(each.der() for each in authorities))
    context.check_hostname = True
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(context, authorities[0].mint_client())
    return context


def newcomer_context() -> ssl.SSLContext:
    """For who has neither a certificate nor an authority yet, dials a node by `JOIN_NAME`, and
    looks at the node's certificate before it says anything."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, b"")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_NONE
    return context


def _context(protocol: int, accepted: bytes) -> ssl.SSLContext:
    """`accepted`: certificates of authorities in DER, one behind the other."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # Python sets it before 3.11.4: an end that TLS does not vouch for would pass for a good one.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    # Nodes are dialled by addresses that change. Who they are is in the certificate, and is judged.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if accepted:
        context.load_verify_locations(cadata=accepted)
    return context


def _chooser(
    peers: ssl.SSLContext,
) -> Callable[[ssl.SSLSocket | ssl.SSLObject, str | None, ssl.SSLContext], int | None]:
    def choose(
        channel: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        if name == PEER_NAME:
            channel.context = peers
        return None  # No alert.

    return choose


def _load(context: ssl.SSLContext, pair: Minted) -> None:
    # OpenSSL takes files alone here. What lies on a disk for a moment is of no use without a
    # password that nobody ever sees.
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    password = os.urandom(32).hex()
    key = load_pem_private_key(pair.key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())
    )
    with _file_of(pair.certificate + key) as path:
        context.load_cert_chain(path, password=password)


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """The path of a file that is gone afterwards. Of memory where that can be had: a container's
    file system may be read-only, and a disk full."""
    if sys.platform == "linux" and _DESCRIPTORS.is_dir():
        with open(os.memfd_create("quorate"), "wb") as memory:
            memory.write(data)
            memory.flush()
            yield str(_DESCRIPTORS / str(memory.fileno()))
        return
    # Closed first: Windows lets nobody else open a file that is to go as it is closed.
    descriptor, path = tempfile.mkstemp(prefix="quorate-")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)


# --- files --------------------------------------------------------------------------------------


def read_shown(files: CertificateFiles, *, now: datetime) -> Shown | None:
    """What `-tls-cert` and `-tls-key` have, None if they were not given. CertificateError if one of
    the certificates is not good now, or the key is another's. OSError if there is neither memory
    nor a disk for a file."""
    if not files.certificate:
        return None
    from cryptography.hazmat.primitives.serialization import Encoding

    where = f"-tls-cert {files.certificate}"
    found = _certificates(_readable(files.certificate, "-tls-cert"), where)
    for fault in filter(None, [_fault_of(each, now) for each in found]):
        raise CertificateError(f"{where}: {fault}")
    # The certificates alone: the key may be in the same file.
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in found)
    pair = Minted(chain, _readable(files.key, "-tls-key"))
    reason = _why_no_pair(pair)
    if reason:
        raise CertificateError(f"-tls-key {files.key} is not the key of {where}: {reason}")
    return Shown(pair, min(each.not_valid_after_utc for each in found), hosts_of(found[0]))


def _why_no_pair(pair: Minted) -> str:
    """Why OpenSSL does not show this certificate with this key, one line; empty if it does."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
    except ssl.SSLError as error:
        return error.reason or "OpenSSL does not say why"
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return "no key in PEM without a password"
    return ""


def read_accepted(files: CertificateFiles, *, now: datetime) -> Accepted | None:
    """What `-tls-ca` has, without what else people write in a bundle; None if it was not given.
    CertificateError if none of it is good now."""
    if not files.authorities:
        return None
    from cryptography.hazmat.primitives.serialization import Encoding

    where = f"-tls-ca {files.authorities}"
    found = _certificates(_readable(files.authorities, "-tls-ca"), where)
    faults = [_fault_of(each, now) for each in found]
    good = [each for each, fault in zip(found, faults, strict=True) if not fault]
    if not good:
        raise CertificateError(f"{where}: {faults[0]}")
    return Accepted(
        b"".join(each.public_bytes(Encoding.DER) for each in found),
        min(each.not_valid_after_utc for each in good),
    )


def _fault_of(certificate: Certificate, now: datetime) -> str:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        return f"it is not valid before {begin:%Y-%m-%d %H:%M} UTC: look at this machine's clock"
    if now > end:
        return f"it expired at {end:%Y-%m-%d %H:%M} UTC: put a new one there"
    return ""


def _certificates(data: bytes, where: str) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(data)
    except ValueError:
        raise CertificateError(f"{where}: there is no certificate in PEM") from None


def _readable(path: str, flag: str) -> bytes:
    try:
        return read_file(Path(path), bytes_max=_FILE_BYTES_MAX)[0]
    except OSError as error:
        raise CertificateError(f"{flag} {path}: it cannot be read: {error.strerror}") from None
