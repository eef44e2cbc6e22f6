# SPDX-License-Identifier: GPL-3.0-or-later
"""keys, nodes, status, ring and explain: plain lines when piped, JSON when asked for."""

from __future__ import annotations

import json
import os

import pytest

from tests.http_served import Served
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import Answer, ScriptedNode, dead_port, problem, reply

MEMBER = {"state": "up", "owns": True, "keys": 1, "bytes": 2}


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
    assert json.loads(listed.out) == {"keys": ["a"], "complete": False}


def test_nodes_lists_every_member(run: Run, served: Served, target: str) -> None:
    served.store.fill(b"a", b"x")
    header, *members = rows(run("nodes", target).out)
    assert header[:3] == ["url", "state", "owns"]
    assert [member[0] for member in members] == sorted(served.store.known)
    assert {member[2] for member in members} == {"yes"}
    listed = json.loads(run("nodes", "--json", target).out)
    assert [member["keys"] for member in listed] == [1, 1, 1]


def test_status_asks_each_member_itself(run: Run) -> None:
    def answers(state: bytes) -> Answer:
        return lambda request: state if request.target == "/readyz" else reply(200, listed)

    def members(*urls: str) -> bytes:
        return json.dumps([{**MEMBER, "url": url} for url in urls]).encode()

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
            ["url", "state", "reason"],
            [well.url, "ready", ""],
            [ill.url, "not ready", "the disk is stuck"],
            [dead, "not ready", f"no answer from {dead}: Connection refused"],
        ]
        listed = members(well.url)
        healthy = run("status", f"--target={well.url}", "--json")
    assert healthy.code == 0
    assert json.loads(healthy.out) == [{"url": well.url, "state": "ready", "reason": ""}]


def test_ring_shows_shares_or_where_one_key_belongs(run: Run, served: Served, target: str) -> None:
    assert [row[4] for row in rows(run("ring", target).out)] == ["share", "0.0", "0.0", "0.0"]
    served.store.fill(b"foo", b"x")
    assert [row[4] for row in rows(run("ring", target).out)[1:]] == ["0.3333"] * 3
    assert rows(run("ring", "foo", target).out)[:2] == [["slot", "12182"], ["partition", "761"]]
    placed = json.loads(run("ring", "--key=foo", "--json", target).out)
    assert placed["slot"] == 12182
    assert placed["replicas"][0].keys() == {"url", "state"}


def test_explain_shows_what_each_replica_holds(run: Run, served: Served, target: str) -> None:
    version = served.store.fill(b"foo", b"x").version.hex()
    shown = rows(run("explain", "foo", target).out)
    assert shown[0] == ["slot", "12182"]
    assert [row[2] for row in shown[-3:]] == [version] * 3
    assert rows(run("explain", "absent", target).out)[-1][2] == "(nothing)"
    explained = json.loads(run("explain", "foo", "--json", "--timeout=1s", target).out)
    assert [view["version"] for view in explained["replicas"]] == [version] * 3
    assert served.store.events[-1].timeout_ms == 1000  # type: ignore[union-attr]


@pytest.mark.parametrize("command", [["nodes"], ["status"], ["ring"], ["explain", "x"], ["keys"]])
@pytest.mark.parametrize("body", [b"[1]", b"[{}]", b"{}", b'{"replicas": [{}]}', b"null", b"x"])
def test_an_answer_in_an_unknown_form_is_one_line_and_exit_3(
    command: list[str], body: bytes, run: Run
) -> None:
    with ScriptedNode(lambda _: reply(200, body)) as node:
        ran = run(*command, f"--target={node.url}")
    assert (ran.code, ran.out) == (3, b"")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", [["nodes"], ["status"], ["ring"], ["explain", "x"], ["keys"]])
def test_unreachable_is_2_everywhere(command: list[str], run: Run) -> None:
    with dead_port() as url:
        ran = run(*command, f"--target={url}")
    assert (ran.code, ran.out) == (2, b"")
