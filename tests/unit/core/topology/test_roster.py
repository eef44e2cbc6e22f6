# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a node knows, and where each is."""

from __future__ import annotations

import pytest

from quorate.core.topology.membership import (
    Membership,
)
from quorate.core.topology.peer import Ground
from quorate.core.topology.roster import HEARSAY_MAX, HEARSAY_MS
from quorate.core.values.events import Forget, Join
from quorate.core.values.messages import Ping
from quorate.core.values.settings import MEMBERS_MAX
from quorate.errors import InvalidRequest
from quorate.sim.cluster import id_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.topology.knowing import (
    greeting_of,
    membership_of,
    told_of,
    urls_of,
    where_told,
)


def test_members_are_added_once_and_told_once() -> None:
    """Joining twice changes nothing."""
    node = membership_of(0, [0, 1])
    assert node.roster.close_turn() == [url_of(1)]
    assert node.roster.add(url_of(2), Ground.ANNOUNCED)
    assert not node.roster.add(url_of(2), Ground.ANNOUNCED)
    assert not node.roster.add(url_of(0), Ground.ANNOUNCED), "itself"
    assert node.roster.close_turn() == [url_of(1), url_of(2)]
    assert node.roster.close_turn() is None


def test_members_are_bounded() -> None:
    """Ten thousand ids."""
    node = membership_of(0, [0])
    for i in range(MEMBERS_MAX):
        node.roster.add(f"http://x{i}:8000", Ground.ANNOUNCED)
    with pytest.raises(InvalidRequest, match="too many members"):
        node.roster.add("http://one-more:8000", Ground.ANNOUNCED)


def test_where_clients_reach_a_member_is_known_after_a_restart() -> None:
    alone = Alone(3)
    alone.step(alone.met(1, client="http://public:80", serial=5))
    again = Alone(3, disk=alone.disk)
    assert again.peer(1).told.client == "http://public:80"


def test_who_moves_to_where_somebody_is_listed_is_listed() -> None:
    node = membership_of(0, [0, 1])
    node.roster.add(url_of(5), Ground.LISTED)
    for url in (url_of(2), url_of(5)):
        node.meet(greeting_of(url, 42))
    assert node.roster.by_id[42] is node.roster.at(url_of(5))
    assert node.roster.by_id[42].ground is Ground.LISTED


# --- what peers say of members ---------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("not a url", "", "http://n7", "http://n7:8000/", "HTTP://n7:8000", "http://a..b:8000"),
        *("http://n7:22", "http://localhost:8000", "http://169.254.169.254:80", "x" * 400),
        "http://n7:8000\x1b[2J\n",
    ],
)
def test_what_a_peer_says_of_members_is_checked_as_what_clients_say_counted_and_noted_once(
    url: str,
) -> None:
    node = membership_of(0, [0, 1])
    for _ in range(2):
        node.roster.learn(told_of(url, url_of(2)), of=node.roster.peers[0])
    assert urls_of(node) == [url_of(1), url_of(2)]
    assert node._turn.counters["members_refused"] == 2
    assert [note.event for note in node._turn.notes] == ["members_refused"]


def test_a_peer_that_names_a_thousand_strangers_takes_no_place_from_true_members() -> None:
    node = membership_of(0, [0, 1])
    node.roster.learn(
        told_of(*[f"http://x{i}:8000" for i in range(MEMBERS_MAX)]), of=node.roster.peers[0]
    )
    assert len(node.roster.peers) == 1 + HEARSAY_MAX
    assert where_told(node) == [url_of(1)], "hearsay is told to nobody"
    assert node.roster.add(url_of(7), Ground.ANNOUNCED)
    node.meet(greeting_of(url_of(8), 88))
    assert node.roster.by_id.get(88) is node.roster.at(url_of(8)), "who dialled us has a place too"
    for i in range(MEMBERS_MAX - 2):
        node.roster.add(f"http://y{i}:8000", Ground.ANNOUNCED)
    assert len(node.roster.peers) == MEMBERS_MAX
    assert not any(url.startswith("http://x") for url in urls_of(node)), "hearsay gave way"
    assert len({peer.index for peer in node.roster.peers}) == MEMBERS_MAX


