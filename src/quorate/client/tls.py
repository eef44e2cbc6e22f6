# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS for both clients: bytes in, bytes out, no waiting. `ssl` does the work, in memory.

Not `ssl.SSLSocket`: asyncio refuses to wait for one, and of one at rest it cannot be told whether
the other side closed it. The socket stays a plain one here, and what is on it says that.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from typing import Final

from quorate.client.sockets import NodeConnection, TlsFault
from quorate.errors import is_cut_off

_READ_BYTES: Final = 64 << 10
_OF_OURS: Final = re.compile("ALERT_(?:.*CERTIFICATE.*|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR)")
"""What the other side says of our certificate, or of its absence. In TLS 1.3 it comes after the
handshake is done for us, though not for it: nothing that we sent was read."""
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
_NO_VERSION: Final = re.compile("PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL")
# Numbers of X509_V_ERR_..., which OpenSSL never changes.
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_OTHER_CA: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})
_CUT: Final = "connection closed before the answer"
_UNHEARD: Final = f"{_CUT}: perhaps it wants a certificate that it knows (cert=, --cert)"
"""Not a byte came since the handshake. Who accepts us sends tickets first; who does not may hang up
without a word, as servers of asyncio do."""
CLOSED: Final = "connection closed in the TLS handshake: if the node has no TLS, write http://"


class TlsConnection(NodeConnection):
    """A connection through TLS to the node called `host`. `shake` it before anything else."""

    __slots__ = ("_host", "_incoming", "_outgoing", "_tls")

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(connected)
        self._host = host
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def shake(self, data: bytes | None) -> tuple[bytes, bool]:
        """Go on with the handshake: what to send next, and whether that is all. `data` is what
        came, None at the beginning. TlsFault; ConnectionResetError where the connection ended."""
        if data is not None:
            self._take(data)
        is_done = False
        try:
            self._tls.do_handshake()
            is_done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as fault:
            if is_cut_off(fault):
                raise ConnectionResetError(CLOSED) from None
            with suppress(OSError):
                self.socket.send(self._outgoing.read())  # So that the node's log says it too.
            raise TlsFault(self._why(fault)) from None
        return self._outgoing.read(), is_done

    def sealed(self, data: bytes) -> bytes:
        """`data` as it goes over the socket."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError as fault:
            raise ConnectionResetError(_said(fault)) from None
        return self._outgoing.read()

    def opened(self, data: bytes) -> bytes | None:
        """What `data` brings; None: nothing whole yet. Nothing: the other side said that it ends.

        An end that it did not say may be somebody else's cut: ConnectionResetError."""
        self._take(data)
        self._is_new = self._is_new and not data
        parts: list[bytes] = []
        try:
            while part := self._tls.read(_READ_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts) or None
        except ssl.SSLError as fault:
            if is_cut_off(fault):
                raise ConnectionResetError(_UNHEARD if self._is_new else _CUT) from None
            if _OF_OURS.search(fault.reason or ""):
                raise TlsFault(self._why(fault)) from None
            raise ConnectionResetError(_said(fault)) from None
        return b"".join(parts)

    def _take(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _why(self, fault: ssl.SSLError) -> str:
        """What is wrong, and what to do."""
        if isinstance(fault, ssl.SSLCertVerificationError):
            return _unknown(fault, self._host)
        reason = fault.reason or ""
        if reason in _NOT_TLS:
            return "it does not speak TLS: write http://"
        if _OF_OURS.search(reason):
            return (
                f"it wants a certificate that it knows ({_said(fault)}): give one by cert= or "
                "--cert, or the cluster's secret by --secret-file"
            )
        if _NO_VERSION.search(reason):
            return "it speaks no version of TLS that is spoken here, which are 1.2 and 1.3"
        return f"the TLS handshake failed: {_said(fault)}"


def _unknown(fault: ssl.SSLCertVerificationError, host: str) -> str:
    if fault.verify_code in _OTHER_CA:
        return (
            "no CA that is trusted here signed its certificate: give its CA by ca= or --ca, or the "
            "secret and the name of its cluster by --secret-file and --cluster"
        )
    if fault.verify_code in _OTHER_NAME:
        return f"its certificate is not for {host!r}: name the node as its certificate does"
    if fault.verify_code == _EXPIRED:
        return "its certificate has expired: whoever runs the node has to renew it"
    if fault.verify_code == _NOT_YET:
        return "its certificate is not valid yet: one of the two clocks is wrong"
    return f"its certificate is refused: {fault.verify_message}"


def _said(fault: ssl.SSLError) -> str:
    """The library's reason, in lower case: `tlsv13 alert certificate required`."""
    return (fault.reason or str(fault)).lower().replace("_", " ")
