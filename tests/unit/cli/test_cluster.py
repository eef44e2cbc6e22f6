# SPDX-License-Identifier: GPL-3.0-or-later
"""keys, nodes, status, ring and explain: plain lines when piped, JSON when asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from quorate.cli.cluster import PARTITIONS
from quorate.core.values.slots import PARTITION_COUNT
from tests.http_served import Served
from tests.unit.cli.conftest import Ran, Run
from tests.unit.client.scripted import Answer, Request, ScriptedNode, dead_port, problem, reply

MEMBER = {"state": "up", "owns": True, "keys": 1, "bytes": 2}
PLACE = {"slot": 12182, "partition": 761, "epoch": 1}
VERSION = "018bcfe5680000000123456789ab"
REPLICAS: list[dict[str, Any]] = [
    {"url": "http://a:1", "state": "up", "version": VERSION, "live": True, "expires_ms": 0},
    {"url": "http://b:1", "state": "up", "version": VERSION, "live": False, "expires_ms": 0},
    {"url": "http://c:1", "state": "up", "version": "", "live": False, "expires_ms": 0},
    {"url": "http://d:1", "state": "down", "version": None, "live": None, "expires_ms": 0},
    {"url": "http://e:1", "state": "up", "version": None, "live": None, "damaged": True},
]
"""One that has a value, one that has it deleted, one that has nothing, one that is silent, and one
whose copy is damaged."""


@pytest.fixture
def run_on_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same where the output is a terminal."""
    monkeypatch.setenv("TERM", "dumb")

    def run_on_terminal(*arguments: str) -> Ran:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        return run(*arguments)

    return run_on_terminal


def answered(run: Run, *arguments: str, table: object) -> str:
    """What a command prints when each request is answered with `table`."""
    with ScriptedNode(lambda _: reply(200, json.dumps(table).encode())) as node:
        ran = run(*arguments, f"--target={node.url}")
    assert (ran.code, ran.err) == (0, "")
    return ran.out.decode()


def rows(out: bytes) -> list[list[str]]:
    """The cells of tab-separated lines."""
    return [line.split("\t") for line in out.decode().splitlines()]


def test_keys_are_listed_one_on_a_line_byte_for_byte(run: Run, served: Served, target: str) -> None:
    for key in (b"a", b"\xff b", b"c"):
        served.store.fill(key, b"x")
    ran = run("keys", target)
    assert (ran.code, ran.err) == (0, "")
    assert sorted(ran.out.splitlines()) == [b"a", b"c", b"\xff b"]
    listed = json.loads(run("keys", "--json", target).out)
    assert listed["complete"] is True
    assert {"base64": "/yBi"} in listed["keys"]
    assert len(listed["keys"]) == 3


def test_a_key_that_would_break_its_line_is_escaped_as_printf_b_reads_it(
    run: Run, served: Served, target: str
) -> None:
    raw = b"new\nline\r\t\x1b[2J\x00 \\n"
    served.store.fill(raw, b"x")
    out = run("keys", target).out
    assert out == b"new\\nline\\r\\t\\0033[2J\\0000 \\\\n\n"
    shell = ["sh", "-c", 'printf %b "$1"', "sh", out.decode().removesuffix("\n")]
    assert subprocess.run(shell, capture_output=True, check=True).stdout == raw


def test_whoever_gives_a_pattern_for_a_prefix_is_told(
    run: Run, served: Served, target: str
) -> None:
    served.store.fill(b"a", b"x")
    ran = run("keys", "a*", target)
    assert (ran.code, ran.out) == (0, b"")
    assert ran.err == "quorate: no key begins with 'a*': a prefix is no pattern\n"
    served.store.fill(b"a*", b"x")
    assert run("keys", "a*", target).err == ""


