# SPDX-License-Identifier: GPL-3.0-or-later
"""Outgoing links over simulated connections."""

from __future__ import annotations

import msgspec
import pytest

from quorate.config import KEY_BYTES_MAX, VALUE_BYTES_MOST
from quorate.core.values.events import LinkDown, LinkUp
from quorate.core.values.messages import Frame, Message, Mutate, Pong
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.host import links as links_module
from quorate.host.links import FLUSH_MS, HANDSHAKE_MS
from quorate.wire.frames import FRAME_BYTES_MAX, encode_frame
from tests.unit.host.wires import (
    LATENCY_MS,
    Net,
    Never,
    Node,
    answer_for,
    big,
    frame,
    raw_peer,
    url_of,
)


@pytest.fixture
def net() -> Net:
    return Net()


def linked(net: Net) -> tuple[Node, Node]:
    """Two nodes; the first has a link to the second."""
    one, two = Node(net, 1), Node(net, 2)
    one.links.set_peers([two.url])
    net.run()
    assert one.is_up(two.url)
    return one, two


def test_two_nodes_link_both_ways_and_frames_keep_their_order(net: Net) -> None:
    one, two = linked(net)
    two.links.set_peers([one.url])
    net.run()
    assert two.is_up(one.url)
    for number in range(500):
        one.links.send(two.id, frame(number))
        two.links.send(one.id, frame(-number))
    net.run()
    assert two.numbers() == list(range(500))
    assert one.numbers() == [-number for number in range(500)]
    assert {peer for peer, _ in two.frames} == {one.id}
    assert one.journal.counters()["frames_sent"] == 500
    assert one.journal.bytes_sent == two.journal.bytes_received
    assert one.journal.frames_dropped == 0


def test_the_welcome_with_its_layout_comes_before_the_link_is_up(net: Net) -> None:
    one, two = Node(net, 1), Node(net, 2, layout_hash=b"")
    one.greeting = msgspec.structs.replace(one.greeting, layout=b"table")
    two.links.set_peers([one.url])
    net.run()
    assert two.told == ["welcome table", f"LinkUp {one.url}"]


def test_a_link_that_is_up_tells_the_peers_version_and_leads_to_its_process(net: Net) -> None:
    one, two = Node(net, 1), Node(net, 2, process=77)
    two.greeting = msgspec.structs.replace(two.greeting, version="9.9")
    one.links.set_peers([two.url])
    assert one.links.links[two.url].process == 0
    net.run()
    assert one.events == [LinkUp(two.id)]
    assert one.links.links[two.url].process == 77
    two.host.die()
    net.run()
    assert one.events[1:] == [LinkDown(two.id)]
    assert one.links.links[two.url].process == 0


def test_a_greeting_is_asked_anew_for_every_handshake(net: Net) -> None:
    one, two = linked(net)
    one.greeting = msgspec.structs.replace(one.greeting, node_id=99)
    judged = [connection.process for connection in two.acceptor._connections]
    assert judged == [1]
    one.greeting = msgspec.structs.replace(one.greeting, process=98)
    net.wire(one.host, two.host).reset()
    net.run(100)
    assert [connection.process for connection in two.acceptor._connections] == [98]


def test_a_frame_without_a_link_is_dropped_and_counted(net: Net) -> None:
    one = Node(net, 1)
    one.links.send(2, frame(1))
    one.links.set_peers([url_of(2)])
    one.links.send(2, frame(2))
    net.run(100)
    one.links.send(2, frame(3))
    assert one.journal.counters()["frames_dropped"] == 3
    assert one.journal.frames_sent == 0


def test_a_frame_is_dropped_when_the_link_is_ending_though_that_is_not_told_yet(net: Net) -> None:
    one, two = linked(net)
    one.links.outbox_bytes_max = 10
    two.host.pause()
    one.links.send(two.id, frame(1))
    net.run()
    one.links.send(two.id, frame(2))
    assert one.journal.links_overflowed == 1
    one.links.send(two.id, frame(3))
    assert one.is_up(two.url)
    assert one.journal.frames_dropped == 2
    assert one.journal.links_overflowed == 1


