# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may talk to whom."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.greeting import ASKED, ITSELF, answer, hashed, is_other_reached, judge
from quorate.core.topology.layout import first_layout
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Greeting
from quorate.core.values.settings import NODE_ID_MAX

MINE = Greeting(
    PROTOCOL_MIN, PROTOCOL_MAX, "c", "http://127.0.0.1:1", 1, 7, b"h" * 16, "0.1", lineage=b"l" * 16
)
THEIRS = Greeting(
    PROTOCOL_MIN, PROTOCOL_MAX, "c", "http://127.0.0.1:2", 2, 7, b"h" * 16, "0.2", lineage=b"l" * 16
)


def test_nodes_of_one_cluster_and_layout_may_talk() -> None:
    assert judge(MINE, THEIRS) == ""


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("cluster", "d", "the cluster name differs"),
        ("url", MINE.url, "two nodes with one URL"),
        ("url", "", ASKED),
        ("url", "x" * 100_000, f"the peer's URL is none: '{'x' * 80}'"),
        ("url", "http://n1:8000\x1b[2J", r"the peer's URL is none: 'http://n1:8000\x1b[2J'"),
        ("url", "HTTP://n1:8000", "the peer's URL is none"),
        ("client", "http://n1:8000/x", "the peer's URL for clients is none"),
        ("version", "0.2\n", r"the peer's version is none: '0.2\x0a'"),
        ("version", "1" * 81, f"the peer's version is none: '{'1' * 80}'"),
        ("node_id", MINE.node_id, "two nodes with one identity 000000000001"),
        ("lineage", b"i" * 16, "was started with another -nodes list or -replication"),
        ("lineage", b"l" * 8 + b"i" * 8, "two clusters of one name and one -nodes list"),
        ("layout_hash", b"i" * 16, "two layouts of epoch 7 in one cluster"),
    ],
)
def test_a_difference_that_matters_is_refused_by_both_sides_and_named(
    field: str, value: int | str | bytes, named: str
) -> None:
    theirs = msgspec.structs.replace(THEIRS, **{field: value})
    assert named in judge(MINE, theirs)
    assert judge(MINE, msgspec.structs.replace(THEIRS, version="1" * 80)) == ""
    if field not in ("url", "version", "client"):
        assert judge(theirs, MINE)


def test_a_node_that_dials_itself_under_another_name_is_told_so() -> None:
    mine = msgspec.structs.replace(MINE, process=7)
    assert judge(mine, mine) == ITSELF
    assert judge(mine, msgspec.structs.replace(mine, process=8)) != ITSELF


@pytest.mark.parametrize(
    ("mine", "theirs", "spoken"),
    [
        ((4, 4), (4, 4), 4),
        ((4, 4), (4, 5), 4),
        ((4, 5), (4, 5), 5),
        ((4, 6), (5, 7), 6),
        ((4, 4), (5, 5), 0),
        ((4, 5), (6, 7), 0),
        ((5, 4), (4, 5), 0),
    ],
)
def test_a_link_speaks_the_lower_of_the_highest_protocols_or_is_refused_with_both_numbers(
    mine: tuple[int, int], theirs: tuple[int, int], spoken: int
) -> None:
    one, other = [
        msgspec.structs.replace(each, protocol_min=lowest, protocol_max=highest)
        for each, (lowest, highest) in ((MINE, mine), (THEIRS, theirs))
    ]
    assert one.spoken_with(other) == other.spoken_with(one) == spoken
    assert bool(judge(one, other)) is bool(judge(other, one)) is (not spoken)
    if not spoken and mine == (4, 5):
        assert judge(one, other) == "no protocol in common: ours 4 to 5, theirs 6 to 7"
    if mine == (4, 4) and not spoken:
        assert judge(one, other) == "no protocol in common: ours 4, theirs 5"


def test_who_knows_less_than_the_level_in_force_is_refused_by_both_with_one_line() -> None:
    newer = msgspec.structs.replace(MINE, level=3, in_force=2, version="0.3")
    told = (
        "http://127.0.0.1:2 (release 0.2) knows feature level 1, and that of the cluster is 2: "
        "start a newer release there"
    )
    assert judge(newer, THEIRS) == judge(THEIRS, newer) == told
    assert judge(newer, msgspec.structs.replace(THEIRS, level=2)) == ""
    assert judge(msgspec.structs.replace(newer, in_force=1), THEIRS) == "", "not in force yet"


@pytest.mark.parametrize("node_id", [0, -1, NODE_ID_MAX + 1])
def test_an_id_that_no_directory_has_is_refused(node_id: int) -> None:
    """Above are those of who was never met: who said one of them would be taken for another."""
    theirs = msgspec.structs.replace(THEIRS, node_id=node_id)
    assert "no data directory is given that" in judge(MINE, theirs)
    assert judge(MINE, msgspec.structs.replace(THEIRS, node_id=NODE_ID_MAX)) == ""


def test_every_release_says_a_clusters_name_alike() -> None:
    """Else nodes of two releases would refuse each other."""
    assert hashed("quorate") == "45eadd1d7616401847752e803ec1d373"


