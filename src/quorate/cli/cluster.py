# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a cluster: keys, nodes, status, check, ring, explain; and forgetting a member."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from quorate.cli.arguments import Given
from quorate.cli.asking import ask_all
from quorate.cli.changing import topology_of
from quorate.cli.connect import (
    WITHHELD,
    client_at,
    client_of,
    is_withheld,
    key_of,
    parsed,
    timeout_seconds,
    vouched_of,
    whole_number,
)
from quorate.cli.output import print_facts, print_json, print_table
from quorate.client.blocking import Client
from quorate.client.calls import PAGE_KEYS, Call, Unreachable, error_of, options, packed, read_json
from quorate.errors import InvalidRequest, PeerProtocolError, QuorateError, Unauthenticated
from quorate.notation import (
    parse_url,
    show_bytes,
    show_count,
    show_duration,
    show_size,
    show_text,
)
from quorate.wire.http import quote

PARTITIONS: Final = 1024
"""How many there are in every cluster (docs/design.md)."""
_PROBE_SECONDS: Final = 2.0
_DAY_S: Final = 86_400
_BREAKING: Final = re.compile(rb"[\x00-\x1f\x7f\\]")
_ESCAPED: Final = {b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t", b"\\": b"\\\\"}
_SHOWN: Final = {"last_seen_ms": show_duration, "bytes": show_size}
_SHOWN_NAMES: Final = {"last_seen_ms": "last seen"}
_CHECK: Final = ("url", "partitions", "differed", "unreadable", "fault")
_CHECK_LOOK_SECONDS: Final = 0.5
_OF_MEMBER: Final = frozenset({"url", "state", "owns", "keys", "bytes"})
_OF_KEY: Final = frozenset({"slot", "partition", "epoch"})
_OF_CHECK: Final = frozenset({"left", "differed", "unreadable"})
_OF_REPLICA: Final = frozenset({"url", "state", "version", "hints"})


def run_keys(given: Given) -> int:
    """List keys, one on a line; 3 if some may be missing."""
    coverage: list[bool] = []
    with client_of(given) as client:
        limit = whole_number(given, "limit", low=1)
        if "json" in given:
            # One key beyond the limit tells whether there are more.
            keys = list(_keys(client, given, coverage, limit=None if limit is None else limit + 1))
            listed, more = [packed(key) for key in keys[:limit]], keys[:limit] != keys
            is_any = bool(listed)
            print_json({"keys": listed, "complete": all(coverage), "more": more})
        else:
            is_shown, is_any = sys.stdout.isatty(), False
            for key in _keys(client, given, coverage, limit=limit):
                line = show_bytes(key).encode() if is_shown else _on_a_line(key)
                sys.stdout.buffer.write(line + b"\n")
                is_any = True
            sys.stdout.buffer.flush()
    prefix = given.get("prefix", "")
    if not is_any and prefix.endswith("*"):
        print(f"quorate: no key begins with {prefix!r}: a prefix is no pattern", file=sys.stderr)
    if all(coverage):
        return 0
    print("quorate: keys may be missing: too few replicas answered", file=sys.stderr)
    return 3


def _keys(
    client: Client, given: Given, coverage: list[bool], *, limit: int | None
) -> Iterator[bytes]:
    """The keys asked for; notes for each page whether it was complete."""
    left = limit
    cursor = ""
    while left is None or left > 0:
        page = client.page(
            os.fsencode(given.get("prefix", "")),
            cursor=cursor,
            limit=PAGE_KEYS if left is None else min(left, PAGE_KEYS),
            r=whole_number(given, "R", low=1),
            timeout=timeout_seconds(given),
        )
        coverage.append(page.complete)
        yield from page.keys
        left = None if left is None else left - len(page.keys)
        cursor = page.cursor
        if not cursor:
            return


def _on_a_line(key: bytes) -> bytes:
    """A key, with what could break its line escaped, and the backslash that escapes: `printf %b`
    gives the bytes back."""
    return _BREAKING.sub(lambda found: _ESCAPED.get(found[0]) or b"\\%04o" % ord(found[0]), key)


def run_nodes(given: Given) -> int:
    """The members as one node sees them."""
    members = _members(given)
    if "json" in given:
        print_json(members)
        return 0
    columns = ["url", "state", "owns", "failures", "last_seen_ms", "keys", "bytes", "hints"]
    if not sys.stdout.isatty():
        columns += ["version", "id", "w", "r", "refusal", "client"]
    _print_members(columns, members)
    return 0


def run_forget(given: Given) -> int:
    """Have each node forget a member; 3 if one refuses, or does not answer."""
    forgotten = parsed(given, "url", parse_url)
    target = f"/join?url={quote(str(forgotten).encode())}"
    # Who was never met is asked nothing: it may be another mistake.
    members = _members(given)
    met = [str(member["url"]) for member in members if member.get("id")]
    urls = [url for url in met if url != forgotten]
    call, vouched = Call("DELETE", target), vouched_of(members)
    told = ask_all(urls, lambda url: _fault_of(given, url, call, vouched), lambda _, fault: fault)
    faults = {url: fault for url, fault in zip(urls, told, strict=True) if fault}
    if "json" in given:
        print_json({"url": forgotten, "faults": faults})
    else:
        print_table(["url", "forgot"], [[url, faults.get(url, "yes")] for url in urls])
    return 3 if faults else 0


def run_status(given: Given) -> int:
    """Ask every member whether it is ready; 3 if one is not. Who was never met, and is none by the
    layout, is shown and counts only where an operator asked for it to join: else it may be an
    address where no node is."""
    members = _members(given)
    urls, vouched = [str(member["url"]) for member in members], vouched_of(members)
    conditions = ask_all(
        urls, lambda url: _condition(given, url, vouched), lambda _, fault: _Condition(fault)
    )
    reasons = [each.reason for each in conditions]
    for place, member in enumerate(members):
        if urls.count(urls[place]) > 1 and member.get("state") not in ("self", "up"):
            reasons[place] = "its disk is lost, or elsewhere: another one is at its URL"
    states = ["ready" if not reason else "not ready" for reason in reasons]
    columns = ["url", "state", "reason", "agreed", "certificate"]
    told = [(each.agreed, each.certificate) for each in conditions]
    rows = [(*row, *each) for *row, each in zip(urls, states, reasons, told, strict=True)]
    if "json" in given:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)
    _warn_of_quorums(members)
    for each in conditions:
        if each.warning:
            print(f"quorate: {each.warning}", file=sys.stderr)
    _tell_what_waits(given)
    # An older release says nothing of `member` and `joins`.
    counted = [each.get("member", True) or each.get("id") or each.get("joins") for each in members]
    return 3 if any(is_one and why for is_one, why in zip(counted, reasons, strict=True)) else 0


