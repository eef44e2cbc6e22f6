# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of TLS ask of a real node."""

from __future__ import annotations

import json
import socket
import ssl

from quorate.security.certificates import PEER_NAME
from tests.cluster.processes import NodeProcess, fetch

WAIT_S = 15.0


def lines(node: NodeProcess, event: str) -> list[dict[str, object]]:
    """What the node logged of that event."""
    found = [json.loads(line) for line in node.log.read_text().splitlines() if line[:1] == "{"]
    return [each for each in found if each["event"] == event]


def said(node: NodeProcess, data: bytes) -> bytes:
    """All that the node's port answers to these bytes, until it ends the connection."""
    with socket.create_connection(("localhost", node.port), timeout=WAIT_S) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def half_handshake(node: NodeProcess) -> socket.socket:
    """A connection that has sent the beginning of a ClientHello, and sends no more."""
    connection = socket.create_connection(("localhost", node.port), timeout=WAIT_S)
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32))
    return connection


def secure_socket(
    node: NodeProcess, context: ssl.SSLContext, name: str = PEER_NAME
) -> ssl.SSLSocket:
    """A connection to the node inside TLS. OSError if the two do not shake hands."""
    raw = socket.create_connection(("localhost", node.port), timeout=WAIT_S)
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise


def metric(node: NodeProcess, name: str) -> int:
    """A metric of the node that has no labels."""
    text = fetch(f"{node.url}/metrics")[1].decode()
    (line,) = [each for each in text.splitlines() if each.startswith(f"quorate_{name} ")]
    return int(float(line.split()[1]))
