# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes tell each other where members are by hashes, and what differs when these do."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.facts import AGAIN_MS, STRANGERS_MAX
from quorate.core.topology.layout import Layout
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Ground
from quorate.core.values.messages import Known, Ping, Whereabouts
from quorate.sim.cluster import founded, id_of, url_of
from tests.unit.core.alone import Alone
from tests.unit.core.topology.knowing import first_of, membership_of

MOVED = "http://moved:8000"


def layout_of(count: int) -> Layout:
    return founded(tuple([(url_of(i), id_of(i)) for i in range(count)]), 3)


def node_of(index: int, count: int = 3) -> Membership:
    """One of the nodes of a layout that all of them have."""
    node = membership_of(index, list(range(count)))
    node.adopt(layout_of(count))
    node._turn.begin(AGAIN_MS, 0, stamp_max=0)
    for peer in node.roster.peers:
        node.roster._renew(peer, 1)
    return node


def exchange(one: Membership, other: Membership) -> list[Known]:
    """What the two say when one pings the other, until neither has more to say."""
    said: list[Known] = []
    speaker, hearer = other, one
    message = other.facts.compare(one.facts.hash())
    while message is not None:
        said.append(message)
        of = hearer.roster.by_id[speaker._settings.node_id]
        message = hearer.facts.hear(message, of=of)
        speaker, hearer = hearer, speaker
        assert len(said) < 9, "they never end"
    return said


def where(node: Membership, index: int) -> str:
    return node.roster.by_id[id_of(index)].url


def test_nodes_that_know_the_same_say_nothing() -> None:
    a, b = node_of(0), node_of(1)
    assert a.facts.hash() == b.facts.hash() != 0
    assert exchange(a, b) == []


@pytest.mark.parametrize("who_knows", [0, 1])
def test_of_two_nodes_the_one_learns_what_the_other_knows(who_knows: int) -> None:
    """Whoever of them pings."""
    a, b = node_of(0), node_of(1)
    knows = (a, b)[who_knows]
    knows.roster.learn([Whereabouts(id_of(2), 9, MOVED)], of=knows.roster.peers[0])
    assert a.facts.hash() != b.facts.hash()
    told = exchange(a, b)
    assert [len(each.serials) for each in told] == ([3, 0] if who_knows == 0 else [3, 1, 0])
    assert told[-1].members == [Whereabouts(id_of(2), 9, MOVED)]
    assert where(a, 2) == where(b, 2) == MOVED
    assert a.facts.hash() == b.facts.hash()
    assert exchange(a, b) == exchange(b, a) == []


def test_where_clients_reach_a_node_goes_with_where_it_is() -> None:
    a, b = node_of(0), node_of(1)
    told = Whereabouts(id_of(2), 9, MOVED, "http://public:80")
    a.roster.learn([told], of=a.roster.peers[0])
    exchange(a, b)
    assert b.roster.by_id[id_of(2)].told.client == "http://public:80"
    lie = Whereabouts(id_of(2), 10, MOVED, "no url")
    a.roster.learn([lie], of=a.roster.peers[0])
    assert a.roster.by_id[id_of(2)].told.client == ""


def test_where_clients_reach_a_stranger_is_told_too() -> None:
    a = node_of(0)
    told = Whereabouts(id_of(2), 9, MOVED, "http://public:80")
    a.roster.learn([told], of=a.roster.peers[0])
    stranger = a.roster.by_id[id_of(2)]
    a.roster.release(stranger)
    stranger.is_linked = True
    assert a.facts.strangers() == [told]


def test_what_each_knows_better_goes_both_ways() -> None:
    a, b = node_of(0, 4), node_of(1, 4)
    a.roster.learn([Whereabouts(id_of(2), 9, MOVED)], of=a.roster.peers[0])
    b.roster.learn([Whereabouts(id_of(3), 9, "http://too:8000")], of=b.roster.peers[0])
    exchange(a, b)
    assert where(a, 3) == where(b, 3) == "http://too:8000"
    assert a.facts.hash() == b.facts.hash()


def test_all_serials_are_told_once_in_a_while_however_many_differ() -> None:
    """A lie that some believe and others do not costs no list for each ping."""
    a, b = node_of(0), node_of(1)
    peer = b.roster.by_id[id_of(2)]
    peer.is_linked = True
    a.roster.learn([Whereabouts(id_of(2), 9, MOVED)], of=a.roster.peers[0])
    assert exchange(a, b)
    assert where(b, 2) == url_of(2), "our own link leads there"
    assert exchange(a, b) == []
    b._turn.begin(2 * AGAIN_MS, 0, stamp_max=0)
    assert exchange(a, b)


def test_a_lost_disk_is_nowhere() -> None:
    nodes = node_of(0), node_of(1)
    for node in nodes:
        node.adopt(msgspec.structs.replace(layout_of(3), epoch=3, lost=(id_of(2),)))
    before = nodes[0].facts.hash()
    nodes[0].roster._renew(nodes[0].roster.by_id[id_of(2)], 7)
    assert nodes[0].facts.hash() == before == nodes[1].facts.hash()
    assert nodes[0].facts.hear(Known([(id_of(2), 0)]), of=nodes[0].roster.peers[0]) is None


def test_who_has_no_layout_with_ids_has_no_facts() -> None:
    node = membership_of(0, [0, 1])
    assert node.facts.hash() == 0
    node.adopt(first_of(0, 1))
    assert node.facts.hash() == 0
    assert node.facts.compare(71) is not None
    assert node_of(0).facts.compare(0) is None


def test_nodes_of_two_layouts_compare_nothing() -> None:
    """Whose members differ."""
    alone = Alone(3)
    alone.link(1, 2)
    alone.step(after_ms=AGAIN_MS)
    for epoch in (1, alone.node.membership.epoch):
        assert alone.take(1, Known) == []
        alone.hear(1, Ping(1, [], 0, 0, facts=71), epoch=epoch)
    assert len(alone.take(1, Known)) == 1


def test_strangers_are_named_by_turns() -> None:
    node = node_of(0)
    count = 2 * STRANGERS_MAX + 1
    for number in range(count):
        node.roster.add(f"http://s{number}:8000", Ground.ANNOUNCED)
    named: list[str] = []
    for _ in range(count):
        told = node.facts.strangers()
        assert len(told) == STRANGERS_MAX
        named += [each.url for each in told]
    assert len(set(named)) == count
    assert {named.count(url) for url in named} == {STRANGERS_MAX}


def test_members_are_not_named_and_hearsay_is_not_either() -> None:
    node = node_of(0)
    node.roster.add(url_of(8), Ground.HEARSAY)
    node.roster.add(url_of(9), Ground.ANNOUNCED)
    assert [each.url for each in node.facts.strangers()] == [url_of(9)]
