# SPDX-License-Identifier: GPL-3.0-or-later
"""What `quorate dev --grow` shows: one node more joins and becomes an owner, another one leaves,
and every key is there all the time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

from quorate.cli.changing import topology_of
from quorate.cli.processes import Child, Children, NodeFailed
from quorate.cli.progress import ProgressMeter
from quorate.client.blocking import Client
from quorate.client.calls import BatchGet, BatchPut, Call, Value, read_json

GROW_AFTER: Final = "1s"
"""How long after a join its copies begin to move, here."""
_KEYS: Final = 300
_STEP_SECONDS: Final = 120.0
"""After which a step that has not ended is given up."""
_POLL_SECONDS: Final = 0.2


def show_growth(nodes: Children, port: int, *, is_json: bool) -> dict[str, object]:
    """Start a node on `port` and make it a member, have another one leave, and end that; what was
    seen. NodeFailed if it takes too long, or a key is not there."""

    def say(text: str) -> None:
        if not is_json:
            print(text, flush=True)

    first, leaving = nodes.all[0].url, nodes.all[-1]
    with Client(first) as client:
        client.batch([BatchPut(f"growing:{n}", f"value {n}") for n in range(_KEYS)])
        say(f"put {_KEYS} keys")
        nodes.start([port])
        joined = nodes.all[-1]
        say(f"{joined.url} joins; its copies move to it {GROW_AFTER} later")
        _ask(client, "/join", {"url": joined.url})
        moved = [_follow(client, lambda shown: _share_of(shown, joined.url) > 0)]
        found = [_found(joined)]
        say(f"it owns its share now, and reads {found[0]} of {_KEYS} keys")
        say(f"{leaving.url} leaves; its copies move to the others")
        _ask(client, "/leave", {"node": leaving.url})
        moved.append(_follow(client, lambda shown: _share_of(shown, leaving.url) < 0))
        nodes.end(leaving)
        found.append(_found(nodes.all[0]))
        say(f"it is no member any more and has ended; {found[1]} of {_KEYS} keys are read")
    if found != [_KEYS, _KEYS]:
        raise NodeFailed(f"of {_KEYS} keys {' and then '.join(map(str, found))} were read")
    return {"joined": joined.url, "left": leaving.url, "moved": moved, "keys": found}


def _ask(client: Client, path: str, body: object) -> None:
    read_json(client.request(Call("POST", path, json.dumps(body).encode(), is_write=True)))


def _follow(client: Client, is_done: Callable[[dict[str, Any]], bool]) -> int:
    """Wait until nothing moves and `is_done`; how many copies were to move."""
    until = time.monotonic() + _STEP_SECONDS

    def look() -> tuple[int, bool]:
        """How many copies are to move, and whether that is all."""
        shown = topology_of(client)
        if time.monotonic() > until:
            raise NodeFailed("; ".join(["copies did not move in time", *shown["waits"]]))
        return int(shown["to_move"]), shown["phase"] == "stable" and is_done(shown)

    left, is_over = look()
    while not (left or is_over):
        # Who joins becomes a member only now.
        time.sleep(_POLL_SECONDS)
        left, is_over = look()
    total = left
    with ProgressMeter("copies moved", total=total) as meter:
        while not is_over:
            time.sleep(_POLL_SECONDS)
            before = left
            left, is_over = look()
            for _ in range(before - left):
                meter.advance()
    return total


def _share_of(shown: dict[str, Any], url: str) -> int:
    """The copies that a member has; -1 if it is none."""
    return next((int(each["copies"]) for each in shown["members"] if each["url"] == url), -1)


def _found(node: Child) -> int:
    """How many of the keys a node finds."""
    with Client(node.url) as client:
        values = client.batch([BatchGet(f"growing:{n}") for n in range(_KEYS)])
    return sum(
        isinstance(value, Value) and value.value == f"value {n}".encode()
        for n, value in enumerate(values)
    )
