# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may talk to whom."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.greeting import is_other_reached, judge
from quorate.core.topology.layout import first_layout
from quorate.core.values.messages import PROTOCOL_VERSION, Greeting

MINE = Greeting(PROTOCOL_VERSION, "c", "http://127.0.0.1:1", 1, 7, b"h" * 16, "0.1")
THEIRS = Greeting(PROTOCOL_VERSION, "c", "http://127.0.0.1:2", 2, 7, b"h" * 16, "0.2")


def test_nodes_of_one_cluster_and_layout_may_talk() -> None:
    assert judge(MINE, THEIRS) == ""


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("protocol", PROTOCOL_VERSION + 1, "protocol version differs: ours 2, theirs 3"),
        ("cluster", "d", "cluster name differs: ours 'c', theirs 'd'"),
        ("url", MINE.url, "two nodes with one URL"),
        ("url", "", "URL has 0 characters"),
        ("url", "x" * 100_000, "URL has 100000 characters"),
        ("node_id", MINE.node_id, "two nodes with one identity 000000000001"),
        ("layout_hash", b"i" * 16, "was started with another -nodes list or -replication"),
    ],
)
def test_a_difference_that_matters_is_refused_by_both_sides_and_named(
    field: str, value: int | str | bytes, named: str
) -> None:
    theirs = msgspec.structs.replace(THEIRS, **{field: value})
    assert named in judge(MINE, theirs)
    if field != "url":
        assert judge(theirs, MINE)


def test_nodes_of_different_epochs_may_talk_so_that_one_can_learn() -> None:
    theirs = msgspec.structs.replace(THEIRS, epoch=8, layout_hash=b"i" * 16)
    assert judge(MINE, theirs) == judge(theirs, MINE) == ""


def test_two_layouts_of_one_epoch_are_refused_with_what_to_do() -> None:
    told = []
    for greeting, nodes, replication in ((MINE, ["a", "b"], 2), (THEIRS, ["a", "b", "c"], 3)):
        layout = first_layout(nodes, replication=replication)
        changed = {"epoch": layout.epoch, "layout": layout.encode(), "layout_hash": layout.hash()}
        told.append(msgspec.structs.replace(greeting, **changed))
    mine, theirs = told
    assert judge(mine, theirs) == (
        "node 'http://127.0.0.1:2' was started with another -nodes list or -replication: ours "
        "'a,b' with 2, theirs 'a,b,c' with 3; all nodes of a cluster need the same, and another "
        "cluster needs another -cluster name"
    )
    damaged = msgspec.structs.replace(theirs, layout=b"x")
    assert f"theirs of hash {theirs.layout_hash.hex()}" in judge(mine, damaged)


def test_who_is_not_the_process_that_its_url_leads_to_is_refused() -> None:
    theirs = msgspec.structs.replace(THEIRS, process=5)
    for reached, is_other in ((0, False), (5, False), (6, True)):
        mine = msgspec.structs.replace(MINE, process=1, reached=reached)
        assert is_other_reached(mine, theirs) is is_other
        told = (
            "two nodes with one URL or one identity 000000000002: our link to it leads to another "
            "process than that at 'http://127.0.0.1:2'"
        )
        assert judge(mine, theirs) == (told if is_other else "")


@pytest.mark.parametrize("which", ["mine", "theirs", "both"])
def test_a_node_without_a_layout_is_let_in_whatever_the_epoch(which: str) -> None:
    blank = {"layout_hash": b"", "epoch": 0}
    mine = MINE if which == "theirs" else msgspec.structs.replace(MINE, **blank)
    theirs = THEIRS if which == "mine" else msgspec.structs.replace(THEIRS, **blank)
    assert judge(mine, theirs) == ""


def test_a_reason_stays_one_short_line_whatever_the_peer_calls_itself() -> None:
    theirs = msgspec.structs.replace(THEIRS, cluster="\n\x1b[31m" * 10_000)
    reason = judge(MINE, theirs)
    assert len(reason) < 500
    assert reason.isprintable()
    layout = first_layout(["\n" * 1_000, "\x1b[31m" * 1_000], replication=1).encode()
    theirs = msgspec.structs.replace(THEIRS, layout_hash=b"i", url="\n" * 300, layout=layout)
    reason = judge(MINE, theirs)
    assert len(reason) < 900
    assert reason.isprintable()
