# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fast lane takes: one strict expression over a request's whole head.

It takes a Host, at most one Content-Length, a Connection that says nothing new, and any header that
decides nothing: what HTTP libraries send of their own (Accept, User-Agent, an Upgrade that we do
not follow) keeps nobody out. Where users log in, Authorization decides, and may stand there once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from quorate.config import KEY_BYTES_MAX
from quorate.doors.http.kv import METHODS


def _once(group: int, name: bytes, value: bytes) -> bytes:
    """A header whose value is `group`; a second one, (?(group)(?!)), matches nothing."""
    return rb"(?(%d)(?!))(?i:%b):[ \t]*+(%b)\r\n" % (group, name, value)


DECIDING: Final = (
    *(b"host", b"content-length", b"connection", b"transfer-encoding", b"expect", b"origin"),
    *(b"content-encoding", b"content-range"),
    *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"),
    b"idempotency-key",
)
"""Headers that decide what a request means, where it ends, or whether it is served. Whatever the
full service learns to look at on `/kv` must stand here."""


# The set of first letters is for speed: few headers begin with one of them.
def _other(deciding: Iterable[bytes]) -> bytes:
    """A header that is none of these."""
    return rb"(?!(?i:(?=[%b])(?:%b)):)[!#$%%&'*+.^_`|~0-9A-Za-z-]++:[ \t]*+%b\r\n" % (
        bytes(sorted({name[0] for name in deciding})),
        b"|".join(deciding),
        rb"[\x20-\x7e]{0,8192}+",
    )


_NOTHING_NEW: Final = rb"(?:keep-alive|te|upgrade|http2-settings)"
_CONNECTION: Final = rb"(?i:connection:[ \t]*+%b(?:[ \t]*+,[ \t]*+%b)*+)[ \t]*+\r\n" % (
    _NOTHING_NEW,
    _NOTHING_NEW,
)
_HEADERS: Final = (
    _once(5, b"host", rb"[A-Za-z0-9._:\[\]-]+"),
    _once(6, b"content-length", rb"[0-9]{1,10}"),
    _CONNECTION,
)


def _canonical(headers: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(
        rb"(%b) /kv\?key=((?:[A-Za-z0-9._~:@/,!'()*+-]++|%%[0-9A-Fa-f]{2}){1,%d}+)"
        rb"(?:&([rw])=([1-9]))? HTTP/1\.1\r\n(?:%b){1,64}+(?(5)|(?!))\r\n"
        % (b"|".join(METHODS), KEY_BYTES_MAX, b"|".join(headers))
    )


CANONICAL: Final = _canonical((*_HEADERS, _other(DECIDING)))
"""Groups: method, key, `r` or `w`, its digit, Host, Content-Length."""
WITH_LOGIN: Final = _canonical(
    (
        *_HEADERS,
        _once(7, b"authorization", rb"[!-~]++(?: ++[!-~]++)*+"),
        _other((*DECIDING, b"authorization")),
    )
)
"""The same, and what is shown as Authorization."""
