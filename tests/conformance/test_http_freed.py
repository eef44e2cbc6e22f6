# SPDX-License-Identifier: GPL-3.0-or-later
"""A request that fails, or whose client goes, leaves nothing to the garbage collector: its body
would wait with it."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

import pytest
from aiohttp import StreamReader, web

from quorate.doors.http import request
from quorate.doors.http.fast import FastConnection
from quorate.doors.http.full import FullConnection
from quorate.doors.http.problems import Refused
from quorate.errors import QuorateError
from tests.conformance.conftest import HOST
from tests.conformance.test_http_door import SLOW, build
from tests.http_served import Client, Served
from tests.uncollected import uncollected

_CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n"
_BODY = b"\r\n5\r\nvalue\r\n0\r\n\r\n"
_KEPT = (web.BaseRequest, StreamReader, FastConnection, FullConnection, ConnectionError, Refused)
"""What a body hangs on."""
_BATCH = b'{"operations":[{"op":"put","key":"k","value":"v","if_absent":true}]}'


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"PUT /kv?key=k HTTP/1.1\r\nIf-None-Match: *\r\n" + _CHUNKED + _BODY, 412),
        (b'PUT /kv?key=k HTTP/1.1\r\nIf-Match: "x"\r\n' + _CHUNKED + _BODY, 412),
        (b"PUT /kv?key=k&w=9 HTTP/1.1\r\n" + _CHUNKED + _BODY, 400),
        (b"PUT /kv?key=k&what=1 HTTP/1.1\r\n" + _CHUNKED + _BODY, 400),
        (
            b"POST /batch HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (HOST, len(_BATCH), _BATCH),
            200,
        ),
        (b"POST /batch HTTP/1.1\r\n" + _CHUNKED + _BODY, 400),
        (b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    ],
)
def test_a_request_that_failed_is_freed_without_the_collector(
    http: Served, http_client: Client, asked: bytes, status: int
) -> None:
    http.store.fill(b"k", b"no number")
    with uncollected(QuorateError, Refused, web.BaseRequest) as left:
        for _ in range(3):
            assert http_client.ask(asked).status == status
        # aiohttp keeps a connection's last request until the next one, and the store all of them.
        http_client.close()
        http.reset()
        http.until(lambda: left() == 0)


def _close(client: Client) -> None:
    client.close()


def _reset(client: Client) -> None:
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _half_close(client: Client) -> None:
    client.socket.shutdown(socket.SHUT_WR)
    assert client.rest() == b""
    client.close()


@pytest.mark.parametrize("go", [_close, _reset, _half_close])
@pytest.mark.parametrize(
    "begun",
    [
        build("PUT", b"k", value=b"value")[:-1],
        build("PUT", b"k", value=b"value", lane=SLOW)[:-1],
        b"PUT /kv?key=k HTTP/1.1\r\n" + _CHUNKED + b"\r\n5\r\nval",
        b"POST /batch HTTP/1.1\r\n" + _CHUNKED + b"\r\n5\r\nvalue\r\n",
        b"POST /internal/replicate HTTP/1.1\r\n" + _CHUNKED + b"\r\n5\r\nval",
        # Nobody reads these bodies: such a request is answered, and its body awaited and dropped.
        b"POST /nowhere HTTP/1.1\r\n" + _CHUNKED + b"\r\n5\r\nval",
    ],
    ids=["fast", "length", "chunks", "batch", "replicate", "nowhere"],
)
def test_a_request_whose_client_goes_amid_its_body_is_freed_without_the_collector(
    http: Served, begun: bytes, go: Callable[[Client], None]
) -> None:
    with uncollected(*_KEPT) as left:
        client = http.client()
        client.send(begun)
        if b"nowhere" in begun:
            assert client.receive().status == 404
        http.until(lambda: left() > 0)
        go(client)
        http.until(lambda: left() == 0)


def test_a_body_that_is_too_slow_or_malformed_is_freed_without_the_collector(
    http: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = b"PUT /kv?key=k HTTP/1.1\r\n" + _CHUNKED + b"\r\n5\r\nval"
    with uncollected(*_KEPT) as left:
        with http.client() as client:
            client.send(head)
            http.until(lambda: left() > 0)
            assert client.ask(b"ue\r\nzz\r\n").status == 400
        monkeypatch.setattr(request, "REQUEST_SECONDS", 0.05)
        with http.client() as client:
            assert client.ask(head).status == 408
        http.until(lambda: left() == 0)


@pytest.mark.parametrize(
    "nonsense", [b"GET / JUNK\r\n\r\n", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 20_000]
)
def test_what_cannot_be_read_is_freed_without_the_collector(http: Served, nonsense: bytes) -> None:
    with uncollected(*_KEPT) as left:
        with http.client() as client:
            assert client.ask(nonsense).status in (400, 431)
        http.until(lambda: left() == 0)


def test_a_large_answer_whose_client_goes_is_freed_without_the_collector(http: Served) -> None:
    http.store.fill(b"k", b"v" * (8 << 20))
    with uncollected(*_KEPT, web.Response) as left:
        client = http.client()
        client.send(build("GET", b"k", lane=SLOW))
        assert client.socket.recv(100).startswith(b"HTTP/1.1 200")
        _reset(client)
        http.until(lambda: left() == 0)


@pytest.mark.parametrize(
    "fault", [OSError(errno.EHOSTUNREACH, "no way"), TimeoutError("ETIMEDOUT")]
)
def test_a_client_is_gone_whatever_the_system_calls_it(
    http: Served, fault: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    def lose() -> None:
        assert http.http._runner is not None
        assert http.http._runner.server is not None
        (connection,) = http.http._runner.server.connections
        connection.connection_lost(fault)

    with uncollected(*_KEPT) as left:
        client = http.client()
        client.send(b"PUT /kv?key=k HTTP/1.1\r\n" + _CHUNKED + b"\r\n5\r\nval")
        http.until(lambda: left() > 0)
        http.call(lose)
        client.close()
        http.until(lambda: left() == 0)
    assert not caplog.records
