# SPDX-License-Identifier: GPL-3.0-or-later
"""put, get and delete. Importing this must stay cheap: `quorate get` is to take under 150 ms."""

from __future__ import annotations

import os
import sys

from quorate.cli.arguments import Given
from quorate.cli.connect import client_of, timeout_seconds, whole_number
from quorate.cli.failures import report
from quorate.errors import QuorateError


def run(name: str, given: Given) -> int:
    """Run put, get or delete."""
    try:
        return {"put": run_put, "get": run_get, "delete": run_delete}[name](given)
    except QuorateError as error:
        return report(error)


def run_put(given: Given) -> int:
    """Write a key."""
    value = given["value"]
    with client_of(given) as client:
        written = client.put(
            os.fsencode(given["key"]),
            sys.stdin.buffer.read() if value == "-" else os.fsencode(value),
            w=whole_number(given, "W", low=1),
            ttl=whole_number(given, "ttl", low=1),
            timeout=timeout_seconds(given),
        )
    _acknowledge(given, written.version, written.acks)
    return 0


def run_get(given: Given) -> int:
    """Print a key's value; 1 if there is none."""
    key = os.fsencode(given["key"])
    with client_of(given) as client:
        found = client.get(key, r=whole_number(given, "R", low=1), timeout=timeout_seconds(given))
    if "json" in given:
        from quorate.cli.output import json_text, print_json

        version = None if found is None else found.version
        value = None if found is None else json_text(found.value)
        print_json({"key": json_text(key), "value": value, "version": version})
    elif found is None:
        print(f"quorate: no value under {given['key']!r}", file=sys.stderr)
    else:
        sys.stdout.buffer.write(found.value)
    return 1 if found is None else 0


def run_delete(given: Given) -> int:
    """Delete a key."""
    with client_of(given) as client:
        written = client.delete(
            os.fsencode(given["key"]),
            w=whole_number(given, "W", low=1),
            timeout=timeout_seconds(given),
        )
    _acknowledge(given, written.version, written.acks)
    return 0


def _acknowledge(given: Given, version: str, acks: int) -> None:
    if "json" in given:
        from quorate.cli.output import print_json

        print_json({"ok": True, "version": version, "acks": acks})
    else:
        print("ok")