def test_a_link_comes_back_each_time_its_peer_does_and_up_and_down_alternate(net: Net) -> None:
    one, two = linked(net)
    for number in range(5):
        one.links.send(two.id, frame(number))
        net.run()
        assert two.numbers() == [number]
        two.frames.clear()
        two.host.die()
        net.run()
        assert not one.is_up(two.url)
        two.host.revive()
        two.begin()
        net.run_until(lambda: one.is_up(two.url), 5_000)
    assert one.kinds(two.url) == [LinkUp, LinkDown] * 5 + [LinkUp]


def test_a_peer_that_restarts_unseen_is_met_as_the_process_that_it_is_now(net: Net) -> None:
    one, two = linked(net)
    two.restart()
    net.run(100)
    assert one.links.links[two.url].process == 102
    assert one.kinds(two.url) == [LinkUp, LinkDown, LinkUp]


# --- peers that do not read --------------------------------------------------------------------


@pytest.mark.parametrize("hold", ["cut", "pause", "deaf", "thin", "half-open", "dead"])
def test_a_peer_that_does_not_read_costs_its_link_and_bounded_memory(net: Net, hold: str) -> None:
    """I26: bytes wait for a peer that does not read, but not without limit."""
    one, two = Node(net, 1, random=Never()), Node(net, 2)
    one.links.set_peers([two.url])
    net.run()
    wire = net.wire(one.host, two.host)
    bound = one.links.outbox_bytes_max = 1_000
    if hold == "cut":
        wire.cut()
    elif hold == "pause":
        two.host.pause()
    elif hold == "deaf":
        two.host.is_deaf = True
    elif hold == "thin":
        wire.bytes_per_ms = 0.01
    elif hold == "half-open":
        wire.forget()
    else:
        two.host.die(is_silent=True)
    (socket,) = one.host.sockets
    frame_bytes = len(encode_frame(frame(1)))
    highest = 0
    for number in range(200):
        one.links.send(two.id, frame(number))
        highest = max(highest, socket.get_write_buffer_size())
        net.run(2)
    assert bound < highest <= bound + frame_bytes
    assert one.journal.links_overflowed == 1
    assert [note.event for note in one.host.notes] == ["link_overflowed"]
    sent = one.journal.frames_sent
    assert sent * frame_bytes <= bound + 3 * frame_bytes
    assert one.journal.frames_dropped == 200 - sent
    assert one.kinds(two.url) == [LinkUp, LinkDown]


def test_while_all_links_hold_too_much_one_that_holds_more_than_its_share_is_given_up(
    net: Net,
) -> None:
    one, *others = [Node(net, number) for number in range(1, 6)]
    one.links.set_peers([each.url for each in others])
    net.run()
    size = len(encode_frame(frame(1)))
    bound = one.links.bytes_max_all = 8 * size
    slow, full = others[0], others[1:]
    slow.host.pause()
    for number in range(5):
        one.links.send(slow.id, frame(number))
        net.run()
    assert one.is_up(slow.url), "more than its share, and the others hold nothing"
    for each in full:
        each.host.pause()
        for number in range(2):
            one.links.send(each.id, frame(number))
            net.run()
    assert sum(one.links.queued_bytes(each.id) for each in others) == 11 * size > bound
    one.links.send(slow.id, frame(6))
    net.run()
    assert not one.is_up(slow.url)
    assert all(one.is_up(each.url) for each in full)


