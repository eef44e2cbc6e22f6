# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing a cluster from a terminal: what is asked of the node, and what people read."""

from __future__ import annotations

import io
import json

import pytest

from quorate.core.values.events import Change, Join
from quorate.core.values.wish import Wish
from quorate.errors import Conflict, Outcome, QuorumUnreachable
from tests.fake_store import NODES
from tests.http_served import Served
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import Request, ScriptedNode, dead_port, reply

A, B, C = NODES


def wishes(served: Served) -> list[Wish]:
    """What was to be changed."""
    return [each.wish for each in served.store.events if isinstance(each, Change)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:9000", "becomes a member once it is there"),
        (A, "is a member and holds copies already"),
    ],
)
def test_a_join_says_what_follows(
    run: Run, served: Served, target: str, url: str, said: str
) -> None:
    ran = run("join", url, target)
    assert (ran.code, ran.err) == (0, "")
    assert said in ran.out.decode()
    assert [type(each) for each in served.store.events] == [Join]
    table = json.loads(run("join", url, target, "--json").out)
    assert table["known"] is True


def test_leave_and_replace_say_what_moves_and_what_was_decided(
    run: Run, served: Served, target: str
) -> None:
    ran = run("leave", B, "--force", target)
    assert (ran.code, ran.err) == (0, "")
    assert f"{B}\t-\t0\t1024\t0\t0\t1024\n" in ran.out.decode()
    assert f"unanswered: {A} was started with -W=9; start it with less\n" in ran.out.decode()
    assert f"weakened: {A} was started with -R=2; start it with more\n" in ran.out.decode()
    assert "decided, as layout 2" in ran.out.decode()
    assert run("replace", f"--old={B}", f"--new={C}", target).code == 0
    wanted = [Wish(leave=(B,), is_forced=True), Wish(replace=((B, C),))]
    assert wishes(served) == wanted
    assert json.loads(run("leave", B, "--force", target, "--json").out)["epoch"] == 4


def test_a_plan_takes_all_changes_at_once_and_says_how_to_apply_it(
    run: Run, served: Served, target: str
) -> None:
    ran = run(
        *("plan", f"--leave={A},{B}", f"--replace={A}={C}", f"--weight={B}=2,{C}=3"),
        *(f"--zone={C}=b", "--replication=2", "--force", target),
    )
    assert (ran.code, ran.err) == (0, "")
    wish = Wish(
        leave=(A, B),
        replace=((A, C),),
        weights=((B, 2), (C, 3)),
        zones=((C, "b"),),
        replication=2,
        is_forced=True,
    )
    assert wishes(served) == [wish]
    command = ran.out.decode().partition("to do it: quorate ")[2].split()
    assert command[0] == "apply"
    assert command[2] == f"--target={A.removeprefix('http://')}", "as it is with TLS too"
    assert "decided, as layout 2" in run(*command[:2], target).out.decode()
    assert wishes(served) == [wish, wish]
    late = run(*command[:2], target)
    assert (late.code, late.err.count("\n")) == (3, 1)
    assert "the cluster has changed since (epoch=2); nothing was written" in late.err


def test_a_name_that_no_plan_has_is_looked_for_whatever_its_bytes(run: Run, target: str) -> None:
    for name in ("nosuch", "\udcff", "a/b"):
        ran = run("apply", name, target)
        assert (ran.code, ran.err.count("\n")) == (3, 1), name
        assert "nothing was written" in ran.err or "no such path" in ran.err


def test_a_plan_of_nothing_says_nothing_of_doing_it(run: Run, served: Served, target: str) -> None:
    ran = run("plan", target)
    assert "to move: 0 copies of partitions; then each key has 3 replicas\n" in ran.out.decode()
    assert "apply" not in ran.out.decode()
    assert wishes(served) == [Wish()]


def test_a_plan_for_more_copies_than_there_are_nodes_says_how_many_there_will_be(
    run: Run, target: str
) -> None:
    said = "then each key has 3 replicas, and 9 replicas once there are as many nodes\n"
    assert said in run("plan", "--replication=9", target).out.decode()


def test_to_cancel_where_nothing_moves_is_no_change(run: Run, target: str) -> None:
    assert run("cancel", target).out == b"nothing to change: it is so already, by layout 1\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["join", "x"], "--url: 'x' has no port"),
        (["join"], "write quorate join URL"),
        (["leave", "x"], "or a node's id, 12 hexadecimal digits"),
        (["leave", A, B], "one argument too many"),
        (["replace", A], "replace: no new: write quorate replace OLD NEW"),
        (["plan", f"--weight={A}"], "write --weight=NODE=2"),
        (["plan", f"--weight={A}=x"], "--weight: 'x' is no whole number"),
        (["plan", f"--zone={A}="], "write --zone=NODE=b"),
        (["plan", f"--replace={A}=x"], "--replace: 'x' has no port"),
        (["plan", "--leave=x"], "--leave: 'x' has no port"),
        (["plan", "--replication=0"], "--replication: '0' is no whole number"),
        (["apply"], "write quorate apply HASH"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    run: Run, served: Served, target: str, arguments: list[str], said: str
) -> None:
    ran = run(*arguments, target)
    assert (ran.code, ran.out) == (2, b"")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert served.store.events == []


