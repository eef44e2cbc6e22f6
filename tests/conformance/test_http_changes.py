# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes by which a cluster changes: what they ask of the node, and what they refuse."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from quorate.core.values.events import Change
from quorate.core.values.wish import Wish
from quorate.errors import Outcome, QuorumUnreachable
from tests.fake_store import NODES
from tests.http_served import Client, Response, Served, get, post

A, B, C = NODES


def asked(http: Served) -> list[tuple[Wish, bool, int]]:
    """The changes that came to the node, whether for a look, and from which layout on."""
    return [
        (each.wish, each.is_preview, each.from_epoch)
        for each in http.store.events
        if isinstance(each, Change)
    ]


def ask(client: Client, path: str, body: object = None) -> Response:
    return post(client, path, b"" if body is None else json.dumps(body).encode())


def problem(answer: Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    table: dict[str, Any] = json.loads(answer.body)
    return answer.status, table["code"]


def test_a_plan_changes_nothing_and_is_applied_by_its_hash(
    http: Served, http_client: Client
) -> None:
    body = {
        "leave": [B + "/"],
        "replace": {A: C},
        "weight": {C: 2},
        "zone": {C: "b"},
        "replication": 2,
        "force": True,
    }
    wish = Wish(
        leave=(B,),
        replace=((A, C),),
        weights=((C, 2),),
        zones=((C, "b"),),
        replication=2,
        is_forced=True,
    )
    shown = json.loads(ask(http_client, "/plan", body).body)
    assert asked(http) == [(wish, True, 0)]
    assert (shown["node"], shown["plan"]["epoch"]) == (A, 1)
    assert [each["weight"] for each in shown["plan"]["shares"]] == [1, 0, 1]
    done = json.loads(ask(http_client, f"/plan/{shown['hash']}/apply").body)
    assert asked(http)[1:] == [(wish, False, 1)]
    assert (done["epoch"], done["changed"]) == (2, True)


def test_of_two_operators_at_once_the_second_is_told_the_layout_in_force(
    http: Served, http_client: Client
) -> None:
    plans = [ask(http_client, "/plan", {"zone": {node: "b"}}) for node in (A, B)]
    first, second = [json.loads(plan.body)["hash"] for plan in plans]
    assert ask(http_client, f"/plan/{first}/apply").status == 200
    refused = ask(http_client, f"/plan/{second}/apply")
    assert problem(refused) == (409, "conflict")
    assert json.loads(refused.body)["epoch"] == 2
    assert http.store.epoch == 2


def test_a_plan_that_this_node_did_not_show_is_404_and_says_what_to_do(
    http: Served, http_client: Client
) -> None:
    for name in ("0123456789abcdef", "x", "A{}"):
        answer = ask(http_client, f"/plan/{name}/apply")
        assert problem(answer) == (404, "no_such_plan")
        assert "POST /plan" in json.loads(answer.body)["detail"]
    for path in ("/plan/%61/apply", "/plan//apply", "/plan/a/b/apply", "/plan/a"):
        assert problem(ask(http_client, path)) == (404, "no_such_path")
    assert asked(http) == []


def test_without_a_body_a_plan_is_of_the_cluster_as_it_is(
    http: Served, http_client: Client
) -> None:
    bodies = (b"", b"{}")
    answers = [json.loads(post(http_client, "/plan", body).body) for body in bodies]
    assert asked(http) == [(Wish(), True, 0)] * 2
    assert answers[0] == answers[1]


def test_to_leave_replace_and_cancel_are_one_request_each(
    http: Served, http_client: Client
) -> None:
    answers = [
        ask(http_client, "/leave?timeout=9s", {"node": B, "force": True}),
        ask(http_client, "/replace", {"old": B, "new": C}),
        ask(http_client, "/plan/cancel"),
    ]
    assert [answer.status for answer in answers] == [200] * 3
    changed = [json.loads(answer.body)["changed"] for answer in answers]
    assert changed == [True, True, False]
    assert [wish for wish, _, _ in asked(http)] == [
        Wish(leave=(B,), is_forced=True),
        Wish(replace=((B, C),)),
        Wish(stops=True),
    ]
    first = http.store.events[0]
    assert isinstance(first, Change)
    assert first.timeout_ms == 9_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/leave", b""),
        ("/leave", b"{}"),
        ("/leave", b'"http://127.0.0.1:8001"'),
        ("/leave", b'{"node": "not a url"}'),
        ("/leave", b'{"node": "0123456789abc"}'),
        ("/leave", b'{"node": "https://127.0.0.1:8001"}'),
        ("/leave", b'{"node": "http://127.0.0.1:8001", "force": "yes"}'),
        ("/leave", b'{"node": "http://127.0.0.1:8001", "now": true}'),
        ("/replace", b'{"old": "http://127.0.0.1:8001"}'),
        ("/replace", b'{"old": "http://127.0.0.1:8001", "new": ""}'),
        ("/plan", b"[]"),
        ("/plan", b'{"leave": "http://127.0.0.1:8001"}'),
        ("/plan", b'{"leave": [1]}'),
        ("/plan", b'{"weight": {"http://127.0.0.1:8001": "2"}}'),
        ("/plan", b'{"weight": {"http://127.0.0.1:8001": 1, "http://127.0.0.1:8001": 2}}'),
        ("/plan", b'{"weight": {"x": 1}}'),
        ("/plan", b'{"zone": {"http://127.0.0.1:8001": null}}'),
        ("/plan", b'{"replication": 0}'),
        ("/plan", b'{"replication": -1}'),
        ("/plan", b'{"replication": 1.5}'),
        ("/plan", b'{"replication": 3, "replication": 2}'),
        ("/plan", b'{"add": ["http://127.0.0.1:8001"]}'),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else value,
)
def test_a_body_that_cannot_be_meant_is_400_and_the_node_is_not_asked(
    http: Served, http_client: Client, path: str, body: bytes
) -> None:
    assert problem(post(http_client, path, body)) == (400, "invalid_request")
    assert asked(http) == []


