# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to a client: which nodes, how long, how many replicas."""

from __future__ import annotations

import os
from typing import Final

from quorate.cli.arguments import Given, UsageError
from quorate.client.blocking import Client
from quorate.notation import parse_duration, parse_url

DEFAULT_NODE: Final = "http://localhost:8000"


def node_urls(given: Given) -> list[str]:
    """The nodes to try: the target alone, else the first that answers of the list (S07, S08)."""
    for name in ("target", "nodes"):
        text = given.get(name) or os.environ.get(f"QUORATE_{name.upper()}")
        if text:
            return [_url(name, part) for part in text.split(",") if part.strip()]
    return [DEFAULT_NODE]


def client_of(given: Given) -> Client:
    """A client for the nodes that the flags name."""
    return Client(node_urls(given))


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
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= low):
        raise UsageError(f"--{name}: {text!r} is no whole number from {low} up")
    return int(text)


def _url(name: str, text: str) -> str:
    try:
        return parse_url(text)
    except ValueError as fault:
        raise UsageError(f"--{name}: {fault}") from None
