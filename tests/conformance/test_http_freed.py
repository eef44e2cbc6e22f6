# SPDX-License-Identifier: GPL-3.0-or-later
"""A request that fails leaves nothing to the garbage collector: its body would wait with it."""

from __future__ import annotations

import pytest
from aiohttp import web

from quorate.doors.http.problems import Refused
from quorate.errors import QuorateError
from tests.conformance.conftest import HOST
from tests.http_served import Client, Served
from tests.uncollected import uncollected

_CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n"
_BODY = b"\r\n5\r\nvalue\r\n0\r\n\r\n"
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