@pytest.mark.parametrize(("epoch", "lineage"), [(8, b"l" * 16), (1, b"l" * 8)])
def test_nodes_of_different_epochs_may_talk_so_that_one_can_learn(
    epoch: int, lineage: bytes
) -> None:
    """The first layout knows no more than the first half of the cluster's id."""
    theirs = msgspec.structs.replace(THEIRS, epoch=epoch, layout_hash=b"i" * 16, lineage=lineage)
    assert judge(MINE, theirs) == judge(theirs, MINE) == ""


@pytest.mark.parametrize("epoch", [1, 7, 8])
def test_two_clusters_never_merge_whatever_their_epochs(epoch: int) -> None:
    """Whoever is behind would give up its own layout, and what it wrote under that."""
    for lineage in (b"k" * 16, b"k" * 8, b"l" * 8 + b"k" * 8):
        theirs = msgspec.structs.replace(
            THEIRS, epoch=epoch, layout_hash=b"i" * 16, lineage=lineage
        )
        assert judge(MINE, theirs)
        assert judge(theirs, MINE)


def test_two_layouts_of_one_epoch_are_refused_with_what_to_do() -> None:
    told = []
    for greeting, nodes, replication in ((MINE, ["a", "b"], 2), (THEIRS, ["a", "b", "c"], 3)):
        layout = first_layout(nodes, replication=replication)
        changed = {"epoch": layout.epoch, "layout": layout.encode(), "lineage": layout.lineage}
        told.append(msgspec.structs.replace(greeting, **changed))
    mine, theirs = told
    assert judge(mine, theirs) == (
        "http://127.0.0.1:2 was started with another -nodes list or -replication than "
        "http://127.0.0.1:1: with 'c', -replication 3 instead of 2; all nodes of a cluster need "
        "the same, and another cluster needs another -cluster name"
    )
    assert "than http://127.0.0.1:2: without 'c', -replication 2 instead" in judge(theirs, mine)
    damaged = msgspec.structs.replace(theirs, layout=b"x")
    assert f"{theirs.lineage.hex()} instead of" in judge(mine, damaged)


def test_long_lists_are_told_by_their_difference() -> None:
    told = []
    for greeting, last in ((MINE, "x"), (THEIRS, "y")):
        layout = first_layout(
            [f"n{i}" for i in range(20)] + [f"{last}{i}" for i in range(5)], replication=3
        )
        changed = {"epoch": layout.epoch, "layout": layout.encode(), "lineage": layout.lineage}
        told.append(msgspec.structs.replace(greeting, **changed))
    assert "with 'y0, y1' and 3 more, without 'x0, x1' and 3 more;" in judge(*told)


def test_who_is_of_another_cluster_or_protocol_is_told_nothing_but_why() -> None:
    for change in ({"cluster": "d"}, {"protocol_min": 8, "protocol_max": 9}):
        theirs = msgspec.structs.replace(THEIRS, **change)
        refused = answer(MINE, theirs, reached=5)
        numbers = MINE.protocol_min, MINE.protocol_max
        assert refused == Greeting(*numbers, "", "", 0, 0, b"", "", refusal=refused.refusal)
        assert refused.refusal
        assert "'c'" not in refused.refusal
    assert answer(MINE, THEIRS, reached=0) == MINE


@pytest.mark.parametrize(
    "change", [{"url": "javascript:x"}, {"node_id": 0}, {"version": "\n"}, {"weight": 0}]
)
def test_who_says_what_no_node_says_is_told_nothing_but_why(change: dict[str, int | str]) -> None:
    refused = answer(MINE, msgspec.structs.replace(THEIRS, **change), reached=5, mark=3)
    numbers = MINE.protocol_min, MINE.protocol_max
    assert refused == Greeting(*numbers, "", "", 0, 0, b"", "", refusal=refused.refusal)
    assert refused.refusal
    assert MINE.url not in refused.refusal


@pytest.mark.parametrize(
    "change", [{"url": MINE.url}, {"process": 6}, {"lineage": b"i" * 16}, {"node_id": MINE.node_id}]
)
def test_who_is_refused_learns_the_url_and_the_process_that_is_reached_and_no_layout(
    change: dict[str, int | str | bytes],
) -> None:
    mine = msgspec.structs.replace(MINE, layout=b"layout", process=1)
    refused = answer(mine, msgspec.structs.replace(THEIRS, **change), reached=5, mark=3)
    told = (refused.url, refused.reached, refused.layout, refused.lineage, refused.version)
    assert told == (MINE.url, 5, b"", b"", "")
    assert refused.refusal


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
    blank = {"layout_hash": b"", "lineage": b"", "epoch": 0}
    mine = MINE if which == "theirs" else msgspec.structs.replace(MINE, **blank)
    theirs = THEIRS if which == "mine" else msgspec.structs.replace(THEIRS, **blank)
    assert judge(mine, theirs) == ""


def test_a_reason_stays_one_short_line_whatever_the_peer_calls_itself() -> None:
    theirs = msgspec.structs.replace(THEIRS, cluster="\n\x1b[31m" * 10_000)
    reason = judge(MINE, theirs)
    assert len(reason) < 500
    assert reason.isprintable()
    layout = first_layout(["\n" * 1_000, "\x1b[31m" * 1_000], replication=1).encode()
    theirs = msgspec.structs.replace(THEIRS, lineage=b"i", url="\n" * 300, layout=layout)
    reason = judge(MINE, theirs)
    assert len(reason) < 900
    assert reason.isprintable()