def run_check(given: Given) -> int:
    """Have each node check its copies, and wait for them; 3 if one does not answer, 1 if one found
    something."""
    members = _members(given)
    urls, vouched = [str(member["url"]) for member in members], vouched_of(members)
    found = ask_all(
        urls,
        lambda url: _checked(given, url, vouched),
        lambda url, fault: {"url": url, "fault": fault},
    )
    if "json" in given:
        print_json(found)
    else:
        print_table(_CHECK, [[each.get(name, "-") for name in _CHECK] for each in found])
    if any("fault" in each for each in found):
        return 3
    return int(any(each["differed"] or each["unreadable"] for each in found))


def _checked(given: Given, url: str, vouched: set[str]) -> dict[str, Any]:
    """What the node at `url` found."""
    method = "POST"
    try:
        while True:
            with client_at(given, url, timeout=_PROBE_SECONDS, vouched=vouched) as client:
                told = read_json(client.request(Call(method, "/check")))
            if not _are_tables([told], _OF_CHECK):
                raise PeerProtocolError("what a check found, in an unknown form")
            if not told["left"]:
                return {"url": url, **told}
            method = "GET"
            time.sleep(_CHECK_LOOK_SECONDS)
    except (Unreachable, QuorateError) as fault:
        return {"url": url, "fault": _told_fault(given, url, fault, vouched)}


def _tell_what_waits(given: Given) -> None:
    """Say what does not go on of a change of the members, as one node sees it."""
    try:
        with client_of(given) as client:
            waits = topology_of(client, timeout=timeout_seconds(given))["waits"]
    except QuorateError:
        # Another release, or a cluster that cannot say it now: whether it serves is said above.
        return
    for text in waits:
        print(f"quorate: {show_text(str(text))}", file=sys.stderr)


def _warn_of_quorums(members: list[dict[str, Any]]) -> None:
    """Say which nodes differ in what their writes and reads need: no label of an answer holds."""
    told: dict[str, list[str]] = {}
    for member in members:
        if member.get("w") and member.get("r"):
            told.setdefault(f"-W={member['w']} -R={member['r']}", []).append(member["url"])
    if len(told) > 1:
        each = "; ".join(f"{numbers} at {', '.join(urls)}" for numbers, urls in told.items())
        print(
            f"quorate: nodes differ: {show_text(each)}: an answer's consistency holds only where "
            "all writes of the key needed as many",
            file=sys.stderr,
        )


def run_ring(given: Given) -> int:
    """Where a key belongs, or what each member holds."""
    if "key" in given:
        return _ring_of_key(given)
    members = _members(given)
    copies = [int(member.get("partitions") or 0) for member in members]
    rows = [
        {
            "url": member["url"],
            "owns": member["owns"],
            "partitions": held,
            "share": round(held / PARTITIONS, 4),
            "keys": member["keys"],
            "bytes": member["bytes"],
        }
        for member, held in zip(members, copies, strict=True)
    ]
    if "json" in given:
        print_json(rows)
    else:
        _print_members(["url", "owns", "partitions", "share", "keys", "bytes"], rows)
    return 0


def _ring_of_key(given: Given) -> int:
    table = _explained(given)
    replicas = [{"url": view["url"], "state": view["state"]} for view in table["replicas"]]
    if "json" in given:
        print_json({**table, "replicas": replicas})
        return 0
    _print_place(table)
    print_table(["replica", "state"], [[view["url"], view["state"]] for view in replicas])
    return 0


