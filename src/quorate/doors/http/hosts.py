# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Host a request may name, so that no web page of another site does anything.

Its author can have the name of his site resolve to an address of a node (DNS rebinding). To the
browser of somebody who reaches the node both are one site then, so that it asks whatever the page
wants, and names the site as Host and as Origin. That matters where a node does what it is asked
though nothing is shown that such a page lacks:

- It trusts who comes from its own machine. That is asked for by a name of that machine, or the
  node's own.
- It trusts everybody (-insecure). It is asked for by an address, by a name that it was told, or by
  one that nobody can have registered for a site: of one label, as containers have, or under a name
  that is kept for private use (RFC 6761, 6762, 8375, `internal` by ICANN, `svc` by Kubernetes).
- Elsewhere a page has no login and no certificate to show; and inside TLS the browser looks whether
  the node's certificate is for the name of the page's site. There any name will do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Final

from quorate.doors.principals import Principals
from quorate.notation import address_of, is_loopback, split_url

_KNOWN_MAX: Final = 100
_PORT: Final = re.compile(r":[0-9]{0,5}\Z")
_PRIVATE: Final = re.compile(
    r"[a-z0-9_-]+"
    r"|(?:[a-z0-9_-]+\.)*(?:internal|invalid|local|localhost|svc|test|home\.arpa)"
)


class Hosts:
    """Those that connections of one kind may name."""

    __slots__ = ("_is_ours", "known", "refusal")

    def __init__(self, is_ours: Callable[[str], bool], refusal: str) -> None:
        self._is_ours = is_ours
        self.known: set[bytes] = set()
        """Hosts found welcome: clients say the same few with every request."""
        self.refusal: Final = refusal
        """One line for who names another."""

    def welcome(self, host: bytes) -> bool:
        """Whether a request with this Host is for us."""
        if host in self.known:
            return True
        name = _PORT.sub("", host.decode("latin-1")).lower().removesuffix(".").strip("[]")
        if not self._is_ours(name):
            return False
        if len(self.known) >= _KNOWN_MAX:
            self.known.clear()
        self.known.add(host)
        return True


class HostPolicy:
    """Which of them a connection to one node may name."""

    def __init__(
        self,
        principals: Principals,
        *,
        is_on_loopback: bool,
        own_url: str,
        told: frozenset[str] = frozenset(),
    ) -> None:
        """`told`: names and addresses that the node's settings hold, IPv6 without brackets."""
        own = split_url(own_url)[0]
        self._principals = principals
        self._is_on_loopback = is_on_loopback
        self._machine = Hosts(partial(_is_machines, own), "this node is not called that")
        self._private = Hosts(
            partial(_is_private, told | {own}),
            "this node is not called that: -advertise-client tells it a public name, of its own or"
            " of a proxy before it",
        )
        self._any = Hosts(lambda _name: True, "")

    def at(self, transport: asyncio.BaseTransport | None) -> Hosts:
        """Those that may be named on a connection; it may be gone."""
        principals = self._principals
        if self._is_on_loopback or transport is None or principals.trusts_machine(transport):
            return self._machine
        if principals.trusts_everybody and transport.get_extra_info("ssl_object") is None:
            return self._private
        return self._any


def _is_machines(own: str, name: str) -> bool:
    return name == own or is_loopback(name)


def _is_private(names: frozenset[str], name: str) -> bool:
    is_private = _PRIVATE.fullmatch(name) is not None or address_of(name) is not None
    return is_private or name in names
