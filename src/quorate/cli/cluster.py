# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a cluster: keys, nodes, status, ring, explain."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from quorate.cli.arguments import Given
from quorate.cli.connect import client_of, timeout_seconds, whole_number
from quorate.cli.output import json_text, print_json, print_table
from quorate.client.blocking import Client
from quorate.client.calls import Call, Unreachable, error_of, key_bytes, options, read_json
from quorate.errors import PeerProtocolError
from quorate.wire.http import quote

_PAGE: Final = 1000
_PROBE_SECONDS: Final = 2.0
_PROBES_AT_ONCE: Final = 16
_OF_MEMBER: Final = frozenset({"url", "state", "owns", "keys", "bytes"})
_OF_KEY: Final = frozenset({"slot", "partition", "epoch"})
_OF_REPLICA: Final = frozenset({"url", "state", "version", "hints"})


def run_keys(given: Given) -> int:
    """List keys, one on a line; 3 if some may be missing."""
    coverage: list[bool] = []
    with client_of(given) as client:
        keys = _keys(client, given, coverage)
        if "json" in given:
            listed = [json_text(key) for key in keys]
            print_json({"keys": listed, "complete": all(coverage)})
        else:
            for key in keys:
                sys.stdout.buffer.write(key + b"\n")
            sys.stdout.buffer.flush()
    if all(coverage):
        return 0
    print("quorate: keys may be missing: too few replicas answered", file=sys.stderr)
    return 3


def _keys(client: Client, given: Given, coverage: list[bool]) -> Iterator[bytes]:
    """The keys asked for; notes for each page whether it was complete."""
    left = whole_number(given, "limit", low=1)
    cursor = ""
    while left is None or left > 0:
        page = client.page(
            os.fsencode(given.get("prefix", "")),
            cursor=cursor,
            limit=_PAGE if left is None else min(left, _PAGE),
            r=whole_number(given, "R", low=1),
            timeout=timeout_seconds(given),
        )
        coverage.append(page.complete)
        yield from page.keys
        left = None if left is None else left - len(page.keys)
        cursor = page.cursor
        if not cursor:
            return


def run_nodes(given: Given) -> int:
    """The members as one node sees them."""
    members = _members(given)
    if "json" in given:
        print_json(members)
        return 0
    columns = ["url", "state", "owns", "failures", "last_seen_ms", "keys", "bytes", "hints"]
    columns += ["version", "id"]
    print_table(columns, [[_cell(member.get(name)) for name in columns] for member in members])
    return 0


def run_status(given: Given) -> int:
    """Ask every member whether it is ready; 3 if one is not."""
    urls = [str(member["url"]) for member in _members(given)]
    with ThreadPoolExecutor(_PROBES_AT_ONCE) as pool:
        reasons = list(pool.map(_unreadiness, urls))
    states = ["ready" if not reason else "not ready" for reason in reasons]
    if "json" in given:
        keys = ("url", "state", "reason")
        print_json(
            [dict(zip(keys, row, strict=True)) for row in zip(urls, states, reasons, strict=True)]
        )
    else:
        print_table(["url", "state", "reason"], list(zip(urls, states, reasons, strict=True)))
    return 3 if any(reasons) else 0


def run_ring(given: Given) -> int:
    """Where a key belongs, or what each member holds."""
    if "key" in given:
        return _ring_of_key(given)
    members = _members(given)
    held = sum(int(member["keys"] or 0) for member in members)
    rows = [
        {
            "url": member["url"],
            "owns": member["owns"],
            "keys": member["keys"],
            "bytes": member["bytes"],
            "share": round(int(member["keys"] or 0) / held, 4) if held else 0.0,
        }
        for member in members
    ]
    if "json" in given:
        print_json(rows)
    else:
        columns = list(rows[0]) if rows else ["url"]
        print_table(columns, [[_cell(cell) for cell in row.values()] for row in rows])
    return 0


def _ring_of_key(given: Given) -> int:
    table = _explained(given)
    replicas = [{"url": view["url"], "state": view["state"]} for view in table["replicas"]]
    if "json" in given:
        print_json({**table, "replicas": replicas})
        return 0
    print(f"slot\t{table['slot']}\npartition\t{table['partition']}\nepoch\t{table['epoch']}")
    print_table(["replica", "state"], [[view["url"], view["state"]] for view in replicas])
    return 0


def run_explain(given: Given) -> int:
    """What each replica of a key holds."""
    table = _explained(given)
    if "json" in given:
        print_json(table)
        return 0
    print(f"slot\t{table['slot']}\npartition\t{table['partition']}\nepoch\t{table['epoch']}")
    rows = [
        [view["url"], view["state"], _version(view["version"]), view["hints"]]
        for view in table["replicas"]
    ]
    print_table(["replica", "state", "version", "hints"], rows)
    return 0


def _explained(given: Given) -> dict[str, Any]:
    timeout = timeout_seconds(given)
    target = f"/explain?key={quote(key_bytes(os.fsencode(given['key'])))}{options(timeout=timeout)}"
    with client_of(given) as client:
        table = read_json(client.request(Call("GET", target), timeout=timeout))
    replicas = table.get("replicas") if isinstance(table, dict) else None
    if not _are_tables(replicas, _OF_REPLICA) or not _are_tables([table], _OF_KEY):
        raise PeerProtocolError("an explanation in an unknown form")
    assert isinstance(table, dict)
    return table


def _members(given: Given) -> list[dict[str, Any]]:
    with client_of(given) as client:
        table = read_json(client.request(Call("GET", "/nodes"), timeout=timeout_seconds(given)))
    if not _are_tables(table, _OF_MEMBER):
        raise PeerProtocolError("a list of nodes in an unknown form")
    assert isinstance(table, list)
    return table


def _are_tables(value: object, names: frozenset[str]) -> bool:
    """Whether JSON is a list of objects that have these members at least."""
    return isinstance(value, list) and all(
        isinstance(item, dict) and names <= item.keys() for item in value
    )


def _unreadiness(url: str) -> str:
    """Why the node at `url` is not ready; empty if it is."""
    try:
        with Client(url, timeout=_PROBE_SECONDS) as client:
            error = error_of(client.request(Call("GET", "/readyz")), is_write=False)
    except Unreachable as unreachable:
        return str(unreachable)
    return str(error) if error else ""


def _version(version: str | None) -> str:
    if version is None:
        return "(no answer)"
    return version or "(nothing)"


def _cell(value: object) -> object:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
