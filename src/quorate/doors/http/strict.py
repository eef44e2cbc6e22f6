# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything else: a stranger's host, headers that could mislead.

Of all this the fast lane asks only for the Host, the role and the place of conditions: it never
matches a request with any of the other headers (`canonical.DECIDING`).
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from quorate.doors.http.conditions import refuse_misplaced
from quorate.doors.http.hosts import Hosts
from quorate.doors.http.problems import Refused

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_VERSIONS: Final = ((1, 1), (1, 0))
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]*)", re.IGNORECASE)


def path_of(request: web.BaseRequest) -> str:
    """The path as it came, which is a route's only if it is that byte for byte. To aiohttp `/%6bv`
    is `/kv`; a proxy that lets nobody reach `/internal/` need not agree."""
    path = request.raw_path.partition("?")[0]
    absolute = _ABSOLUTE.match(path)
    return path[absolute.end() :] if absolute else path


def check(request: web.BaseRequest, hosts: Hosts) -> None:
    """Refuse what cannot be served safely or honestly. Refused, InvalidRequest."""
    if request.version not in _VERSIONS:
        raise Refused(505, "http_version", "only HTTP/1.1 and 1.0 are spoken", is_final=True)
    authority = _checked_authority(request, hosts)
    _check_body(request)
    if request.headers.get("Expect", "100-continue").lower() != "100-continue":
        raise Refused(417, "expectation_failed", "only 100-continue can be expected", is_final=True)
    _check_origin(request, authority)
    if request.method not in _SAFE_METHODS:
        refuse_misplaced(path_of(request), request.headers)


def _checked_authority(request: web.BaseRequest, hosts: Hosts) -> str:
    """Whom the request is for: what the Host header says, or the target where that is a whole URL,
    whatever the header says then (RFC 9112, 3.2.2)."""
    given = request.headers.getall("Host", [])
    is_old = request.version < (1, 1)
    if len(given) != 1 and not (is_old and not given):
        # aiohttp's parser says so first, and calls it the same.
        raise Refused(400, "bad_request", "exactly one Host header is needed", is_final=True)
    authority = given[0] if given else ""
    if absolute := _ABSOLUTE.match(request.raw_path):
        if absolute[1].lower() != "http" or "@" in absolute[2]:
            raise Refused(421, "misdirected", "a whole URL is http://host/path", is_final=True)
        authority = absolute[2]
    if authority and not hosts.welcome(authority.encode("utf-8", "surrogateescape")):
        raise Refused(421, "misdirected", hosts.refusal, is_final=True)
    return authority


def _check_body(request: web.BaseRequest) -> None:
    """Refuse a body that would be stored other than it was meant."""
    headers = request.headers
    coding = ",".join(headers.getall("Transfer-Encoding", []))
    if coding and request.version < (1, 1):
        # RFC 9112, 6.1: its framing is faulty.
        raise Refused(400, "bad_request", "HTTP/1.0 has no Transfer-Encoding", is_final=True)
    if coding and [each.strip().lower() for each in coding.split(",")] != ["chunked"]:
        raise Refused(
            501, "unsupported_coding", "chunked is the only transfer coding", is_final=True
        )
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(
            415,
            "unsupported_encoding",
            "compressed bodies are not taken",
            headers={"Accept-Encoding": "identity"},
            is_final=True,
        )
    if "Content-Range" in headers:
        # RFC 9110, 14.5: what was meant as a part would replace the whole.
        raise Refused(400, "partial_write", "a value can only be put as a whole", is_final=True)


def _check_origin(request: web.BaseRequest, authority: str) -> None:
    """A page of another site may do nothing through the browser of somebody who can reach us. Such
    is one of our own name that came without TLS, where we are inside TLS: anybody on its way can
    have made it. (Outside, a proxy may speak TLS for us.)"""
    given = request.headers.get("Origin")
    if given is None:
        return
    scheme, _, origin = given.lower().partition("://")
    if origin != authority.lower() or (request.secure and scheme != "https"):
        raise Refused(403, "foreign_origin", "requests from pages of other origins are refused")
