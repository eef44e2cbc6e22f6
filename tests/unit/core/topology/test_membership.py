# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs, and which layout is in force."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from quorate.core.topology.greeting import hashed
from quorate.core.topology.layout import (
    EPOCH_MAX,
    LAYOUT_BYTES_MAX,
    Course,
    Member,
    first_layout,
)
from quorate.core.topology.membership import LAYOUT_META, Membership
from quorate.core.topology.peer import Ground
from quorate.core.topology.roster import MEMBERS_META
from quorate.core.topology.steps import raised
from quorate.core.topology.wants import with_course
from quorate.core.values.events import Batch
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Greeting, Whereabouts
from quorate.core.values.results import Note
from quorate.core.values.settings import MEMBERS_MAX
from quorate.core.values.slots import PARTITION_COUNT, row_of
from quorate.errors import Conflict, FormatUnsupported, InvalidRequest, NotReady
from quorate.sim.cluster import bound_to, id_of, url_of
from quorate.sim.disk import Disk
from quorate.wire.frames import encode_greeting
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.moving import hear
from tests.unit.core.topology.knowing import (
    bound_after,
    first_of,
    greeting_of,
    membership_of,
    unmet_members,
    urls_of,
    where_told,
)


def test_a_node_in_its_own_list_begins_with_the_lists_layout() -> None:
    """Whatever the order of the list."""
    first, second = membership_of(0, [0, 1, 2]), membership_of(2, [2, 0, 1])
    assert first.layout == second.layout == first_of(0, 1, 2)
    assert first.greeting().layout_hash == second.greeting().layout_hash != b""


def test_a_node_without_a_list_is_a_cluster_of_its_own() -> None:
    assert membership_of(0, []).layout == first_of(0)


def test_a_node_that_lists_only_others_holds_a_proposal_and_serves_nothing() -> None:
    """Its own URL missing."""
    node = membership_of(0, [1])
    assert node.layout is None
    assert urls_of(node) == [url_of(1)], "whom it dials"
    assert where_told(node) == [url_of(1)]
    with pytest.raises(NotReady, match="not known yet"):
        node.current()
    assert node.proposal == first_of(0, 1)
    greeting = node.greeting()
    assert (greeting.epoch, greeting.layout_hash) == (0, b"")
    assert greeting.layout == first_of(0, 1).encode()


def test_a_greeting_tells_all_that_others_need_to_know() -> None:
    told: dict[str, Any] = {"zone": "east", "weight": 7, "w": 2, "r": 3, "level": 9}
    alone = Alone(3, **told, advertise_client="http://c:1", expect=5)
    alone.link(1)
    settings, layout = alone.node.settings, raised(alone.node.membership.current().layout, 8)
    hear(alone, layout)
    greeting = alone.node.membership.greeting()
    assert greeting == Greeting(
        PROTOCOL_MIN,
        PROTOCOL_MAX,
        hashed(settings.cluster),
        settings.url,
        settings.node_id,
        layout.epoch,
        layout.hash(),
        settings.version,
        layout=layout.encode(),
        lineage=layout.lineage,
        in_force=8,
        client="http://c:1",
        process=greeting.process,
        serial=greeting.serial,
        **told,
    )
    assert greeting.process > 0
    assert greeting.serial > 0


def test_zones_and_weights_go_into_the_layout_as_each_node_tells_them() -> None:
    node = membership_of(0, [0, 1, 2], zone="east", weight=7)
    for index in (1, 3):
        greeting = greeting_of(url_of(index), id_of(index))
        node.meet(msgspec.structs.replace(greeting, zone="west", weight=5))
    node.roster.by_id[id_of(1)].is_linked = True
    own = Member(id_of(0), url_of(0), "east", 7)
    other = Member(id_of(1), url_of(1), "west", 5)
    assert node.founders() == ({url_of(0): own, url_of(1): other}, 1)
    assert node.stranger(id_of(0)) == own
    assert node.stranger(id_of(3)) == Member(id_of(3), url_of(3), "west", 5)


def test_another_layout_of_the_same_epoch_is_not_adopted() -> None:
    node = membership_of(0, [0, 1, 2])
    layout = bound_after(first_of(0, 1, 2))
    node.adopt(layout)
    node.hear_of(msgspec.structs.replace(layout, course=Course.SOON).encode(), url_of(1))
    assert node.layout == layout


