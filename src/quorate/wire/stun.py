# SPDX-License-Identifier: GPL-3.0-or-later
"""STUN's binding request and its answer as bytes (RFC 8489, 5, 14.1 and 14.2), and nothing more.

An answer counts if it is of our request: the right class, method, cookie and transaction, all of
its attributes whole. It is no proof: whoever sees the request can answer it. So what it says is
checked as an address of a peer is before it is used.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import Final

PORT: Final = 3478
TRANSACTION_BYTES: Final = 12
_REQUEST: Final = 0x0001
_SUCCESS: Final = 0x0101
_COOKIE: Final = 0x2112A442
_MAPPED_ADDRESS: Final = 0x0001
_XOR_MAPPED_ADDRESS: Final = 0x0020
_HEADER: Final = struct.Struct(">HHI12s")
_ATTRIBUTE: Final = struct.Struct(">HH")
_ADDRESS_BYTES: Final = {1: 4, 2: 16}
"""By the family's number."""


def binding_request(transaction: bytes) -> bytes:
    """The datagram that asks where it comes from."""
    return _HEADER.pack(_REQUEST, 0, _COOKIE, transaction)


def mapped_address(data: bytes, *, transaction: bytes) -> tuple[str, int]:
    """The address and port that an answer says our datagram came from. ValueError unless `data` is
    a whole answer to the request of this transaction."""
    if len(data) < _HEADER.size:
        raise ValueError("shorter than a header")
    kind, length, cookie, of = _HEADER.unpack_from(data)
    if kind != _SUCCESS or cookie != _COOKIE or of != transaction:
        raise ValueError("no answer to this request")
    if length % 4 or len(data) != _HEADER.size + length:
        raise ValueError("cut, or longer than it says")
    found = dict(_attributes(data))
    if _XOR_MAPPED_ADDRESS in found:
        return _address(found[_XOR_MAPPED_ADDRESS], mask=data[4 : _HEADER.size])
    if _MAPPED_ADDRESS in found:
        # Of servers that are older than RFC 5389.
        return _address(found[_MAPPED_ADDRESS], mask=bytes(_HEADER.size - 4))
    raise ValueError("an answer without an address")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each, the first of a kind last: that one counts (RFC 8489, 14)."""
    found: list[tuple[int, bytes]] = []
    at = _HEADER.size
    while at < len(data):
        kind, length = _ATTRIBUTE.unpack_from(data, at)
        value = data[at + _ATTRIBUTE.size : at + _ATTRIBUTE.size + length]
        if len(value) < length:
            raise ValueError("an attribute that is cut")
        found.append((kind, value))
        at += _ATTRIBUTE.size + length + -length % 4
    yield from reversed(found)


def _address(value: bytes, *, mask: bytes) -> tuple[str, int]:
    if len(value) < 4 or len(value) != 4 + _ADDRESS_BYTES.get(value[1], -5):
        raise ValueError("an address of no known family")
    plain = bytes([one ^ other for one, other in zip(value[4:], mask, strict=False)])
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(mask[:2], "big")
    return str(ipaddress.ip_address(plain)), port