def test_keys_can_be_limited_and_chosen_by_prefix(run: Run, served: Served, target: str) -> None:
    for number in range(2500):
        served.store.fill(b"user:%d" % number, b"x")
    served.store.fill(b"\xffother", b"x")
    assert len(run("keys", target).out.splitlines()) == 2501
    assert len(run("keys", "user:", target, "--limit=1700").out.splitlines()) == 1700
    assert run("keys", "--prefix", os.fsdecode(b"\xff"), target).out == b"\xffother\n"


def test_keys_that_may_be_missing_are_told_and_exit_3(run: Run) -> None:
    page = b'{"keys": ["a"], "cursor": null, "complete": false}'
    with ScriptedNode(lambda _: reply(200, page)) as node:
        plain = run("keys", f"--target={node.url}")
        listed = run("keys", f"--target={node.url}", "--json")
    assert (plain.code, plain.out) == (3, b"a\n")
    assert "keys may be missing" in plain.err
    assert listed.code == 3
    assert json.loads(listed.out) == {"keys": ["a"], "complete": False, "more": False}


def test_json_says_whether_there_are_more_keys_than_the_limit(
    run: Run, served: Served, target: str
) -> None:
    for number in range(3):
        served.store.fill(b"%d" % number, b"x")
    for limit, more in ((2, True), (3, False), (4, False)):
        listed = json.loads(run("keys", target, f"--limit={limit}", "--json").out)
        assert (len(listed["keys"]), listed["more"]) == (min(limit, 3), more)
    assert json.loads(run("keys", target, "--json").out)["more"] is False


def test_keys_on_a_terminal_cannot_control_it(
    run_on_terminal: Run, served: Served, target: str
) -> None:
    served.store.fill(b"a\x1b[2J\n\xff", b"x")
    assert run_on_terminal("keys", target).out == rb"a\x1b[2J\x0a\xff" + b"\n"


def test_nodes_lists_every_member(run: Run, served: Served, target: str) -> None:
    served.store.fill(b"a", b"x")
    header, *members = rows(run("nodes", target).out)
    assert header[:3] == ["url", "state", "owns"]
    assert [member[0] for member in members] == sorted(served.store.known)
    assert {member[2] for member in members} == {"yes"}
    listed = json.loads(run("nodes", "--json", target).out)
    assert [member["keys"] for member in listed] == [1, 1, 1]


def test_nodes_on_a_terminal_fit_80_columns_and_are_for_people(run_on_terminal: Run) -> None:
    member = {
        **MEMBER,
        "url": "http://10.20.30.40:8000",
        "state": "up",
        "failures": 0,
        "last_seen_ms": 1234,
        "keys": 123456,
        "bytes": 9_600_000,
        "hints": 12,
        "version": "1.2.3",
        "id": "0123456789ab",
    }
    lines = answered(run_on_terminal, "nodes", table=[member]).splitlines()
    shown = [line.split() for line in lines]
    assert ["url", "state", "owns", "failures", "last", "seen", "keys", "bytes", "hints"] in shown
    assert [
        "http://10.20.30.40:8000",
        "up",
        "yes",
        "0",
        "1.2",
        "s",
        "123456",
        "9.6",
        "MB",
        "12",
    ] in shown
    assert max(map(len, lines)) <= 80


def test_nodes_in_a_pipe_are_raw_numbers_under_their_json_names(run: Run) -> None:
    member = {**MEMBER, "url": "http://a:1", "last_seen_ms": 1234, "id": "0123456789ab"}
    header, row = rows(answered(run, "nodes", table=[member]).encode())
    named = dict(zip(header, row, strict=True))
    assert (named["last_seen_ms"], named["bytes"], named["id"]) == ("1234", "2", "0123456789ab")
    assert named["version"] == "-"


