# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate token new: a node makes it, and only it is printed."""

from __future__ import annotations

import json

import pytest

from quorate.security.joining import read_token
from tests.http_served import SECRET
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import ScriptedNode, dead_port, problem


def test_a_join_token_is_printed_alone(run: Run, target: str) -> None:
    ran = run("token", "new", "--ttl=1h", target)
    assert (ran.code, ran.err) == (0, "")
    token = read_token(ran.out.decode())
    assert token.is_genuine(SECRET, cluster_name="quorate")
    assert token.uses == 1


def test_it_lets_in_as_many_as_are_given_and_comes_as_json(run: Run, target: str) -> None:
    shown = json.loads(run("token", "new", "--ttl=30m", "--uses=7", target, "--json").out)
    token = read_token(shown["token"])
    assert (token.uses, token.expires_s * 1000) == (7, shown["expires_ms"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["new"], 2, "write --ttl=8h"),
        (["nwe", "--ttl=1h"], 2, "is neither new nor issue"),
        (["new", "--ttl=1h", "--uses=0"], 2, "uses"),
        (["new", "--ttl=60"], 3, "60 has no unit: write 60s"),
    ],
)
def test_a_mistake_of_a_join_token_is_one_line(
    arguments: list[str], code: int, said: str, run: Run, target: str
) -> None:
    ran = run("token", *arguments, target)
    assert (ran.code, ran.out) == (code, b"")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_who_gets_no_join_token_is_not_told_of_a_write(run: Run) -> None:
    refused = problem(409, "conflict", detail="this node was started without a secret")
    with ScriptedNode(lambda _: refused) as node, dead_port() as dead:
        for url in (node.url, dead):
            ran = run("token", "new", "--ttl=1h", f"--target={url}")
            assert ran.code in (2, 3)
            assert "written" not in ran.err
