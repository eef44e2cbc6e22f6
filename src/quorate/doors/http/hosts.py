# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Host headers this node answers to.

A node on loopback is protected by nothing but the fact that strangers cannot connect. A web page
can, once its name is made to resolve to 127.0.0.1 (DNS rebinding); its Host header gives it away.
A node on a network is reached by names it does not know, so there every Host is taken.
"""

from __future__ import annotations

import re
from typing import Final

from quorate.notation import is_loopback, split_url

_KNOWN_MAX: Final = 100
_PORT: Final = re.compile(r":[0-9]{0,5}\Z")


class Hosts:
    """The names of one node."""

    __slots__ = ("_own", "known")

    def __init__(self, *, is_on_loopback: bool, own_url: str) -> None:
        self._own = split_url(own_url)[0] if is_on_loopback else None
        self.known: set[bytes] = set()
        """Hosts found welcome: clients say the same few with every request."""

    def welcome(self, host: bytes) -> bool:
        """Whether a request with this Host is for us."""
        if host in self.known:
            return True
        if self._own is not None:
            name = _PORT.sub("", host.decode("latin-1")).lower().strip("[]")
            if name != self._own and not is_loopback(name):
                return False
        if len(self.known) < _KNOWN_MAX:
            self.known.add(host)
        return True
