# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything else: a stranger's Host, headers that could mislead.

Of all this the fast lane asks only for the Host and the role: it never matches a request with any
of the other headers.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from quorate.doors.access import Hosts, Principal, Role
from quorate.doors.http.problems import Refused
from quorate.errors import NeedsReadModifyWrite

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_VERSIONS: Final = ((1, 1), (1, 0))
_CONDITIONS: Final = ("If-Match", "If-None-Match", "If-Unmodified-Since", "If-Modified-Since")


def check(request: web.BaseRequest, hosts: Hosts) -> None:
    """Refuse what cannot be served safely or honestly. Refused, NeedsReadModifyWrite."""
    if request.version not in _VERSIONS:
        raise Refused(505, "http_version", "only HTTP/1.1 and 1.0 are spoken", is_final=True)
    _check_host(request, hosts)
    if request.headers.get("Expect", "100-continue").lower() != "100-continue":
        raise Refused(417, "expectation_failed", "only 100-continue can be expected", is_final=True)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(
            415,
            "unsupported_encoding",
            "compressed bodies are not taken",
            headers={"Accept-Encoding": "identity"},
            is_final=True,
        )
    if request.method not in _SAFE_METHODS:
        _check_origin(request)
        for name in _CONDITIONS:
            if name in request.headers:
                raise NeedsReadModifyWrite(
                    f"{name} on a write needs an atomic read-modify-write, which this release does"
                    " not have"
                )


def _check_host(request: web.BaseRequest, hosts: Hosts) -> None:
    given = request.headers.getall("Host", [])
    is_old = request.version < (1, 1)
    if len(given) != 1 and not (is_old and not given):
        raise Refused(400, "bad_host", "exactly one Host header is needed", is_final=True)
    if given and not hosts.welcome(given[0].encode("utf-8", "surrogateescape")):
        raise Refused(421, "misdirected", "this node is not called that", is_final=True)


def _check_origin(request: web.BaseRequest) -> None:
    """A page of another site may not write through the browser of somebody who can reach us."""
    origin = request.headers.get("Origin")
    host = request.headers.get("Host", "")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise Refused(403, "foreign_origin", "writes from pages of other origins are refused")


def require(role: Role, principal: Principal) -> None:
    """Refused unless `principal` has `role`."""
    if role not in principal.roles:
        raise Refused(403, "forbidden", f"this needs the role '{role}'")