def test_status_asks_each_member_itself(run: Run) -> None:
    def answers(state: bytes) -> Answer:
        return lambda request: state if request.target == "/readyz" else reply(200, listed)

    def members(*urls: str) -> bytes:
        return json.dumps([{**MEMBER, "url": url, "id": "0a"} for url in urls]).encode()

    slow = problem(503, "not_ready", detail="the disk is stuck")
    with (
        ScriptedNode(answers(reply(200, b"ok"))) as well,
        ScriptedNode(answers(slow)) as ill,
        dead_port() as dead,
    ):
        listed = members(well.url, ill.url, dead)
        ran = run("status", f"--target={well.url}")
        assert ran.code == 3
        assert rows(ran.out) == [
            ["url", "state", "reason", "agreed", "certificate"],
            [well.url, "ready", "", "", ""],
            [ill.url, "not ready", "the disk is stuck", "", ""],
            [dead, "not ready", f"no answer from {dead}: Connection refused", "", ""],
        ]
        listed = members(well.url)
        healthy = run("status", f"--target={well.url}", "--json")
    assert healthy.code == 0
    assert json.loads(healthy.out) == [
        {"url": well.url, "state": "ready", "reason": "", "agreed": "", "certificate": ""}
    ]


def test_status_says_when_each_nodes_certificate_expires_and_warns_of_any_that_does_soon(
    run: Run,
) -> None:
    """Whichever node is asked; a node that is not ready may be so because its own has expired."""

    def answers(state: bytes, expires_s: int, warning: str) -> Answer:
        told = dict.fromkeys(("node", "epoch", "phase", "replication", "copies", "to_move"), 0)
        lists: dict[str, Any] = {"waits": [], "crowded": [], "members": []}
        expiry = {"certificate_expires_s": expires_s, "certificate_waits": warning}
        agreed = {"agreed_age_s": 90, "agreed_waits": ""}
        topology = reply(200, json.dumps({**told, **lists, **agreed, **expiry}).encode())
        table = {"/readyz": state, "/topology": topology}
        return lambda request: table.get(request.target.partition("?")[0]) or reply(200, listed)

    ready, ill = reply(200, b"ok"), problem(503, "not_ready", detail="a peer refuses")
    with (
        ScriptedNode(answers(ready, 40 * 86_400 + 5, "")) as far,
        ScriptedNode(answers(ready, 86_400 + 5, "near: put a new one")) as near,
        ScriptedNode(answers(ill, -5, "past: put a new one")) as past,
    ):
        urls = (far.url, near.url, past.url)
        listed = json.dumps([{**MEMBER, "url": url, "id": "0a"} for url in urls]).encode()
        ran = run("status", f"--target={far.url}")
    assert rows(ran.out)[1:] == [
        [far.url, "ready", "", "1.5 min", "expires in 40 days"],
        [near.url, "ready", "", "1.5 min", "expires in 1 day"],
        [past.url, "not ready", "a peer refuses", "1.5 min", "expired"],
    ]
    assert ran.err.splitlines() == [
        "quorate: near: put a new one",
        "quorate: past: put a new one",
    ]


@pytest.mark.parametrize(
    ("left_out", "shown"),
    [
        ("certificate_waits", ["1.5 min", "expires in 40 days"]),
        ("certificate_expires_s", ["1.5 min", ""]),
        ("agreed_waits", ["1.5 min", "expires in 40 days"]),
        ("agreed_age_s", ["", "expires in 40 days"]),
    ],
)
def test_status_shows_what_a_node_of_another_release_says(
    run: Run, left_out: str, shown: list[str]
) -> None:
    told: dict[str, Any] = dict.fromkeys(
        ("node", "epoch", "phase", "replication", "copies", "to_move"), 0
    )
    told |= {"waits": [], "crowded": [], "members": [], "agreed_age_s": 90, "agreed_waits": ""}
    told |= {"certificate_expires_s": 40 * 86_400 + 5, "certificate_waits": ""}
    del told[left_out]

    def answer(request: Request) -> bytes:
        table = {"/readyz": b"ok", "/topology": json.dumps(told).encode()}
        listed = json.dumps([{**MEMBER, "url": node.url, "id": "0a"}]).encode()
        return reply(200, table.get(request.target.partition("?")[0], listed))

    with ScriptedNode(answer) as node:
        ran = run("status", f"--target={node.url}")
    assert (ran.code, ran.err) == (0, "")
    assert rows(ran.out)[1:] == [[node.url, "ready", "", *shown]]


