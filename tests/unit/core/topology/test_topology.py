# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables as one node sees them: who holds a partition, what a quorum of it is."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.layout import Layout, Row, first_layout
from quorate.core.topology.peer import OWN_BIT
from quorate.core.topology.steps import stepped
from quorate.core.topology.topology import Consistency, Replicas, Verdict, lacking, verdict
from quorate.core.values.slots import PARTITION_COUNT
from quorate.errors import InvalidRequest
from tests.unit.core.parts import reachable, topology_of, urls


def _urls_of(layout: Layout, partition: int) -> list[str]:
    url_of = {member.id: member.url for member in layout.members}
    return [url_of[each] for each in layout.replicas(partition)]


def test_this_node_and_the_others_together_are_the_layouts_replicas() -> None:
    layout = first_layout(urls(5), replication=3)
    topology = topology_of(layout, own=2)
    for partition in range(PARTITION_COUNT):
        replicas = topology.partitions[partition]
        mine = [topology.own_url] if replicas.is_mine else []
        others = [peer.url for peer in replicas.others]
        assert sorted(mine + others) == sorted(_urls_of(layout, partition))
        assert replicas.urls == _urls_of(layout, partition), "in order of preference"
        bits = [OWN_BIT] * replicas.is_mine + [peer.bit for peer in replicas.others]
        assert replicas.mask == sum(bits)


def test_a_node_outside_the_layout_holds_nothing_and_asks_all_replicas() -> None:
    topology = topology_of(first_layout(urls(4), replication=3), own=9)
    assert not any(replicas.is_mine for replicas in topology.partitions)
    assert {len(replicas.others) for replicas in topology.partitions} == {3}


def test_partitions_with_the_same_replicas_share_them() -> None:
    topology = topology_of(first_layout(urls(3), replication=3), own=0)
    assert len(topology.partitions) == PARTITION_COUNT
    assert len(topology.distinct) == 3


@pytest.mark.parametrize(
    ("nodes", "replication", "quorum"), [(1, 3, 1), (2, 3, 2), (3, 3, 2), (5, 5, 3), (4, 2, 2)]
)
def test_the_default_quorum_is_a_majority_of_the_replicas_there_are(
    nodes: int, replication: int, quorum: int
) -> None:
    """A lone default node accepts writes."""
    topology = topology_of(first_layout(urls(nodes), replication=replication), own=0)
    assert (topology.w, topology.r) == (quorum, quorum)
    for replicas in topology.distinct:
        assert [group.needed for group in replicas.writers + replicas.readers] == [quorum] * 2


def test_a_quorum_that_was_given_is_never_lowered() -> None:
    topology = topology_of(first_layout(urls(2), replication=3), own=0, w=3, r=3)
    assert (topology.n, topology.w, topology.r) == (2, 3, 3)
    (group,) = topology.partitions[0].writers
    assert lacking(group.mask, (group,)), "and never reached"


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_a_request_may_ask_for_any_number_of_replicas_there_are(asked: int) -> None:
    replicas = topology_of(first_layout(urls(3), replication=3), own=0).partitions[0]
    (group,) = replicas.asked(asked, name="w")
    assert (group.mask, group.needed) == (replicas.mask, asked)
    assert replicas.asked(asked, name="w") is replicas.asked(asked, name="w")


@pytest.mark.parametrize("asked", [-1, 4])
def test_a_request_for_more_replicas_than_there_are_is_the_callers_mistake(asked: int) -> None:
    replicas = topology_of(first_layout(urls(3), replication=3), own=0).partitions[0]
    with pytest.raises(InvalidRequest, match="w must be from 1 to 3"):
        replicas.asked(asked, name="w")


def test_this_node_and_the_peers_that_can_be_asked_are_reachable() -> None:
    replicas = topology_of(first_layout(urls(3), replication=3), own=0).partitions[0]
    assert replicas.reachable() == OWN_BIT
    peer = reachable(replicas.others[0])
    assert replicas.reachable() == OWN_BIT | peer.bit
    assert replicas.unreachable(replicas.writers).facts == {"needed": 2, "live": 2}
    peer.is_up = False
    peer.judge()
    assert replicas.reachable() == OWN_BIT


def test_the_fastest_are_asked_and_no_more_than_are_lacking() -> None:
    replicas = topology_of(first_layout(urls(5), replication=5), own=0).partitions[0]
    for speed, peer in enumerate(replicas.others):
        reachable(peer).speed = -speed
    fastest = list(reversed(replicas.others))
    assert replicas.fastest(OWN_BIT, replicas.readers) == fastest[:2]
    assert replicas.fastest(0, replicas.readers) == fastest[:3]
    assert replicas.fastest(replicas.mask, replicas.readers) == []


@pytest.mark.parametrize(("r", "w", "overlap"), [(0, 0, True), (1, 3, True), (1, 2, False)])
def test_reads_meet_writes_where_both_together_are_more_than_all(
    r: int, w: int, overlap: bool
) -> None:
    topology = topology_of(first_layout(urls(3), replication=3), own=0, r=r, w=w)
    replicas = topology.partitions[0]
    assert replicas.overlaps(replicas.readers) is overlap


