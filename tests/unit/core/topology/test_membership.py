# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs, and which layout is in force."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.layout import (
    LAYOUT_BYTES_MAX,
    Layout,
    Member,
    first_layout,
    unmet_id,
)
from quorate.core.topology.membership import (
    HEARSAY_MAX,
    HEARSAY_MS,
    LAYOUT_META,
    MEMBERS_META,
    Membership,
)
from quorate.core.topology.peer import Ground
from quorate.core.turn import Alarm, Turn
from quorate.core.values.events import Batch, Forget, Join
from quorate.core.values.messages import Greeting, Mutate, Ping
from quorate.core.values.settings import MEMBERS_MAX
from quorate.core.values.slots import row_of
from quorate.errors import Conflict, InvalidRequest, NotReady
from quorate.sim.cluster import id_of, settings_of, url_of
from quorate.sim.disk import Disk
from quorate.wire.frames import encode_greeting
from tests.unit.core.alone import Alone, Asker, record_at
from tests.unit.core.parts import peer_of


def _membership(
    index: int, nodes: list[int], disk: Disk | None = None, *, is_blank: bool = False
) -> Membership:
    """What it stores goes into the disk."""
    disk, turn = disk or Disk(), Turn()
    membership = Membership(
        settings_of(index, nodes),
        turn,
        peer_of,
        process=1 + index,
        adopted=Alarm(turn, lambda: None),
        store=lambda name, blob: disk.format(Batch([], [], [(name, blob)])),
    )
    membership.open(disk.get_meta, is_blank=is_blank)
    return membership


def _urls(membership: Membership) -> list[str]:
    return sorted([peer.url for peer in membership.peers])


def _members(*urls: str) -> tuple[Member, ...]:
    return tuple([Member(unmet_id(url), url) for url in sorted(urls)])


def _layout(*nodes: int) -> Layout:
    return first_layout([url_of(i) for i in nodes], replication=3)


def test_a_node_in_its_own_list_begins_with_the_lists_layout() -> None:
    """Whatever the order of the list."""
    first, second = _membership(0, [0, 1, 2]), _membership(2, [2, 0, 1])
    assert first.layout == second.layout == _layout(0, 1, 2)
    assert first.greeting().layout_hash == second.greeting().layout_hash != b""


def test_a_node_without_a_list_is_a_cluster_of_its_own() -> None:
    assert _membership(0, []).layout == _layout(0)


def test_a_node_that_lists_only_others_holds_a_proposal_and_serves_nothing() -> None:
    """Its own URL missing."""
    node = _membership(0, [1])
    assert node.layout is None
    with pytest.raises(NotReady, match="not known yet"):
        node.current()
    assert node.proposal == _layout(0, 1)
    greeting = node.greeting()
    assert (greeting.epoch, greeting.layout_hash) == (0, b"")
    assert greeting.layout == _layout(0, 1).encode()


def test_two_nodes_that_list_only_each_other_agree() -> None:
    first, second = _membership(0, [1]), _membership(1, [0])
    first.meet(second.greeting())
    second.meet(first.greeting())
    assert first.layout == second.layout == _layout(0, 1)
    assert first.proposal is second.proposal is None


def test_a_proposal_that_is_not_ours_is_not_adopted() -> None:
    first, second = _membership(0, [1]), _membership(1, [0, 2])
    second.proposal = _layout(0, 1, 2)
    second.topology = None
    first.meet(second.greeting())
    assert first.layout is None


def test_a_node_that_meets_a_cluster_adopts_its_layout_and_owns_nothing() -> None:
    node, member = _membership(5, [0]), _membership(0, [0, 1])
    node.meet(member.greeting())
    assert node.layout == _layout(0, 1)
    assert not any(replicas.is_mine for replicas in node.current().partitions)
    assert _urls(node) == [url_of(0), url_of(1)]


def test_a_layout_in_force_is_kept_whatever_a_peer_shows() -> None:
    node, other = _membership(0, [0, 1]), _membership(0, [0, 1, 2])
    node.meet(other.greeting())
    node.hear_of(_layout(0, 1, 2).encode(), url_of(2))
    assert node.layout == _layout(0, 1)


def test_who_is_behind_adopts_and_who_is_ahead_waits() -> None:
    """A layout of a higher epoch comes with a greeting; the other end keeps its own."""
    behind, ahead = _membership(0, [0, 1]), _membership(1, [0, 1])
    newer = msgspec.structs.replace(_layout(0, 1, 2), epoch=2)
    ahead.adopt(newer)
    ahead.meet(behind.greeting())
    assert ahead.layout == newer
    before = behind.current()
    behind.meet(ahead.greeting())
    assert (behind.layout, behind.epoch) == (newer, 2)
    assert _urls(behind) == [url_of(1), url_of(2)]
    assert (before.epoch, before.urls) == (1, [url_of(0), url_of(1)]), "whoever has it keeps it"
    assert [note.event for note in behind._turn.notes] == ["layout_adopted"]