def test_what_is_at_the_bound_is_still_sent(net: Net) -> None:
    one, two = linked(net)
    two.host.pause()
    bound = one.links.outbox_bytes_max = 3 * len(encode_frame(frame(1)))
    (socket,) = one.host.sockets
    for number in range(3):
        one.links.send(two.id, frame(number))
        net.run()
    assert socket.get_write_buffer_size() == bound
    one.links.send(two.id, frame(3))
    net.run()
    assert one.is_up(two.url)
    assert one.journal.frames_sent == 4
    one.links.send(two.id, frame(4))
    net.run()
    assert not one.is_up(two.url)


def test_a_peer_that_never_reads_does_not_slow_another(net: Net) -> None:
    one, two = linked(net)
    raw_peer(net, 3, answer_for(one, 3))
    one.links.set_peers([url_of(3), two.url])
    net.run()
    net.hosts[url_of(3)].is_deaf = True
    for number in range(10):
        one.links.send(3, frame(number))
        one.links.send(two.id, frame(number))
    net.run(LATENCY_MS + 0.1)
    assert two.numbers() == list(range(10))
    waiting = {each.other.owner.name: each.get_write_buffer_size() for each in one.host.sockets}
    assert waiting["n2"] == 0
    assert waiting["raw3"] > 0


# --- peers come and go -------------------------------------------------------------------------


def test_peers_not_named_any_more_are_left_and_told_as_down(net: Net) -> None:
    one, two, three = Node(net, 1), Node(net, 2), Node(net, 3)
    one.links.set_peers([two.url, three.url])
    net.run()
    one.links.set_peers([three.url])
    assert one.kinds(two.url) == [LinkUp, LinkDown]
    one.links.send(two.id, frame(1))
    one.links.send(three.id, frame(2))
    net.run(10_000)
    assert three.numbers() == [2]
    assert two.frames == []
    assert one.is_up(three.url)
    assert one.kinds(two.url) == [LinkUp, LinkDown]
    assert not two.acceptor._connections
    assert one.journal.frames_dropped == 1


def test_naming_the_same_peers_again_changes_nothing(net: Net) -> None:
    one, two = linked(net)
    before = dict(one.links.links)
    for _ in range(3):
        one.links.set_peers([two.url, two.url])
        net.run()
    assert one.links.links == before
    assert one.kinds(two.url) == [LinkUp]
    assert len(one.host.sockets) == 1


@pytest.mark.parametrize("after_ms", [0.0, 0.5, 1.0, 2.0, 3.0, 10.0, FLUSH_MS + 10])
def test_a_peer_that_is_named_again_gets_a_link_that_the_end_of_the_old_leaves_alone(
    net: Net, after_ms: float
) -> None:
    one, two = linked(net)
    one.links.send(two.id, frame(1))
    one.links.set_peers([])
    net.run(after_ms)
    one.links.set_peers([two.url])
    net.run(10_000)
    one.links.send(two.id, frame(2))
    net.run()
    assert two.numbers() == [1, 2]
    assert one.kinds(two.url) == [LinkUp, LinkDown, LinkUp]
    assert len(two.acceptor._connections) == len(one.host.sockets) == 1


def test_a_peer_that_is_left_in_any_state_costs_nothing_more() -> None:
    for ms in range(60):
        net = Net(ms)
        one = Node(net, 1)
        raw_peer(net, 2, answer_for(one, 2, refusal="no") if ms % 2 else answer_for(one, 2))
        one.links.set_peers([url_of(2), url_of(3)])
        net.run(ms / 10)
        one.links.set_peers([])
        count = len(one.events)
        net.run(10_000)
        assert len(one.events) == count
        assert one.kinds(url_of(2)) in ([], [LinkUp, LinkDown])
        assert not one.host.sockets
        assert not one.host.calls
        assert not one.links._retired


# --- sizes -------------------------------------------------------------------------------------


