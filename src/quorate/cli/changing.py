# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing a cluster: join, leave, replace, plan, apply, cancel, upgrade; and topology, which shows
how far it is. What a change comes to is said before it is done (`plan`), and again once it is
decided."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Final

from quorate.cli.arguments import Given, UsageError
from quorate.cli.asking import ask_all
from quorate.cli.connect import (
    client_at,
    client_of,
    parsed,
    timeout_seconds,
    vouched_of,
    whole_number,
)
from quorate.cli.output import print_facts, print_json, print_table
from quorate.client.blocking import Client
from quorate.client.calls import Call, Unreachable, options, read_json
from quorate.errors import Outcome, PeerProtocolError, QuorateError
from quorate.notation import (
    parse_node,
    parse_url,
    show_count,
    show_duration,
    show_size,
    show_text,
)
from quorate.wire.http import quote

RECOVER_WORD: Final = "recover"
"""Typed by who means it."""
_PROBE_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 2.0
_SECONDS_SHOWN_MAX: Final = 120
"""More are shown in minutes."""
_SHARE: Final = ("url", "zone", "weight", "before", "after", "gains", "gives")
_RELEASE: Final = ("url", "state", "version", "level", "protocol")
_COURSE: Final = (
    "url",
    "id",
    "state",
    "zone",
    "weight",
    "copies",
    "gains",
    "gives",
    "left",
    "lost",
)


def run_join(given: Given) -> int:
    """Make a node a member."""
    url = str(parsed(given, "url", parse_url))
    with client_of(given) as client:
        call = Call("POST", "/join", url.encode(), is_write=True)
        joined = read_json(client.request(call, timeout=timeout_seconds(given)), is_write=True)
    if "json" in given:
        print_json(joined)
        return 0
    _known(joined, "url", "owns", "member")
    if joined["owns"]:
        print(f"{url} is a member and holds copies already")
    elif joined["member"]:
        print(f"{url} is a member; copies move to it by themselves: see quorate topology")
    else:
        print(
            f"{url} becomes a member once it is there, and copies move to it by themselves "
            "-grow-after later: see quorate topology"
        )
    return 0


def run_leave(given: Given) -> int:
    """Have a member give its copies to the others, and go."""
    body = {"node": _node(given, "node")}
    return _change(given, "/leave", {**body, "force": True} if "force" in given else body)


def run_replace(given: Given) -> int:
    """Have a node take the place of a member."""
    return _change(given, "/replace", {name: _node(given, name) for name in ("old", "new")})


def run_apply(given: Given) -> int:
    """Do what a plan showed."""
    return _change(given, f"/plan/{quote(os.fsencode(given['hash']))}/apply", None)


def run_cancel(given: Given) -> int:
    """Leave every copy where it is."""
    return _change(given, "/plan/cancel", None)


def run_plan(given: Given) -> int:
    """Show what changes would come to."""
    wish = _wish(given)
    shown = _asked(given, "/plan", wish, is_write=False)
    if "json" in given:
        print_json(shown)
        return 0
    _known(shown, "hash", "node", "plan")
    _print_plan(shown["plan"])
    if shown["plan"]["copies"]:
        print(f"eta: {_eta(shown)}")
    if wish or shown["plan"].get("copies"):
        # Without a scheme it is reached through TLS where the cluster's secret is given.
        node = str(shown["node"]).removeprefix("http://")
        print(f"to do it: quorate apply {shown['hash']} --target={node}")
    return 0


def run_recover(given: Given) -> int:
    """Go on without members that are lost, though no majority is left to decide it."""
    lost: list[str] = parsed(given, "lost", _nodes) or []
    shown = _asked(given, "/plan", {"recover": lost}, is_write=False)
    _known(shown, "hash", "node", "plan")
    plan = shown["plan"]
    _known(plan, "endangered", "gone")
    if "json" not in given:
        _print_plan(plan)
        print(
            f"given up: {show_count(len(lost), 'member')}; of {plan['endangered']:,} partitions "
            f"acknowledged writes may be lost, and of {plan['gone']:,} no copy is left"
        )
    if "yes" not in given:
        print(f"to go on without them, type {RECOVER_WORD}: ", end="", flush=True)
        if sys.stdin.readline().strip() != RECOVER_WORD:
            print("nothing was changed")
            return 1
    return _change(given, f"/plan/{quote(shown['hash'].encode())}/apply", None)