def test_parked_requests_are_tried_again_after_a_layout_was_adopted() -> None:
    node, member = _membership(5, [0]), _membership(0, [0, 1])
    rang = []
    node._adopted = Alarm(node._turn, lambda: rang.append(1))
    node.meet(member.greeting())
    node._turn.ring()
    assert rang == [1]


def test_a_later_layout_survives_a_restart_with_the_list_of_the_first() -> None:
    disk = Disk()
    newer = msgspec.structs.replace(_layout(0, 1, 2), epoch=2)
    _membership(0, [0, 1], disk).adopt(newer)
    assert _membership(0, [0, 1], disk).layout == newer


def test_layout_and_members_survive_a_restart_with_another_list() -> None:
    disk = Disk()
    node = _membership(0, [0, 1], disk)
    node.add(url_of(7), Ground.ANNOUNCED)
    node.close_turn()
    assert disk.get_meta(LAYOUT_META) == _layout(0, 1).encode()
    assert disk.get_meta(MEMBERS_META) is not None
    again = _membership(0, [1], disk)
    assert again.layout == _layout(0, 1)
    assert _urls(again) == [url_of(1), url_of(7)]


def _greeting_with(layout: bytes) -> Greeting:
    return msgspec.structs.replace(_membership(1, [1, 2]).greeting(), layout=layout)


@pytest.mark.parametrize(
    "layout",
    [
        b"nonsense",
        msgspec.structs.replace(_layout(1, 2), epoch=-1).encode(),
        msgspec.structs.replace(
            _layout(0, 1), members=(Member(5, url_of(0)), Member(6, url_of(1)))
        ).encode(),
        msgspec.structs.replace(
            _layout(1, 2), members=_members(*[f"http://x{i}:8000" for i in range(MEMBERS_MAX + 1)])
        ).encode(),
        msgspec.structs.replace(_layout(1, 2), members=_members("a", "b" * 10_000)).encode(),
    ],
)
def test_a_hostile_layout_is_noted_and_changes_nothing(layout: bytes) -> None:
    node = _membership(0, [1])
    node.meet(_greeting_with(layout))
    assert node.layout is None
    assert _urls(node) == [url_of(1)]
    assert [note.event for note in node._turn.notes] == ["peer_layout_unreadable"]


def test_members_are_added_once_and_told_once() -> None:
    """Joining twice changes nothing."""
    node = _membership(0, [0, 1])
    assert node.close_turn() == [url_of(1)]
    assert node.add(url_of(2), Ground.ANNOUNCED)
    assert not node.add(url_of(2), Ground.ANNOUNCED)
    assert not node.add(url_of(0), Ground.ANNOUNCED), "itself"
    assert node.close_turn() == [url_of(1), url_of(2)]
    assert node.close_turn() is None


def test_members_are_bounded() -> None:
    """Ten thousand ids."""
    node = _membership(0, [0])
    for i in range(MEMBERS_MAX):
        node.add(f"http://x{i}:8000", Ground.ANNOUNCED)
    with pytest.raises(InvalidRequest, match="too many members"):
        node.add("http://one-more:8000", Ground.ANNOUNCED)


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
    node = _membership(0, [0, 1])
    for _ in range(2):
        node.learn([url, url_of(2)], of=node.peers[0])
    assert _urls(node) == [url_of(1), url_of(2)]
    assert node._turn.counters["members_refused"] == 2
    assert [note.event for note in node._turn.notes] == ["members_refused"]


def test_a_peer_that_names_a_thousand_strangers_takes_no_place_from_true_members() -> None:
    node = _membership(0, [0, 1])
    node.learn([f"http://x{i}:8000" for i in range(MEMBERS_MAX)], of=node.peers[0])
    assert len(node.peers) == 1 + HEARSAY_MAX
    assert node.told() == [url_of(0), url_of(1)], "hearsay is told to nobody"
    assert node.add(url_of(7), Ground.ANNOUNCED)
    node.meet(_greeting(url_of(8), 88))
    assert node.named(88) is node.at(url_of(8)), "who dialled us has a place too"
    for i in range(MEMBERS_MAX - 2):
        node.add(f"http://y{i}:8000", Ground.ANNOUNCED)
    assert len(node.peers) == MEMBERS_MAX
    assert not any(url.startswith("http://x") for url in _urls(node)), "hearsay gave way"
    assert len({peer.index for peer in node.peers}) == MEMBERS_MAX