def test_who_has_no_layout_tells_how_many_it_expects() -> None:
    assert membership_of(0, [1], expect=5).greeting().expect == 5


def test_two_nodes_that_list_only_each_other_agree() -> None:
    first, second = membership_of(0, [1]), membership_of(1, [0])
    first.meet(second.greeting())
    second.meet(first.greeting())
    assert first.layout == second.layout == first_of(0, 1)
    assert first.proposal is second.proposal is None


def test_a_proposal_that_is_not_ours_is_not_adopted() -> None:
    first, second = membership_of(0, [1]), membership_of(1, [0, 2])
    second.proposal = first_of(0, 1, 2)
    second.topology = None
    first.meet(second.greeting())
    assert first.layout is None


def test_a_node_that_meets_a_cluster_adopts_its_layout_and_owns_nothing() -> None:
    node, member = membership_of(5, [0]), membership_of(0, [0, 1])
    member.adopt(bound_after(first_of(0, 1)))
    node.meet(member.greeting())
    assert node.layout == member.layout
    assert not any(replicas.is_mine for replicas in node.current().partitions)
    assert urls_of(node) == [url_of(0), url_of(1)]


def test_a_layout_in_force_is_kept_whatever_a_peer_shows() -> None:
    node, other = membership_of(0, [0, 1]), membership_of(0, [0, 1, 2])
    node.meet(other.greeting())
    node.hear_of(first_of(0, 1, 2).encode(), url_of(2))
    assert node.layout == first_of(0, 1)


def test_who_is_behind_adopts_and_who_is_ahead_waits() -> None:
    """A layout of a higher epoch comes with a greeting; the other end keeps its own."""
    behind, ahead = membership_of(0, [0, 1]), membership_of(1, [0, 1])
    newer = bound_after(first_of(0, 1))
    ahead.adopt(newer)
    ahead.meet(behind.greeting())
    assert ahead.layout == newer
    with pytest.raises(NotReady, match="2 of its 2 nodes have to meet before it serves; here 1"):
        behind.current()
    behind.meet(ahead.greeting())
    assert (behind.layout, behind.epoch) == (newer, 2)
    assert urls_of(behind) == [url_of(1)]
    before = behind.current()
    told: list[int] = []
    behind._adopted = lambda _before, _layout: told.append(behind.epoch)
    behind.hear_of(with_course(newer, Course.SOON).encode(), url_of(1))
    assert behind.current().epoch == 3
    assert told == [3]
    assert before.epoch == 2, "whoever has it keeps it"
    assert [note.event for note in behind._turn.notes] == ["layout_adopted"] * 2


def test_a_later_layout_survives_a_restart_with_the_list_of_the_first() -> None:
    disk = Disk()
    newer = bound_after(first_of(0, 1))
    membership_of(0, [0, 1], disk).adopt(newer)
    assert membership_of(0, [0, 1], disk).layout == newer


def _without_the_third(disk: Disk) -> Membership:
    """Node 0 of three founders, of which the third left."""
    first = first_of(0, 1, 2)
    node = membership_of(0, [0, 1, 2], disk)
    two = bound_after(first_of(0, 1), of=first)
    node.adopt(msgspec.structs.replace(two, epoch=5))
    node.roster.close_turn()
    return node


def test_a_founder_that_left_and_is_forgotten_stays_so_with_the_list_of_the_first() -> None:
    """All nodes keep that list, as an empty disk needs it."""
    disk = Disk()
    assert urls_of(_without_the_third(disk)) == [url_of(1), url_of(2)]
    again = membership_of(0, [0, 1, 2], disk)
    assert urls_of(again) == [url_of(1), url_of(2)], "it was not forgotten yet"
    assert where_told(again) == []
    assert again.roster.forget(url_of(2))
    again.roster.close_turn()
    for _ in range(2):
        again = membership_of(0, [0, 1, 2], disk)
        again.roster.close_turn()
        assert urls_of(again) == [url_of(1)]


def test_whom_another_list_than_the_founders_names_is_dialled_and_may_be_forgotten() -> None:
    """All addresses changed, say."""
    disk = Disk()
    _without_the_third(disk)
    again = membership_of(0, [0, 7, 8], disk)
    assert urls_of(again) == [url_of(1), url_of(2), url_of(7), url_of(8)]
    assert again.roster.forget(url_of(8))