def test_hearsay_that_nobody_repeats_is_gone_after_a_while_and_never_stored() -> None:
    disk = Disk()
    node = membership_of(0, [0, 1], disk)
    node.roster.learn(told_of(url_of(2), url_of(3)), of=node.roster.peers[0])
    assert node.roster.close_turn() == [url_of(1), url_of(2), url_of(3)]
    assert urls_of(membership_of(0, [0, 1], disk)) == [url_of(1)]
    _pass_ms(node, HEARSAY_MS - 1)
    node.roster.learn(told_of(url_of(3)), of=node.roster.peers[0])
    _pass_ms(node, 1)
    assert node.roster.close_turn() == [url_of(1), url_of(3)]
    node.meet(greeting_of(url_of(4), 44))
    _pass_ms(node, HEARSAY_MS - 1)
    node.meet(greeting_of(url_of(4), 44))
    _pass_ms(node, 1)
    assert node.roster.close_turn() == [url_of(1), url_of(4)], "it says itself that it is there"
    _pass_ms(node, HEARSAY_MS)
    assert node.roster.close_turn() == [url_of(1)]


def _pass_ms(node: Membership, ms: int) -> None:
    turn = node._turn
    turn.begin(turn.mono_ms + ms, 0, stamp_max=0)
    turn.ring()


def test_who_was_reached_stays_is_remembered_and_told_of_while_it_is_there() -> None:
    disk = Disk()
    node = membership_of(0, [0, 1], disk)
    node.roster.learn(told_of(url_of(2)), of=node.roster.peers[0])
    peer = node.roster.at(url_of(2))
    assert peer is not None
    node.roster.reached(peer)
    peer.is_linked = True
    assert where_told(node) == [url_of(1), url_of(2)]
    peer.is_linked = False
    assert where_told(node) == [url_of(1)]
    _pass_ms(node, HEARSAY_MS)
    node.roster.close_turn()
    assert urls_of(membership_of(0, [0, 1], disk)) == [url_of(1), url_of(2)]


@pytest.mark.parametrize("first", Ground)
@pytest.mark.parametrize("then", Ground)
def test_of_several_grounds_the_best_counts_whichever_came_first(
    first: Ground, then: Ground
) -> None:
    """Known for what a peer says, then joined by a client; or the other way round."""
    disk = Disk()
    node = membership_of(0, [0, 1], disk)
    assert node.roster.add(url_of(2), first)
    node.roster.close_turn()
    assert not node.roster.add(url_of(2), then)
    ground = max(first, then)
    is_known = ground is not Ground.HEARSAY
    assert (node.roster.close_turn() is not None) is (first is Ground.HEARSAY and is_known)
    assert (url_of(2) in where_told(node)) is (ground in (Ground.ANNOUNCED, Ground.LISTED))
    assert (url_of(2) in urls_of(membership_of(0, [0, 1], disk))) is is_known
    _pass_ms(node, HEARSAY_MS)
    assert (url_of(2) in urls_of(node)) is is_known
    if ground is Ground.LISTED:
        with pytest.raises(InvalidRequest):
            node.roster.forget(url_of(2))
    else:
        assert node.roster.forget(url_of(2)) is is_known


def test_who_dials_takes_the_place_of_hearsay_only_where_there_is_no_other() -> None:
    node = membership_of(0, [0, 1])
    node.roster.learn(
        told_of(*[f"http://x{i}:8000" for i in range(HEARSAY_MAX - 1)]), of=node.roster.peers[0]
    )
    for index in (7, 7, 1):
        node.meet(greeting_of(url_of(index), index))
    assert len(node.roster.peers) == 1 + HEARSAY_MAX, "nobody had to go"
    node.meet(greeting_of(url_of(8), 8))
    assert len(node.roster.peers) == 1 + HEARSAY_MAX
    assert node.roster.at("http://x0:8000") is None, "the one named longest ago"
    assert node.roster.by_id.get(7) is not None
    for _ in range(2):
        node.meet(greeting_of("http://169.254.169.254:80", 9))
    assert node.roster.by_id.get(9) is None
    assert node._turn.counters["members_refused"] == 2
    assert [note.event for note in node._turn.notes] == ["members_refused"]


def test_a_member_is_forgotten_by_command_unless_it_is_there_or_holds_copies() -> None:
    disk = Disk()
    node = membership_of(0, [0, 1], disk)
    assert not node.roster.forget(url_of(2))
    node.roster.add(url_of(2), Ground.ANNOUNCED)
    node.meet(greeting_of(url_of(2), 22))
    peer = node.roster.at(url_of(2))
    assert peer is not None
    peer.is_linked = True
    with pytest.raises(InvalidRequest, match="stop it first"):
        node.roster.forget(url_of(2))
    for listed in (0, 1):
        with pytest.raises(InvalidRequest, match="holds copies"):
            node.roster.forget(url_of(listed))
    peer.is_linked = False
    assert node.roster.forget(url_of(2))
    assert node.roster.close_turn() == [url_of(1)]
    assert node.roster.at(url_of(2)) is node.roster.by_id.get(22) is None
    assert urls_of(membership_of(0, [0, 1], disk)) == [url_of(1)]