def test_check_says_of_a_node_that_answers_otherwise_that_it_does(run: Run) -> None:
    def answer(request: Request) -> bytes:
        listed = [{**MEMBER, "url": node.url}]
        return reply(
            200, json.dumps(listed if request.target == "/nodes" else {"left": 0}).encode()
        )

    with ScriptedNode(answer) as node:
        ran = run("check", f"--target={node.url}")
    assert (ran.code, ran.err) == (3, "")
    assert b"unknown form" in ran.out


def test_check_waits_for_every_node_and_ends_with_what_they_found(run: Run) -> None:
    said: dict[str, list[str]] = {"well": [], "ill": []}

    def answers(name: str, *left: int, **found: int) -> Answer:
        def answer(request: Request) -> bytes:
            if request.target == "/nodes":
                return reply(200, json.dumps([{**MEMBER, "url": url} for url in urls]).encode())
            said[name].append(f"{request.method} {request.target}")
            table = {"left": left[len(said[name]) - 1], "differed": 0, "unreadable": 0, **found}
            return reply(200, json.dumps({"partitions": 1024, **table}).encode())

        return answer

    urls: list[str] = []
    with (
        ScriptedNode(answers("well", 2, 1, 0, 0)) as well,
        ScriptedNode(answers("ill", 0, 0, differed=3)) as ill,
        dead_port() as dead,
    ):
        urls[:] = [well.url]
        assert run("check", f"--target={well.url}").code == 0
        assert said["well"] == ["POST /check", "GET /check", "GET /check"]
        urls[:] = [well.url, ill.url]
        found = run("check", f"--target={well.url}")
        urls[:] = [ill.url, dead]
        away = run("check", f"--target={ill.url}", "--json")
    assert found.code == 1
    assert rows(found.out) == [
        ["url", "partitions", "differed", "unreadable", "fault"],
        [well.url, "1024", "0", "0", "-"],
        [ill.url, "1024", "3", "0", "-"],
    ]
    assert away.code == 3
    assert [each.get("fault", "") for each in json.loads(away.out)] == [
        "",
        f"no answer from {dead}: Connection refused",
    ]


def test_status_goes_on_past_a_member_with_an_impossible_name(run: Run) -> None:
    def answer(request: Request) -> bytes:
        members = [{**MEMBER, "url": url} for url in ("http://a..b:1", node.url)]
        return reply(200, b"ok" if request.target == "/readyz" else json.dumps(members).encode())

    with ScriptedNode(answer) as node:
        ran = run("status", f"--target={node.url}")
    assert ran.code == 3
    assert [row[:2] for row in rows(ran.out)[1:]] == [
        ["http://a..b:1", "not ready"],
        [node.url, "ready"],
    ]


def test_ring_shows_shares_or_where_one_key_belongs(run: Run, target: str) -> None:
    assert PARTITIONS == PARTITION_COUNT
    members = [
        {**MEMBER, "url": "http://a:1", "partitions": 1024},
        {**MEMBER, "url": "http://b:1", "partitions": 512},
        {**MEMBER, "url": "http://c:1", "owns": False},
    ]
    assert rows(answered(run, "ring", table=members).encode()) == [
        ["url", "owns", "partitions", "share", "keys", "bytes"],
        ["http://a:1", "yes", "1024", "1.0", "1", "2"],
        ["http://b:1", "yes", "512", "0.5", "1", "2"],
        ["http://c:1", "no", "0", "0.0", "1", "2"],
    ]
    assert json.loads(answered(run, "ring", "--json", table=members[2:]))[0]["share"] == 0.0
    assert rows(run("ring", "foo", target).out)[:2] == [["slot", "12182"], ["partition", "761"]]
    placed = json.loads(run("ring", "--key=foo", "--json", target).out)
    assert placed["slot"] == 12182
    assert placed["replicas"][0].keys() == {"url", "state"}