def test_more_than_a_frame_holds_is_sent_as_several_in_order(net: Net) -> None:
    one, two = linked(net)
    messages: list[Message] = [Pong(1), big(15), big(15), Pong(2), big(15), Pong(3)]
    one.links.send(two.id, Frame(4, 5, messages))
    net.run()
    assert two.numbers() == [1, 2, 3]
    assert [m for _, f in two.frames for m in f.messages] == messages
    assert {(f.epoch, f.clock) for _, f in two.frames} == {(4, 5)}
    assert len(two.frames) > 1
    assert one.journal.frames_dropped == 0
    assert one.journal.frames_sent == len(two.frames)


def test_the_largest_value_that_a_node_can_be_set_to_take_fits_into_a_frame() -> None:
    """It would be accepted otherwise, never reach a replica, and hold up all hints behind it."""
    record = Record(b"v" * 14, bytes(VALUE_BYTES_MOST), 2**63 - 1, b"p" * 14)
    row = row_of(b"k" * KEY_BYTES_MAX)
    assert encode_frame(Frame(2**63, 2**63, [Mutate(2**63, [(row, record)])]))


def test_a_message_too_large_for_any_frame_is_dropped_and_the_link_stays(net: Net) -> None:
    one, two = linked(net)
    too_large = big((FRAME_BYTES_MAX >> 20) + 1)
    one.links.send(two.id, Frame(1, 1, [Pong(1), too_large, Pong(2)]))
    net.run()
    assert two.numbers() == [1, 2]
    assert [note.event for note in one.host.notes] == ["message_too_large"]
    assert one.journal.frames_dropped == 1
    assert one.is_up(two.url)


# --- the end -----------------------------------------------------------------------------------


def test_close_lets_what_was_sent_leave(net: Net) -> None:
    one, two = linked(net)
    closed_ms: list[float] = []
    two.host.pause()
    for number in range(3):
        one.links.send(two.id, frame(number))
    one.links.close(lambda: closed_ms.append(net.world.now))
    assert one.events[-1] == LinkDown(two.id)
    two.host.resume()
    net.run()
    assert len(closed_ms) == 1
    assert two.numbers() == [0, 1, 2]
    net.run(10_000)
    assert len(closed_ms) == 1
    assert one.kinds(two.url) == [LinkUp, LinkDown]
    assert not one.host.calls
    assert not one.host.sockets


def test_close_does_not_wait_for_a_peer_that_never_answers(net: Net) -> None:
    one, two = linked(net)
    closed_ms: list[float] = []
    net.wire(one.host, two.host).cut()
    one.links.send(two.id, frame(1))
    began_ms = net.world.now
    one.links.close(lambda: closed_ms.append(net.world.now))
    net.run(5_000)
    assert closed_ms == [began_ms + FLUSH_MS]
    assert not one.host.sockets
    assert not one.host.calls


def test_close_of_links_of_which_none_is_connected_is_told_soon_and_not_at_once(net: Net) -> None:
    closed: list[bool] = []
    one = Node(net, 1)
    one.links.close(lambda: closed.append(True))
    assert closed == []
    net.run(0)
    assert closed == [True]
    two = Node(net, 2)
    two.links.set_peers([url_of(3), url_of(4)])
    two.links.close(lambda: closed.append(True))
    net.run(0)
    assert closed == [True, True]
    assert not two.host.calls
    net.run(10_000)
    assert closed == [True, True]


def test_close_waits_for_links_that_were_left_before(net: Net) -> None:
    one, two = linked(net)
    closed_ms: list[float] = []
    net.wire(one.host, two.host).cut()
    one.links.set_peers([])
    net.run(FLUSH_MS / 2)
    began_ms = net.world.now
    one.links.close(lambda: closed_ms.append(net.world.now))
    net.run(5_000)
    assert closed_ms == [began_ms + FLUSH_MS / 2]


def test_what_a_link_is_patient_for_is_stated() -> None:
    assert (links_module.CONNECT_MS, HANDSHAKE_MS, FLUSH_MS) == (2_000, 5_000, 1_000)
    assert links_module.OUTBOX_BYTES_MAX == 64 << 20