def test_what_requests_promise_follows_their_numbers_and_the_defaults() -> None:
    topology = topology_of(first_layout(urls(3), replication=3), own=0, r=1)
    assert topology.consistency() is Consistency.EVENTUAL
    assert topology.consistency(r=2) is Consistency.LINEARIZABLE
    assert topology.consistency(w=3) is Consistency.REGULAR


# --- a partition that moves --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("w", "r", "consistency"),
    [
        (0, 0, Consistency.LINEARIZABLE),
        (2, 2, Consistency.EVENTUAL),
        (2, 3, Consistency.REGULAR),
        (3, 3, Consistency.LINEARIZABLE),
    ],
)
def test_what_is_promised_holds_in_the_row_that_becomes_longer(
    w: int, r: int, consistency: Consistency
) -> None:
    """Two are a majority of three, and the half of four."""
    old = first_layout(urls(5), replication=3)
    row = old.table[0]
    (fourth, _) = sorted(set(range(5)).difference(row))
    topology = topology_of(stepped(old, {0: (*row, fourth)}), own=0, w=w, r=r)
    assert topology.n == 4
    assert topology.consistency() is consistency
    assert (topology.w, topology.r) == (w or 3, r or 3)


def test_a_row_that_becomes_shorter_has_as_many_copies_until_it_is() -> None:
    old = first_layout(urls(5), replication=3)
    topology = topology_of(stepped(old, {0: old.table[0][:2]}), own=0)
    assert (topology.n, topology.w, topology.r) == (3, 2, 2)


@pytest.mark.parametrize(("w", "needed"), [(0, (2, 3)), (2, (2, 3)), (3, (3, 3))])
def test_an_update_is_kept_by_w_of_each_row_and_by_a_majority(
    w: int, needed: tuple[int, int]
) -> None:
    replicas = _moving((0, 1, 2), (0, 1, 2, 3), own=9, w=w)
    assert tuple([group.needed for group in replicas.update_writers]) == needed


def _moving(row: Row, shall: Row, *, own: int, w: int = 0) -> Replicas:
    """Partition 0 of five nodes, held by some of them and moving to others."""
    old = first_layout(urls(5), replication=3)
    table = (row, *old.table[1:])
    layout = msgspec.structs.replace(old, table=table, moves=((0, shall),))
    return topology_of(layout, own=own, w=w).partitions[0]


def test_while_a_partition_moves_a_quorum_of_both_rows_is_needed() -> None:
    replicas = _moving((0, 1, 2), (0, 1, 3), own=0)
    assert (replicas.n, len(replicas.others), replicas.is_mine) == (4, 3, True)
    assert replicas.urls == urls(4)
    first, second = replicas.writers
    (leaves,) = [peer for peer in replicas.others if not peer.bit & second.mask]
    (gains,) = [peer for peer in replicas.others if not peer.bit & first.mask]
    (stays,) = [peer for peer in replicas.others if peer.bit & first.mask & second.mask]
    assert verdict(OWN_BIT | stays.bit, 0, replicas.writers) is Verdict.MET
    assert verdict(OWN_BIT | leaves.bit, 0, replicas.writers) is Verdict.PENDING
    assert verdict(OWN_BIT | leaves.bit | gains.bit, 0, replicas.writers) is Verdict.MET
    assert verdict(OWN_BIT, stays.bit | gains.bit, replicas.writers) is Verdict.LOST


def test_who_is_in_both_rows_is_asked_once_and_counts_for_both() -> None:
    replicas = _moving((0, 1, 2), (1, 2, 3), own=9)
    for peer in replicas.others:
        reachable(peer)
    chosen = replicas.fastest(0, replicas.readers)
    mask = sum(peer.bit for peer in chosen)
    assert len(chosen) <= 3, "the two that stay are a quorum of both, any three of the four too"
    assert not lacking(mask, replicas.readers)


def test_a_fast_one_that_no_lacking_quorum_counts_is_not_asked() -> None:
    replicas = _moving((0, 1, 2), (2, 3, 4), own=9)
    first, second = replicas.readers
    for speed, peer in enumerate(sorted(replicas.others, key=lambda peer: peer.bit & second.mask)):
        reachable(peer).speed = speed
    chosen = replicas.fastest(first.mask, replicas.readers)
    assert all(peer.bit & second.mask for peer in chosen)
    assert not lacking(first.mask | sum(peer.bit for peer in chosen), replicas.readers)


def test_a_read_promises_most_only_if_it_meets_the_writes_of_both_rows() -> None:
    for row, shall in (((0, 1, 2), (0,)), ((0,), (0, 1, 2))):
        replicas = _moving(row, shall, own=9)
        assert replicas.overlaps(replicas.readers)
        assert not replicas.overlaps(replicas.asked(1, name="r")), "it may miss two of three"