def test_hearsay_that_nobody_repeats_is_gone_after_a_while_and_never_stored() -> None:
    disk = Disk()
    node = _membership(0, [0, 1], disk)
    node.learn([url_of(2), url_of(3)], of=node.peers[0])
    assert node.close_turn() == [url_of(1), url_of(2), url_of(3)]
    assert _urls(_membership(0, [0, 1], disk)) == [url_of(1)]
    _pass_ms(node, HEARSAY_MS - 1)
    node.learn([url_of(3)], of=node.peers[0])
    _pass_ms(node, 1)
    assert node.close_turn() == [url_of(1), url_of(3)]
    _pass_ms(node, HEARSAY_MS)
    assert node.close_turn() == [url_of(1)]


def _pass_ms(node: Membership, ms: int) -> None:
    turn = node._turn
    turn.begin(turn.mono_ms + ms, 0, stamp_max=0)
    turn.ring()


def test_who_was_reached_stays_is_remembered_and_told_of_while_it_is_there() -> None:
    disk = Disk()
    node = _membership(0, [0, 1], disk)
    node.learn([url_of(2)], of=node.peers[0])
    peer = node.at(url_of(2))
    assert peer is not None
    node.reached(peer)
    peer.is_linked = True
    assert node.told() == [url_of(0), url_of(1), url_of(2)]
    peer.is_linked = False
    assert node.told() == [url_of(0), url_of(1)]
    _pass_ms(node, HEARSAY_MS)
    node.close_turn()
    assert _urls(_membership(0, [0, 1], disk)) == [url_of(1), url_of(2)]


def test_a_member_is_forgotten_by_command_unless_it_is_there_or_holds_copies() -> None:
    disk = Disk()
    node = _membership(0, [0, 1], disk)
    assert not node.forget(url_of(2))
    node.add(url_of(2), Ground.ANNOUNCED)
    node.meet(_greeting(url_of(2), 22))
    peer = node.at(url_of(2))
    assert peer is not None
    peer.is_linked = True
    with pytest.raises(InvalidRequest, match="stop it first"):
        node.forget(url_of(2))
    for listed in (0, 1):
        with pytest.raises(InvalidRequest, match="holds copies"):
            node.forget(url_of(listed))
    peer.is_linked = False
    assert node.forget(url_of(2))
    assert node.close_turn() == [url_of(1)]
    assert node.at(url_of(2)) is node.named(22) is None
    assert _urls(_membership(0, [0, 1], disk)) == [url_of(1)]


def test_the_place_of_a_forgotten_member_is_given_to_the_next() -> None:
    alone = Alone(3)
    for index in range(7, 12):
        alone.step(Join(Asker(), url_of(index)))
        alone.step(Forget(Asker(), url_of(index)))
    assert len(alone.node.outboxes) == 3
    alone.step(Join(Asker(), url_of(12)))
    alone.link(12)
    assert alone.node.outboxes[2].peer is alone.node.membership.named(id_of(12))
    effects = alone.hear(12, Ping(1, [], 0, 0))
    assert id_of(12) in effects.sends


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
    _membership(0, first, disk).close_turn()
    if is_refused:
        with pytest.raises(Conflict, match="-nodes says"):
            _membership(0, then, disk)
    else:
        assert _membership(0, then, disk).layout == _layout(*first)


def test_a_wrong_first_list_does_not_stick_where_nothing_was_written() -> None:
    disk = Disk()
    _membership(0, [0, 1, 7], disk).close_turn()
    right = _membership(0, [0, 1, 2], disk, is_blank=True)
    right.close_turn()
    assert right.layout == _layout(0, 1, 2)
    assert _urls(right) == [url_of(1), url_of(2)], "the mistyped one is forgotten"
    assert _membership(0, [0, 1, 2], disk).layout == _layout(0, 1, 2)


@pytest.mark.parametrize("count", [3, 5])
def test_directories_that_were_mixed_up_are_refused_by_each_node(count: int) -> None:
    nodes = list(range(count))
    disks = [Disk() for _ in nodes]
    for index, disk in enumerate(disks):
        _membership(index, nodes, disk).close_turn()
    for index in nodes:
        other = (index + 1) % count
        for is_blank in (True, False):
            with pytest.raises(
                Conflict, match=f"belongs to {url_of(other)}, and this is {url_of(index)}"
            ):
                _membership(index, nodes, disks[other], is_blank=is_blank)
    with pytest.raises(Conflict, match="belongs to"):
        _membership(7, nodes, disks[0])


def test_a_node_that_moved_to_a_url_of_its_own_keeps_its_directory() -> None:
    disk = Disk()
    _membership(7, [0, 1], disk)
    moved = _membership(8, [0, 1], disk)
    moved.close_turn()
    with pytest.raises(Conflict, match=f"belongs to {url_of(8)}"):
        _membership(7, [8, 7], disk)