def test_members_that_were_elsewhere_are_looked_for_where_the_layout_has_them_too() -> None:
    """All are back there, and each knows where the others were."""
    elsewhere = ["http://elsewhere1:8000", "http://elsewhere2:8000"]
    away = [Whereabouts(id_of(place), 9, url) for place, url in enumerate(elsewhere, 1)]
    disk = Disk()
    metas = [
        (LAYOUT_META, bound_after(first_of(0, 1, 2)).encode()),
        (MEMBERS_META, msgspec.msgpack.encode(away)),
    ]
    disk.format(Batch([], [], [*metas]))
    node = membership_of(0, [0, 1, 2], disk)
    assert set(urls_of(node)) == {*elsewhere, url_of(1), url_of(2)}
    hearsay = [each.url for each in node.roster.peers if each.ground is Ground.HEARSAY]
    assert hearsay == [url_of(1), url_of(2)]


def test_who_joins_with_the_list_of_the_founders_may_forget_those_that_left() -> None:
    node = membership_of(5, [0, 1, 2])
    node.meet(_without_the_third(Disk()).greeting())
    assert node.epoch == 5
    assert where_told(node) == []
    assert node.roster.forget(url_of(2))
    with pytest.raises(InvalidRequest, match="have it leave first"):
        node.roster.forget(url_of(1))


def test_layout_and_members_survive_a_restart_with_another_list() -> None:
    disk = Disk()
    node = membership_of(0, [0, 1], disk)
    node.roster.add(url_of(7), Ground.ANNOUNCED)
    node.roster.close_turn()
    assert disk.get_meta(LAYOUT_META) == first_of(0, 1).encode()
    assert disk.get_meta(MEMBERS_META) is not None
    again = membership_of(0, [1], disk)
    assert again.layout == first_of(0, 1)
    assert urls_of(again) == [url_of(1), url_of(7)]


def _greeting_with(layout: bytes) -> Greeting:
    return msgspec.structs.replace(membership_of(1, [1, 2]).greeting(), layout=layout)


@pytest.mark.parametrize(
    "layout",
    [
        b"nonsense",
        msgspec.structs.replace(first_of(1, 2), epoch=-1).encode(),
        msgspec.structs.replace(
            first_of(0, 1), members=(Member(5, url_of(0)), Member(6, url_of(1)))
        ).encode(),
        msgspec.structs.replace(
            first_of(0, 1), members=(*unmet_members(url_of(0)), Member(6, url_of(1)))
        ).encode(),
        msgspec.structs.replace(
            first_of(1, 2),
            members=unmet_members(*[f"http://x{i}:8000" for i in range(MEMBERS_MAX + 1)]),
        ).encode(),
        msgspec.structs.replace(first_of(1, 2), members=unmet_members("a", "b" * 10_000)).encode(),
    ],
)
def test_a_hostile_layout_is_noted_and_changes_nothing(layout: bytes) -> None:
    node = membership_of(0, [1])
    node.meet(_greeting_with(layout))
    assert node.layout is None
    assert urls_of(node) == [url_of(1)]
    assert [note.event for note in node._turn.notes] == ["peer_layout_unreadable"]


@pytest.mark.parametrize(
    ("first", "then", "is_refused"),
    [
        ([0], [0, 1, 2], True),
        ([0, 1, 2], [0, 1], True),
        ([0], [1, 2], True),
        ([0, 1, 2], [2, 1, 0], False),
        ([0, 1, 2], [], False),
        ([0, 1, 2], [1], False),
    ],
)
def test_a_directory_is_not_taken_into_another_cluster(
    first: list[int], then: list[int], is_refused: bool
) -> None:
    """Else it would serve its old layout beside the new one, and both would take writes."""
    disk = Disk()
    membership_of(0, first, disk).roster.close_turn()
    if is_refused:
        with pytest.raises(Conflict, match="-nodes says"):
            membership_of(0, then, disk)
    else:
        assert membership_of(0, then, disk).layout == first_of(*first)


