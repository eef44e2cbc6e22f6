# SPDX-License-Identifier: GPL-3.0-or-later
"""put, get, delete and incr. Importing this must stay cheap: `quorate get` is to take under 150
ms."""

from __future__ import annotations

import os
import sys

from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import client_of, key_of, timeout_seconds, ttl_seconds, whole_number
from quorate.cli.output import print_json
from quorate.client.calls import packed
from quorate.notation import show_bytes


def run_put(given: Given) -> int:
    """Write a key."""
    with client_of(given) as client:
        written = client.put(
            key_of(given),
            _value(given["value"]),
            w=whole_number(given, "W", low=1),
            ttl=ttl_seconds(given),
            timeout=timeout_seconds(given),
            if_version=given.get("if-version"),
            if_absent="if-absent" in given,
        )
    _acknowledge(given, written.version, written.acks)
    return 0


def run_get(given: Given) -> int:
    """Print a key's value; 1 if there is none."""
    key = key_of(given)
    with client_of(given) as client:
        found = client.get(key, r=whole_number(given, "R", low=1), timeout=timeout_seconds(given))
    if "json" in given:
        version = None if found is None else found.version
        value = None if found is None else packed(found.value)
        print_json({"key": packed(key), "value": value, "version": version})
    elif found is None:
        print(f"quorate: no value under '{show_bytes(key)}'", file=sys.stderr)
    else:
        sys.stdout.buffer.write(found.value)
        if sys.stdout.isatty() and not found.value.endswith(b"\n"):
            sys.stdout.buffer.write(b"\n")
    return 1 if found is None else 0


def run_delete(given: Given) -> int:
    """Delete a key."""
    with client_of(given) as client:
        written = client.delete(
            key_of(given),
            w=whole_number(given, "W", low=1),
            timeout=timeout_seconds(given),
            if_version=given.get("if-version"),
        )
    _acknowledge(given, written.version, written.acks)
    return 0


def run_incr(given: Given) -> int:
    """Add to a counter, and print what it comes to; `ok` where others have added since."""
    try:
        by = int(given.get("by", "1"))
    except ValueError:
        raise UsageError("by: it is a whole number, such as -5") from None
    with client_of(given) as client:
        made = client.increment(key_of(given), by, timeout=timeout_seconds(given))
    if "json" in given:
        print_json({"value": made.value, "version": made.version, "acks": made.acks})
    else:
        print("ok" if made.value is None else made.value)
    return 0


def _value(text: str) -> bytes:
    if text != "-":
        return os.fsencode(text)
    if sys.stdin is None:
        raise UsageError("standard input: it is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as fault:
        raise UsageError(f"standard input: {fault.strerror}") from None


def _acknowledge(given: Given, version: str, acks: int) -> None:
    if "json" in given:
        print_json({"ok": True, "version": version, "acks": acks})
    else:
        print("ok")