def test_explain_shows_what_each_replica_holds(run: Run, served: Served, target: str) -> None:
    version = served.store.fill(b"foo", b"x").version.hex()
    shown = rows(run("explain", "foo", target).out)
    assert shown[0] == ["slot", "12182"]
    assert [row[2] for row in shown[-3:]] == [version] * 3
    assert rows(run("explain", "absent", target).out)[-1][4] == "nothing"
    explained = json.loads(run("explain", "foo", "--json", "--timeout=1s", target).out)
    assert [view["version"] for view in explained["replicas"]] == [version] * 3
    assert served.store.events[-1].timeout_ms == 1000  # type: ignore[union-attr]


def test_explain_in_a_pipe_says_what_each_replica_has_and_since_when(run: Run) -> None:
    views = [{**view, "hints": 0} for view in REPLICAS]
    views[0]["expires_ms"] = 1_700_000_060_000
    shown = rows(answered(run, "explain", "foo", table={**PLACE, "replicas": views}).encode())
    written = "2023-11-14 22:13:20 UTC"
    assert shown[3:] == [
        ["replica", "state", "version", "hints", "record", "written", "expires_ms"],
        ["http://a:1", "up", VERSION, "0", "value", written, "1700000060000"],
        ["http://b:1", "up", VERSION, "0", "deleted", written, "0"],
        ["http://c:1", "up", "-", "0", "nothing", "-", "0"],
        ["http://d:1", "down", "-", "0", "(no answer)", "-", "0"],
        ["http://e:1", "up", "-", "0", "(damaged)", "-", "-"],
    ]


def test_explain_on_a_terminal_fits_80_columns_with_the_times_under_the_version(
    run_on_terminal: Run,
) -> None:
    views = [
        {**view, "url": f"http://10.0.0.{n}:8000", "hints": 0} for n, view in enumerate(REPLICAS)
    ]
    views[0]["expires_ms"] = 1_700_000_060_000
    table = {**PLACE, "replicas": views}
    lines = answered(run_on_terminal, "explain", "foo", table=table).splitlines()
    assert lines[:3] == ["slot       12182", "partition  761", "epoch      1"]
    shown = [line.split() for line in lines]
    begin = shown.index(["http://10.0.0.0:8000", "up", "value", VERSION, "0"])
    assert shown[begin + 1] == ["written", "2023-11-14", "22:13:20", "UTC"]
    assert shown[begin + 2] == ["expires", "2023-11-14", "22:14:20", "UTC"]
    assert ["http://10.0.0.2:8000", "up", "nothing", "-", "0"] in shown
    assert ["http://10.0.0.3:8000", "down", "(no", "answer)", "-", "0"] in shown
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("version", [VERSION, "f" * 28])
def test_explain_bears_an_answer_without_the_newer_members_and_a_time_of_no_calendar(
    version: str, run: Run
) -> None:
    view = {"url": "http://a:1", "state": "up", "version": version, "hints": 0}
    shown = rows(answered(run, "explain", "foo", table={**PLACE, "replicas": [view]}).encode())
    written = "2023-11-14 22:13:20 UTC" if version == VERSION else "-"
    assert shown[-1] == ["http://a:1", "up", version, "0", "-", written, "-"]


@pytest.mark.parametrize("command", [["nodes"], ["status"], ["ring"], ["explain", "x"], ["keys"]])
@pytest.mark.parametrize("body", [b"[1]", b"[{}]", b"{}", b'{"replicas": [{}]}', b"null", b"x"])
def test_an_answer_in_an_unknown_form_is_one_line_and_exit_3(
    command: list[str], body: bytes, run: Run
) -> None:
    with ScriptedNode(lambda _: reply(200, body)) as node:
        ran = run(*command, f"--target={node.url}")
    assert (ran.code, ran.out) == (3, b"")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