def test_what_the_cluster_refuses_is_one_line_and_exit_code_3(
    run: Run, served: Served, target: str
) -> None:
    ran = run("apply", "0123456789abcdef", target)
    assert (ran.code, ran.err.count("\n")) == (3, 1)
    assert "apply it at the same node" in ran.err
    served.store.failure = Conflict("the cluster has changed", epoch=9)
    assert run("leave", B, target).code == 3


def test_a_change_that_may_be_decided_yet_says_where_to_look(
    run: Run, served: Served, target: str
) -> None:
    reason = "a majority of the voters has not answered in time"
    served.store.failure = QuorumUnreachable(reason, outcome=Outcome.UNKNOWN)
    ran = run("leave", B, target)
    assert ran.code == 3
    assert ran.err == (f"quorate: {reason}; it may be decided all the same: see quorate topology\n")
    told = json.loads(run("leave", B, target, "--json").out)["error"]
    assert told["outcome"] == "unknown"


def test_the_topology_is_a_table_and_a_line_for_what_waits(
    run: Run, served: Served, target: str
) -> None:
    served.store.waits = ["http://d:8000 is a member and gets no copies: no link to it"]
    ran = run("topology", target)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.decode().splitlines()
    assert lines[:4] == [f"node\t{A}", "epoch\t1", "phase\tstable", "replication\t3"]
    assert lines[4] == "copies\t3,072 of 3,072 are where they belong"
    assert f"{B}\t0123456789ac\tup\t-\t1\t1024\t0\t0\t0\tno" in lines
    assert lines[-1] == f"waits: {served.store.waits[0]}"
    assert json.loads(run("topology", target, "--json").out)["waits"] == served.store.waits


def test_the_status_says_what_waits_beside_who_is_ready(
    run: Run, served: Served, target: str
) -> None:
    served.store.waits = ["http://d:8000 is a member and gets no copies\x1b[2J"]
    ran = run("status", target)
    assert ran.err == "quorate: http://d:8000 is a member and gets no copies\\x1b[2J\n"


@pytest.mark.parametrize(("joins", "code"), [(True, 3), (False, 0)])
def test_an_address_that_was_never_met_counts_in_the_status_where_it_was_asked_to_join(
    joins: bool, code: int, run: Run
) -> None:
    def answer(request: Request) -> bytes:
        seen = {"state": "up", "owns": True, "keys": 1, "bytes": 2}
        never = {**seen, "url": dead, "id": "", "member": False, "joins": joins}
        members = json.dumps([{**seen, "url": node.url}, never]).encode()
        return reply(200, b"ok" if request.target == "/readyz" else members)

    with ScriptedNode(answer) as node, dead_port() as dead:
        ran = run("status", f"--target={node.url}")
    assert ran.code == code
    states = [line.split("\t")[1] for line in ran.out.decode().splitlines()]
    assert states == ["state", "ready", "not ready"]


def test_members_that_have_copies_to_get_say_themselves_what_they_wait_for(run: Run) -> None:
    facts = {"epoch": 9, "phase": "moving", "replication": 3}
    shown = {**facts, "copies": 3, "to_move": 1, "bytes": 0, "crowded": ["zone b is small"]}

    def says(node: str, *waits: str, members: list[dict[str, object]]) -> bytes:
        table = {**shown, "node": node, "waits": waits, "members": members}
        return json.dumps(table).encode()

    with ScriptedNode(lambda _: reply(200, says(d.url, f"{d.url} waits", "b", members=[]))) as d:
        members = [{"url": url, "left": 1} for url in (d.url, "http://localhost:1")]
        with ScriptedNode(lambda _: reply(200, says(a.url, members=members))) as a:
            ran = run("topology", f"--target={a.url}")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.decode().endswith(f"crowded: zone b is small\nwaits: {d.url} waits\n")


_MOVES: dict[str, object] = {
    "node": A,
    "epoch": 9,
    "phase": "moving",
    "replication": 3,
    "copies": 3072,
    "to_move": 500,
    "bytes": 500_000_000,
    "crowded": [],
    "waits": [],
    "members": [],
}
_UNKNOWN: dict[str, object] = {"eta_s": None, "bytes_s": None, "eta_estimated": False}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ((40, 12_000_000, False), "about 40 s left at 12.0 MB/s"),
        ((40, None, False), "about 40 s left"),
        ((240, 12_000_000, False), "about 4.0 min left at 12.0 MB/s"),
        ((40, 12_000_000, True), "about 40 s, an estimate: copies last moved at 12.0 MB/s"),
        ((40, None, True), "about 40 s, an estimate: as copies last moved"),
        ((None, None, False), "nobody can tell yet: no copies were seen to move"),
    ],
)
def test_the_topology_says_how_long_it_takes_in_words(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    told: tuple[int | None, int | None, bool],
    said: str,
) -> None:
    monkeypatch.setattr("quorate.cli.changing._LOOK_AGAIN_SECONDS", 0.0)
    eta = dict(zip(_UNKNOWN, told, strict=True))
    with ScriptedNode(lambda _: reply(200, json.dumps({**_MOVES, **eta}).encode())) as node:
        ran = run("topology", f"--target={node.url}")
    assert (ran.code, ran.err) == (0, "")
    assert f"eta\t{said}\n" in ran.out.decode()