def run_explain(given: Given) -> int:
    """What each replica of a key holds."""
    table = _explained(given)
    if "json" in given:
        print_json(table)
        return 0
    _print_place(table)
    views = table["replicas"]
    if sys.stdout.isatty():
        columns = ["replica", "state", "record", "version", "hints"]
        print_table(columns, [_shown_replica(view) for view in views])
    else:
        columns = ["replica", "state", "version", "hints", "record", "written", "expires_ms"]
        print_table(columns, [_listed_replica(view) for view in views])
    return 0


def _listed_replica(view: dict[str, Any]) -> list[object]:
    version, written = view["version"] or None, _written(view)
    expires_ms = view.get("expires_ms")
    return [view["url"], view["state"], version, view["hints"], _record(view), written, expires_ms]


def _shown_replica(view: dict[str, Any]) -> list[object]:
    """With the times under the version: beside it they would need more than 80 columns."""
    lines = [view["version"] or "-"]
    if written := _written(view):
        lines.append(f"written {written}")
    if expires_ms := view.get("expires_ms"):
        lines.append(f"expires {show_utc(expires_ms)}")
    return [view["url"], view["state"], _record(view), "\n".join(lines), view["hints"]]


def _record(view: dict[str, Any]) -> str | None:
    """What a replica has; None if its answer does not say it."""
    if view.get("damaged"):
        return "(damaged)"
    if view["version"] is None:
        return "(no answer)"
    if not view["version"]:
        return "nothing"
    return {True: "value", False: "deleted"}.get(view.get("live"))  # type: ignore[arg-type]


def _written(view: dict[str, Any]) -> str | None:
    """When the version was given out: its first 48 bits are milliseconds."""
    return show_utc(int(view["version"][:12], 16)) if view["version"] else None


def show_utc(ms: int) -> str | None:
    """A time to the second; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return None


def _explained(given: Given) -> dict[str, Any]:
    timeout = timeout_seconds(given)
    target = f"/explain?key={quote(key_of(given))}{options(timeout=timeout)}"
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


class _Condition(NamedTuple):
    """How a node is; all texts are empty where it does not say."""

    reason: str
    """Why it is not ready; empty if it is."""
    agreed: str = ""
    """When all replicas of what it holds were last known to be equal, and what has held that up
    since."""
    certificate: str = ""
    """When the first certificate that it was given expires."""
    warning: str = ""
    """That this is soon, and what to do."""


def _condition(given: Given, url: str, vouched: set[str]) -> _Condition:
    """How the node at `url` is."""
    reason = _fault_of(given, url, Call("GET", "/readyz"), vouched)
    try:
        # Who is not ready may be so because its certificate has expired.
        with client_at(given, url, timeout=_PROBE_SECONDS, vouched=vouched) as client:
            told = topology_of(client)
    except (Unreachable, QuorateError):
        return _Condition(reason)  # Another release, or busy: whether it is ready was said.
    # Another release may say some of it.
    agreed = _show_agreed(told.get("agreed_age_s"), show_text(str(told.get("agreed_waits", ""))))
    certificate = _show_expiry(told.get("certificate_expires_s"))
    warning = show_text(str(told.get("certificate_waits", "")))
    return _Condition(reason, agreed, certificate, warning)


def _show_agreed(age_s: int | None, waits: str) -> str:
    return "" if age_s is None else show_duration(age_s * 1000) + (waits and f": {waits}")


def _show_expiry(expires_s: int | None) -> str:
    if expires_s is None:
        return ""
    return f"expires in {show_count(expires_s // _DAY_S, 'day')}" if expires_s > 0 else "expired"


def _fault_of(given: Given, url: str, call: Call, vouched: set[str]) -> str:
    """Why the node at `url` does not do this; empty if it does."""
    try:
        with client_at(given, url, timeout=_PROBE_SECONDS, vouched=vouched) as client:
            error = error_of(client.request(call), is_write=False)
    except (Unreachable, InvalidRequest) as fault:
        return str(fault)  # Invalid is a URL that another release took.
    return _told_fault(given, url, error, vouched) if error else ""


def _told_fault(given: Given, url: str, fault: Exception, vouched: set[str]) -> str:
    is_ours = isinstance(fault, Unauthenticated) and is_withheld(given, url, vouched=vouched)
    return WITHHELD if is_ours else str(fault)


def _print_place(table: dict[str, Any]) -> None:
    print_facts({name: table[name] for name in ("slot", "partition", "epoch")})


def _print_members(columns: list[str], members: list[dict[str, Any]]) -> None:
    """Piped: names and numbers as JSON has them. On a terminal: for people."""
    is_shown = sys.stdout.isatty()
    rows = [[_cell(name, member.get(name), is_shown) for name in columns] for member in members]
    print_table([_SHOWN_NAMES.get(name, name) for name in columns] if is_shown else columns, rows)


def _cell(name: str, value: object, is_shown: bool) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_shown and name in _SHOWN and isinstance(value, int):
        return _SHOWN[name](value)
    return value