def test_a_directory_of_another_replication_is_refused() -> None:
    alone = Alone(3)
    Alone(3, disk=alone.disk, replication=2)  # Nothing was written.
    alone = Alone(3)
    alone.link(1)
    alone.hear(1, Mutate(1, [(row_of(b"k"), record_at(0))]))
    with pytest.raises(Conflict, match="-replication=3"):
        Alone(3, disk=alone.disk, replication=2)


# --- who a node is -------------------------------------------------------------------------------


def _greeting(url: str, node_id: int) -> Greeting:
    return msgspec.structs.replace(
        _membership(1, [0, 1]).greeting(), url=url, node_id=node_id, layout_hash=b"", layout=b""
    )


def test_a_peer_is_known_by_its_id_once_it_was_met() -> None:
    node = _membership(0, [0, 1])
    assert node.named(id_of(1)) is None
    node.meet(_greeting(url_of(1), id_of(1)))
    (peer,) = node.peers
    assert node.named(id_of(1)) is node.at(url_of(1)) is peer
    assert peer.id == id_of(1)


def test_another_disk_at_a_url_is_another_node() -> None:
    node = _membership(0, [0, 1])
    node.meet(_greeting(url_of(1), 77))
    node.meet(_greeting(url_of(1), 78))
    assert node.named(77) is None
    assert node.named(78) is node.peers[0]


def test_a_node_that_moved_is_no_longer_where_it_was() -> None:
    node = _membership(0, [0, 1, 2])
    node.meet(_greeting(url_of(1), 77))
    node.meet(_greeting(url_of(2), 77))
    assert node.named(77) is node.at(url_of(2))
    assert [peer.id for peer in node.peers] == [0, 77]


@pytest.mark.parametrize("url", [url_of(1), url_of(2)])
def test_whom_our_own_link_leads_to_is_believed_before_what_others_call_themselves(
    url: str,
) -> None:
    node = _membership(0, [0, 1, 2])
    node.meet(_greeting(url_of(1), 77))
    node.peers[0].is_linked = True
    node.meet(_greeting(url, 77 if url == url_of(2) else 78))
    assert node.named(77) is node.at(url_of(1))
    assert node.named(78) is None
    assert [peer.id for peer in node.peers] == [77, 0]


def test_a_layout_that_fits_into_no_greeting_is_not_adopted() -> None:
    """A frame may bring it, and whoever adopts it can greet nobody again, for ever."""
    membership = _membership(0, [0, 1, 2])
    domain = ".".join(["x" * 60] * 4)
    urls = [f"http://n{number:03}.{domain}:8000" for number in range(990)]
    layout = msgspec.structs.replace(first_layout(urls, replication=3), epoch=2)
    membership.hear_of(layout.encode(), url_of(1))
    assert membership.layout == _layout(0, 1, 2)
    encode_greeting(membership.greeting())
    most = first_layout(urls[: LAYOUT_BYTES_MAX // 320], replication=3)
    membership.hear_of(msgspec.structs.replace(most, epoch=2).encode(), url_of(1))
    assert membership.epoch == 2
    encode_greeting(membership.greeting())


def test_a_peer_with_other_defaults_for_w_and_r_is_noted_once() -> None:
    node = _membership(0, [0, 1, 2])
    assert (node.greeting().w, node.greeting().r) == (2, 2)
    other = msgspec.structs.replace(_greeting(url_of(1), 77), w=3, r=1)
    for _ in range(2):
        node.meet(other)
        node.meet(msgspec.structs.replace(_greeting(url_of(2), 78), w=2, r=2))
    (note,) = node._turn.notes
    assert (note.level, note.event) == ("warning", "quorums_differ")
    assert note.facts == {"peer": url_of(1), "W": 3, "R": 1, "own_W": 2, "own_R": 2}
    node.meet(msgspec.structs.replace(other, w=2, r=2))
    assert len(node._turn.notes) == 1


def test_a_cluster_tells_its_name_to_nobody() -> None:
    node = _membership(0, [0, 1, 2])
    assert node._settings.cluster not in str(node.greeting())


def test_another_disk_at_a_url_is_told_to_the_operator() -> None:
    alone = Alone(3)
    alone.step(alone.met(1), alone.met(1), alone.met(2))
    assert alone.notes == []
    alone.step(alone.met(1, node_id=id_of(1) + 1, process=77))
    assert alone.notes == ["peer_has_another_directory"]


def test_a_new_directory_where_others_hold_keys_is_told_once_and_an_old_one_never() -> None:
    disk = Disk()
    for wanted in (["new_directory"], []):
        alone = Alone(3, disk=disk)
        alone.link(1)
        alone.notes.clear()
        alone.hear(1, Ping(1, [], 0, 0))
        assert alone.notes == []
        for count in (5, 6):
            alone.hear(1, Ping(count, [], count, 0))
        assert alone.notes == wanted