def test_a_wrong_first_list_does_not_stick_where_nothing_was_written() -> None:
    disk = Disk()
    membership_of(0, [0, 1, 7], disk).roster.close_turn()
    right = membership_of(0, [0, 1, 2], disk, is_blank=True)
    right.roster.close_turn()
    assert right.layout == first_of(0, 1, 2)
    assert urls_of(right) == [url_of(1), url_of(2)], "the mistyped one is forgotten"
    assert membership_of(0, [0, 1, 2], disk).layout == first_of(0, 1, 2)


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_directory_of_another_replication_is_refused(*, is_readable: bool) -> None:
    """What cannot be read is something that was written."""
    alone = Alone(3, is_new=True)
    Alone(3, disk=alone.disk, replication=2)  # Nothing was written, and nobody was met.
    alone = Alone(3, is_new=True)
    record = Batch([(row_of(b"k"), record_at(0))], [], [])
    alone.disk.format(record)
    assert is_readable or alone.disk.rot(row_of(b"k"), Random(1))
    with pytest.raises(Conflict, match="-replication=3"):
        Alone(3, disk=alone.disk, replication=2)


def test_once_the_founders_have_met_another_list_or_replication_is_no_contradiction() -> None:
    """Clusters change, and their nodes move: what holds is what was decided."""
    alone = Alone(3)
    layout = alone.node.membership.layout
    again = Alone(4, disk=alone.disk, replication=2)
    assert again.node.membership.layout == layout
    assert {peer.url for peer in again.node.roster.peers} == {url_of(1), url_of(2), url_of(3)}
    assert "replication_differs" in again.notes


