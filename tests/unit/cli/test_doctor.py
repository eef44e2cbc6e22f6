# SPDX-License-Identifier: GPL-3.0-or-later
"""What doctor makes of ways that fail; real nodes are in `tests/cluster/test_doctor.py`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from quorate.cli.doctor import HERE, Way, _clocks, advise
from quorate.wire.http import quote
from tests.authority import Authority
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import Request, ScriptedNode, problem, reply

A, B, C = "http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://kv-3:8000"
WELL = Way(C, B, "", "", 0.4)


@pytest.mark.parametrize(
    ("way", "ways", "said"),
    [
        (Way(A, C, "resolve", "unknown"), [], "make kv-3 known there (DNS, /etc/hosts)"),
        (Way(A, B, "connect", "Connection refused"), [], "nothing listens on TCP 8000"),
        (Way(A, B, "connect", "no answer in time"), [], "nobody reaches it: start the node"),
        (
            Way(A, B, "connect", "no answer in time"),
            [WELL],
            f"others reach it ({C}): open TCP 8000 from {A} to 10.0.0.2",
        ),
        (Way(A, B, "connect", "no answer in time"), [WELL], "hairpin"),
        (Way(A, "http://localhost:1", "connect", "x"), [], "localhost is another machine to each"),
        (Way(A, B, "connect", "Connection refused"), [WELL], "lead back inside (hairpin)"),
        (Way(HERE, B, "connect", "x", tried="http://1.2.3.4:99"), [], "-advertise-client"),
        (Way(A, B, "greet", "nobody"), [], "is it a node that listens at 10.0.0.2:8000"),
        (Way(A, B, "cluster", "the cluster name differs"), [], "look at -cluster"),
        (Way(A, B, "cluster", "no protocol in common: ours 4, theirs 6"), [], "not adjacent"),
        (Way(A, B, "greet", "no greeting came in time"), [], "where long packets are lost"),
        (Way(A, B, "large", "nobody"), [], "fragmentation needed"),
    ],
)
def test_each_failure_is_said_with_what_to_do(way: Way, ways: list[Way], said: str) -> None:
    line = advise(way, [way, *ways])
    assert said in line
    assert line.startswith(f"{way.source} -> {way.target}: {way.fault}: ")


def test_a_clock_that_is_not_like_the_others_is_named() -> None:
    ways = [
        Way(A, B, "", "", 1.0, 5_000.0),
        Way(B, A, "", "", 1.0, 5_010.0),
        Way(C, A, "", "", 1.0, 3_000.0),
        Way(C, B, "", "", 1.0, None),
    ]
    (line,) = _clocks(ways)
    assert line.startswith(f"{C}: its clock is 2000 ms behind the others'")
    assert _clocks(ways[:2]) == _clocks([]) == []


GOOD = {
    "url": A,
    "addresses": ["10.0.0.1"],
    "stage": "",
    "fault": "",
    "round_trip_ms": 0.5,
    "seen": "10.0.0.1",
    "wall_ms": 1,
}


@contextmanager
def two(told: Any, *, tls: ssl.SSLContext | None = None, token: str = "") -> Iterator[list[str]]:
    """Two nodes' URLs for peers, of which each says `told` of the other to who shows the token."""
    urls: list[str] = []

    def answer(request: Request) -> bytes:
        if f"Authorization: Bearer {token}".encode() not in request.head and token:
            return problem(401, "unauthenticated")
        nodes = [{"url": url, "client": ""} for url in urls]
        return reply(200, json.dumps(nodes if request.target == "/nodes" else told).encode())

    with ExitStack() as stack:
        for _ in range(2):
            node = stack.enter_context(ScriptedNode(answer, pings=answer, tls=tls))
            urls.append(node.url.replace("https:", "http:"))
        yield urls