def test_a_node_that_has_not_seen_copies_move_is_asked_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorate.cli.changing._LOOK_AGAIN_SECONDS", 0.0)
    known: dict[str, object] = {"eta_s": 50, "bytes_s": 10_000_000, "eta_estimated": False}
    etas = iter([_UNKNOWN, known])
    with ScriptedNode(lambda _: reply(200, json.dumps({**_MOVES, **next(etas)}).encode())) as node:
        ran = run("topology", f"--target={node.url}", "--json")
    assert json.loads(ran.out)["eta_s"] == 50
    with ScriptedNode(lambda _: reply(200, json.dumps(_MOVES).encode())) as node:
        ran = run("topology", f"--target={node.url}")
        assert len(node.requests) == 1, "a node of an earlier release knows of none"
    assert "eta\tnobody can tell yet" in ran.out.decode()


def test_a_plan_says_that_its_eta_is_an_estimate(run: Run, served: Served, target: str) -> None:
    assert "eta" not in run("plan", target).out.decode()
    served.store.moving = 100
    ran = run("plan", target)
    assert "eta: nobody can tell yet: no copies were seen to move\n" in ran.out.decode()
    moved = {**json.loads(run("plan", target, "--json").out), "eta_s": 9, "bytes_s": 5_000_000}
    with ScriptedNode(lambda _: reply(200, json.dumps(moved).encode())) as node:
        ran = run("plan", f"--target={node.url}")
    assert "eta: about 9 s, an estimate: copies last moved at 5.0 MB/s\n" in ran.out.decode()


def test_an_answer_in_an_unknown_form_is_told(run: Run) -> None:
    with ScriptedNode(lambda _: reply(200, b"[]")) as node:
        for command in (["topology"], ["plan"], ["cancel"], ["join", A]):
            ran = run(*command, f"--target={node.url}")
            assert (ran.code, ran.err) == (3, "quorate: an answer in an unknown form\n")


@pytest.mark.parametrize(("typed", "code"), [("recover\n", 0), ("yes\n", 1), ("", 1)])
def test_a_recovery_wants_the_word_typed(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    target = f"--target=http://127.0.0.1:{served.port}"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    ran = run("recover", f"{A},{B}", target)
    assert (ran.code, ran.err) == (code, "")
    assert "given up: 2 members; of 0 partitions" in ran.out.decode()
    previews = [each.is_preview for each in served.store.events if isinstance(each, Change)]
    assert previews == [True] + [False] * (code == 0)
    assert set(wishes(served)) == {Wish(recover=(A, B))}
    assert run("recover", A, target, "--yes").code == 0
    assert run("recover", "nonsense here", target, "--yes").code == 2


# --- upgrades ----------------------------------------------------------------------------------


def test_an_upgrade_is_shown_with_who_holds_it_up_and_what_comes_next(
    run: Run, served: Served, target: str
) -> None:
    store = served.store
    assert "finish" not in run("upgrade", target).out.decode()
    store.next_level = 2
    shown = run("upgrade", target).out.decode()
    assert shown.startswith(f"node\t{A}\nfeature level\t1\n")
    assert f"{A}\tself\t0.0.0\t2\t4\n" in shown
    assert shown.endswith("to put feature level 2 in force: quorate upgrade finish\n")
    store.level_waits = [f"{B} is not there: start it, or have it leave"]
    ran = run("upgrade", target)
    assert ran.out.decode().endswith(f"waits: {store.level_waits[0]}\n")
    table = json.loads(run("upgrade", target, "--json").out)
    assert (table["level"], table["next_level"], table["waits"]) == (1, 2, store.level_waits)
    assert wishes(served) == []


def test_an_upgrade_is_finished_once_and_refused_while_a_node_knows_less(
    run: Run, served: Served, target: str
) -> None:
    store = served.store
    said = b"nothing to change: it is so already, by layout 1\n"
    assert run("upgrade", "finish", target).out == said
    store.next_level = 2
    store.level_waits = [f"{B} knows feature level 1: start a newer release there"]
    refused = run("upgrade", "finish", target)
    assert (refused.code, refused.out) == (3, b"")
    assert store.level_waits[0] in refused.err
    store.level_waits = []
    decided = b"decided, as layout 2: feature level 2 is in force\n"
    assert run("upgrade", "finish", target).out == decided
    assert wishes(served) == [Wish(raises_level=True)] * 3


def test_an_unknown_step_of_an_upgrade_is_refused(run: Run, served: Served, target: str) -> None:
    ran = run("upgrade", "begin", target)
    assert ran.code == 2
    assert "quorate upgrade finish" in ran.err
    assert served.store.events == []
