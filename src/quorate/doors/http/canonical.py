# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fast lane takes: strict expressions over a request's whole head.

Two are for reads and writes of a key that say nothing else, which has to be quick: one for the
line, and one for the headers, which are matched once for many requests (`heads`). What they do not
match another may, in one go: `/kv` with any query and conditions, and `/incr`; it finds where
things stand, and `kv.Asked` says what they mean. Both ways take a Host, at most one Content-Length,
a Connection that says nothing new, and any header that decides nothing: what HTTP libraries send of
their own (Accept, User-Agent, an Upgrade that we do not follow) keeps nobody out. Where users log
in, Authorization decides, and may stand there once.
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Iterable
from typing import Final

from quorate.config import KEY_BYTES_MAX
from quorate.doors.http.conditions import IDEMPOTENCY, MATCH, NONE_MATCH
from quorate.doors.http.kv import METHODS, REQUESTS

QUERY_BYTES_MAX: Final = 4096
"""A key of the greatest length, all escaped, takes three quarters of it."""


def _once(group: int, name: bytes, value: bytes) -> bytes:
    """A header whose value is `group`; a second one, (?(group)(?!)), matches nothing."""
    return rb"(?(%d)(?!))(?i:%b):[ \t]*+(%b)\r\n" % (group, name, value)


_NAMES: Final = {name.lower().encode(): name for name in (MATCH, NONE_MATCH, IDEMPOTENCY)}
"""Headers that decide, and that the expression for all else takes."""
_FOREIGN: Final = (
    *(b"host", b"content-length", b"connection", b"transfer-encoding", b"expect", b"origin"),
    *(b"content-encoding", b"content-range", b"if-modified-since", b"if-unmodified-since"),
)
DECIDING: Final = (*_FOREIGN, *_NAMES)
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
_CONNECTION: Final = rb"(?i:connection:[ \t]*+%b(?>(?:[ \t]*+,[ \t]*+%b)*))[ \t]*+\r\n" % (
    _NOTHING_NEW,
    _NOTHING_NEW,
)


def _headers(deciding: Iterable[bytes], *, host: int, asks: bool) -> bytes:
    """From the line's version to the end of the headers, with none of `deciding`. The groups, from
    `host` on: Host, Content-Length and, if it `asks` who sends it, Authorization."""
    headers = [
        _once(host, b"host", rb"[A-Za-z0-9._:\[\]-]+"),
        _once(host + 1, b"content-length", rb"[0-9]{1,10}"),
        _CONNECTION,
    ]
    if asks:
        headers.append(_once(host + 2, b"authorization", rb"[!-~]++(?>(?: ++[!-~]++)*)"))
        deciding = (*deciding, b"authorization")
    headers.append(_other(deciding))
    return rb"HTTP/1\.1\r\n(?>(?:%b){1,64})(?(%d)|(?!))\r\n" % (b"|".join(headers), host)


_PLAIN: Final = rb"A-Za-z0-9._~:@/,!'()*-"
PLAIN_BYTES: Final = bytes(each for each in range(256) if re.match(b"[%b]" % _PLAIN, bytes([each])))
"""Those that stand for themselves in a key of `LINE`, and begin nothing."""
KEY_PREFIX: Final = b"/kv?key="
"""How the target begins that `LINE` takes."""
LINE: Final = re.compile(
    rb"(?:%b) /kv\?key=(?:([%b]{1,%d}+)(?=[ &])|((?>(?:[%b+]++|%%[0-9A-Fa-f]{2}){1,%d})))"
    rb"(?:&([rw]=[1-9]))? " % (b"|".join(METHODS), _PLAIN, KEY_BYTES_MAX, _PLAIN, KEY_BYTES_MAX)
)
"""The request line up to its version. Groups: the key, where it stands for itself; the key, where
it has to be `unquoted`; `r` or `w` with its digit."""
HEADERS: Final = re.compile(_headers(DECIDING, host=1, asks=False))
"""Groups: Host, Content-Length."""
HEADERS_WITH_LOGIN: Final = re.compile(_headers(DECIDING, host=1, asks=True))
"""The same, and what is shown as Authorization."""

_FULL_LINE: Final = rb"(%b)\?([!-~]{1,%d}+) " % (b"|".join(REQUESTS), QUERY_BYTES_MAX)
FULL: Final = re.compile(_FULL_LINE + _headers(_FOREIGN, host=3, asks=False))
"""Groups: one of `REQUESTS`, the query, Host, Content-Length."""
FULL_WITH_LOGIN: Final = re.compile(_FULL_LINE + _headers(_FOREIGN, host=3, asks=True))
"""The same, and what is shown as Authorization."""

_NAMED: Final = re.compile(rb"\r\n(?i:(%b)):[ \t]*+([^\r]*+)" % b"|".join(_NAMES))


def named_lines(head: bytes) -> dict[str, list[str]]:
    """The values of the headers that decide, by name (`conditions.Lines`), of a head that `FULL`
    matches."""
    lines: dict[str, list[str]] = {}
    for name, value in _NAMED.findall(head):
        lines.setdefault(_NAMES[name.lower()], []).append(value.decode("ascii").rstrip(" "))
    return lines


def unquoted(key: bytes) -> bytes:
    """A key as it stands in a line that `LINE` matches, as `urllib.parse.unquote_to_bytes` reads it
    (and a plus as a space), in a third of its time.

    Of whole escapes and no `=` quoted-printable reads the same, but for the mark.
    """
    return a2b_qp(key.replace(b"+", b"%20").replace(b"%", b"="))
