# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to a client: which nodes, how long, how many replicas."""

from __future__ import annotations

import os
from typing import Final

from quorate.cli.arguments import Given, UsageError
from quorate.client.blocking import Client
from quorate.client.trial import DEFAULT_NODE
from quorate.notation import parse_duration, parse_url

_NUMBER_MAX: Final = 10**18 - 1
_TTL_SECONDS_MAX: Final = 10**10


def node_urls(given: Given) -> list[str]:
    """The nodes to try: the target alone, else the first that answers of the list."""
    for name in ("target", "nodes"):
        text = given.get(name) or os.environ.get(f"QUORATE_{name.upper()}")
        if text:
            return [_url(name, part) for part in text.split(",") if part.strip()]
    return [DEFAULT_NODE]


def client_of(given: Given) -> Client:
    """A client for the nodes that the flags name."""
    return Client(node_urls(given))


def key_of(given: Given) -> bytes:
    """The key that is given; UsageError if it is empty."""
    key = os.fsencode(given["key"])
    if not key:
        raise UsageError("--key: it is empty: a key has at least one byte")
    return key


def ttl_seconds(given: Given) -> int | None:
    """--ttl, if it is given: a number of seconds, or a duration of whole seconds."""
    text = given.get("ttl")
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return _whole("ttl", text, low=1, high=_TTL_SECONDS_MAX)
    try:
        ttl_ms = parse_duration(text)
    except ValueError:
        ttl_ms = -1
    if ttl_ms < 1000 or ttl_ms % 1000:
        raise UsageError(f"--ttl: {text!r} is no time in whole seconds: write for example 90 or 1m")
    return ttl_ms // 1000


def timeout_seconds(given: Given) -> float | None:
    """--timeout, if it is given."""
    text = given.get("timeout")
    if text is None:
        return None
    try:
        timeout_ms = parse_duration(text)
    except ValueError as fault:
        raise UsageError(f"--timeout: {fault}") from None
    if not timeout_ms:
        raise UsageError("--timeout: must be more than nothing")
    return timeout_ms / 1000


def whole_number(given: Given, name: str, *, low: int) -> int | None:
    """A flag's whole number, if it is given."""
    text = given.get(name)
    if text is None:
        return None
    return _whole(name, text, low=low, high=_NUMBER_MAX)


def _whole(name: str, text: str, *, low: int, high: int) -> int:
    digits = text.lstrip("0") or text[-1:]
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"--{name}: {text!r} is no whole number from {low} up")
    # By length first: Python refuses to read thousands of digits.
    if len(digits) > len(str(high)) or int(digits) > high:
        raise UsageError(f"--{name}: {text} is too large: the most is {high}")
    if int(digits) < low:
        raise UsageError(f"--{name}: {text!r} is no whole number from {low} up")
    return int(digits)


def _url(name: str, text: str) -> str:
    try:
        return parse_url(text)
    except ValueError as fault:
        raise UsageError(f"--{name}: {fault}") from None