def run_upgrade(given: Given) -> int:
    """Which releases there are; or put in force what all of them know."""
    step = given.get("step", "show")
    if step == "finish":
        return _change(given, "/upgrade/finish", None)
    if step != "show":
        raise UsageError(f"upgrade {step}: write quorate upgrade, or quorate upgrade finish")
    with client_of(given) as client:
        shown = read_json(client.request(Call("GET", "/upgrade"), timeout=timeout_seconds(given)))
    _known(shown, "node", "level", "next_level", "waits", "nodes")
    if "json" in given:
        print_json(shown)
        return 0
    print_facts({"node": shown["node"], "feature level": shown["level"]})
    print_table(_RELEASE, [[_cell(each.get(name)) for name in _RELEASE] for each in shown["nodes"]])
    for text in shown["waits"]:
        print(f"waits: {show_text(text)}")
    if shown["next_level"] > shown["level"] and not shown["waits"]:
        print(f"to put feature level {shown['next_level']} in force: quorate upgrade finish")
    return 0


def run_topology(given: Given) -> int:
    """Who has which share of the copies, what moves, and what waits."""
    timeout = timeout_seconds(given)
    with client_of(given) as client:
        shown = topology_of(client, timeout=timeout)
        if shown["phase"] == "moving" and _is_no_measure(shown):
            # Only of a second look a node knows how fast they move.
            time.sleep(_LOOK_AGAIN_SECONDS)
            shown = topology_of(client, timeout=timeout)
    for url, lines in _heard(given, shown).items():
        shown["waits"] += [each for each in lines if each.startswith(url)]
    if "json" in given:
        print_json(shown)
        return 0
    placed = shown["copies"] - shown["to_move"]
    facts = {name: shown[name] for name in ("node", "epoch", "phase", "replication")}
    facts["copies"] = f"{placed:,} of {shown['copies']:,} are where they belong"
    if shown["to_move"] and shown["phase"] in ("waiting", "moving"):
        facts["eta"] = _eta(shown)
    print_facts(facts)
    print_table(_COURSE, [[_cell(each.get(name)) for name in _COURSE] for each in shown["members"]])
    for text in shown["crowded"]:
        print(f"crowded: {show_text(text)}")
    for text in filter(None, [*shown["waits"], shown.get("certificate_waits")]):
        print(f"waits: {show_text(text)}")
    return 0


def topology_of(client: Client, *, timeout: float | None = None) -> dict[str, Any]:
    """What a node says of its cluster's topology."""
    target = "/topology" + options(timeout=timeout).replace("&", "?", 1)
    shown = read_json(client.request(Call("GET", target), timeout=timeout))
    _known(shown, "node", "epoch", "phase", "replication", "copies", "to_move", "waits", "crowded")
    _known(shown, "members")
    return dict(shown)


def _is_no_measure(shown: dict[str, Any]) -> bool:
    """Whether a node that knows of ETAs has none of how fast copies move now."""
    return "eta_s" in shown and (shown["eta_s"] is None or shown.get("eta_estimated") is True)


def _eta(shown: dict[str, Any]) -> str:
    """How long it takes, in words; a plan's is an estimate."""
    seconds, bytes_s = shown.get("eta_s"), shown.get("bytes_s")
    if not isinstance(seconds, int):
        return "nobody can tell yet: no copies were seen to move"
    left = f"{seconds} s" if seconds < _SECONDS_SHOWN_MAX else show_duration(seconds * 1000)
    if shown.get("eta_estimated", True):
        pace = f"copies last moved at {show_size(bytes_s)}/s" if bytes_s else "as copies last moved"
        return f"about {left}, an estimate: {pace}"
    return f"about {left} left" + (f" at {show_size(bytes_s)}/s" if bytes_s else "")


def _heard(given: Given, shown: dict[str, Any]) -> dict[str, list[str]]:
    """What members say of what waits that have yet to get copies: they alone know it."""
    urls = [str(each["url"]) for each in shown["members"] if each.get("left")]
    urls = [url for url in urls if url != shown["node"]]
    if not urls:
        return {}
    # All that are listed here are members.
    vouched = vouched_of([{**each, "member": True} for each in shown["members"]])
    found = ask_all(urls, lambda url: _waits_at(given, url, vouched), lambda _url, _fault: [])
    return dict(zip(urls, found, strict=True))


def _waits_at(given: Given, url: str, vouched: set[str]) -> list[str]:
    try:
        with client_at(given, url, timeout=_PROBE_SECONDS, vouched=vouched) as client:
            return [str(each) for each in topology_of(client)["waits"]]
    except (QuorateError, Unreachable):
        return []


