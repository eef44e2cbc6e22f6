# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to a client: which nodes, how long, how many replicas."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from quorate.cli.arguments import Given, UsageError
from quorate.cli.login import TLS_FLAGS, access_of, has_login, is_tls_meant
from quorate.client.blocking import Client
from quorate.client.trial import DEFAULT_NODE, TIMEOUT_SECONDS
from quorate.notation import parse_duration, parse_target

Value = TypeVar("Value")
KEY_BYTES_MAX: Final = 1024
"""As all clusters have it (`quorate.config`, whose import takes long)."""
_NUMBER_MAX: Final = 10**18 - 1
_TTL_SECONDS_MAX: Final = 10**10
DEV_NODES_MAX: Final = 16
"""Nodes that a command starts on one machine."""
WITHHELD: Final = (
    "no login is sent to it: it is no member of the cluster, and without TLS anybody may be there"
)


def parsed(given: Given, name: str, parse: Callable[[str], Value]) -> Value | None:
    """What `parse` makes of a flag, None if it is not given; its ValueError names the flag."""
    return _parsed_as(f"--{name}", given[name], parse) if name in given else None


def _parsed_as(shown: str, text: str, parse: Callable[[str], Value]) -> Value:
    try:
        return parse(text)
    except ValueError as fault:
        raise UsageError(f"{shown}: {fault}") from None


def node_urls(given: Given, *, is_tls: bool | None = None) -> list[str]:
    """The nodes to try: the target alone, else the first that answers of the list. Those without a
    scheme are reached through TLS if `is_tls`, or if anything of it is given."""
    is_tls = is_tls_meant(given) if is_tls is None else is_tls
    for source, names in (
        (given, {"target": "--target", "nodes": "--nodes"}),
        (os.environ, {each: each for each in ("QUORATE_TARGET", "QUORATE_NODES")}),
    ):
        for name, shown in names.items():
            if text := source.get(name):
                return _parsed_as(shown, text, lambda text: _urls(text, is_tls=is_tls))
    return [_through_tls(DEFAULT_NODE) if is_tls else DEFAULT_NODE]


def client_of(given: Given, *, timeout: float = TIMEOUT_SECONDS) -> Client:
    """A client for the nodes that the flags name."""
    return _client(given, node_urls(given), timeout)


def client_at(given: Given, url: str, *, timeout: float, vouched: Collection[str]) -> Client:
    """A client for one node of a listing, reached as the nodes are that the flags name: a member's
    URL is the same with TLS and without. It shows a login unless `is_withheld`."""
    is_tls = node_urls(given)[0].startswith("https:")
    shows_login = not is_withheld(given, url, vouched=vouched)
    return _client(given, [_through_tls(url) if is_tls else url], timeout, shows_login=shows_login)


def is_withheld(given: Given, url: str, *, vouched: Collection[str]) -> bool:
    """Whether the login that is given is not for this node. A certificate shows who it is; without
    TLS anybody can have a node list his URL, by a greeting, and read what comes. So there it is for
    the nodes that the flags name, and for `vouched` ones."""
    named = node_urls(given)
    if named[0].startswith("https:") or url in named or url in vouched:
        return False
    return has_login(given)


def vouched_of(listing: list[dict[str, Any]]) -> set[str]:
    """Of a node's listing (`GET /nodes`) the URLs, those for clients too, of the node itself and of
    members: those that the layout names and that showed the id it names. An earlier release does
    not say who is a member."""
    members = [each for each in listing if each.get("member") is True and each.get("id")]
    members += [each for each in listing if each.get("state") == "self"]
    urls = [each.get(name) for each in members for name in ("url", "client")]
    return {str(url) for url in urls if url}


def _client(given: Given, urls: list[str], timeout: float, *, shows_login: bool = True) -> Client:
    plain = [url for url in urls if not url.startswith("https:")]
    for name in TLS_FLAGS:
        # What was set for all commands may be of no use to this one; what was typed has to be.
        if plain and name in given:
            raise UsageError(f"--{name}: {plain[0]} is without TLS: write https://")
    access = access_of(given, is_tls=len(plain) < len(urls), shows_login=shows_login)
    return Client(urls, timeout=timeout, **access)


def _through_tls(url: str) -> str:
    return url.replace("http:", "https:", 1)


def key_of(given: Given) -> bytes:
    """The key that is given; UsageError if it is empty, or longer than a key may be."""
    key = os.fsencode(given["key"])
    if not key:
        raise UsageError("--key: it is empty: a key has at least one byte")
    if len(key) > KEY_BYTES_MAX:
        # A node would call one that is longer than a request's target too long a target.
        raise UsageError(f"--key: it has {len(key):,} bytes: a key has at most {KEY_BYTES_MAX:,}")
    return key


def ttl_seconds(given: Given) -> int | None:
    """--ttl, if it is given: a number of seconds, or a duration of whole seconds."""
    return parsed(given, "ttl", _ttl)


def timeout_seconds(given: Given) -> float | None:
    """--timeout, if it is given."""
    timeout_ms = parsed(given, "timeout", parse_duration)
    if timeout_ms == 0:
        raise UsageError("--timeout: must be more than nothing")
    return None if timeout_ms is None else timeout_ms / 1000


def whole_number(given: Given, name: str, *, low: int, high: int = _NUMBER_MAX) -> int | None:
    """A flag's whole number, if it is given; both limits are allowed."""
    return parsed(given, name, lambda text: _whole(text, low=low, high=high))


def _whole(text: str, *, low: int, high: int) -> int:
    digits = text.lstrip("0") or text[-1:]
    if digits.isascii() and digits.isdigit():
        # By length first: Python refuses to read thousands of digits.
        if len(digits) > len(str(high)) or int(digits) > high:
            raise ValueError(f"{text} is too large: the most is {high}")
        if int(digits) >= low:
            return int(digits)
    raise ValueError(f"{text!r} is no whole number from {low} up")


def _ttl(text: str) -> int:
    if text.isascii() and text.isdigit():
        return _whole(text, low=1, high=_TTL_SECONDS_MAX)
    try:
        ttl_ms = parse_duration(text)
    except ValueError:
        ttl_ms = -1
    if ttl_ms < 1000 or ttl_ms % 1000:
        raise ValueError(f"{text!r} is no time in whole seconds: write for example 90 or 1m")
    return ttl_ms // 1000


def _urls(text: str, *, is_tls: bool) -> list[str]:
    scheme = "https" if is_tls else "http"
    urls = [parse_target(part, scheme=scheme) for part in text.split(",") if part.strip()]
    if not urls:
        raise ValueError(f"{text!r} names no node")
    return urls
