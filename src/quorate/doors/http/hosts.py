# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Host headers this node answers to.

A node on loopback is protected by nothing but the fact that strangers cannot connect. A web page
can, once its name is made to resolve to 127.0.0.1 (DNS rebinding); its Host header gives it away.
A node on a network is reached by names it does not know, so there every Host is taken.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

_LOOPBACK: Final = (b"localhost", b"127.0.0.1", b"[::1]")
_PORT: Final = re.compile(rb":[0-9]{0,5}\Z")


class Hosts:
    """The names of one node."""

    __slots__ = ("_names",)

    def __init__(self, *, is_on_loopback: bool, own_url: str) -> None:
        own = urlsplit(own_url).netloc.encode()
        names = {*_LOOPBACK, _PORT.sub(b"", own)}
        self._names = frozenset(names) if is_on_loopback else None

    def welcome(self, host: bytes) -> bool:
        """Whether a request with this Host is for us."""
        return self._names is None or _PORT.sub(b"", host).lower() in self._names