def test_each_node_is_asked_as_the_first_one_is_inside_tls_and_with_a_login(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("QUORATE_TOKEN", "qt1.x")
    with two(GOOD, tls=authority.server(), token="qt1.x") as urls:
        target = urls[0].replace("http:", "https:")
        ran = run("doctor", target, "--ca", authority.ca, "--json")
    told = json.loads(ran.out)
    assert (ran.code, [way["stage"] for way in told["ways"]]) == (0, [""] * 4), told


def test_nodes_that_do_not_say_whom_they_reach_are_named_with_the_reason(run: Run) -> None:
    """Who comes from a node's own machine is told of the others, and is a stranger to these."""
    with two(GOOD) as urls:
        probed = problem(401, "unauthenticated")
        with ScriptedNode(lambda _: probed, pings=lambda _: probed) as mute:
            listed = json.dumps([{"url": url, "client": ""} for url in (*urls, mute.url)]).encode()
            told = reply(200, listed)
            with ScriptedNode(lambda _: told, pings=lambda _: told) as first:
                ran = run("doctor", first.url)
    (line,) = [each for each in ran.out.decode().splitlines() if "whom they reach" in each]
    assert ran.code == 3
    assert line.startswith(f"not asked whom they reach: {mute.url}: it does not say: ")
    assert "--secret-file" in line
    assert b"all is well" not in ran.out


def test_what_a_handshake_failed_for_is_said_in_its_own_words_and_no_port_is_to_be_opened(
    run: Run, tmp_path: Path
) -> None:
    assert advise(Way(A, B, "tls", "its certificate has expired: put a new one there"), []) == (
        f"{A} -> {B}: its certificate has expired: put a new one there"
    )
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    with (
        two(GOOD, tls=authority.server()) as urls,
        ScriptedNode(lambda _: b"", pings=lambda _: b"", tls=other.server()) as stranger,
    ):
        urls.append(stranger.url.replace("https:", "http:"))
        target = urls[0].replace("http:", "https:")
        ran = run("doctor", target, "--ca", authority.ca, "--json")
        told = json.loads(ran.out)
    (way,) = [way for way in told["ways"] if (way["source"], way["target"]) == (HERE, urls[-1])]
    assert (ran.code, way["stage"]) == (3, "tls")
    (line,) = [line for line in told["advice"] if line.startswith(HERE)]
    assert "no CA that is trusted here signed its certificate" in line
    assert "open TCP" not in line


@pytest.mark.parametrize(
    "lie",
    [
        {"stage": 7},
        {"stage": "connect", "fault": None},
        {"stage": "connect", "fault": ["refused"]},
        {"round_trip_ms": "soon"},
        {"wall_ms": "now"},
        {"wall_ms": 10**400},
        {"stage": "\x1b[2J", "fault": "\x1b[2J\n"},
    ],
)
def test_an_answer_that_is_none_is_told_and_no_fault(run: Run, lie: dict[str, Any]) -> None:
    with two({**GOOD, **lie}) as urls:
        ran = run("doctor", urls[0])
    assert ran.code == 3, ran.err
    assert "\x1b" not in ran.out.decode() + ran.err
    assert "Traceback" not in ran.err


def candidates(first: str, *, member: bool, told: object) -> Callable[[Request], bytes]:
    """A node that lists itself alone, and these candidates, none of which it can reach."""

    def answer(request: Request) -> bytes:
        listed = [{"url": first, "client": "", "state": "self", "member": member}]
        shown = {"/nodes": listed, "/candidates": told}.get(
            request.target,
            {**GOOD, "stage": "tls", "fault": "its secret is another", "round_trip_ms": None},
        )
        return reply(200, json.dumps(shown).encode())

    return answer


@pytest.mark.parametrize(("member", "code"), [(True, 0), (False, 3)])
def test_who_was_only_found_is_a_note_unless_there_is_nobody_else(
    run: Run, member: bool, code: int
) -> None:
    """A cluster beside this one is no fault of it. Who is in none has nobody but whom it found."""
    found = "http://10.0.0.7:8000"
    urls: list[str] = []
    told = [{"url": found, "refusal": "its secret is another"}]

    def answer(request: Request) -> bytes:
        return candidates(urls[0], member=member, told=told)(request)

    with ScriptedNode(answer, pings=answer) as node:
        urls.append(node.url)
        ran, shown = run("doctor", node.url, "--json"), run("doctor", node.url)
    made = json.loads(ran.out)
    assert (ran.code, shown.code) == (code, code)
    way = made["ways"][-1]
    assert (way["source"], way["target"]) == (urls[0], found)
    assert (way["stage"], way["counts"]) == ("tls", not member)
    (line,) = made["notes"] if member else made["advice"]
    assert "its secret is another" in line
    assert line in shown.out.decode()
    assert (b"all is well" in shown.out) is member


@pytest.mark.parametrize("told", [7, {"a": 1}, ["x"], [{}], [{"url": 7}, {"url": "\x1b[2J"}]])
def test_candidates_that_are_none_are_passed_over(run: Run, told: object) -> None:
    urls: list[str] = []

    def answer(request: Request) -> bytes:
        return candidates(urls[0], member=True, told=told)(request)

    with ScriptedNode(answer, pings=answer) as node:
        urls.append(node.url)
        ran = run("doctor", node.url)
    assert (ran.code, "\x1b" in ran.out.decode()) == (0, False), ran


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("", False),
        ("resolve", True),
        ("connect", True),
        ("cluster", True),
        # It takes connections: a balancer greets nobody.
        ("greet", False),
        ("tls", False),
    ],
)
def test_where_clients_reach_a_node_is_tried_from_each_other_one_and_told_as_a_note(
    run: Run, stage: str, told: bool
) -> None:
    """Behind NAT or in a container nodes cannot reach it, and need not."""
    urls: list[str] = []
    asked: list[str] = []

    def answer(request: Request) -> bytes:
        asked.append(request.target)
        first, second, client = urls
        shown: object = GOOD
        if request.target == "/nodes":
            shown = [
                {"url": first, "client": "", "state": "self", "member": True},
                {"url": second, "client": client, "state": "up", "member": True},
            ]
        elif request.target == f"/probe?url={quote(client.encode())}":
            shown = {**GOOD, "stage": stage, "fault": "it is so" if stage else ""}
        return reply(200, json.dumps(shown).encode())

    with ExitStack() as stack:
        nodes = [stack.enter_context(ScriptedNode(answer, pings=answer)) for _ in range(3)]
        urls += [node.url for node in nodes]
        ran = run("doctor", urls[0], "--json")
    made = json.loads(ran.out)
    (way,) = [way for way in made["ways"] if way["tried"] and way["source"] != HERE]
    assert (way["source"], way["target"], way["tried"]) == tuple(urls)
    assert (way["stage"], way["counts"]) == (stage if told else "", False)
    assert (ran.code, made["advice"]) == (0, [])
    assert [urls[2] in note and "it is so" in note for note in made["notes"]] == [True] * told
    assert len(made["ways"]) == 2 + 2 + 1


BAD_URLS = ["x", "http://a b:1", "http://h:99999", "\x1b[2J", 7]


@pytest.mark.parametrize(
    "member",
    [
        {},
        {"url": None},
        {"url": ""},
        {"url": A, "client": {"a": 1}},
        *({"url": url} for url in BAD_URLS),
        *({"url": A, "client": url} for url in BAD_URLS),
    ],
)
def test_a_list_of_nodes_that_is_none_is_refused(run: Run, member: dict[str, object]) -> None:
    def answer(_: Request) -> bytes:
        return reply(200, json.dumps([member]).encode())

    with ScriptedNode(answer, pings=answer) as node:
        ran = run("doctor", node.url)
    assert "a list of nodes in an unknown form" in ran.err
