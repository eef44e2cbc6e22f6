# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a STUN server where this machine is seen.

The request is sent from a connected socket, so that the kernel drops what comes from elsewhere, and
again after 0.5 and 1.5 s (RFC 8489, 6.2.1, with fewer tries: a node that starts waits for it).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from quorate.notation import address_of
from quorate.runtime.resolve import Names
from quorate.wire.stun import TRANSACTION_BYTES, binding_request, mapped_address

RESOLVE_S: Final = 3.0
WAITS_S: Final = (0.5, 1.0, 1.5)
"""How long each try waits for an answer."""


async def ask_stun(host: str, port: int) -> str:
    """The address that the server sees us at. OSError with the reason if it does not say."""
    loop = asyncio.get_running_loop()
    try:
        addresses = await asyncio.wait_for(Names("").addresses(host), RESOLVE_S)
    except TimeoutError:
        raise TimeoutError("its name is not resolved in time") from None
    transaction = secrets.token_bytes(TRANSACTION_BYTES)
    asked = _Question(transaction, loop.create_future())
    transport = await _connected(asked, addresses, port)
    try:
        for wait_s in WAITS_S:
            transport.sendto(binding_request(transaction))
            await asyncio.wait([asked.found], timeout=wait_s)
            if asked.found.done():
                return asked.found.result()
    finally:
        transport.close()
    raise TimeoutError(asked.why_not or "no answer")


async def _connected(
    asked: _Question, addresses: Sequence[str], port: int
) -> asyncio.DatagramTransport:
    """At the first of the addresses that there is a way to. OSError if there is to none."""
    failed: OSError = ConnectionError("its name has no address")
    for each in addresses:
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: asked, remote_addr=(each, port)
            )
        except OSError as error:
            failed = error
        else:
            return transport
    raise failed


class _Question(asyncio.DatagramProtocol):
    """One request."""

    def __init__(self, transaction: bytes, found: asyncio.Future[str]) -> None:
        self._transaction = transaction
        self.found = found
        self.why_not = ""

    def datagram_received(self, data: bytes, _: object) -> None:
        try:
            host, _port = mapped_address(data, transaction=self._transaction)
        except ValueError as fault:
            self.why_not = f"an answer that is none: {fault}"
            return
        address = address_of(host)
        if address is not None and not self.found.done():
            self.found.set_result(str(address))

    def error_received(self, error: Exception) -> None:
        self.why_not = str(error)
