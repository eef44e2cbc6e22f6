# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes that is no request, and how it is answered."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import HOST
from tests.http_served import Served


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /kv?key=k HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 1_000_000, 431),
        (b"GET /kv?key=" + b"k" * 1_000_000, 414),
        (b"GET /kv?key=k HTTP/1.1\r\n" + HOST + b"X\r\n" * 300_000, 400),
    ],
    ids=["header", "target", "lines"],
)
def test_who_sends_what_cannot_be_read_sees_the_answer_and_no_reset(
    http: Served, head: bytes, status: int
) -> None:
    """RFC 9112, 9.6: what a closed connection still gets is answered with a reset, and that makes
    the client's system drop what the client has not read."""
    for _ in range(20):
        with http.client() as client:
            client.send(head + b"\r\n\r\n")
            answer = client.receive()
            assert answer.status == status
            assert answer.headers["connection"] == "close"
            assert client.socket.recv(1) == b""