@pytest.mark.parametrize("kind", ["leave", "replace", "weight", "zone"])
def test_one_plan_names_a_hundred_nodes_of_a_kind(
    http: Served, http_client: Client, kind: str
) -> None:
    given: dict[str, Any] = {"leave": None, "replace": C, "weight": 1, "zone": "b"}
    for count, code in ((100, "no member of the cluster"), (101, "not acceptable JSON")):
        names = [f"http://10.0.0.{n}:8000" for n in range(count)]
        body = {kind: names if kind == "leave" else dict.fromkeys(names, given[kind])}
        answer = ask(http_client, "/plan", body)
        assert problem(answer) == (400, "invalid_request")
        assert json.loads(answer.body)["detail"].startswith(code)
    assert len(asked(http)) == 1


def test_a_body_that_is_longer_than_any_plan_is_413(http_client: Client) -> None:
    for size, status in ((65_536, 200), (65_537, 413)):
        assert post(http_client, "/plan", b"{}".ljust(size)).status == status


def test_what_breaks_a_rule_of_the_cluster_is_400(http: Served, http_client: Client) -> None:
    for path, body in (
        ("/leave", {"node": "http://127.0.0.1:9999"}),
        ("/leave", {"node": B}),
        ("/plan", {"leave": [B]}),
        ("/plan", {"zone": {"aaaaaaaaaaaa": "b"}}),
    ):
        assert problem(ask(http_client, path, body)) == (400, "invalid_request")
    assert http.store.epoch == 1


def test_without_a_majority_of_voters_it_is_503_and_says_what_is_missing(
    http: Served, http_client: Client
) -> None:
    reason = "a majority of the voters has not answered in time"
    http.store.failure = QuorumUnreachable(reason, outcome=Outcome.UNKNOWN)
    answer = ask(http_client, "/leave", {"node": B})
    assert problem(answer) == (503, "quorum_unreachable")
    assert json.loads(answer.body)["detail"] == reason
    assert json.loads(answer.body)["outcome"] == "unknown"


def test_the_topology_tells_members_and_shares_and_what_waits(
    http: Served, http_client: Client
) -> None:
    http.store.known.add("http://127.0.0.1:9000")
    http.store.waits = ["http://d:8000 is a member and gets no copies"]
    shown = json.loads(get(http_client, "/topology").body)
    told = (shown["node"], shown["epoch"], shown["phase"], shown["replication"])
    assert told == (A, 1, "stable", 3)
    assert (shown["copies"], shown["to_move"]) == (3072, 0)
    assert shown["waits"] == http.store.waits
    assert [each["url"] for each in shown["members"]] == list(NODES), "strangers are no members"
    assert {each["copies"] for each in shown["members"]} == {1024}


def test_the_topology_says_how_long_what_moves_takes_by_how_fast_it_does(
    http: Served, http_client: Client
) -> None:
    http.store.moving = 700

    def told() -> tuple[int | None, int | None, bool]:
        shown = json.loads(get(http_client, "/topology").body)
        return shown["eta_s"], shown["bytes_s"], shown["eta_estimated"]

    assert told() == (None, None, False)
    plan = json.loads(ask(http_client, "/plan").body)
    assert (plan["eta_s"], plan["bytes_s"]) == (None, None), "nothing was seen to move yet"
    http.store.moving = 600
    until = time.monotonic() + 10.0
    found = told()
    while found[0] is None:
        assert time.monotonic() < until, "two looks a second apart tell no pace"
        time.sleep(0.05)
        found = told()
    seconds, bytes_s, is_estimate = found
    assert not is_estimate
    assert bytes_s is not None
    assert 0 < bytes_s <= 100_000, "100 copies of 1000 bytes came in a second or more"
    assert seconds == pytest.approx(600_000 / bytes_s, abs=2)
    plan = json.loads(ask(http_client, "/plan").body)
    assert plan["eta_s"] == pytest.approx(seconds, abs=60)
    http.store.moving = 0
    assert told() == (None, None, False)


def test_an_upgrade_is_finished_by_a_request_of_its_own(http: Served, http_client: Client) -> None:
    http.store.next_level = 2
    shown = json.loads(get(http_client, "/upgrade").body)
    assert (shown["node"], shown["level"], shown["next_level"]) == (A, 1, 2)
    assert [(each["url"], each["level"]) for each in shown["nodes"]] == [(A, 2), (B, 2), (C, 2)]
    answer = json.loads(ask(http_client, "/upgrade/finish?timeout=2s").body)
    assert (answer["changed"], answer["plan"]["level"]) == (True, 2)
    assert asked(http) == [(Wish(raises_level=True), False, 0)]
    assert not json.loads(ask(http_client, "/upgrade/finish").body)["changed"]


def test_an_upgrade_that_a_node_holds_up_is_a_conflict(http: Served, http_client: Client) -> None:
    http.store.level_waits = [f"{B} knows feature level 1: start a newer release there"]
    assert problem(ask(http_client, "/upgrade/finish")) == (409, "conflict")