def test_the_place_of_a_forgotten_member_is_given_to_the_next() -> None:
    alone = Alone(3)
    for index in range(7, 12):
        alone.step(Join(Asker(), url_of(index)))
        alone.step(Forget(Asker(), url_of(index)))
    assert len(alone.node.outboxes) == 3
    alone.step(Join(Asker(), url_of(12)))
    alone.link(12)
    assert alone.node.outboxes[2].peer is alone.node.membership.roster.by_id.get(id_of(12))
    effects = alone.hear(12, Ping(1, [], 0, 0))
    assert id_of(12) in effects.sends


# --- who a node is -------------------------------------------------------------------------------


def test_a_peer_is_known_by_its_id_once_it_was_met() -> None:
    node = membership_of(0, [0, 1])
    assert node.roster.by_id.get(id_of(1)) is None
    node.meet(greeting_of(url_of(1), id_of(1)))
    (peer,) = node.roster.peers
    assert node.roster.by_id.get(id_of(1)) is node.roster.at(url_of(1)) is peer
    assert peer.id == id_of(1)


def test_another_disk_at_a_url_is_another_node() -> None:
    node = membership_of(0, [0, 1])
    node.meet(greeting_of(url_of(1), 77))
    node.meet(greeting_of(url_of(1), 78))
    assert node.roster.by_id.get(77) is None
    assert node.roster.by_id.get(78) is node.roster.peers[0]


def test_a_node_that_moved_is_no_longer_where_it_was() -> None:
    node = membership_of(0, [0, 1, 2])
    node.meet(greeting_of(url_of(1), 77))
    node.meet(greeting_of(url_of(2), 77))
    assert node.roster.by_id.get(77) is node.roster.at(url_of(2))
    assert [peer.id for peer in node.roster.peers] == [0, 77]


@pytest.mark.parametrize("url", [url_of(1), url_of(2)])
def test_whom_our_own_link_leads_to_is_believed_before_what_others_call_themselves(
    url: str,
) -> None:
    node = membership_of(0, [0, 1, 2])
    node.meet(greeting_of(url_of(1), 77))
    node.roster.peers[0].is_linked = True
    node.meet(greeting_of(url, 77 if url == url_of(2) else 78))
    assert node.roster.by_id.get(77) is node.roster.at(url_of(1))
    assert node.roster.by_id.get(78) is None
    assert [peer.id for peer in node.roster.peers] == [77, 0]


# --- what was discovered ---------------------------------------------------------------------


def test_who_was_discovered_is_dialled_and_told_to_nobody() -> None:
    node = membership_of(0, [0, 1])
    node.roster.discover([url_of(0), url_of(1), url_of(2), "http://n7:22", "no url"])
    assert urls_of(node) == [url_of(1), url_of(2)]
    assert node.roster.is_candidate(url_of(2))
    assert not node.roster.is_candidate(url_of(1))
    assert url_of(2) not in where_told(node)


def test_of_many_that_were_discovered_each_has_its_turn_and_no_member_gives_way() -> None:
    node = membership_of(0, [0, 1])
    seen: set[str] = set()
    for turn in range(10):
        node._turn.begin(turn, 0, stamp_max=0)
        node.roster.discover([f"http://x{turn * 50 + number}:8000" for number in range(50)])
        seen.update(urls_of(node))
        assert len(node.roster.peers) <= HEARSAY_MAX + 1
        assert url_of(1) in urls_of(node)
    assert len(seen) == 501


def test_who_calls_itself_otherwise_is_dialled_there_and_not_again_where_it_was_found() -> None:
    node = membership_of(0, [0, 1])
    node.roster.discover(["http://10.0.0.9:8000", "http://10.0.0.8:8000"])
    node.roster.discover([url_of(2)], known_as="http://10.0.0.9:8000")
    node.roster.discover([url_of(0)], known_as="http://10.0.0.8:8000")
    assert urls_of(node) == [url_of(1), url_of(2)]
    peer = node.roster.at(url_of(2))
    assert peer is not None
    peer.is_linked = True
    found = ["http://10.0.0.9:8000", "http://10.0.0.8:8000"]
    node.roster.discover(found)
    assert urls_of(node) == [url_of(1), url_of(2)]
    peer.is_linked = False
    node.roster.discover(found)
    assert urls_of(node) == ["http://10.0.0.9:8000", url_of(1), url_of(2)], "another may be there"


def test_a_member_that_is_listed_is_no_candidate_whatever_it_calls_itself() -> None:
    node = membership_of(0, [0, 1])
    node.roster.discover([url_of(2)], known_as=url_of(1))
    assert urls_of(node) == [url_of(1), url_of(2)]
