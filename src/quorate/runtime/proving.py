# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to peers inside TLS: how one is dialled, and what the other end has proved.

A node that has another secret fails in the handshake: whoever dials sees a certificate of an
authority that is not ours and ends it, before anything is said.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from quorate.host.system import Channel, Dialled, Proof
from quorate.runtime.resolve import NotDialled
from quorate.security.certificates import PEER_NAME
from quorate.security.contexts import Identity, Standing, Trust
from quorate.security.handshake import Handshake

HANDSHAKE_SECONDS: Final = 5.0
_ANOTHER: Final = (
    "it proved to be of no cluster of ours: its secret (-secret-file) or its -cluster name is "
    "another, or its certificate is none of -tls-ca; all nodes need the same"
)
_EXPIRED: Final = (
    "its certificate, or one that signed it, has expired: put a new one there (-tls-cert), or set "
    "the clock that is wrong"
)
_NOT_YET: Final = "its certificate, or one that signed it, is not valid yet: look at the clocks"
_NOT_ACCEPTED: Final = (
    "it ends each connection before it greets: it may not accept this node's certificate, which "
    "may have expired or not be for the host of this node's URL, or its -secret-file lacks our "
    "first line, or its -peer-names our name"
)
_ENDED: Final = (
    "it ended the TLS handshake: give it this cluster's secret (-secret-file), if it has none or "
    "another; or it is just stopping"
)
_IN_TIME: Final = {10: _EXPIRED, 9: _NOT_YET}
"""By OpenSSL's number of the fault (`X509_V_ERR_CERT_HAS_EXPIRED` and `_NOT_YET_VALID`)."""


def proof_of(channel: Channel) -> Proof:
    """What a connection's other end proved, where nodes have to."""
    identity: Identity | None = channel.get_extra_info("identity")
    if identity is None:
        return Proof("it shows no certificate: a node needs this cluster's secret (-secret-file)")
    if identity.standing is not Standing.NODE:
        by = " by -peer-names" if identity.standing is Standing.NAMED else ""
        return Proof(f"its certificate is {identity.name}'s, which is no node's{by}")
    if channel.get_extra_info("ssl_object").version() != "TLSv1.3":
        return Proof("nodes speak TLS 1.3 with each other, and it spoke an older one")
    return Proof(node_id=identity.node_id, silence=_NOT_ACCEPTED, hosts=identity.hosts)


async def connect(host: str, port: int, connection: Dialled, trust: Trust) -> None:
    """Connect, shake hands, and hand over. OSError if nobody is there; NotDialled if there is
    somebody who does not shake hands."""
    loop = asyncio.get_running_loop()
    assert trust.dialling is not None
    raw, _ = await loop.create_connection(asyncio.Protocol, host, port)
    handshake = Handshake(raw)
    try:
        await handshake.run(
            trust.dialling,
            identify=trust.identify,
            seconds=HANDSHAKE_SECONDS,
            server_name=PEER_NAME,
        )
    except OSError as error:
        raise NotDialled(refusal_of(error)) from error
    if not handshake.give(connection):
        raise NotDialled(_ENDED)


def refusal_of(error: Exception) -> str:
    """Why a handshake between nodes failed, in words; the same whichever side saw it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _IN_TIME.get(error.verify_code) or f"{_ANOTHER} ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"it does not speak TLS as nodes do: is TLS off there? ({error.reason})"
    return _ENDED
