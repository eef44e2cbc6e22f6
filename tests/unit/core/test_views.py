# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's view of itself and its peers."""

from __future__ import annotations

import msgspec

from quorate.core.topology.peer import Ground
from quorate.core.values.events import (
    Discovered,
    Join,
    LinkRefused,
    LinkUp,
    Met,
    Stop,
    StorageState,
)
from quorate.core.values.messages import (
    FEATURE_LEVEL,
    PROTOCOL_MAX,
    Mutate,
    Ping,
    Pong,
    Whereabouts,
)
from quorate.core.values.slots import PARTITION_COUNT, row_of
from quorate.core.values.status import CandidateView, MemberView
from quorate.errors import QuorumUnreachable
from quorate.sim.cluster import SimCluster, id_of, url_of
from tests.simulation import asking
from tests.unit.core.alone import Alone, Asker, record_at
from tests.unit.core.moving import hear, node, recopied, stable


def test_a_member_is_shown_by_its_url_with_state_and_age() -> None:
    cluster = SimCluster(1, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.run(2_500)
    cluster.kill(2)
    cluster.run(100)
    status = cluster.machines[0].node.status()
    assert [member.url for member in status.members] == [url_of(i) for i in range(3)]
    assert [member.state for member in status.members] == ["self", "up", "connecting"]
    assert [member.id for member in status.members] == ["000000000001", *_ids(2, 3)]
    assert [member.keys for member in status.members] == [1, 1, 1]
    assert all(member.owns for member in status.members)
    assert status.members[2].last_seen_ms is not None
    cluster.run(8_000)
    lost = cluster.machines[0].node.status().members[2]
    assert (lost.state, lost.failures) == ("down", 3)
    assert lost.last_seen_ms is not None
    assert lost.last_seen_ms >= 8_000


def test_a_node_shows_all_of_itself_and_of_a_peer() -> None:
    alone = Alone(3, w=3, r=1)
    alone.step(alone.met(1, version="1.2.3", w=2, r=2), LinkUp(id_of(1)))
    (ping,) = alone.take(1, Ping)
    alone.hear(1, Pong(ping.batch), Ping(7, [], 11, 12))
    alone.hear(1, Mutate(1, [(row_of(b"k"), record_at(0))]))
    alone.step(after_ms=30)
    own, peer, _ = alone.node.status().members
    assert own == MemberView(
        url=url_of(0),
        id=f"{id_of(0):012x}",
        state="self",
        last_seen_ms=0,
        version=alone.node.settings.version,
        level=FEATURE_LEVEL,
        protocol=PROTOCOL_MAX,
        keys=1,
        bytes=alone.disk.bytes_used(),
        hints=0,
        w=3,
        r=1,
        owns=True,
        partitions=PARTITION_COUNT,
        failures=0,
        zone="",
        refusal="",
        member=True,
        weight=1,
        left=0,
        lost=False,
    )
    assert peer == msgspec.structs.replace(
        own,
        url=url_of(1),
        id=f"{id_of(1):012x}",
        state="up",
        last_seen_ms=30,
        version="1.2.3",
        keys=11,
        bytes=12,
        w=2,
        r=2,
    )
    status = alone.node.status()
    assert (status.url, status.id, status.epoch) == (own.url, own.id, 2)
    assert (status.keys, status.bytes, status.inflight) == (own.keys, own.bytes, 0)
    assert (status.hints, status.hint_bytes, status.w, status.r) == (0, 0, 3, 1)


def test_a_node_without_a_layout_shows_what_it_was_started_with() -> None:
    status = Alone(listed=[1], w=2, r=3).node.status()
    assert (status.epoch, status.replicas, status.w, status.r) == (0, 0, 2, 3)
    (own,) = [each for each in status.members if each.state == "self"]
    assert (own.owns, own.partitions, own.w, own.r) == (False, 0, 2, 3)


def test_who_is_to_become_a_member_is_shown_so_until_it_is_one() -> None:
    alone = Alone(3)
    wanted = url_of(9)
    assert not any(each.joins for each in alone.node.status().members)
    alone.step(Join(Asker(), wanted))
    assert [each.url for each in alone.node.status().members if each.joins] == [wanted]
    (asked,) = [each for each in alone.node.status().members if each.url == wanted]
    assert (asked.member, asked.id) == (False, "")
    alone.step(Join(Asker(), url_of(1)))
    assert [each.url for each in alone.node.status().members if each.joins] == [wanted]


def test_who_was_only_found_is_a_candidate_and_a_node_once_it_has_greeted() -> None:
    alone = Alone(3)
    found, named = url_of(8), url_of(9)
    alone.link(1)
    alone.step(Discovered([found]))
    alone.hear(1, Ping(1, [Whereabouts(0, 0, named)], 0, 0))
    alone.step(LinkRefused(found, "its secret is another"))
    listed = alone.node.status()
    assert [each.url for each in listed.members] == [url_of(i) for i in range(3)]
    assert listed.candidates == [
        CandidateView(url=found, refusal="its secret is another"),
        CandidateView(url=named, refusal=""),
    ]
    met = alone.met(8)
    alone.step(Met(met.greeting))
    listed = alone.node.status()
    assert [each.url for each in listed.members if each.id == f"{id_of(8):012x}"] == [found]
    assert [each.url for each in listed.candidates] == [named]


def test_a_node_that_moved_shows_nothing_of_where_it_was() -> None:
    before = Alone(3)
    alone = Alone(3, disk=before.disk, url="http://moved:8000")
    status = alone.node.status()
    assert [each.url for each in status.members] == ["http://moved:8000", url_of(1), url_of(2)]
    assert url_of(0) in [each.url for each in alone.node.membership.roster.peers]
    assert status.candidates == []


def _ids(*numbers: int) -> list[str]:
    return [f"{number:012x}" for number in numbers]


def test_a_node_is_ready_when_every_key_has_its_quorum() -> None:
    alone = Alone(3)
    assert not alone.node.status().ready
    assert "1 of the 2 needed" in alone.node.status().reason
    alone.link(1)
    status = alone.node.status()
    assert (status.ready, status.reason) == (True, "")
    assert (status.replication, status.replicas, status.w, status.r) == (3, 3, 2, 2)


def test_a_node_says_why_it_is_not_ready() -> None:
    alone = Alone(1)
    assert alone.node.status().ready
    alone.step(StorageState("disk_full", "no space left"))
    assert alone.node.status().reason == "no space left"
    alone.step(StorageState())
    alone.step(Stop())
    assert "stopping" in alone.node.status().reason
    assert "layout" in Alone(listed=[1]).node.status().reason


def test_hints_and_requests_under_way_are_counted() -> None:
    alone = Alone(3)
    alone.link(1)
    alone.put(b"k", b"v")
    status = alone.node.status()
    assert (status.hints, status.inflight) == (1, 1)
    assert status.hint_bytes > 0
    assert status.counters["hints_stored"] == 1
    assert {member.url: member.hints for member in status.members}[url_of(2)] == 1


def test_a_member_that_was_never_met_has_no_age_and_owns_nothing() -> None:
    alone = Alone(3)
    alone.node.membership.roster.add(url_of(7), Ground.ANNOUNCED)
    (stranger,) = [m for m in alone.node.status().members if m.url == url_of(7)]
    assert stranger.state == "connecting"
    assert not stranger.owns
    (silent,) = [m for m in alone.node.status().members if m.url == url_of(1)]
    assert silent.last_seen_ms is None


def test_a_refused_link_is_named_as_the_cause_until_it_is_up() -> None:
    """And not the replicas, which are there."""
    alone = Alone(3)
    alone.step(LinkRefused(url_of(1), "n1 was started with another -nodes"))
    status = alone.node.status()
    assert (status.ready, status.reason) == (False, "n1 was started with another -nodes")
    assert [member.refusal for member in status.members] == ["", status.reason, ""]
    asker = alone.put(b"k", b"v")
    alone.step(after_ms=60_000)
    assert isinstance(asker.result, QuorumUnreachable)
    assert str(asker.result).startswith(f"too few replicas can be reached: {status.reason}")
    alone.link(1)
    assert alone.node.status().ready
    assert alone.node.status().members[1].refusal == ""


def _shown_quorums(alone: Alone) -> list[tuple[int, int]]:
    return [(member.w, member.r) for member in alone.node.status().members]


def test_the_defaults_of_each_member_are_shown() -> None:
    alone = Alone(3, w=3, r=1)
    alone.step(alone.met(1, r=3))
    assert _shown_quorums(alone) == [(3, 1), (2, 3), (0, 0)], "of the third nothing is known"


def test_shown_defaults_follow_the_copies_where_none_were_given() -> None:
    alone = node(layout_of=stable(5, replication=5), count=5)
    alone.step(alone.met(4, w=2))
    assert _shown_quorums(alone) == [(3, 3)] * 4 + [(2, 3)]
    hear(alone, recopied(5, 5, 3))
    assert _shown_quorums(alone) == [(2, 2)] * 5


def test_a_node_that_asks_more_than_there_are_copies_says_so() -> None:
    alone = node(layout_of=stable(3, replication=3), count=3, w=3)
    assert alone.node.status().ready
    hear(alone, recopied(3, 3, 2))
    assert alone.node.status().reason == (
        "-W or -R of this node asks 3 of 2: start it with less, or have more copies of each key"
    )