def test_a_layout_that_fits_into_no_greeting_is_not_adopted() -> None:
    """A frame may bring it, and whoever adopts it can greet nobody again, for ever."""
    membership = membership_of(5, [0])
    domain = ".".join(["x" * 60] * 4)
    urls = [f"http://n{number:03}.{domain}:8000" for number in range(990)]
    too_long = bound_after(first_layout(urls, replication=3))
    membership.hear_of(too_long.encode(), url_of(1))
    assert membership.layout is None
    most = bound_after(first_layout(urls[: LAYOUT_BYTES_MAX // 320], replication=3))
    membership.hear_of(most.encode(), url_of(1))
    assert membership.epoch == 2
    encode_greeting(membership.greeting())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epoch": EPOCH_MAX + 1},
        {"cluster": b"c" * 16},
        {"table": tuple([(1, 0)] * PARTITION_COUNT)},
        {"members": (Member(id_of(0), url_of(0)), Member(77, url_of(1))), "voters": (id_of(0),)},
        {"moves": ((5, (0,)),)},
        {"course": Course.MOVE, "moves": ((5, (0,)),)},
        {"replication": 1, "table": tuple([(0,)] * PARTITION_COUNT)},
    ],
)
def test_a_layout_that_cannot_come_next_is_not_adopted_whoever_tells_it(
    changes: dict[str, object],
) -> None:
    """One mistaken peer would take every key from its replicas."""
    node = membership_of(0, [0, 1])
    held = bound_after(first_of(0, 1))
    node.adopt(held)
    node.hear_of(msgspec.structs.replace(held, **{"epoch": 3, **changes}).encode(), url_of(1))
    assert node.layout == held
    assert [note.event for note in node._turn.notes] == ["peer_layout_unreadable"]


def test_a_member_that_is_where_another_is_awaited_is_one_member() -> None:
    node = membership_of(5, [0, 1, 2])
    first = first_of(0, 1, 2)
    ids = {url_of(1): id_of(1), url_of(2): id_of(2)}
    layout = bound_to(first, ids, drawn=b"d" * 8)
    node.meet(greeting_of(url_of(0), id_of(2)))
    node.hear_of(layout.encode(), url_of(0))
    assert {replicas.n for replicas in node.current().partitions} == {3}
    assert len(node.current().copies()) == 3


def test_a_node_tells_what_it_was_started_with() -> None:
    assert [(each.w, each.r) for each in [membership_of(0, [0, 1, 2]).greeting()]] == [(0, 0)]


def test_a_peer_with_other_defaults_for_w_and_r_is_noted_once() -> None:
    node = membership_of(0, [0, 1, 2])
    node.adopt(bound_after(first_of(0, 1, 2)))
    other = msgspec.structs.replace(greeting_of(url_of(1), id_of(1)), w=3, r=1)
    for _ in range(2):
        node.meet(other)
        node.meet(msgspec.structs.replace(greeting_of(url_of(2), id_of(2)), w=2, r=0))
    (note,) = _differing(node)
    assert note.level == "warning"
    assert note.facts == {"peer": url_of(1), "W": 3, "R": 1, "own_W": 2, "own_R": 2}
    node.meet(msgspec.structs.replace(other, w=0, r=0))
    assert len(_differing(node)) == 1, "a majority is what it is here, too"
    node.meet(msgspec.structs.replace(other, w=0, r=1))
    assert len(_differing(node)) == 2


def test_a_peer_whose_defaults_come_to_differ_is_noted_once() -> None:
    """While there is no layout nobody knows; and the majority of other copies is another."""
    node = membership_of(0, [0, 1, 2])
    node.meet(msgspec.structs.replace(greeting_of(url_of(1), id_of(1)), w=2))
    assert not _differing(node)
    layout = bound_after(first_of(0, 1, 2))
    node.adopt(layout)
    assert not _differing(node)
    table = tuple(row[:1] for row in layout.table)
    for epochs in (1, 2):
        node.adopt(msgspec.structs.replace(layout, epoch=layout.epoch + epochs, table=table))
    (note,) = _differing(node)
    assert note.facts == {"peer": url_of(1), "W": 2, "R": 1, "own_W": 1, "own_R": 1}


def _differing(node: Membership) -> list[Note]:
    return [note for note in node._turn.notes if note.event == "quorums_differ"]


def test_a_cluster_tells_its_name_to_nobody() -> None:
    node = membership_of(0, [0, 1, 2])
    assert node._settings.cluster not in str(node.greeting())


def test_another_disk_at_a_url_is_told_to_the_operator() -> None:
    alone = Alone(3)
    alone.step(alone.met(1), alone.met(1), alone.met(2))
    assert alone.notes == []
    alone.step(alone.met(1, node_id=77, process=77))
    assert alone.notes == ["peer_has_another_directory"]


def test_a_new_directory_under_the_url_of_a_member_is_told_at_each_start() -> None:
    disk = Alone(3).disk
    for wanted, node_id in (([], id_of(0)), (["new_directory"], 77), (["new_directory"], 77)):
        alone = Alone(3, disk=disk, node_id=node_id)
        assert alone.notes == wanted
        assert any(each.is_mine for each in alone.node.membership.current().partitions) is (
            not wanted
        ), "it holds nothing, and says so"


# --- feature levels ----------------------------------------------------------------------------


def test_a_directory_of_a_higher_level_than_this_release_knows_is_refused_with_one_line() -> None:
    disk = Disk()
    newer = raised(bound_after(first_of(0, 1)), 2)
    disk.format(Batch([], [], [(LAYOUT_META, newer.encode())]))
    with pytest.raises(FormatUnsupported) as caught:
        membership_of(0, [0, 1], disk)
    assert str(caught.value) == (
        "the cluster's feature level is one that this release does not know: start a newer one, "
        "which finds all that is here (found=2 supported=1)"
    )
    assert membership_of(0, [0, 1], disk, level=2).layout == newer


def test_a_level_that_a_running_node_does_not_know_is_not_adopted_and_is_said() -> None:
    """Nothing is stored of it: a newer release goes on from here."""
    disk = Disk()
    node, bound = membership_of(0, [0, 1], disk), bound_after(first_of(0, 1))
    node.adopt(bound)
    node.hear_of(raised(bound, 2).encode(), url_of(1))
    assert node.layout == bound
    assert disk.get_meta(LAYOUT_META) == bound.encode()
    assert "start a newer one" in node.outdated
    assert [note.event for note in node._turn.notes] == ["level_unknown"]
    assert membership_of(0, [0, 1], disk, level=2).outdated == ""


def test_a_layout_with_unknown_fields_is_not_adopted_as_its_rest_would_be_told_on() -> None:
    node, bound = membership_of(0, [0, 1]), bound_after(first_of(0, 1))
    node.adopt(bound)
    longer = [*msgspec.structs.astuple(with_course(bound, Course.SOON)), "made up"]
    node.hear_of(msgspec.msgpack.encode(longer), url_of(1))
    assert node.layout == bound
    assert [note.event for note in node._turn.notes] == ["peer_layout_unreadable"]


def test_who_is_refused_by_the_cluster_that_it_is_to_join_says_why() -> None:
    node = membership_of(0, [1])
    assert node.why_none() == "the cluster's layout is not known yet"
    node.roster.refused(url_of(1), "start a newer release there")
    with pytest.raises(NotReady, match="start a newer release there"):
        node.current()