def _change(given: Given, path: str, body: object) -> int:
    decided = _asked(given, path, body, is_write=True)
    if "json" in given:
        print_json(decided)
        return 0
    _known(decided, "epoch", "changed", "plan")
    if not decided["changed"]:
        print(f"nothing to change: it is so already, by layout {decided['epoch']}")
    elif path.endswith("/cancel"):
        print(f"decided, as layout {decided['epoch']}: every copy stays where it is")
    elif path.endswith("/finish"):
        _known(decided["plan"], "level")
        level = decided["plan"]["level"]
        print(f"decided, as layout {decided['epoch']}: feature level {level} is in force")
    else:
        _print_plan(decided["plan"])
        print(f"decided, as layout {decided['epoch']}; how far it is says: quorate topology")
    return 0


def _asked(given: Given, path: str, body: object, *, is_write: bool) -> Any:
    timeout = timeout_seconds(given)
    target = path + options(timeout=timeout).replace("&", "?", 1)
    data = b"" if body is None else json.dumps(body).encode()
    call = Call("POST", target, data, is_write=is_write)
    try:
        with client_of(given) as client:
            return read_json(client.request(call, timeout=timeout), is_write=is_write)
    except QuorateError as error:
        if "json" in given or error.outcome is not Outcome.UNKNOWN:
            raise
        detail = f"{error.detail}; it may be decided all the same: see quorate topology"
        raise type(error)(detail, outcome=None, **error.facts) from None


def _print_plan(plan: dict[str, Any]) -> None:
    _known(plan, "epoch", "replication", "shares", "copies", "bytes", "crowded")
    print_table(_SHARE, [[_cell(each.get(name)) for name in _SHARE] for each in plan["shares"]])
    copies, replicas = plan["copies"], show_count(plan["replication"], "replica")
    nodes = sum(each["after"] > 0 for each in plan["shares"])
    if nodes < plan["replication"]:
        replicas = f"{show_count(nodes, 'replica')}, and {replicas} once there are as many nodes"
    what = "copy of a partition" if copies == 1 else "copies of partitions"
    size = f", about {show_size(plan['bytes'])}" if plan["bytes"] else ""
    print(f"to move: {copies:,} {what}{size}; then each key has {replicas}")
    for text in plan["crowded"]:
        print(f"crowded: {show_text(text)}")
    # Of a node that is of an earlier release nothing is told.
    for text in plan.get("unanswered", ()):
        print(f"unanswered: {show_text(text)}; start it with less")
    for text in plan.get("weakened", ()):
        print(f"weakened: {show_text(text)}; start it with more")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value == "" else value


def _known(table: object, *names: str) -> None:
    """PeerProtocolError unless it is a table that has these names."""
    if not isinstance(table, dict) or not set(names) <= table.keys():
        raise PeerProtocolError("an answer in an unknown form")


# --- what is asked for -------------------------------------------------------------------------


def _wish(given: Given) -> dict[str, object]:
    """The body of a plan."""
    wish: dict[str, object] = {}
    if "leave" in given:
        wish["leave"] = parsed(given, "leave", _nodes)
    if "replace" in given:
        pairs = _pairs(given, "replace", "OLD=NEW")
        wish["replace"] = {old: _named("replace", new) for old, new in pairs.items()}
    if "weight" in given:
        pairs = _pairs(given, "weight", "NODE=2")
        wish["weight"] = {
            name: whole_number({"weight": text}, "weight", low=1) for name, text in pairs.items()
        }
    if "zone" in given:
        wish["zone"] = _pairs(given, "zone", "NODE=b")
    if "replication" in given:
        wish["replication"] = whole_number(given, "replication", low=1, high=64)
    if "force" in given:
        wish["force"] = True
    return wish


def _pairs(given: Given, name: str, form: str) -> dict[str, str]:
    """`NODE=value`, by commas."""
    found: dict[str, str] = {}
    for part in given[name].split(","):
        node, sign, value = part.strip().partition("=")
        if not sign or not value:
            raise UsageError(f"--{name}: {part.strip()!r}: write --{name}={form}")
        found[_named(name, node)] = value
    return found


def _named(name: str, text: str) -> str:
    return str(parsed({name: text}, name, parse_node))


def _nodes(text: str) -> list[str]:
    return [parse_node(part) for part in text.split(",") if part.strip()]


def _node(given: Given, name: str) -> str:
    return _named(name, given[name])