@pytest.mark.parametrize(
    "command",
    [["get", "x"], ["put", "x", "y"], ["delete", "x"], ["nodes"], ["status"]],
    ids=" ".join,
)
def test_a_host_that_cannot_be_looked_up_is_wrong_usage_and_never_a_missing_key(
    command: list[str], host: str, run: Run
) -> None:
    ran = run(*command, f"--nodes=localhost:8000,{host}:8000")
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err == (
        f"quorate: --nodes: '{host}:8000' holds no host name: 1 to 63 characters between two dots\n"
    )


@pytest.mark.parametrize("command", [["nodes"], ["status"], ["ring"], ["explain", "x"], ["keys"]])
def test_unreachable_is_2_everywhere(command: list[str], run: Run) -> None:
    with dead_port() as url:
        ran = run(*command, f"--target={url}")
    assert (ran.code, ran.out) == (2, b"")


def test_what_others_say_cannot_control_the_terminal(run: Run) -> None:
    """Nor pass for another line or cell of a table."""
    member = {**MEMBER, "url": "http://a:1\x1b[2J\nb\tc", "version": "\x07", "hints": 0}
    assert rb"http://a:1\x1b[2J\x0ab\x09c" in answered(run, "nodes", table=[member]).encode()
    view = {**REPLICAS[0], "url": "http://a:1\x1b[2J", "state": "\x1b[31mup", "hints": 0}
    out = answered(run, "explain", "x", table={**PLACE, "slot": "\x1b", "replicas": [view]})
    assert "\x1b" not in out
    with ScriptedNode(lambda _: problem(503, code="not_ready", detail="why\x1b[2J")) as node:
        assert "\x1b" not in run("nodes", f"--target={node.url}").err


def test_forget_asks_every_node_but_the_forgotten(run: Run) -> None:
    gone = "http://gone:8000"
    asked: list[tuple[str, str]] = []

    def answer(request: Request) -> bytes:
        asked.append((request.method, request.target))
        urls = [node.url, gone] if request.method == "GET" else []
        return reply(200, json.dumps([{**MEMBER, "url": url, "id": "0a"} for url in urls]).encode())

    with ScriptedNode(answer) as node:
        ran = run("forget", gone, f"--target={node.url}")
    assert (ran.code, rows(ran.out)) == (0, [["url", "forgot"], [node.url, "yes"]])
    assert asked[1] == ("DELETE", "/join?url=http%3A%2F%2Fgone%3A8000")


def test_forget_that_a_node_refuses_is_exit_3_with_its_reason(run: Run) -> None:
    def answer(request: Request) -> bytes:
        if request.method == "DELETE":
            return problem(400, code="invalid_request", detail="it holds copies")
        return reply(200, json.dumps([{**MEMBER, "url": node.url, "id": "0a"}]).encode())

    with ScriptedNode(answer) as node:
        ran = run("forget", "http://a:1", f"--target={node.url}")
    assert ran.code == 3
    assert b"it holds copies" in ran.out


def test_status_warns_of_nodes_whose_reads_and_writes_need_different_numbers(run: Run) -> None:
    def answer(request: Request) -> bytes:
        if request.target != "/nodes":
            return reply(200, b"ok")
        numbers = [(1, 1), (1, 1), (3, 1), (0, 0)]
        members = [{**MEMBER, "url": node.url, "w": w, "r": r} for w, r in numbers]
        return reply(200, json.dumps(members).encode())

    with ScriptedNode(answer) as node:
        ran = run("status", f"--target={node.url}")
    assert ran.code == 0
    assert ran.err.startswith(
        f"quorate: nodes differ: -W=1 -R=1 at {node.url}, {node.url}; -W=3 -R=1 at {node.url}: "
    )
